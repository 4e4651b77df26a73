//! TLS to KMS ends here: measured roots, a pinned host name, the enclave's own time (K-16, C-2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ClientConfig;
use rustls::time_provider::TimeProvider;
use rustls::{Error as TlsError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::KeyError;
use crate::platform::{Stream, TimeSource};

/// Amazon's roots, on which the certificates of AWS endpoints rest.
const AMAZON_ROOTS: &str = include_str!("../../roots/amazon.pem");

/// The trust anchors of the policy cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not certificates in PEM, or [kms] endpoint is not a host name")]
pub struct RootsError;

/// Connects to one endpoint.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts `roots` in PEM, or Amazon's, to vouch for `host` and for nobody else.
    pub(super) fn new(
        host: &str,
        roots: Option<&str>,
        time: Arc<dyn TimeSource>,
    ) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(roots.unwrap_or(AMAZON_ROOTS).as_bytes()) {
            store.add(certificate.map_err(|_| RootsError)?).map_err(|_| RootsError)?;
        }
        if store.is_empty() {
            return Err(RootsError);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(EnclaveTime(time)))
            .with_safe_default_protocol_versions()
            .map_err(|_| RootsError)?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).map_err(|_| RootsError)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    pub(super) async fn connect(&self, stream: Stream) -> Result<TlsStream<Stream>, KeyError> {
        self.connector.connect(self.name.clone(), stream).await.map_err(|error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>());
            if tls.is_some_and(is_about_the_certificate) {
                KeyError::TlsRejected
            } else {
                KeyError::Unavailable
            }
        })
    }
}

fn is_about_the_certificate(error: &TlsError) -> bool {
    matches!(error, TlsError::InvalidCertificate(_) | TlsError::NoCertificatesPresented)
}

/// What rustls takes for the present.
struct EnclaveTime(Arc<dyn TimeSource>);

impl TimeProvider for EnclaveTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.unix_millis())))
    }
}

impl fmt::Debug for EnclaveTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnclaveTime")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Now;
    impl TimeSource for Now {
        fn unix_millis(&self) -> u64 {
            1_700_000_000_000
        }
    }

    #[test]
    fn takes_amazons_roots_and_refuses_none() {
        assert!(Tls::new("kms.eu-west-1.amazonaws.com", None, Arc::new(Now)).is_ok());
        assert!(Tls::new("localhost", Some("no certificate"), Arc::new(Now)).is_err());
    }
}
