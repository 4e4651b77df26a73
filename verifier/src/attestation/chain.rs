//! The chain of certificates, from the pinned root to the leaf that signs (V-3).
//!
//! `rustls-webpki` verifies signatures, validity, basic constraints, path
//! length, name constraints and unknown critical extensions. It looks for a
//! path and ignores key usage, so what it leaves open is checked here: the
//! bundle begins with the anchor and *is* the path, root first; every key and
//! signature is P-384; key usage fits. CRLs are not consulted, as AWS says.
//! Real instance and leaf certificates have no SAN, EKU or key identifiers.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::aws_lc_rs::ECDSA_P384_SHA384;
use webpki::{EndEntityCert, Error, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::document::Document;
use super::envelope::LeafKey;
use super::error::AttestationError;
use super::known::{ChainId, ChainMemory, VerifiedChain};
use super::time::UnixMillis;

/// AWS Nitro Enclaves Root G1, as AWS publishes it.
const AWS_ROOT_PEM: &str = include_str!("aws-nitro-root-g1.pem");
/// SHA-256 of its DER. (The `8cf60e2b…` that AWS prints is that of the zip file.)
const AWS_ROOT_SHA256: &str = "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b";
/// Most certificates of a bundle: the root and as many as webpki follows. AWS uses four.
const MAX_PATH: usize = 7;

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
/// Length of an uncompressed point of P-384, in bytes.
const POINT_BYTES: usize = 97;

/// A certificate of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificatePlace {
    /// The trust anchor.
    Root,
    /// The certificate at this index of `cabundle`; the root is 0.
    Bundle(usize),
    /// The certificate that signs the document.
    Leaf,
}

impl fmt::Display for CertificatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root certificate"),
            Self::Bundle(index) => write!(f, "certificate {index} of the bundle"),
            Self::Leaf => f.write_str("signing certificate"),
        }
    }
}

/// The one root that documents must come from.
#[derive(Clone, Debug)]
pub struct TrustAnchor {
    der: CertificateDer<'static>,
    certificate: Certificate,
}

impl TrustAnchor {
    /// The root of all Nitro Enclaves on AWS.
    ///
    /// # Errors
    /// [`AttestationError::Anchor`] if the embedded certificate is not the pinned one.
    pub fn aws() -> Result<Self, AttestationError> {
        let anchor = Self::from_pem(AWS_ROOT_PEM)?;
        if anchor.sha256() == AWS_ROOT_SHA256 {
            Ok(anchor)
        } else {
            Err(AttestationError::Anchor { reason: "the embedded certificate is not the pinned one" })
        }
    }

    /// Another root, for simulated enclaves: exactly one PEM certificate.
    ///
    /// # Errors
    /// [`AttestationError::Anchor`] unless it is a CA certificate with a P-384 key.
    pub fn from_pem(pem: &str) -> Result<Self, AttestationError> {
        let unusable = |reason| AttestationError::Anchor { reason };
        let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
        let first = certificates.next().ok_or(unusable("there is no PEM certificate"))?;
        let der = first.map_err(|_| unusable("it is not well-formed PEM"))?;
        if certificates.next().is_some() {
            return Err(unusable("there is more than one certificate"));
        }
        Self::from_der(der.as_ref())
    }

    /// Another root, in DER.
    ///
    /// # Errors
    /// [`AttestationError::Anchor`] unless it is a CA certificate with a P-384 key.
    pub fn from_der(der: &[u8]) -> Result<Self, AttestationError> {
        let unusable = |reason| AttestationError::Anchor { reason };
        let certificate =
            Certificate::from_der(der).map_err(|_| unusable("it is not an X.509 certificate"))?;
        check_issuer(&certificate, CertificatePlace::Root)
            .map_err(|_| unusable("it is not a CA with a P-384 key"))?;
        Ok(Self { der: CertificateDer::from(der.to_vec()), certificate })
    }

