//! Which kinds the server has.

use mainstay_client::{Cluster, Error, encode_segment};
use http::Method;
use serde_json::Value;

/// One kind as discovery tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// `apps/v1`, `v1`.
    pub(crate) api_version: String,
    /// `StatefulSet`.
    pub(crate) kind: String,
    /// `statefulsets`.
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    verbs: Vec<String>,
}

impl Kind {
    /// The group, empty for the core group.
    pub(crate) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|known| known == verb)
    }

    /// Whether its objects are followed. Events own nothing, are owned by nothing and outnumber all else (upstream ignores them, too).
    pub(crate) fn followed(&self) -> bool {
        self.plural != "events"
    }

    /// `/apis/apps/v1/namespaces/default/statefulsets`; all namespaces when `namespace` is empty.
    pub(crate) fn collection(&self, namespace: &str) -> String {
        let prefix = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let within = if self.namespaced && !namespace.is_empty() { format!("/namespaces/{}", encode_segment(namespace)) } else { String::new() };
        format!("{prefix}/{}{within}/{}", self.api_version, self.plural)
    }

    /// The path of one object.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(namespace), encode_segment(name))
    }
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value[field].as_array().into_iter().flatten()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn kinds_of(api_version: &str, resources: &Value) -> Vec<Kind> {
    let kinds = list(resources, "resources").map(|resource| Kind {
        api_version: api_version.to_owned(),
        kind: text(resource, "kind"),
        plural: text(resource, "name"),
        namespaced: resource["namespaced"].as_bool().unwrap_or(false),
        verbs: list(resource, "verbs").filter_map(Value::as_str).map(str::to_owned).collect(),
    });
    kinds.filter(|kind| !kind.plural.contains('/') && kind.can("list") && kind.can("watch") && kind.can("delete")).collect()
}

/// All kinds that can be listed, watched and deleted, each once: the second home of events is left out.
pub(crate) async fn kinds(cluster: &Cluster) -> Result<Vec<Kind>, Error> {
    let mut kinds = kinds_of("v1", &cluster.request(Method::GET, "/api/v1", None).await?);
    let groups = cluster.request(Method::GET, "/apis", None).await?;
    for group in list(&groups, "groups").filter(|group| group["name"] != "events.k8s.io") {
        let version = group["preferredVersion"]["groupVersion"].as_str().or_else(|| group["versions"][0]["groupVersion"].as_str()).unwrap_or_default();
        if !version.is_empty() {
            kinds.extend(kinds_of(version, &cluster.request(Method::GET, &format!("/apis/{version}"), None).await?));
        }
    }
    Ok(kinds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_whole_kinds_that_can_be_followed_count() {
        let verbs = json!(["create", "delete", "deletecollection", "list", "watch"]);
        let resources = json!({"resources": [
            {"name": "statefulsets", "kind": "StatefulSet", "namespaced": true, "verbs": verbs},
            {"name": "statefulsets/status", "kind": "StatefulSet", "namespaced": true, "verbs": ["get", "list", "watch", "delete"]},
            {"name": "tokenreviews", "kind": "TokenReview", "namespaced": false, "verbs": ["create"]},
        ]});
        let kinds = kinds_of("apps/v1", &resources);
        assert_eq!(kinds.len(), 1);
        let kind = &kinds[0];
        assert_eq!((kind.group(), kind.can("deletecollection"), kind.followed()), ("apps", true, true));
        assert_eq!(kind.object("a", "web"), "/apis/apps/v1/namespaces/a/statefulsets/web");
        assert_eq!(kind.collection(""), "/apis/apps/v1/statefulsets");
        assert_eq!(Kind { api_version: "v1".into(), namespaced: false, ..kind.clone() }.object("", "x"), "/api/v1/statefulsets/x");
    }
}
