//! A request's path and query, read without copying where nothing is escaped.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// `/api/v1/namespaces/default/pods/web-0/log` and its like.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// Empty for core.
    pub(crate) group: &'a str,
    /// `v1`.
    pub(crate) version: &'a str,
    /// Of a namespaced request.
    pub(crate) namespace: Option<Cow<'a, str>>,
    /// `pods`.
    pub(crate) resource: &'a str,
    /// `web-0`.
    pub(crate) name: Option<Cow<'a, str>>,
    /// `log`.
    pub(crate) subresource: Option<&'a str>,
    /// The old form `/api/v1/watch/…`.
    pub(crate) watch: bool,
}

impl<'a> Path<'a> {
    /// `None`: not the path of a resource.
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        let mut parts = path.strip_prefix('/')?.trim_end_matches('/').split('/');
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let mut resource = parts.next()?;
        let watch = resource == "watch";
        if watch {
            resource = parts.next()?;
        }
        let mut path = Path { group, version, namespace: None, resource, name: None, subresource: None, watch };
        let mut rest = parts.next();
        if resource == "namespaces" && rest.is_some() {
            let namespace = decode(rest?)?;
            match parts.next() {
                // A subresource of the namespace itself, or what lies in it.
                None => path.name = Some(namespace.clone()),
                Some(part @ ("status" | "finalize")) => {
                    path.name = Some(namespace.clone());
                    path.subresource = Some(part);
                }
                Some(inner) => path.resource = inner,
            }
            path.namespace = Some(namespace);
            if path.name.is_some() {
                return parts.next().is_none().then_some(path);
            }
            rest = parts.next();
        }
        if let Some(name) = rest {
            path.name = Some(decode(name)?);
            path.subresource = parts.next();
        }
        let empty = path.resource.is_empty() || path.name.as_ref().is_some_and(|name| name.is_empty());
        (!empty && parts.next().is_none()).then_some(path)
    }
}

fn decode(part: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(part).decode_utf8().ok()
}

/// `?a=b&c=d`.
#[derive(Debug, Default)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: Option<&'a str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (form(name), form(value))).collect())
    }

    /// The first value of a parameter; empty is as good as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_ref())
    }

    /// Go's `strconv.ParseBool`, and a bare name.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.iter().find(|(key, _)| key == name).is_some_and(|(_, value)| matches!(value.as_ref(), "" | "1" | "t" | "T" | "true" | "True" | "TRUE"))
    }
}

fn form(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: &str) {
        let found = Path::parse(path).map_or("-".to_owned(), |p| {
            let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
            format!("{:?} {} {} {} {} {}", p.group, p.version, or(p.namespace.as_deref()), p.resource, or(p.name.as_deref()), or(p.subresource))
        });
        assert_eq!(found, expected, "{path}");
    }

    #[test]
    fn paths_name_group_version_namespace_resource_name_and_subresource() {
        check("/api/v1/pods", r#""" v1 - pods - -"#);
        check("/api/v1/namespaces/default/pods/web-0/log", r#""" v1 default pods web-0 log"#);
        check("/apis/apps/v1/namespaces/a/statefulsets/web/scale", r#""apps" v1 a statefulsets web scale"#);
        check("/api/v1/namespaces", r#""" v1 - namespaces - -"#);
        check("/api/v1/namespaces/", r#""" v1 - namespaces - -"#);
        check("/api/v1/namespaces/a", r#""" v1 a namespaces a -"#);
        check("/api/v1/namespaces/a/status", r#""" v1 a namespaces a status"#);
        check("/api/v1/namespaces/a/finalize", r#""" v1 a namespaces a finalize"#);
        check("/apis/x/v1/things/system%3Anode", r#""x" v1 - things system:node -"#);
        check("/api/v1/watch/namespaces/a/pods", r#""" v1 a pods - -"#);
        for path in ["/", "/api", "/api/v1", "/apis/apps/v1", "/healthz", "/api/v1/pods/a/b/c", "/api/v1/namespaces/a/status/x", "/api/v1//x"] {
            check(path, "-");
        }
    }

    #[test]
    fn queries_are_unescaped() {
        let query = Query::parse(Some("labelSelector=a+in+%28b%2Cc%29&watch&limit=500&dryRun=All&dryRun=x&empty="));
        assert_eq!(query.get("labelSelector"), Some("a in (b,c)"));
        assert!(query.flag("watch") && !query.flag("pretty"));
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "x"]);
        assert_eq!((query.get("empty"), query.get("limit")), (None, Some("500")));
    }
}
