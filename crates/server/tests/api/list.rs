use crate::harness::*;
use mainstay_store::Options;
use serde_json::{Value, json};

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

async fn five(api: &Api) {
    for (n, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        api.config_map(name, json!({"n": n.to_string(), "odd": (n % 2 == 1).to_string()})).await;
    }
}

#[tokio::test]
async fn pages_are_true_at_the_revision_of_the_first() {
    let api = Api::new().await;
    five(&api).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.expect(200).json();
    assert_eq!((names(&first), &first["metadata"]["remainingItemCount"]), (vec!["a", "b"], &json!(3)));
    api.config_map("bb", json!({})).await;
    api.delete(&format!("{MAPS}/e"), Value::Null).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200).json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200).json();
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));
    let selected = api.get(&format!("{MAPS}?limit=2&labelSelector=odd%3Dfalse")).await.expect(200).json();
    assert_eq!((names(&selected), selected["metadata"].get("remainingItemCount")), (vec!["a", "c"], None));
}

#[tokio::test]
async fn a_page_whose_revision_is_gone_may_go_on_inconsistently() {
    let api = Api::empty(|_| {}, Options { window_events: 8, ..Options::default() });
    api.server.bootstrap().await.unwrap();
    five(&api).await;
    let first = api.get(&format!("{MAPS}?limit=2")).await.json();
    for n in 0..5_000 {
        api.merge(&format!("{MAPS}/a"), json!({"data": {"n": n.to_string()}})).await.expect(200);
        if n % 50 == 49 {
            let token = first["metadata"]["continue"].as_str().unwrap();
            let answer = api.get(&format!("{MAPS}?limit=2&continue={token}")).await;
            if answer.code == 410 {
                let status = answer.json();
                assert_eq!(status["reason"], "Expired");
                let token = status["metadata"]["continue"].as_str().unwrap();
                let next = api.get(&format!("{MAPS}?limit=2&continue={token}")).await.expect(200).json();
                assert_eq!(names(&next), ["c", "d"]);
                return;
            }
        }
    }
    panic!("the revision of the first page was kept for 5,000 writes");
}

#[tokio::test]
async fn selectors_choose_by_labels_and_fields() {
    let api = Api::new().await;
    five(&api).await;
    for (selector, expected) in [
        ("labelSelector=n+in+(1,2)", vec!["b", "c"]),
        ("labelSelector=n%3E2", vec!["d", "e"]),
        ("labelSelector=!n", vec![]),
        ("labelSelector=odd,n!=1", vec!["a", "c", "d", "e"]),
        ("fieldSelector=metadata.name%3Dc", vec!["c"]),
        ("fieldSelector=metadata.name!=c,metadata.namespace==default", vec!["a", "b", "d", "e"]),
        ("fieldSelector=metadata.name%3Dc&labelSelector=odd%3Dtrue", vec![]),
    ] {
        let list = api.get(&format!("{MAPS}?{selector}")).await.expect(200).json();
        assert_eq!(names(&list), expected, "{selector}");
    }
    assert_eq!(api.get(&format!("{MAPS}?fieldSelector=spec.x%3D1")).await.line(), "400 BadRequest: field label not supported: spec.x");
    assert_eq!(names(&api.get("/api/v1/configmaps?fieldSelector=metadata.namespace%3Ddefault").await.json()).len(), 5);
    let services = api.get("/api/v1/namespaces/kube-system/services?labelSelector=kubernetes.io%2Fcluster-service%3Dtrue").await.json();
    assert_eq!(names(&services), ["kube-dns"]);
}

