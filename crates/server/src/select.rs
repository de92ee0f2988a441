//! Label and field selectors, answered from an object's index entry alone.

use crate::rows::Row;
use crate::status::Failure;
use mainstay_store::Object;
use std::sync::Arc;

/// Which objects of a range a request is about.
#[derive(Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<FieldTerm>,
}

#[derive(Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

#[derive(Debug)]
struct FieldTerm {
    source: Source,
    value: String,
    equal: bool,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Name,
    Namespace,
    /// A place in [`mainstay_store::Meta::fields`].
    Indexed(usize),
}

impl Selector {
    /// Reads both selectors of a request.
    pub(crate) fn parse(row: &Row, labels: Option<&str>, fields: Option<&str>) -> Result<Self, Failure> {
        let labels = match labels {
            Some(text) => parse_labels(text).map_err(|why| Failure::bad_request(format!("unable to parse requirement: {why}")))?,
            None => Vec::new(),
        };
        let fields = match fields {
            Some(text) => parse_fields(row, text)?,
            None => Vec::new(),
        };
        Ok(Self { labels, fields })
    }

    /// Selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, if there is one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields.iter().find(|term| term.equal && matches!(term.source, Source::Name)).map(|term| term.value.as_str())
    }

    /// The one namespace that can match, if a field says so.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.fields.iter().find(|term| term.equal && matches!(term.source, Source::Namespace)).map(|term| term.value.as_str())
    }

    /// Whether an object is meant.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        self.fields.iter().all(|term| term.matches(object)) && self.labels.iter().all(|wanted| wanted.matches(&object.meta.labels))
    }
}

impl FieldTerm {
    fn matches(&self, object: &Object) -> bool {
        let actual = match self.source {
            Source::Name => &object.key.name,
            Source::Namespace => &object.key.namespace,
            Source::Indexed(at) => object.meta.fields.get(at).map_or("", |value| value),
        };
        (actual == self.value) == self.equal
    }
}

impl Requirement {
    fn matches(&self, labels: &[(Arc<str>, Arc<str>)]) -> bool {
        let value = labels.binary_search_by(|(key, _)| (**key).cmp(&self.key)).ok().map(|at| &*labels[at].1);
        match (&self.test, value) {
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::In(values), Some(value)) => values.iter().any(|wanted| wanted == value),
            (Test::NotIn(values), Some(value)) => values.iter().all(|unwanted| unwanted != value),
            (Test::NotIn(_), None) => true,
            (Test::Greater(bound), Some(value)) => value.parse::<i64>().is_ok_and(|n| n > *bound),
            (Test::Less(bound), Some(value)) => value.parse::<i64>().is_ok_and(|n| n < *bound),
            (Test::In(_) | Test::Greater(_) | Test::Less(_), None) => false,
        }
    }
}

/// `a=b,c in (d,e),!f`: split at the commas outside parentheses.
fn parse_labels(text: &str) -> Result<Vec<Requirement>, String> {
    let mut depth = 0usize;
    let terms = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let terms: Vec<&str> = terms.map(str::trim).collect();
    if terms == [""] {
        return Ok(Vec::new());
    }
    terms.into_iter().map(parse_requirement).collect()
}

fn parse_requirement(term: &str) -> Result<Requirement, String> {
    let (key, test) = if let Some(key) = term.strip_prefix('!') {
        (key, Test::Absent)
    } else if let Some(set) = term.strip_suffix(')') {
        let (before, values) = set.split_once('(').ok_or_else(|| format!("found {term:?}, expected: in, notin, =, ==, !=, gt, lt"))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = before.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, Test::In(values)),
            (Some(key), Some("notin"), None) => (key, Test::NotIn(values)),
            _ => return Err(format!("found {before:?}, expected: in, notin")),
        }
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Test::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Test::In(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = term.split_once('>') {
        (key, Test::Greater(number(value)?))
    } else if let Some((key, value)) = term.split_once('<') {
        (key, Test::Less(number(value)?))
    } else {
        (term, Test::Exists)
    };
    let key = key.trim();
    if let Some(why) = mainstay_api::names::qualified_name(key).first() {
        return Err(format!("key: Invalid value: {key:?}: {why}"));
    }
    if let Test::In(values) | Test::NotIn(values) = &test {
        for value in values {
            if let Some(why) = mainstay_api::names::label_value(value).first() {
                return Err(format!("values[0][{key}]: Invalid value: {value:?}: {why}"));
            }
        }
    }
    Ok(Requirement { key: key.to_owned(), test })
}

fn number(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer", text.trim()))
}

/// `a=b,c!=d`, where `\,` `\=` and `\\` stand for themselves.
fn parse_fields(row: &Row, text: &str) -> Result<Vec<FieldTerm>, Failure> {
    split_escaped(text, ',').into_iter().filter(|term| !term.is_empty()).map(|term| parse_field(row, term)).collect()
}

fn parse_field(row: &Row, term: &str) -> Result<FieldTerm, Failure> {
    let (name, value, equal) = [("!=", false), ("==", true), ("=", true)]
        .into_iter()
        .filter_map(|(operator, equal)| term.split_once(operator).map(|(name, value)| (name, value, equal)))
        .min_by_key(|(name, ..)| name.len())
        .ok_or_else(|| Failure::bad_request(format!("invalid selector: '{term}'; can't understand '{term}'")))?;
    let source = match name {
        "metadata.name" => Source::Name,
        "metadata.namespace" => Source::Namespace,
        _ => {
            let at = row.kind.fields.iter().position(|field| field.name == name);
            Source::Indexed(at.ok_or_else(|| Failure::bad_request(format!("field label not supported: {name}")))?)
        }
    };
    Ok(FieldTerm { source, value: unescape(value), equal })
}

fn split_escaped(text: &str, separator: char) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c| {
        let here = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        here
    })
    .collect()
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { chars.next().unwrap_or('\\') } else { c });
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn label_selectors_match_as_upstream() {
        let labels: Vec<(Arc<str>, Arc<str>)> =
            [("app", "web"), ("n", "5"), ("tier", "front")].map(|(k, v)| (k.into(), v.into())).to_vec();
        for (selector, expected) in [
            ("", true), ("app=web", true), ("app==web", true), ("app!=web", false), ("app=db", false), ("other!=x", true),
            ("app", true), ("!app", false), ("!other", true), ("app in (web,db)", true), ("app in (db)", false), ("app notin (db, x)", true),
            ("other notin (a)", true), ("app=web,tier in (front)", true), ("app=web,tier notin (front)", false), ("n>4", true), ("n<4", false), ("x.y/app", false),
        ] {
            let requirements = parse_labels(selector).unwrap();
            assert_eq!(requirements.iter().all(|r| r.matches(&labels)), expected, "{selector}");
        }
        for bad in ["a b", "=x", "app in web", "-a=b", "a=b c", "a in (b", "n>x", "a,,b"] {
            assert!(parse_labels(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn escapes_in_field_values() {
        assert_eq!(split_escaped(r"a=b\,c,d=e", ','), [r"a=b\,c", "d=e"]);
        assert_eq!(unescape(r"b\,c\\\=d"), r"b,c\=d");
    }
}
