//! What every attested question and its answer have in common.
//!
//! The answer is believed to come from KMS because the TLS session ends here; that it is for the
//! pinned key and by the pinned algorithms is compared all the same (K-9, K-11). A plaintext in it
//! is refused before anything else is looked at (K-1).

use std::borrow::Cow;

use adyton_shared::{DataKey, KeyArn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::{AnswerFault, KeyError};
use super::link::Answer;
use super::recipient::RecipientKey;
use crate::cms::MAX_ENVELOPE_BYTES;

/// The algorithm of symmetric KMS keys.
pub(super) const SYMMETRIC_DEFAULT: &str = "SYMMETRIC_DEFAULT";
const RSAES_OAEP_SHA_256: &str = "RSAES_OAEP_SHA_256";

/// To whom KMS shall seal the data key.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Recipient {
    attestation_document: String,
    key_encryption_algorithm: &'static str,
}

impl Recipient {
    /// The key that this document names.
    pub(super) fn new(document: &[u8]) -> Self {
        let attestation_document = STANDARD.encode(document);
        Self { attestation_document, key_encryption_algorithm: RSAES_OAEP_SHA_256 }
    }
}

/// The fields that matter. KMS adds others from time to time; one of these given twice is refused.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    key_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) encryption_algorithm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_encryption_algorithm: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) key_spec: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) ciphertext_blob: Option<Cow<'a, str>>,
    #[serde(borrow)]
    ciphertext_for_recipient: Option<Cow<'a, str>>,
    /// Only whether it is there: its value is skipped, never copied.
    plaintext: Option<IgnoredAny>,
}

impl<'a> Fields<'a> {
    /// Reads an answer that must be for this key and hold no plaintext.
    pub(super) fn read(answer: &'a Answer, key: &KeyArn) -> Result<Self, KeyError> {
        if answer.status != StatusCode::OK {
            return Err(AnswerFault::Status.into());
        }
        let fields: Self = serde_json::from_slice(&answer.body).map_err(|_| AnswerFault::Malformed)?;
        if fields.plaintext.is_some() {
            return Err(KeyError::PlaintextRefused);
        }
        if fields.key_id.as_ref().ok_or(AnswerFault::Malformed)? != key.as_str() {
            return Err(AnswerFault::KeyId.into());
        }
        if fields.key_encryption_algorithm.as_ref().is_some_and(|named| named != RSAES_OAEP_SHA_256) {
            return Err(AnswerFault::Algorithm.into());
        }
        Ok(fields)
    }

    /// The data key that KMS sealed to `recipient`.
    pub(super) fn data_key(&self, recipient: &RecipientKey) -> Result<DataKey, KeyError> {
        let envelope = self.ciphertext_for_recipient.as_ref().ok_or(AnswerFault::Malformed)?;
        if envelope.len() > MAX_ENVELOPE_BYTES.saturating_mul(2) {
            return Err(AnswerFault::TooLarge.into());
        }
        let envelope = STANDARD.decode(envelope.as_bytes()).map_err(|_| AnswerFault::Malformed)?;
        let content = recipient.open(&envelope).map_err(|_| AnswerFault::Envelope)?;
        DataKey::from_bytes(&content).ok_or_else(|| AnswerFault::Envelope.into())
    }
}
