//! The requester's KMS client: the AWS SDK, against AWS or against a local KMS.

use std::path::PathBuf;

use aws_config::BehaviorVersion;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Which KMS and whose credentials; what is `None` comes from the SDK's default chain.
#[derive(Debug, Clone, Default)]
pub struct KmsEndpoint {
    /// The region.
    pub region: Option<String>,
    /// Another endpoint than the region's, as an URL.
    pub url: Option<String>,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca: Option<PathBuf>,
    /// A credentials file instead of the usual one.
    pub credentials: Option<PathBuf>,
    /// The profile in it.
    pub profile: Option<String>,
}

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Data keys come in the clear from there, so nothing but TLS will do.
    #[error("'{0}' is not the URL of a KMS endpoint; it begins with https://")]
    Url(String),
    /// The certificates cannot be read.
    #[error("cannot read the certificates {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds none.
    #[error("{} holds no certificates in PEM", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
}

/// Makes a client.
///
/// # Errors
/// [`EndpointError`].
pub async fn client(endpoint: KmsEndpoint) -> Result<aws_sdk_kms::Client, EndpointError> {
    let KmsEndpoint { region, url, ca, credentials, profile } = endpoint;
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(region) = region {
        loader = loader.region(aws_config::Region::new(region));
    }
    if let Some(url) = url {
        let host = url.strip_prefix("https://").unwrap_or_default();
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(EndpointError::Url(url));
        }
        loader = loader.endpoint_url(url);
    }
    if let Some(path) = credentials {
        let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
        loader = loader.profile_files(files);
    }
    if let Some(profile) = profile {
        loader = loader.profile_name(profile);
    }
    if let Some(path) = ca {
        let certificates = || EndpointError::Certificates { path: path.clone() };
        let pem = std::fs::read(&path).map_err(|source| EndpointError::Io { path: path.clone(), source })?;
        if !holds_certificates(&pem) {
            return Err(certificates());
        }
        let trust = TrustStore::empty().with_pem_certificate(pem);
        let tls = TlsContext::builder().with_trust_store(trust).build().map_err(|_| certificates())?;
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build_https();
        loader = loader.http_client(http);
    }
    Ok(aws_sdk_kms::Client::new(&loader.load().await))
}

/// The SDK panics at certificates that it cannot read.
fn holds_certificates(pem: &[u8]) -> bool {
    let mut store = rustls::RootCertStore::empty();
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    read.is_ok_and(|ders| !ders.is_empty() && ders.into_iter().all(|der| store.add(der).is_ok()))
}
