//! The attested Decrypt: exactly what is asked, and whether the answer fits.

use std::collections::BTreeMap;

use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::answer::{Fields, Recipient, SYMMETRIC_DEFAULT};
use super::error::{AnswerFault, KeyError};
use super::link::Answer;
use super::recipient::RecipientKey;

/// The name of the operation.
pub(super) const OPERATION: &str = "Decrypt";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Question<'a> {
    key_id: &'a str,
    ciphertext_blob: String,
    encryption_context: BTreeMap<&'a str, &'a str>,
    encryption_algorithm: &'static str,
    recipient: Recipient,
}

/// The body of the request. Nothing in it is secret.
pub(super) fn question(
    key: &KeyArn,
    ciphertext: &[u8],
    context: &EncryptionContext,
    document: &[u8],
) -> Result<Bytes, KeyError> {
    let question = Question {
        key_id: key.as_str(),
        ciphertext_blob: STANDARD.encode(ciphertext),
        encryption_context: context.pairs().collect(),
        encryption_algorithm: SYMMETRIC_DEFAULT,
        recipient: Recipient::new(document),
    };
    serde_json::to_vec(&question).map(Bytes::from).map_err(|_| KeyError::Internal)
}

/// The data key in the answer to [`question`].
pub(super) fn data_key(answer: &Answer, key: &KeyArn, recipient: &RecipientKey) -> Result<DataKey, KeyError> {
    let fields = Fields::read(answer, key)?;
    let algorithm = fields.encryption_algorithm.as_ref().ok_or(AnswerFault::Malformed)?;
    if algorithm != SYMMETRIC_DEFAULT
        || fields.key_spec.as_ref().is_some_and(|named| named != SYMMETRIC_DEFAULT)
    {
        return Err(AnswerFault::Algorithm.into());
    }
    fields.data_key(recipient)
}
