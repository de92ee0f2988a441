//! ServiceAccount tokens: JWTs signed with ES256, and as good as the account and the pod they are bound to.

use crate::identity::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use mainstay_store::{Key, Store};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A token longer than this is not ours.
const TOKEN_LIMIT_BYTES: usize = 8 * 1024;

/// Verified tokens that are remembered, so that a signature is checked once and not at every request.
const REMEMBERED: usize = 1_024;

/// Makes and checks tokens.
pub(crate) struct Tokens {
    issuer: String,
    key: EcdsaKeyPair,
    key_id: String,
    random: SystemRandom,
    verified: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Who accepts it.
    pub(crate) aud: Vec<String>,
    /// Seconds since the epoch.
    pub(crate) exp: i64,
    /// Made at.
    pub(crate) iat: i64,
    /// Who made it.
    pub(crate) iss: String,
    /// Its own name.
    pub(crate) jti: String,
    /// Objects that must still exist.
    #[serde(rename = "kubernetes.io")]
    pub(crate) bound: Bound,
    /// Not before.
    pub(crate) nbf: i64,
    /// `system:serviceaccount:<namespace>:<name>`.
    pub(crate) sub: String,
}

/// The private claims of Kubernetes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Bound {
    /// Namespace of account and pod.
    pub(crate) namespace: String,
    /// The node of the pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) node: Option<Named>,
    /// The pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) pod: Option<Named>,
    /// The secret it is bound to instead of a pod.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) secret: Option<Named>,
    /// The account.
    pub(crate) serviceaccount: Named,
}

/// An object of a claim.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Named {
    /// Its name.
    pub(crate) name: String,
    /// Its uid.
    pub(crate) uid: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

impl Tokens {
    /// `key` is an ECDSA P-256 key in PKCS#8 PEM.
    pub(crate) fn new(key: &str, domain: &str) -> Result<Self, String> {
        let random = SystemRandom::new();
        let der = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("read the token key: {error}"))?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
            .map_err(|error| format!("the token key is no ECDSA P-256 key: {error}"))?;
        let key_id = BASE64.encode(Sha256::digest(key.public_key().as_ref()));
        Ok(Self { issuer: format!("https://kubernetes.default.svc.{domain}"), key, key_id, random, verified: Mutex::default() })
    }

    /// Issuer, and the audience of this API server.
    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Signs.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, String> {
        let header = Header { alg: "ES256".to_owned(), kid: self.key_id.clone() };
        let part = |json: serde_json::Result<Vec<u8>>| json.map(|bytes| BASE64.encode(bytes)).map_err(|error| error.to_string());
        let text = format!("{}.{}", part(serde_json::to_vec(&header))?, part(serde_json::to_vec(claims))?);
        let signature = self.key.sign(&self.random, text.as_bytes()).map_err(|_| "signing the token failed".to_owned())?;
        Ok(format!("{text}.{}", BASE64.encode(signature)))
    }

    /// Who a token stands for, when it is ours, valid now, and the account and pod it names are still the same.
    pub(crate) fn authenticate(&self, token: &str, audiences: &[&str], store: &Store) -> Option<(Identity, Arc<Claims>)> {
        let claims = self.verified(token)?;
        let now = jiff::Timestamp::now().as_second();
        let meant = audiences.iter().any(|audience| claims.aud.iter().any(|aud| aud == audience));
        if !meant || claims.exp <= now || claims.nbf > now + 5 || !bound_objects_live(&claims.bound, store) {
            return None;
        }
        Some((identity(&claims), claims))
    }

    /// The claims of a well signed token.
    fn verified(&self, token: &str) -> Option<Arc<Claims>> {
        if token.len() > TOKEN_LIMIT_BYTES {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = self.verified.lock().ok()?.get(&digest) {
            return Some(claims.clone());
        }
        let (text, signature) = token.rsplit_once('.')?;
        let (header, claims) = text.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.alg != "ES256" || header.kid != self.key_id {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        public.verify(text.as_bytes(), &BASE64.decode(signature).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        if claims.iss != self.issuer {
            return None;
        }
        let claims = Arc::new(claims);
        let mut verified = self.verified.lock().ok()?;
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, claims.clone());
        Some(claims)
    }
}

/// A token dies with its account and with its pod.
fn bound_objects_live(bound: &Bound, store: &Store) -> bool {
    let lives = |resource: &str, named: &Named| {
        let key = Key { resource: resource.into(), namespace: bound.namespace.as_str().into(), name: named.name.as_str().into() };
        store.get(&key).is_some_and(|object| *object.meta.uid == named.uid)
    };
    lives("serviceaccounts", &bound.serviceaccount)
        && bound.pod.as_ref().is_none_or(|pod| lives("pods", pod))
        && bound.secret.as_ref().is_none_or(|secret| lives("secrets", secret))
}

fn identity(claims: &Claims) -> Identity {
    let bound = &claims.bound;
    let mut extra = vec![("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={}", claims.jti).into()])];
    let mut note = |name: &str, value: &str| extra.push((format!("authentication.kubernetes.io/{name}").into(), vec![value.into()]));
    if let Some(node) = &bound.node {
        note("node-name", &node.name);
        note("node-uid", &node.uid);
    }
    if let Some(pod) = &bound.pod {
        note("pod-name", &pod.name);
        note("pod-uid", &pod.uid);
    }
    Identity {
        user: claims.sub.as_str().into(),
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{}", bound.namespace).into(), "system:authenticated".into()],
        uid: Some(bound.serviceaccount.uid.as_str().into()),
        extra,
    }
}
