//! `GenerateRandom`.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;

const MAX_RANDOM_BYTES: i64 = 1024;

pub(super) fn generate(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let bytes = input.number("NumberOfBytes", 1..=MAX_RANDOM_BYTES)?;
    let store = input.text("CustomKeyStoreId", 1..=64)?;
    input.finish()?;
    let bytes = bytes.ok_or_else(|| ApiError::validation("NumberOfBytes is required."))?;
    if store.is_some() {
        return Err(ApiError::unsupported("Custom key stores are not available in the local KMS."));
    }
    let recipient = session.recipient(&mut input)?;
    session.authorize_by_identity("GenerateRandom", None)?;
    let mut random = Zeroizing::new(vec![0; usize::try_from(bytes).map_err(|_| ApiError::internal())?]);
    getrandom::fill(&mut random).map_err(|_| ApiError::internal())?;
    let mut answer = json!({});
    session.deliver(&mut answer, "Plaintext", &random, recipient.as_ref())?;
    Ok(answer)
}
