//! The service's row in `kubectl get`.

use crate::columns::{AGE, NAME, NONE, labels, or_none};
use crate::value::Access;
use crate::{Column, Field};
use serde_json::Value;

pub(in super::super) const COLUMNS: &[Column] = &[
    NAME,
    Column::new("Type", "string", "How it is reached.", |o, _| o.text("spec.type").into()),
    Column::new("Cluster-IP", "string", "Its address in the cluster; None when headless.", |o, _| match o.list("spec.clusterIPs") {
        [first, ..] => or_none(first.as_str().unwrap_or("")),
        [] => or_none(o.text("spec.clusterIP")),
    }),
    Column::new("External-IP", "string", "Its addresses outside.", |o, _| external(o).into()),
    Column::new("Port(s)", "string", "Its ports, with the nodes' port after a colon.", |o, _| ports(o).into()),
    AGE,
    Column::new("Selector", "string", "The labels of its pods.", |o, _| labels(o.object("spec.selector")).into()).wide(),
];

pub(in super::super) const FIELDS: &[Field] = &[
    Field { name: "spec.clusterIP", value: |o| o.text("spec.clusterIP").to_owned() },
    Field { name: "spec.type", value: |o| o.text("spec.type").to_owned() },
];

fn external(service: &Value) -> String {
    let own: Vec<&str> = service.list("spec.externalIPs").iter().filter_map(Value::as_str).collect();
    match service.text("spec.type") {
        "ExternalName" => service.text("spec.externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = service.list("status.loadBalancer.ingress").iter();
            let all: Vec<&str> = ingress.map(|i| if i.text("ip").is_empty() { i.text("hostname") } else { i.text("ip") }).chain(own).collect();
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        _ if own.is_empty() => NONE.to_owned(),
        _ => own.join(","),
    }
}

fn ports(service: &Value) -> String {
    let all: Vec<String> = service
        .list("spec.ports")
        .iter()
        .map(|port| match port.int("nodePort").unwrap_or(0) {
            0 => format!("{}/{}", port.int("port").unwrap_or(0), port.text("protocol")),
            node => format!("{}:{node}/{}", port.int("port").unwrap_or(0), port.text("protocol")),
        })
        .collect();
    if all.is_empty() { NONE.to_owned() } else { all.join(",") }
}
