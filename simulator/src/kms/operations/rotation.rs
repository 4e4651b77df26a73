//! Rotation: automatic, on demand, and what has been.
//!
//! A rotation is over when it is answered: nothing is ever seen half done, so that
//! `OnDemandRotationStartDate`, which AWS shows for some seconds, is always absent here.

use serde_json::{Value, json};

use super::key_id;
use super::lists::Page;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyRecord, KeyState, Millis, Schedule, expiration_model, seconds};
use crate::kms::key_id::Names;
use crate::kms::material::{MaterialRecord, Rotation};
use crate::kms::settle::rotate_with;
use crate::kms::spec::{Family, Origin};
use crate::kms::store::Change;

const MAX_ON_DEMAND: u32 = 25;
/// An automatic rotation this near is not overtaken (API reference, `RotateKeyOnDemand`).
const CONFLICT_MS: Millis = 20 * 60 * 1000;
const DEFAULT_DAYS: i64 = 365;

pub(super) fn enable(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let days = input.number("RotationPeriodInDays", 90..=2560)?.unwrap_or(DEFAULT_DAYS);
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("EnableKeyRotation", &key, |conditions| {
        conditions.set("kms:RotationPeriodInDays", &days.to_string());
    })?;
    let days = u32::try_from(days).map_err(|_| ApiError::internal())?;
    reschedule(session, &key, Some(Schedule::starting(session.now, days)))
}

pub(super) fn disable(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("DisableKeyRotation", &key, |_| ())?;
    reschedule(session, &key, None)
}

fn reschedule(session: &Session<'_>, key: &KeyRecord, schedule: Option<Schedule>) -> Answer<Value> {
    session.service.store.edit(|change| {
        let key = change.key(&key.arn)?.ok_or_else(ApiError::internal)?;
        key.generated_here()?;
        key.usable()?;
        key.decides_on_rotation()?;
        for mut member in change.family(&key)? {
            member.schedule = schedule;
            change.put(&member)?;
        }
        Ok(json!({}))
    })
}

pub(super) fn status(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.named_key(&name, Names::KeysOnly)?;
    session.authorize("GetKeyRotationStatus", &key, |_| ())?;
    key.generated_here()?;
    // A key that is about to be deleted does not rotate; a disabled one makes up for it.
    let ends =
        matches!(key.state, KeyState::PendingDeletion { .. } | KeyState::PendingReplicaDeletion { .. });
    let mut answer = json!({"KeyId": key.id, "KeyRotationEnabled": false});
    if let Some(schedule) = key.schedule.filter(|_| !ends) {
        answer["KeyRotationEnabled"] = true.into();
        answer["RotationPeriodInDays"] = schedule.days.into();
        answer["NextRotationDate"] = seconds(schedule.next);
    }
    Ok(answer)
}

pub(super) fn on_demand(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("RotateKeyOnDemand", &key, |_| ())?;
    session.service.store.edit(|change| {
        let key = change.key(&key.arn)?.ok_or_else(ApiError::internal)?;
        if key.state != KeyState::PendingImport {
            key.usable()?;
        }
        key.decides_on_rotation()?;
        if key.on_demand_rotations >= MAX_ON_DEMAND {
            let text = format!("On-demand rotation quota for KMS key {} is exceeded.", key.id);
            return Err(ApiError::new("LimitExceededException", text));
        }
        let soon = session.now.saturating_add(CONFLICT_MS);
        if key.schedule.is_some_and(|schedule| schedule.next <= soon) {
            let text = "An automatic rotation of this key is in progress or scheduled to begin within the next 20 minutes.";
            return Err(ApiError::new("ConflictException", text));
        }
        let rotation = Rotation { at: session.now, automatic: false };
        if key.origin == Origin::External {
            rotate_to_imported(change, &key, rotation)?;
        } else {
            rotate_with(change, &key, rotation)?;
        }
        for mut member in change.family(&key)? {
            member.on_demand_rotations = member.on_demand_rotations.saturating_add(1);
            change.put(&member)?;
        }
        Ok(())
    })?;
    Ok(json!({"KeyId": key.id}))
}

