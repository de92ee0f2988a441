//! Who a request over TLS comes from.

use crate::identity::Identity;
use crate::server::Inner;
use crate::status::Failure;
use http::{HeaderMap, header};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// From a certificate that TLS has verified: CN is the user, each O a group. `None`: it names nobody.
pub(crate) fn from_certificate(der: &[u8]) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let user: Arc<str> = subject.iter_common_name().next()?.as_str().ok()?.into();
    if user.is_empty() {
        return None;
    }
    let mut groups: Vec<Arc<str>> = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(Arc::from).collect();
    groups.push("system:authenticated".into());
    Some(Identity { user, groups, uid: None, extra: Vec::new() })
}

/// The certificate's holder, else the bearer of a token, else anonymous; a bad token is refused and not taken for nobody.
pub(crate) fn authenticate(server: &Inner, headers: &HeaderMap, certificate: Option<&Identity>) -> Result<Identity, Failure> {
    if let Some(identity) = certificate {
        return Ok(identity.clone());
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(Identity::anonymous());
    };
    let value = value.to_str().map_err(|_| Failure::unauthorized())?;
    let token = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => return Err(Failure::unauthorized()),
    };
    let tokens = server.tokens().map_err(|_| Failure::unauthorized())?;
    let authenticated = tokens.authenticate(token, &[tokens.issuer()], &server.store);
    authenticated.map(|(identity, _)| identity).ok_or_else(Failure::unauthorized)
}
