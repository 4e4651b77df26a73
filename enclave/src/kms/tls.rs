//! TLS to KMS, which ends inside the enclave (K-16).
//!
//! Trusted are the roots in the measured image, or those of the measured policy; nothing that the
//! parent offers. The host name is the configured one, and the time that certificates are judged
//! by is the enclave's own (C-2).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::platform::{Stream, TimeSource};

/// Amazon's public roots (<https://www.amazontrust.com/repository/>), part of the measured image.
const AMAZON: &[u8] = include_bytes!("../../roots/amazon.pem");

/// Why there is nothing to verify an endpoint's certificate by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// Not PEM.
    #[error("the roots are not PEM")]
    Pem,
    /// A certificate that cannot be a trust anchor.
    #[error("certificate {0} of the roots is malformed")]
    Certificate(usize),
    /// No certificate at all.
    #[error("the roots hold no certificate")]
    Empty,
    /// The endpoint cannot stand in a certificate.
    #[error("the endpoint is not a host name")]
    Host,
}

/// Reads certificates in PEM; one that is malformed spoils all.
fn anchors(pem: &[u8]) -> Result<RootCertStore, RootsError> {
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| RootsError::Pem)?;
        store.add(certificate).map_err(|_| RootsError::Certificate(store.len().saturating_add(1)))?;
    }
    if store.is_empty() { Err(RootsError::Empty) } else { Ok(store) }
}

/// Why there is no session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TlsError {
    /// Whoever answers is not the endpoint, or does not speak TLS as it does.
    Rejected,
    /// The stream broke, or what came was not TLS.
    Broken,
}

/// Starts TLS sessions with the endpoint.
pub(super) struct Tls {
    connector: TlsConnector,
    host: ServerName<'static>,
}

impl Tls {
    /// Trusts `roots` in PEM, or else Amazon's, to vouch for `host` and for nobody else.
    pub(super) fn new(
        host: &str,
        roots: Option<&str>,
        time: Arc<dyn TimeSource>,
    ) -> Result<Self, RootsError> {
        let roots = anchors(roots.map_or(AMAZON, str::as_bytes))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_details(provider, Arc::new(OwnTime(time)))
            .with_safe_default_protocol_versions()
            .map_err(|_| RootsError::Host)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session would skip the certificate; connections are kept alive instead.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let host = ServerName::try_from(host.to_owned()).map_err(|_| RootsError::Host)?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), host })
    }

    pub(super) async fn connect(&self, stream: Stream) -> Result<TlsStream<Stream>, TlsError> {
        let connected = self.connector.connect(self.host.clone(), stream).await;
        connected.map_err(|error| classify(&error))
    }
}

/// Garbage and alerts can come from anybody on the way, and trying again may help; a certificate
/// that does not verify will not get better.
fn classify(error: &io::Error) -> TlsError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(
            rustls::Error::InvalidCertificate(_)
            | rustls::Error::NoCertificatesPresented
            | rustls::Error::UnsupportedNameType
            | rustls::Error::PeerIncompatible(_)
            | rustls::Error::FailedToGetCurrentTime,
        ) => TlsError::Rejected,
        _ => TlsError::Broken,
    }
}

/// The enclave's clock, as rustls asks for it.
struct OwnTime(Arc<dyn TimeSource>);

impl fmt::Debug for OwnTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnTime")
    }
}

impl TimeProvider for OwnTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.unix_millis())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_roots_are_amazons_five() {
        assert_eq!(anchors(AMAZON).unwrap().len(), 5);
    }

    // K-16
    #[test]
    fn roots_without_a_certificate_or_with_a_broken_one_are_refused() {
        assert_eq!(anchors(b"").unwrap_err(), RootsError::Empty);
        assert_eq!(anchors(b"# nothing here\n").unwrap_err(), RootsError::Empty);
        let broken = b"-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n";
        assert_eq!(anchors(broken).unwrap_err(), RootsError::Certificate(1));
        let open = b"-----BEGIN CERTIFICATE-----\nMIID\n";
        assert_eq!(anchors(open).unwrap_err(), RootsError::Pem);
    }
}
