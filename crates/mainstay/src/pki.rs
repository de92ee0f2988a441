//! Keys and certificates of one installation, in `<data>/pki/`, made at the first start and renewed before they expire.
//!
//! | file | what | for |
//! |---|---|---|
//! | `ca.key`, `ca.crt` | the authority | 10 years |
//! | `server.key`, `server.crt` | the API server | a year |
//! | `admin.key`, `admin.crt` | the administrator in the kubeconfig, group `system:masters` | a year |
//! | `token.key` | signs ServiceAccount tokens | – |

use crate::data_dir::write_durably;
use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

const AUTHORITY_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// A leaf with less than this left is replaced.
const RENEW_DAYS: i64 = 90;
/// Clocks of clients may be behind.
const SKEW: Duration = Duration::hours(1);

/// The directory.
pub(crate) struct Pki {
    dir: PathBuf,
}

/// What goes into a kubeconfig.
pub(crate) struct Admin {
    pub ca_certificate: String,
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// Makes what is missing, renews what is about to expire or does not cover `names` any more.
    pub(crate) fn ensure(data: &Path, service: Ipv4Addr, domain: &str, node: &str) -> Result<Self> {
        let pki = Self { dir: data.join("pki") };
        fs::create_dir_all(&pki.dir).with_context(|| format!("create {}", pki.dir.display()))?;
        pki.authority()?;
        if !pki.dir.join("token.key").exists() {
            pki.write("token.key", &KeyPair::generate()?.serialize_pem())?;
        }
        let mut names: Vec<String> = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", node].map(str::to_owned).to_vec();
        names.extend([format!("kubernetes.default.svc.{domain}"), "127.0.0.1".into(), service.to_string()]);
        names.dedup();
        let wanted = names.join(",");
        let same_names = fs::read_to_string(pki.dir.join("server.names")).is_ok_and(|n| n == wanted);
        if !same_names || pki.expires_soon("server") {
            pki.leaf("server", names, DistinguishedName::new(), "kube-apiserver", &[], ExtendedKeyUsagePurpose::ServerAuth)?;
            pki.write("server.names", &wanted)?;
        }
        if pki.expires_soon("admin") {
            pki.leaf("admin", Vec::new(), DistinguishedName::new(), "mainstay-admin", &["system:masters"], ExtendedKeyUsagePurpose::ClientAuth)?;
        }
        Ok(pki)
    }

    /// As it is on disk.
    pub(crate) fn existing(data: &Path) -> Self {
        Self { dir: data.join("pki") }
    }

    pub(crate) fn server(&self) -> Result<mainstay_server::Pki> {
        Ok(mainstay_server::Pki {
            ca_certificate: self.read("ca.crt")?,
            server_certificate: self.read("server.crt")?,
            server_key: self.read("server.key")?,
            token_key: self.read("token.key")?,
        })
    }

    pub(crate) fn admin(&self) -> Result<Admin> {
        Ok(Admin { ca_certificate: self.read("ca.crt")?, certificate: self.read("admin.crt")?, key: self.read("admin.key")? })
    }

    fn authority(&self) -> Result<()> {
        if self.dir.join("ca.crt").exists() {
            return Ok(());
        }
        let key = KeyPair::generate()?;
        let certificate = authority_params()?.self_signed(&key)?;
        self.write("ca.key", &key.serialize_pem())?;
        self.write("ca.crt", &certificate.pem())
    }

    fn leaf(&self, file: &str, names: Vec<String>, mut subject: DistinguishedName, user: &str, groups: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<()> {
        let issuer = Issuer::new(authority_params()?, KeyPair::from_pem(&self.read("ca.key")?).context("pki/ca.key is damaged: restore it from a backup")?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        for group in groups {
            subject.push(DnType::OrganizationName, *group);
        }
        subject.push(DnType::CommonName, user);
        params.distinguished_name = subject;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.not_before = OffsetDateTime::now_utc() - SKEW;
        params.not_after = OffsetDateTime::now_utc() + Duration::days(LEAF_DAYS);
        let certificate = params.signed_by(&key, &issuer)?;
        self.write(&format!("{file}.key"), &key.serialize_pem())?;
        self.write(&format!("{file}.crt"), &certificate.pem())
    }

    fn expires_soon(&self, file: &str) -> bool {
        let limit = OffsetDateTime::now_utc() + Duration::days(RENEW_DAYS);
        self.read(&format!("{file}.crt")).ok().and_then(|pem| expiry(&pem)).is_none_or(|at| at < limit)
    }

    fn read(&self, file: &str) -> Result<String> {
        let path = self.dir.join(file);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        write_durably(&self.dir.join(file), text.as_bytes(), 0o600)
    }
}

/// The same every time: an issuer is known by its name and its key.
fn authority_params() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "mainstay-ca");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = OffsetDateTime::now_utc() - SKEW;
    params.not_after = OffsetDateTime::now_utc() + Duration::days(AUTHORITY_DAYS);
    Ok(params)
}

fn expiry(pem: &str) -> Option<OffsetDateTime> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    OffsetDateTime::from_unix_timestamp(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn certificates_are_kept_and_a_changed_name_renews_only_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let make = |node| Pki::ensure(dir.path(), Ipv4Addr::new(10, 43, 0, 1), "cluster.local", node).unwrap();
        let (first, admin) = (make("a").server().unwrap(), make("a").admin().unwrap());
        let (second, same) = (make("a").server().unwrap(), make("a").admin().unwrap());
        assert_eq!((&first.server_certificate, &admin.certificate), (&second.server_certificate, &same.certificate));
        let renamed = make("b");
        assert_ne!(renamed.server().unwrap().server_certificate, first.server_certificate);
        assert_eq!(renamed.admin().unwrap().certificate, admin.certificate);
        let days = (expiry(&admin.certificate).unwrap() - OffsetDateTime::now_utc()).whole_days();
        assert!((LEAF_DAYS - 1..=LEAF_DAYS).contains(&days));
    }
}
