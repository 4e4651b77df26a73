//! The `Recipient` of a request: a verified enclave and its key.
//!
//! A document that does not verify, or that vouches for no usable key, ends the call in an error.
//! There is no way from here back to an answer in plaintext.

use adyton_verifier::attestation::{self, Document, Expectations, TrustAnchor, UnixMillis, Verified};
use serde_json::{Map, Value};

use super::chains::Chains;
use super::cms::RecipientKey;
use super::error::{Answer, ApiError};
use super::input::Input;
use super::key::Millis;

/// The longest document in the API's model, in bytes.
const MAX_DOCUMENT_BYTES: usize = 262_144;

/// An enclave that answers are encrypted to.
pub(super) struct Recipient {
    pub(super) document: Verified<Document>,
    pub(super) key: RecipientKey,
}

/// Reads and verifies the `Recipient` field.
///
/// # Errors
/// `ValidationException` with our own wording for whatever is wrong with the document.
pub(super) fn verify(
    fields: Map<String, Value>,
    anchor: &TrustAnchor,
    chains: &Chains,
    now: Millis,
) -> Answer<Recipient> {
    let mut input = Input::nested(fields);
    let algorithm = input.choice("KeyEncryptionAlgorithm", &["RSAES_OAEP_SHA_256"])?;
    let document = input.blob("AttestationDocument", 1..=MAX_DOCUMENT_BYTES)?;
    input.finish()?;
    if algorithm.is_none() {
        return Err(ApiError::validation("KeyEncryptionAlgorithm is required in Recipient."));
    }
    let document =
        document.ok_or_else(|| ApiError::validation("AttestationDocument is required in Recipient."))?;
    // Documents of debug enclaves are documents: their zero PCRs match no policy, and that is the answer.
    let expectations = Expectations::any_image().danger_allow_debug();
    let document = attestation::verify_remembering(&document, anchor, UnixMillis(now), &expectations, chains)
        .map_err(ApiError::bad_document)?;
    let Some(public_key) = &document.public_key else {
        return Err(ApiError::bad_document("it has no public_key to encrypt to"));
    };
    let key = RecipientKey::parse(public_key).map_err(ApiError::bad_document)?;
    Ok(Recipient { document, key })
}

impl Recipient {
    /// The registers of the verified document.
    pub(super) fn pcrs(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.document.pcrs.iter().map(|(index, value)| (*index, value.as_bytes()))
    }
}