    /// SHA-256 of the certificate, in hexadecimal.
    pub fn sha256(&self) -> String {
        sha256(&self.der)
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// When the signing certificate expires. Reads it, without judging it.
pub(super) fn leaf_not_after(leaf: &[u8]) -> Result<UnixMillis, AttestationError> {
    Ok(validity(&parse(leaf, CertificatePlace::Leaf)?).1)
}

/// Verifies the chain, unless it is known to hold.
pub(super) fn verify(
    document: &Document,
    anchor: &TrustAnchor,
    at: UnixMillis,
    memory: &impl ChainMemory,
) -> Result<VerifiedChain, AttestationError> {
    let id = ChainId::of(document, &anchor.der);
    if let Some(known) = memory.recall(id).filter(|known| known.holds(id, at)) {
        return Ok(known);
    }
    let chain = verify_anew(id, document, anchor, at)?;
    memory.remember(&chain);
    Ok(chain)
}

fn verify_anew(
    id: ChainId,
    document: &Document,
    anchor: &TrustAnchor,
    at: UnixMillis,
) -> Result<VerifiedChain, AttestationError> {
    let intermediates = below_anchor(&document.cabundle, anchor)?;
    let leaf = parse(&document.certificate, CertificatePlace::Leaf)?;
    let issuers = intermediates
        .iter()
        .zip(1..)
        .map(|(der, index)| {
            let place = CertificatePlace::Bundle(index);
            parse(der, place).map(|certificate| (place, certificate))
        })
        .collect::<Result<Vec<_>, _>>()?;

    // From the leaf up, so that the refusal names what expires first.
    check_validity(&leaf, CertificatePlace::Leaf, at)?;
    for (place, issuer) in issuers.iter().rev() {
        check_validity(issuer, *place, at)?;
    }
    check_validity(&anchor.certificate, CertificatePlace::Root, at)?;

    let key = check_leaf(&leaf)?;
    for (place, issuer) in &issuers {
        check_issuer(issuer, *place)?;
    }
    verify_path(&document.certificate, intermediates, anchor, at.whole_seconds())?;
    let everyone = issuers.iter().map(|(_, issuer)| issuer).chain([&leaf]);
    let (not_before, not_after) = everyone
        .map(validity)
        .fold(validity(&anchor.certificate), |all, one| (all.0.max(one.0), all.1.min(one.1)));
    Ok(VerifiedChain { id, key: Arc::new(key), not_before, not_after })
}

/// The bundle without its first element, which has to be the anchor itself.
fn below_anchor<'a>(bundle: &'a [Vec<u8>], anchor: &TrustAnchor) -> Result<&'a [Vec<u8>], AttestationError> {
    let (root, intermediates) =
        bundle.split_first().ok_or(AttestationError::FieldMissing { field: "cabundle" })?;
    if root.as_slice() != anchor.der.as_ref() {
        return Err(AttestationError::WrongRoot { found: sha256(root) });
    }
    if bundle.len() > MAX_PATH {
        return Err(AttestationError::PathTooLong);
    }
    Ok(intermediates)
}

fn parse(der: &[u8], place: CertificatePlace) -> Result<Certificate, AttestationError> {
    Certificate::from_der(der)
        .map_err(|_| AttestationError::Certificate { place, reason: "it is not an X.509 certificate" })
}

/// Begin and end of the validity.
fn validity(certificate: &Certificate) -> (UnixMillis, UnixMillis) {
    let validity = certificate.tbs_certificate().validity();
    let millis = |time: x509_cert::time::Time| UnixTime::since_unix_epoch(time.to_unix_duration()).into();
    (millis(validity.not_before), millis(validity.not_after))
}

fn check_validity(
    certificate: &Certificate,
    place: CertificatePlace,
    at: UnixMillis,
) -> Result<(), AttestationError> {
    let (not_before, not_after) = validity(certificate);
    if at < not_before {
        return Err(AttestationError::NotYetValid { place, not_before, at });
    }
    // `not_after` is inclusive and counts whole seconds (RFC 5280 §4.1.2.5).
    if UnixMillis::from(at.whole_seconds()) > not_after {
        return Err(AttestationError::Expired { place, not_after, at });
    }
    Ok(())
}

