//! The server's TLS identity: a certificate authority made once, a server certificate per start.
//!
//! Certificates follow the host's clock even where the service has another, because clients do.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use super::KmsError;
use super::master::write_whole;

const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Clients refuse longer-lived server certificates; a server that runs longer has to be restarted.
const SERVER_LIFE: Duration = Duration::from_hours(397 * 24);
/// A small step back of the clock does not make the certificates unusable.
const BACKDATE: Duration = Duration::from_hours(24);

pub(super) struct Identity {
    ca_pem: String,
    server: Arc<ServerConfig>,
}

impl Identity {
    pub(super) fn open(folder: &Path, region: &str, more_names: &[String]) -> Result<Self, KmsError> {
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate.try_exists()? {
            make_authority(&certificate, &key)?;
        }
        let ca_pem = fs_err::read_to_string(&certificate)?;
        let authority = CertificateDer::from_pem_slice(ca_pem.as_bytes())
            .map_err(|_| KmsError::Authority { path: certificate.clone() })?;
        let secret = fs_err::read_to_string(&key).map(Zeroizing::new)?;
        let pair = KeyPair::from_pkcs8_pem_and_sign_algo(&secret, &PKCS_ECDSA_P256_SHA256)
            .map_err(|_| KmsError::Authority { path: key.clone() })?;
        let public = pair.public_key_raw();
        if !authority.windows(public.len()).any(|window| window == public) {
            return Err(KmsError::Authority { path: key });
        }
        let issuer = Issuer::new(authority_params()?, pair);
        Ok(Self { server: Arc::new(server_config(&issuer, region, more_names)?), ca_pem })
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    pub(super) fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }
}

/// The certificate is written last: while it is absent nobody can have trusted it.
fn make_authority(certificate: &Path, key: &Path) -> Result<(), KmsError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let authority = authority_params()?.self_signed(&pair)?;
    write_whole(key, Zeroizing::new(pair.serialize_pem()).as_bytes(), 0o600)?;
    write_whole(certificate, authority.pem().as_bytes(), 0o644)?;
    Ok(())
}

fn authority_params() -> Result<CertificateParams, KmsError> {
    let mut params = params("Adyton simulator KMS authority", AUTHORITY_LIFE)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn server_config(
    issuer: &Issuer<'_, KeyPair>,
    region: &str,
    more_names: &[String],
) -> Result<ServerConfig, KmsError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names =
        names.into_iter().chain([format!("kms.{region}.localhost")]).chain(more_names.iter().cloned());
    let mut params = params("Adyton simulator KMS", SERVER_LIFE)?;
    params.subject_alt_names = CertificateParams::new(names.collect::<Vec<_>>())?.subject_alt_names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.signed_by(&pair, issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn params(name: &str, life: Duration) -> Result<CertificateParams, KmsError> {
    let now = SystemTime::now();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, crate::nsm::SIMULATOR_MARK);
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.not_before = now.checked_sub(BACKDATE).ok_or(KmsError::Crypto)?.into();
    params.not_after = now.checked_add(life).ok_or(KmsError::Crypto)?.into();
    Ok(params)
}
