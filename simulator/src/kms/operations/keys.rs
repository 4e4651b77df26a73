//! The life of a key after it was made: described, disabled, deleted.

use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyState, seconds};
use crate::kms::key_id::Names;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn describe(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    super::grant_tokens(&mut input)?;
    input.finish()?;
    let key = session.named_key(&name, Names::All)?;
    session.authorize("DescribeKey", &key, |_| ())?;
    Ok(json!({"KeyMetadata": key.metadata()}))
}

pub(super) fn enable(session: &mut Session<'_>, input: Input) -> Answer<Value> {
    switch(session, input, "EnableKey", KeyState::Enabled)
}

pub(super) fn disable(session: &mut Session<'_>, input: Input) -> Answer<Value> {
    switch(session, input, "DisableKey", KeyState::Disabled)
}

fn switch(session: &mut Session<'_>, mut input: Input, action: &str, state: KeyState) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize(action, &key, |_| ())?;
    session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        key.state = state;
        Answer::Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn schedule_deletion(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let days = input.number("PendingWindowInDays", 7..=30)?.unwrap_or(30);
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("ScheduleKeyDeletion", &key, |conditions| {
        conditions.set("kms:ScheduleKeyDeletionPendingWindowInDays", &days.to_string());
    })?;
    let window = u64::try_from(days).map_err(|_| ApiError::internal())?.saturating_mul(DAY_MS);
    let at = session.now.saturating_add(window);
    session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        key.state = KeyState::PendingDeletion { at };
        Answer::Ok(())
    })?;
    Ok(json!({
        "KeyId": key.arn,
        "DeletionDate": seconds(at),
        "KeyState": "PendingDeletion",
        "PendingWindowInDays": days,
    }))
}

pub(super) fn cancel_deletion(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("CancelKeyDeletion", &key, |_| ())?;
    session.service.store.edit_key(&key.arn, |key| match key.state {
        KeyState::PendingDeletion { .. } => {
            // Whoever wants to use it again has to say so.
            key.state = KeyState::Disabled;
            Ok(())
        }
        KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport => {
            Err(ApiError::invalid_state(format!("{} is not pending deletion.", key.arn)))
        }
    })?;
    Ok(json!({"KeyId": key.arn}))
}
