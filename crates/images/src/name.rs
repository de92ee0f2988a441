//! What users write, and what it means.

use crate::Error;
use oci_client::Reference;

/// The canonical form of what a user wrote: `nginx` → `docker.io/library/nginx:latest`.
pub fn canonical(name: &str) -> Result<String, Error> {
    Ok(parse(name)?.whole())
}

pub(crate) fn parse(name: &str) -> Result<Reference, Error> {
    name.parse::<Reference>().map_err(|e| Error::Name { name: name.to_owned(), reason: e.to_string() })
}

/// A `sha256:` id, or enough of one to be one (12 hex digits, as docker prints them).
pub(crate) fn is_id(name: &str) -> bool {
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    (12..=64).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn short_names_mean_docker_hub_and_latest() {
        for (written, meant) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("curlimages/curl", "docker.io/curlimages/curl:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
        ] {
            assert_eq!(canonical(written).unwrap(), meant, "{written}");
        }
    }

    #[test]
    fn bad_names_say_what_is_wrong() {
        for written in ["", "nginx/UPPER", "a b", "nginx:", "nginx@sha256:12"] {
            assert!(matches!(canonical(written), Err(Error::Name { .. })), "{written:?}");
        }
    }
}
