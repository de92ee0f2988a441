//! Probes and lifecycle hooks: one handler each.

use crate::value::Access;
use crate::{Errors, Path, names};
use serde_json::Value;

/// The three probes and the lifecycle of a container that may have them.
pub(super) fn all(container: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    for hook in ["postStart", "preStop"] {
        let (lifecycle, at) = (container.at("lifecycle"), path.at("lifecycle"));
        if lifecycle.has(hook) {
            handler(lifecycle.at(hook), &["exec", "httpGet", "tcpSocket", "sleep"], grace, &at.at(hook), errors);
        }
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container.has(kind) {
            probe(container.at(kind), kind, &path.at(kind), errors);
        }
    }
}

fn probe(probe: &Value, kind: &str, path: &Path<'_>, errors: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, path, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.non_negative(path.at(field), probe.int(field));
    }
    let grace = probe.int("terminationGracePeriodSeconds");
    if let Some(seconds) = grace.filter(|s| *s <= 0) {
        errors.invalid(path.at("terminationGracePeriodSeconds"), &seconds.into(), "must be greater than 0");
    }
    if kind == "readinessProbe" {
        if let Some(seconds) = grace {
            errors.invalid(path.at("terminationGracePeriodSeconds"), &seconds.into(), "must not be set for readinessProbes");
        }
    } else if probe.int("successThreshold") != Some(1) {
        errors.invalid(path.at("successThreshold"), probe.at("successThreshold"), "must be 1");
    }
}

fn handler(holder: &Value, kinds: &[&str], grace: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    let mut found = kinds.iter().filter(|kind| holder.has(kind));
    let Some(first) = found.next() else {
        return errors.required(path, "must specify a handler type");
    };
    one_handler(first, holder.at(first), grace, &path.at(first), errors);
    for another in found {
        errors.forbidden(path.at(another), "may not specify more than 1 handler type");
    }
}

fn one_handler(kind: &str, handler: &Value, grace: Option<i64>, path: &Path<'_>, errors: &mut Errors) {
    match kind {
        "exec" if handler.list("command").is_empty() => errors.required(path.at("command"), ""),
        "httpGet" => {
            if handler.text("path").is_empty() {
                errors.required(path.at("path"), "");
            }
            port(handler.at("port"), &path.at("port"), errors);
            errors.one_of(path.at("scheme"), handler.text("scheme"), &["HTTP", "HTTPS"]);
            for header in handler.list("httpHeaders") {
                let name = header.text("name");
                if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
                    let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                    errors.invalid_text(path.at("httpHeaders"), name, detail);
                }
            }
        }
        "tcpSocket" | "grpc" => port(handler.at("port"), &path.at("port"), errors),
        "sleep" => {
            let seconds = handler.int("seconds").unwrap_or(0);
            if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
                let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.invalid(path, &seconds.into(), &detail);
            }
        }
        _ => {}
    }
}

/// A port by number or name.
pub(crate) fn port(port: &Value, path: &Path<'_>, errors: &mut Errors) {
    match port.as_str() {
        Some(name) => errors.rules(path, name, names::port_name),
        None => port_number(port.as_i64().unwrap_or(0), path, errors),
    }
}

/// 1 to 65535.
pub(crate) fn port_number(number: i64, path: &Path<'_>, errors: &mut Errors) {
    if !(1..=65535).contains(&number) {
        errors.invalid(path, &number.into(), "must be between 1 and 65535, inclusive");
    }
}
