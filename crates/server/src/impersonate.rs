//! `kubectl --as`: acting as somebody else, for who may do everything (apiserver pkg/endpoints/filters/impersonation).

use crate::identity::Identity;
use crate::status::Failure;
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use std::sync::Arc;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

const AUTHENTICATED: &str = "system:authenticated";
const UNAUTHENTICATED: &str = "system:unauthenticated";
const ACCOUNT: &str = "system:serviceaccount:";

/// The identity that a request is to be judged by.
pub(crate) fn apply(actor: Identity, headers: &HeaderMap) -> Result<Identity, Failure> {
    if !headers.keys().any(|name| name.as_str().starts_with("impersonate-")) {
        return Ok(actor);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let user = text(USER);
    if user.is_empty() {
        return Err(Failure::bad_request("requested impersonation of groups, a uid or extra without impersonating a user"));
    }
    if !actor.is_in("system:masters") {
        let (resource, name, place) = match user.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':')) {
            Some((namespace, name)) => ("serviceaccounts", name, format!("in the namespace {namespace:?}")),
            None => ("users", user, "at the cluster scope".to_owned()),
        };
        let message = format!("{resource} {name:?} is forbidden: User {:?} cannot impersonate resource {resource:?} in API group \"\" {place}", actor.user);
        return Err(Failure::forbidden(message).about("", resource, name));
    }
    let mut groups: Vec<Arc<str>> = headers.get_all(GROUP).iter().filter_map(|value| value.to_str().ok()).map(Arc::from).collect();
    if groups.is_empty()
        && let Some((namespace, _)) = user.strip_prefix(ACCOUNT).and_then(|rest| rest.split_once(':'))
    {
        groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}").into()];
    }
    if user != "system:anonymous" && !groups.iter().any(|group| matches!(group.as_ref(), AUTHENTICATED | UNAUTHENTICATED)) {
        groups.push(AUTHENTICATED.into());
    } else if user == "system:anonymous" && groups.is_empty() {
        groups.push(UNAUTHENTICATED.into());
    }
    let uid = text(UID);
    Ok(Identity { user: user.into(), groups, uid: (!uid.is_empty()).then(|| uid.into()), extra: extra(headers) })
}

/// `Impersonate-Extra-<escaped key>: value`, as often as there are values.
fn extra(headers: &HeaderMap) -> Vec<(Arc<str>, Vec<Arc<str>>)> {
    let keys = headers.keys().filter_map(|name| Some((name, name.as_str().strip_prefix(EXTRA)?)));
    let decoded = keys.map(|(name, key)| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(Arc::from).collect();
        (Arc::from(percent_decode_str(key).decode_utf8_lossy().as_ref()), values)
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn check(actor: &Identity, headers: &[(&'static str, &'static str)], expected: &str) {
        let headers: HeaderMap = headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect();
        let shown = match apply(actor.clone(), &headers) {
            Ok(identity) => format!("{} {:?} {:?}", identity.user, identity.groups, identity.uid),
            Err(failure) => format!("{} {}", failure.code(), failure.message()),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn who_may_do_everything_may_act_as_anybody_and_nobody_else_may() {
        let admin = Identity::component("admin");
        let jane = Identity { user: "jane".into(), groups: vec![AUTHENTICATED.into()], uid: None, extra: Vec::new() };
        check(&jane, &[], r#"jane ["system:authenticated"] None"#);
        check(&admin, &[(USER, "jane")], r#"jane ["system:authenticated"] None"#);
        check(&admin, &[(USER, "jane"), (GROUP, "devs"), (UID, "7")], r#"jane ["devs", "system:authenticated"] Some("7")"#);
        check(&admin, &[(USER, "system:serviceaccount:a:b")], r#"system:serviceaccount:a:b ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"] None"#);
        check(&admin, &[(USER, "system:anonymous")], r#"system:anonymous ["system:unauthenticated"] None"#);
        check(&admin, &[(GROUP, "devs")], "400 requested impersonation of groups, a uid or extra without impersonating a user");
        check(&jane, &[(USER, "admin")], r#"403 users "admin" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#);
        check(&jane, &[(USER, "system:serviceaccount:a:b")], r#"403 serviceaccounts "b" is forbidden: User "jane" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "a""#);
    }
}
