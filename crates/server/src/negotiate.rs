//! What the client wants to be answered in.

use crate::status::Failure;
use http::{HeaderMap, header};

/// The shape of objects in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As they are.
    Plain,
    /// Rows and columns, in this version of `meta.k8s.io`.
    Table(&'static str),
    /// Metadata only.
    Metadata(&'static str),
}

/// An Accept header, decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accept {
    /// Shape.
    pub(crate) form: Form,
    /// YAML instead of JSON.
    pub(crate) yaml: bool,
}

/// Decides. JSON is what clients that prefer protobuf are given: all of them take it.
pub(crate) fn accept(headers: &HeaderMap) -> Result<Accept, Failure> {
    let mut values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if values.peek().is_none() {
        return Ok(Accept { form: Form::Plain, yaml: false });
    }
    let mut offers: Vec<(f32, Accept)> =
        values.flat_map(|value| value.split(',')).filter_map(|offer| Some((quality(offer)?, understand(offer)?))).collect();
    offers.sort_by(|a, b| b.0.total_cmp(&a.0));
    offers.first().map(|offer| offer.1).ok_or_else(Failure::not_acceptable)
}

/// Refuses who takes nothing but rows or metadata of what has neither.
pub(crate) fn plain(headers: &HeaderMap) -> Result<(), Failure> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut offers = values.flat_map(|value| value.split(',')).filter(|offer| quality(offer).is_some()).map(understand).peekable();
    let any = offers.peek().is_none() || offers.any(|accept| accept.is_some_and(|accept| accept.form == Form::Plain));
    if any { Ok(()) } else { Err(Failure::not_acceptable()) }
}

/// The `q` of a media range; `None` for 0, which forbids.
fn quality(offer: &str) -> Option<f32> {
    let q = parameters(offer).find(|(name, _)| *name == "q").map_or(1.0, |(_, value)| value.parse().unwrap_or(1.0));
    (q > 0.0).then_some(q)
}

fn understand(offer: &str) -> Option<Accept> {
    let media_type = offer.split(';').next().unwrap_or("").trim();
    let yaml = match media_type {
        "application/json" | "application/*" | "*/*" => false,
        "application/yaml" => true,
        _ => return None,
    };
    let find = |wanted: &str| parameters(offer).find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let form = match find("as") {
        None => Form::Plain,
        Some(shape) => {
            let version = match find("v")? {
                "v1" => "meta.k8s.io/v1",
                "v1beta1" => "meta.k8s.io/v1beta1",
                _ => return None,
            };
            match shape {
                _ if find("g") != Some("meta.k8s.io") => return None,
                "Table" => Form::Table(version),
                "PartialObjectMetadata" | "PartialObjectMetadataList" => Form::Metadata(version),
                _ => return None,
            }
        }
    };
    Some(Accept { form, yaml })
}

fn parameters(offer: &str) -> impl Iterator<Item = (&str, &str)> {
    offer.split(';').skip(1).filter_map(|parameter| parameter.trim().split_once('='))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;

    #[test]
    fn the_first_understood_offer_wins() {
        const TABLE: Form = Form::Table("meta.k8s.io/v1");
        let table = [
            ("application/json", Some((Form::Plain, false))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Form::Plain, false))),
            ("application/vnd.kubernetes.protobuf", None),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json", Some((TABLE, false))),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", None),
            ("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Form::Metadata("meta.k8s.io/v1"), false))),
            ("application/yaml", Some((Form::Plain, true))),
            ("application/yaml;q=0.5, application/json;q=0.9", Some((Form::Plain, false))),
            ("*/*", Some((Form::Plain, false))),
            ("text/html", None),
            ("application/json;stream=watch", Some((Form::Plain, false))),
        ];
        for (header, expected) in table {
            let headers = HeaderMap::from_iter([(header::ACCEPT, header.parse().unwrap())]);
            assert_eq!(accept(&headers).ok().map(|a| (a.form, a.yaml)), expected, "{header}");
        }
    }
}
