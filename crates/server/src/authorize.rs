//! Who may do what. Until RBAC: the administrators everything; whoever has shown a credential may discover and ask about itself;
//! everybody may see that the server lives.

use crate::identity::Identity;
use crate::route::Path;
use crate::status::Failure;

/// What anybody may see.
const PUBLIC: [&str; 4] = ["/livez", "/readyz", "/healthz", "/version"];

/// What whoever is authenticated may see.
const DISCOVERY: [&str; 3] = ["/api", "/apis", "/openapi"];

/// Reviews that every user may make of itself.
const SELF_REVIEWS: [&str; 3] = ["selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"];

fn under(path: &str, roots: &[&str]) -> bool {
    roots.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// Whether a path that is no resource may be read.
pub(crate) fn path_allowed(identity: &Identity, verb: &str, path: &str) -> bool {
    let reads = verb == "get";
    identity.is_in("system:masters") || (reads && under(path, &PUBLIC)) || (reads && identity.is_authenticated() && under(path, &DISCOVERY))
}

/// Whether a verb on a resource is allowed.
pub(crate) fn resource_allowed(identity: &Identity, verb: &str, group: &str, resource: &str) -> bool {
    let about_itself = matches!(group, "authentication.k8s.io" | "authorization.k8s.io") && verb == "create" && SELF_REVIEWS.contains(&resource);
    identity.is_in("system:masters") || (identity.is_authenticated() && about_itself)
}

/// Refuses a path in upstream's words.
pub(crate) fn check_path(identity: &Identity, verb: &str, path: &str) -> Result<(), Failure> {
    if path_allowed(identity, verb, path) {
        return Ok(());
    }
    Err(Failure::forbidden(format!("forbidden: User {:?} cannot {verb} path {path:?}", identity.user)))
}

/// Refuses a request for a resource in upstream's words (apiserver pkg/endpoints/handlers/responsewriters/errors.go).
pub(crate) fn check_resource(identity: &Identity, verb: &str, path: &Path<'_>) -> Result<(), Failure> {
    if resource_allowed(identity, verb, path.group, path.resource) {
        return Ok(());
    }
    let resource = match path.subresource {
        Some(subresource) => format!("{}/{subresource}", path.resource),
        None => path.resource.to_owned(),
    };
    let qualified = if path.group.is_empty() { path.resource.to_owned() } else { format!("{}.{}", path.resource, path.group) };
    let name = path.name.as_deref().unwrap_or("");
    let subject = if name.is_empty() { qualified } else { format!("{qualified} {name:?}") };
    let place = match path.namespace.as_deref() {
        Some(namespace) => format!("in the namespace {namespace:?}"),
        None => "at the cluster scope".to_owned(),
    };
    let message = format!("{subject} is forbidden: User {:?} cannot {verb} resource {resource:?} in API group {:?} {place}", identity.user, path.group);
    Err(Failure::forbidden(message).about(path.group, path.resource, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_account_may_only_discover_and_ask_about_itself() {
        let account = Identity { user: "system:serviceaccount:default:default".into(), groups: vec!["system:authenticated".into()], uid: None, extra: vec![] };
        let says = |identity: &Identity, verb: &str, path: &str| match Path::parse(path) {
            Some(parsed) => check_resource(identity, verb, &parsed).err().map(|f| f.message().to_owned()),
            None => check_path(identity, verb, path).err().map(|f| f.message().to_owned()),
        };
        for (verb, path) in [("get", "/apis/apps/v1"), ("get", "/openapi/v3"), ("get", "/livez/ping"), ("create", "/apis/authentication.k8s.io/v1/selfsubjectreviews")] {
            assert_eq!(says(&account, verb, path), None, "{path}");
        }
        let no = "User \"system:serviceaccount:default:default\" cannot";
        for (verb, path, words) in [
            ("list", "/api/v1/namespaces/default/pods", format!("pods is forbidden: {no} list resource \"pods\" in API group \"\" in the namespace \"default\"")),
            ("list", "/api/v1/nodes", format!("nodes is forbidden: {no} list resource \"nodes\" in API group \"\" at the cluster scope")),
            ("get", "/apis/apps/v1/namespaces/a/statefulsets/web/scale", format!("statefulsets.apps \"web\" is forbidden: {no} get resource \"statefulsets/scale\" in API group \"apps\" in the namespace \"a\"")),
            ("get", "/metrics", format!("forbidden: {no} get path \"/metrics\"")),
        ] {
            assert_eq!(says(&account, verb, path), Some(words));
        }
        assert_eq!(says(&Identity::anonymous(), "get", "/version"), None);
        assert_eq!(says(&Identity::anonymous(), "get", "/api").as_deref(), Some("forbidden: User \"system:anonymous\" cannot get path \"/api\""));
        assert_eq!(says(&Identity::component("admin"), "delete", "/api/v1/nodes"), None);
    }
}
