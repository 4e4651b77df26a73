//! The life of a key after it was made: described, disabled, deleted.

use serde_json::{Value, json};

use super::create::MAX_DESCRIPTION;
use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyState, seconds};
use crate::kms::key_id::Names;
use crate::kms::settle::DAY_MS;

pub(super) fn describe(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    super::grant_tokens(&mut input)?;
    input.finish()?;
    let key = session.named_key(&name, Names::All)?;
    session.authorize("DescribeKey", &key, |_| ())?;
    Ok(json!({"KeyMetadata": key.metadata()}))
}

pub(super) fn last_usage(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("GetKeyLastUsage", &key, |_| ())?;
    let last = session.service.last_use(&key.arn)?;
    Ok(json!({
        "KeyId": key.id,
        "KeyLastUsage": last.map_or_else(|| json!({}), |last| last.describe()),
        // This service has kept track since it made the key.
        "TrackingStartDate": seconds(key.created),
        "KeyCreationDate": seconds(key.created),
    }))
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
        if key.state == KeyState::PendingImport {
            return key.usable();
        }
        key.not_pending()?;
        if let (KeyState::Disabled, KeyState::Enabled, Some(schedule)) =
            (key.state, state, key.schedule.as_mut())
        {
            // Rotations that fell due meanwhile are made up for once, now.
            schedule.next = schedule.next.max(session.now);
        }
        key.state = state;
        Answer::Ok(())
    })?;
    Ok(json!({}))
}

pub(super) fn update_description(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let description = input.text("Description", 0..=MAX_DESCRIPTION)?;
    let description = input.require("Description", description);
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("UpdateKeyDescription", &key, |_| ())?;
    session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        key.description = description;
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
    let state = session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        let days = u32::try_from(days).map_err(|_| ApiError::internal())?;
        let has_replicas = !key.is_replica() && key.family().len() > 1;
        key.state = if has_replicas {
            KeyState::PendingReplicaDeletion { days }
        } else {
            let window = DAY_MS.saturating_mul(days.into());
            KeyState::PendingDeletion { at: session.now.saturating_add(window) }
        };
        Answer::Ok(key.state)
    })?;
    let mut answer = json!({"KeyId": key.arn, "KeyState": state.name(), "PendingWindowInDays": days});
    if let KeyState::PendingDeletion { at } = state {
        answer["DeletionDate"] = seconds(at);
    }
    Ok(answer)
}

pub(super) fn cancel_deletion(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("CancelKeyDeletion", &key, |_| ())?;
    session.service.store.edit_key(&key.arn, |key| match key.state {
        KeyState::PendingDeletion { .. } | KeyState::PendingReplicaDeletion { .. } => {
            // Whoever wants to use it again has to say so.
            key.settle_state(KeyState::Disabled);
            Ok(())
        }
        KeyState::Enabled | KeyState::Disabled | KeyState::PendingImport => {
            Err(ApiError::invalid_state(format!("{} is not pending deletion.", key.arn)))
        }
    })?;
    Ok(json!({"KeyId": key.arn}))
}
