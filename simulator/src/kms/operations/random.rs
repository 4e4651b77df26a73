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
    let recipient = session.recipient(&mut input)?;
    session.authorize_by_identity("GenerateRandom", None)?;
    let mut random = Zeroizing::new(vec![0; usize::try_from(bytes).map_err(|_| ApiError::internal())?]);
    match store {
        None => getrandom::fill(&mut random).map_err(|_| ApiError::internal())?,
        Some(store) => fill_in_store(session, &store, &mut random)?,
    }
    let mut answer = json!({});
    session.deliver(&mut answer, "Plaintext", &random, recipient.as_ref())?;
    Ok(answer)
}

/// Takes the bytes from the HSM of a custom key store.
fn fill_in_store(session: &Session<'_>, store: &str, random: &mut [u8]) -> Answer<()> {
    let service = session.service;
    let store = service.key_store(session.region, session.caller.account(), store)?;
    store.require_connected()?;
    let access = service.access(&store)?.ok_or_else(ApiError::dependency_timeout)?;
    access.cluster.random(&access.password, random).map_err(|error| {
        tracing::warn!(%error, cluster = access.cluster.id(), "the HSM gave no random bytes");
        ApiError::dependency_timeout()
    })
}
