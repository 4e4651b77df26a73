//! Judges Nitro attestation documents.
//!
//! A document says which image an enclave runs and vouches for a key. It comes
//! over untrusted hands, so nothing in it is believed before the stages below
//! have all passed, in this order:
//!
//! ```text
//! bytes ─▶ envelope (COSE_Sign1, strict) ─▶ payload (CBOR, strict) ─▶ chain to the pinned root, valid at the given time
//!       ─▶ ES384 signature over the received bytes ─▶ debug, PCRs, nonce, freshness ─▶ rebuilt payload equals the received one
//! ```
//!
//! Trusted: the anchor and the time that the caller passes. CRLs are not
//! fetched, as AWS documents it. Sources: "Verifying the root of trust" in the
//! AWS Nitro Enclaves User Guide, and `attestation_process.md` of
//! `aws-nitro-enclaves-nsm-api`.
//!
//! ```
//! # fn main() -> Result<(), adyton_verifier::attestation::AttestationError> {
//! use adyton_verifier::attestation::{self, Expectations, TrustAnchor};
//!
//! # let received = include_bytes!("../../tests/vectors/attestation/2026-01-03-us-east-1-base.cbor");
//! let anchor = TrustAnchor::aws()?;
//! // No PCR is demanded here, and it has to be said so.
//! let document = attestation::verify_archived(received, &anchor, &Expectations::any_image())?;
//! assert_eq!(document.module_id, "i-0368fa67e156d6d23-enc019b8596b1a9dad6");
//! # Ok(()) }
//! ```

mod cbor;
mod chain;
mod challenge;
mod document;
mod envelope;
mod error;
mod expectations;
mod known;
mod rebuild;
mod time;

use std::ops::Deref;

use serde::Serialize;

pub use cbor::{CborError, CborProblem};
pub use chain::{CertificatePlace, TrustAnchor};
pub use challenge::Challenge;
pub use document::{Document, Pcr};
pub use error::{AttestationError, Part};
pub use expectations::{Expectations, Freshness};
pub use known::{ChainId, ChainMemory, VerifiedChain};
pub use time::UnixMillis;

use document::Payload;
use envelope::Envelope;
use known::NoMemory;

/// Something that passed every check. Only this module makes one (V-13).
///
/// ```compile_fail,E0423
/// # use adyton_verifier::attestation::{Document, Verified};
/// fn forge(document: Document) -> Verified<Document> {
///     Verified(document)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Takes the content out; from here on only its holder knows that it was verified.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Verifies a document at the given time.
///
/// # Errors
/// [`AttestationError`] says which promise is not kept; the first one met, in the order of the stages.
pub fn verify(
    document: &[u8],
    anchor: &TrustAnchor,
    at: UnixMillis,
    expectations: &Expectations,
) -> Result<Verified<Document>, AttestationError> {
    verify_remembering(document, anchor, at, expectations, &NoMemory)
}

/// As [`verify`], but a chain of certificates that `memory` knows is not verified again while all of
/// its certificates are valid.
///
/// # Errors
/// As [`verify`].
pub fn verify_remembering(
    document: &[u8],
    anchor: &TrustAnchor,
    at: UnixMillis,
    expectations: &Expectations,
    memory: &impl ChainMemory,
) -> Result<Verified<Document>, AttestationError> {
    let envelope = Envelope::split(document)?;
    let payload = Payload::parse(envelope.payload())?;
    let chain = chain::verify(payload.document(), anchor, at, memory)?;
    envelope.verify_signature(&chain.key)?;
    expectations.check(payload.document(), at)?;
    rebuild::check(envelope.payload(), &payload, expectations)?;
    Ok(Verified(payload.into_document()))
}

/// Verifies a kept document at its own time, for archives and receipts.
///
/// It shows that the document was genuine when it was made. It shows nothing
/// about now, so expectations that ask for freshness are refused.
///
/// # Errors
/// [`AttestationError`], as [`verify`]; [`AttestationError::ArchiveIsNotFresh`] if `expectations` demand freshness.
pub fn verify_archived(
    document: &[u8],
    anchor: &TrustAnchor,
    expectations: &Expectations,
) -> Result<Verified<Document>, AttestationError> {
    if expectations.freshness().is_some() {
        return Err(AttestationError::ArchiveIsNotFresh);
    }
    // The time is only claimed here, but `verify` fails unless the signature covers it.
    let claimed = parse_unverified(document)?.timestamp;
    verify(document, anchor, claimed, expectations)
}

/// Reads a document without judging it: every field may be a lie.
///
/// For display and for finding out what a document claims; never for a decision.
///
/// # Errors
/// [`AttestationError`] if the bytes are not in the form of a document.
pub fn parse_unverified(document: &[u8]) -> Result<Document, AttestationError> {
    Ok(Payload::parse(Envelope::split(document)?.payload())?.into_document())
}