/// What only the signing certificate has: no CA, may sign, a P-384 key.
fn check_leaf(leaf: &Certificate) -> Result<LeafKey, AttestationError> {
    let place = CertificatePlace::Leaf;
    if basic_constraints(leaf, place)?.is_some_and(|constraints| constraints.ca) {
        return Err(AttestationError::CaLeaf);
    }
    if !key_usage(leaf, place)?.is_some_and(|usage| usage.digital_signature()) {
        return Err(AttestationError::KeyUsage { place, needed: "digitalSignature" });
    }
    LeafKey::from_point(p384_point(leaf, place)?).ok_or(AttestationError::Algorithm { place })
}

/// What every issuing certificate has: CA, may sign certificates, a P-384 key.
fn check_issuer(issuer: &Certificate, place: CertificatePlace) -> Result<(), AttestationError> {
    if !basic_constraints(issuer, place)?.is_some_and(|constraints| constraints.ca) {
        return Err(AttestationError::NotACa { place });
    }
    if !key_usage(issuer, place)?.is_some_and(|usage| usage.key_cert_sign()) {
        return Err(AttestationError::KeyUsage { place, needed: "keyCertSign" });
    }
    p384_point(issuer, place).map(|_| ())
}

fn basic_constraints(
    certificate: &Certificate,
    place: CertificatePlace,
) -> Result<Option<BasicConstraints>, AttestationError> {
    let extension = certificate.tbs_certificate().get_extension().map_err(|_| {
        AttestationError::Certificate { place, reason: "its basic constraints cannot be read or occur twice" }
    })?;
    Ok(extension.map(|(_critical, constraints)| constraints))
}

fn key_usage(
    certificate: &Certificate,
    place: CertificatePlace,
) -> Result<Option<KeyUsage>, AttestationError> {
    let extension = certificate.tbs_certificate().get_extension().map_err(|_| {
        AttestationError::Certificate { place, reason: "its key usage cannot be read or occurs twice" }
    })?;
    Ok(extension.map(|(_critical, usage)| usage))
}

/// The public key, if it and the certificate's signature are what AWS uses.
fn p384_point(certificate: &Certificate, place: CertificatePlace) -> Result<&[u8], AttestationError> {
    let wrong = AttestationError::Algorithm { place };
    let key = certificate.tbs_certificate().subject_public_key_info();
    let curve = key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
    let right = key.algorithm.oid == EC_PUBLIC_KEY
        && curve == Some(SECP384R1)
        && certificate.signature_algorithm().oid == ECDSA_WITH_SHA384;
    let point = key.subject_public_key.as_bytes().filter(|point| point.len() == POINT_BYTES);
    point.filter(|_| right).ok_or(wrong)
}

/// Lets webpki verify a path, and holds it to the bundle in its order.
fn verify_path(
    leaf: &[u8],
    intermediates: &[Vec<u8>],
    anchor: &TrustAnchor,
    at: UnixTime,
) -> Result<(), AttestationError> {
    let anchors = [anchor_from_trusted_cert(&anchor.der).map_err(|error| refusal(&error))?];
    let leaf = CertificateDer::from(leaf);
    let leaf = EndEntityCert::try_from(&leaf).map_err(|error| refusal(&error))?;
    let bundle: Vec<_> = intermediates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let path = leaf
        .verify_for_usage(&[ECDSA_P384_SHA384], &anchors, &bundle, at, AnyPurpose, None, None)
        .map_err(|error| refusal(&error))?;
    let from_the_leaf_up = path.intermediate_certificates().map(webpki::Cert::der);
    if from_the_leaf_up.eq(bundle.iter().rev().cloned()) {
        Ok(())
    } else {
        Err(AttestationError::BrokenChain)
    }
}

/// Attestation has no purpose of its own among the extended key usages.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), Error> {
        purposes.into_iter().try_for_each(|purpose| purpose.map(drop))
    }
}

/// Our name for a refusal by webpki. Validity and CA flags were checked before, and are named there.
fn refusal(error: &Error) -> AttestationError {
    match error {
        Error::UnknownIssuer => AttestationError::BrokenChain,
        Error::PathLenConstraintViolated | Error::MaximumPathDepthExceeded => AttestationError::PathTooLong,
        Error::InvalidSignatureForPublicKey => AttestationError::ChainSignature,
        other => AttestationError::Path { error: other.clone() },
    }
}