/// Makes the material that was imported for it current, in every region.
fn rotate_to_imported(change: &Change<'_>, key: &KeyRecord, rotation: Rotation) -> Answer<()> {
    for mut member in change.family(key)? {
        let Some(mut material) = member.pending.take().filter(MaterialRecord::is_present) else {
            let text = format!("No available key material pending rotation for the key: {}.", key.arn);
            return Err(ApiError::invalid_state(text));
        };
        material.rotation = Some(rotation);
        material.since = rotation.at;
        member.materials.push(material);
        change.put(&member)?;
    }
    Ok(())
}

pub(super) fn list(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let include = input.choice("IncludeKeyMaterial", &["ALL_KEY_MATERIAL", "ROTATIONS_ONLY"])?;
    let page = Page::read(&mut input, "rotations", 100, 1000)?;
    let key = session.managed_key(&name)?;
    session.authorize("ListKeyRotations", &key, |_| ())?;
    key.can_rotate()?;
    let all = include == Some("ALL_KEY_MATERIAL");
    let materials = key.materials.iter().filter(|material| all || material.rotation.is_some());
    let pending = key.pending.iter().filter(|_| all);
    let everywhere = key.family().iter().try_fold(true, |all, arn| {
        let member = session.service.key(arn, session.now)?;
        let pending = member.and_then(|member| member.pending);
        Answer::Ok(all && pending.is_some_and(|pending| pending.is_present()))
    })?;
    let entries = materials.chain(pending).enumerate().map(|(place, material)| {
        // Materials are only ever added: places are as lasting as names, and sorted by date.
        (format!("{place:08}"), entry(&key, material, everywhere))
    });
    Ok(page.cut("Rotations", entries.collect()))
}

/// `everywhere`: whether what is pending has been imported in all regions.
fn entry(key: &KeyRecord, material: &MaterialRecord, everywhere: bool) -> Value {
    let state = if key.pending.as_ref().is_some_and(|pending| pending.id == material.id) {
        if everywhere { "PENDING_ROTATION" } else { "PENDING_MULTI_REGION_IMPORT_AND_ROTATION" }
    } else if key.materials.last().is_some_and(|current| current.id == material.id) {
        "CURRENT"
    } else {
        "NON_CURRENT"
    };
    let mut entry = json!({"KeyId": key.id, "KeyMaterialId": material.name(), "KeyMaterialState": state});
    if let Some(rotation) = material.rotation {
        entry["RotationDate"] = seconds(rotation.at);
        entry["RotationType"] = if rotation.automatic { "AUTOMATIC" } else { "ON_DEMAND" }.into();
    }
    if let Some(import) = &material.import {
        entry["ImportState"] = if material.is_present() { "IMPORTED" } else { "PENDING_IMPORT" }.into();
        if let Some(description) = &import.description {
            entry["KeyMaterialDescription"] = description.clone().into();
        }
        if material.is_present() {
            entry["ExpirationModel"] = expiration_model(import.expires).into();
        }
        if let Some(end) = import.expires {
            entry["ValidTo"] = seconds(end);
        }
    }
    entry
}

impl KeyRecord {
    /// Refuses keys whose material comes from elsewhere.
    fn generated_here(&self) -> Answer<()> {
        if self.origin == Origin::AwsKms {
            return Ok(());
        }
        Err(ApiError::unsupported(format!(
            "{} origin is {} which is not valid for this operation.",
            self.arn,
            self.origin.name()
        )))
    }

    /// Refuses kinds of keys that have one material for life. AWS does not say why either.
    fn can_rotate(&self) -> Answer<()> {
        if matches!(self.origin, Origin::AwsCloudHsm | Origin::ExternalKeyStore) {
            return self.generated_here();
        }
        if self.spec.family() == Family::Symmetric {
            Ok(())
        } else {
            Err(ApiError::silent("UnsupportedOperationException"))
        }
    }

    /// The same for replicas too: their primary rotates for them.
    fn decides_on_rotation(&self) -> Answer<()> {
        self.can_rotate()?;
        if self.is_replica() {
            let text =
                format!("{} is a multi-Region replica key, which is not valid for this operation.", self.arn);
            return Err(ApiError::unsupported(text));
        }
        Ok(())
    }
}
