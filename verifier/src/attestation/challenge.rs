//! A nonce that was sent out and waits for its document (T-2).

use super::document::Document;
use super::error::AttestationError;
use super::expectations::Expectations;
use super::time::UnixMillis;
use super::{TrustAnchor, Verified, verify};

/// One question to one enclave. Verifying the answer uses it up, whatever the outcome:
///
/// ```compile_fail,E0382
/// # use adyton_verifier::attestation::{Challenge, Expectations, TrustAnchor, UnixMillis};
/// # fn twice(challenge: Challenge, document: &[u8], anchor: &TrustAnchor, at: UnixMillis, expectations: Expectations) {
/// let first = challenge.verify(document, anchor, at, expectations.clone());
/// let second = challenge.verify(document, anchor, at, expectations);
/// # }
/// ```
#[derive(Debug)]
pub struct Challenge {
    nonce: [u8; 32],
}

impl Challenge {
    /// Takes 32 bytes from a cryptographic random source, drawn for this challenge alone.
    pub fn from_random(nonce: [u8; 32]) -> Self {
        Self { nonce }
    }

    /// What to send to the enclave.
    pub fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// Verifies the answer, as [`verify`], with this challenge's nonce as the expected one.
    ///
    /// # Errors
    /// [`AttestationError`], as [`verify`].
    pub fn verify(
        self,
        document: &[u8],
        anchor: &TrustAnchor,
        at: UnixMillis,
        expectations: Expectations,
    ) -> Result<Verified<Document>, AttestationError> {
        verify(document, anchor, at, &expectations.nonce(&self.nonce)?)
    }
}