#[tokio::test]
async fn resource_versions_mean_what_they_mean_upstream() {
    let api = Api::new().await;
    five(&api).await;
    let before = api.store.revision();
    api.config_map("f", json!({})).await;
    let count = |list: &Value| list["items"].as_array().unwrap().len();
    for (query, expected) in [
        (String::new(), 6),
        ("resourceVersion=0".to_owned(), 6),
        (format!("resourceVersion={before}"), 6),
        (format!("resourceVersion={before}&resourceVersionMatch=NotOlderThan"), 6),
        (format!("resourceVersion={before}&resourceVersionMatch=Exact"), 5),
        (format!("resourceVersion={before}&limit=100"), 5),
    ] {
        assert_eq!(count(&api.get(&format!("{MAPS}?{query}")).await.expect(200).json()), expected, "{query}");
    }
    let future = api.get(&format!("{MAPS}?resourceVersion=999999")).await;
    let status = future.json();
    assert_eq!((future.code, &status["reason"], &status["details"]["retryAfterSeconds"]), (504, &json!("Timeout"), &json!(1)));
    assert_eq!(status["details"]["causes"][0]["reason"], "ResourceVersionTooLarge");
    assert_eq!(future.headers["retry-after"], "1");
}

#[tokio::test]
async fn tables_have_the_columns_of_the_kind() {
    const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
    let api = Api::new().await;
    api.post(SETS, set("web")).await.expect(201);
    let table = api.accept(SETS, TABLE).await.expect(200).json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    let columns: Vec<&str> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["Name", "Ready", "Age", "Containers", "Images"]);
    assert_eq!(table["rows"][0]["cells"][0], "web");
    assert_eq!(table["rows"][0]["cells"][1], "0/2");
    let object = &table["rows"][0]["object"];
    assert_eq!((&object["kind"], &object["metadata"]["name"], object.get("spec")), (&json!("PartialObjectMetadata"), &json!("web"), None));
    let whole = api.accept(&format!("{SETS}/web?includeObject=Object"), TABLE).await.expect(200).json();
    assert_eq!(whole["rows"][0]["object"]["spec"]["replicas"], 2);
    let metadata = api.accept(SETS, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").await.expect(200).json();
    assert_eq!((&metadata["kind"], &metadata["items"][0]["kind"]), (&json!("PartialObjectMetadataList"), &json!("PartialObjectMetadata")));
}

#[tokio::test]
async fn pages_of_a_table_and_of_metadata_go_on_like_those_of_objects() {
    let api = Api::new().await;
    five(&api).await;
    for (accept, rows) in [("application/json;as=Table;v=v1;g=meta.k8s.io", "rows"), ("application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io", "items")] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = api.accept(&format!("{MAPS}?limit=2&continue={next}"), accept).await.expect(200).json();
            seen.push(page[rows].as_array().unwrap().len());
            match page["metadata"]["continue"].as_str() {
                Some(token) => next = token.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, [2, 2, 1], "{accept}");
    }
}

#[tokio::test]
async fn what_has_no_rows_is_no_table() {
    let api = Api::new().await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let review = r#"{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let send = |accept: String| {
        let api = &api;
        async move { api.send(request("POST", path, &[("accept", &accept), ("content-type", "application/json")], review)).await }
    };
    assert!(send(table.to_owned()).await.line().starts_with("406 NotAcceptable: "));
    for accept in [format!("{table},application/json"), "*/*".to_owned(), "application/vnd.kubernetes.protobuf,application/json".to_owned()] {
        send(accept).await.expect(201);
    }
}

#[tokio::test]
async fn a_list_may_start_anywhere_and_a_negative_limit_is_none() {
    let api = Api::new().await;
    five(&api).await;
    let names = |list: &Value| names(list).len();
    for query in ["limit=-1", "limit=0", "limit=", "resourceVersion=&resourceVersionMatch=", "limit=500&resourceVersion=0"] {
        assert_eq!(names(&api.get(&format!("{MAPS}?{query}")).await.expect(200).json()), 5, "{query}");
    }
}

#[tokio::test]
async fn watchers_at_once_see_the_same_order() {
    let api = Api::new().await;
    let path = format!("{MAPS}?watch=true&resourceVersion={}", api.store.revision());
    let mut watches = Vec::new();
    for _ in 0..10 {
        watches.push(api.open(&path).await);
    }
    let writes = (0..20).map(|n| {
        let api = &api;
        async move { api.config_map(&format!("m{n}"), json!({})).await }
    });
    futures::future::join_all(writes).await;
    let first = watches[0].show(20).await;
    for watch in &mut watches[1..] {
        assert_eq!(watch.show(20).await, first);
    }
}
