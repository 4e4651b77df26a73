//! Multi-region keys: replicas, and which region is the primary one.
//!
//! All regions of a key share its id, its materials and its rotation; each has its own policy,
//! tags, description, aliases and state. What is shared is written to every record in one
//! transaction, so that no region is ever seen without the others.

use serde_json::{Value, json};

use super::create::{MAX_DESCRIPTION, default_policy};
use super::key_id;
use super::policies::{MAX_POLICY_CHARACTERS, check_policy, is_policy_text};
use super::tags::{add_conditions, checked, tag_list};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyRecord, KeyState, Regions, key_arn};
use crate::kms::material::MaterialRecord;
use crate::kms::spec::Origin;
use crate::kms::store::Change;

const REGION_PATTERN: &str = r"^([a-z]+-){2,3}\d+$";

pub(super) fn replicate(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let region = region(&mut input, "ReplicaRegion")?;
    let policy = input.pattern(
        "Policy",
        1..=MAX_POLICY_CHARACTERS,
        r"[\u0009\u000A\u000D\u0020-\u00FF]+",
        is_policy_text,
    )?;
    let description = input.text("Description", 0..=MAX_DESCRIPTION)?.unwrap_or_default();
    let bypass = input.flag("BypassPolicyLockoutSafetyCheck")?;
    let tags = tag_list(&mut input)?;
    input.finish()?;
    let tags = checked(tags)?;
    let key = session.managed_key(&name)?;
    session.authorize("ReplicateKey", &key, |conditions| {
        conditions.set("kms:ReplicaRegion", &region);
        conditions.set("kms:BypassPolicyLockoutSafetyCheck", if bypass { "true" } else { "false" });
        add_conditions(conditions, &tags);
    })?;
    key.usable()?;
    let policy = policy.unwrap_or_else(|| default_policy(&key.account));
    let replica = KeyRecord {
        arn: key_arn(&region, &key.account, &key.id),
        region,
        created: session.now,
        description,
        policy,
        tags,
        ..key.clone()
    };
    check_policy(session, &replica, &replica.policy, bypass)?;
    let replica = session.service.store.edit(|change| add_replica(change, &key.arn, replica))?;

    let mut metadata = replica.metadata();
    // It takes AWS some seconds; here the next call finds the replica ready.
    metadata["KeyState"] = "Creating".into();
    metadata["Enabled"] = false.into();
    let mut answer = json!({"ReplicaKeyMetadata": metadata, "ReplicaPolicy": replica.policy});
    if !replica.tags.is_empty() {
        let tags = replica.tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value}));
        answer["ReplicaTags"] = tags.collect();
    }
    Ok(answer)
}

fn add_replica(change: &Change<'_>, primary: &str, mut replica: KeyRecord) -> Answer<KeyRecord> {
    let primary = change.key(primary)?.ok_or_else(ApiError::internal)?;
    let mut regions = primary.primary_regions("replicate")?;
    primary.usable()?;
    if change.key(&replica.arn)?.is_some() {
        let text = format!(
            "Unable to replicate key {} to region {}, as the key already exist there",
            replica.id, replica.region
        );
        return Err(ApiError::new("AlreadyExistsException", text));
    }
    regions.replicas.push(replica.region.clone());
    regions.replicas.sort();
    replica.materials.clone_from(&primary.materials);
    replica.pending.clone_from(&primary.pending);
    replica.schedule = primary.schedule;
    replica.on_demand_rotations = primary.on_demand_rotations;
    for material in replica.materials.iter_mut().chain(&mut replica.pending) {
        resettle(change, &primary, &replica.arn, material)?;
    }
    replica.settle_state(KeyState::Enabled);
    replica.regions = Some(regions.clone());
    for mut member in change.family(&primary)? {
        member.regions = Some(regions.clone());
        change.put(&member)?;
    }
    change.put(&replica)?;
    Ok(replica)
}

/// Material goes along sealed anew; what was imported has to be imported in each region.
fn resettle(change: &Change<'_>, from: &KeyRecord, to: &str, material: &mut MaterialRecord) -> Answer<()> {
    if from.origin == Origin::External {
        material.forget();
        return Ok(());
    }
    let secret = change.store.secret(from, material)?;
    let sealed = change.store.seal_secret(to, &material.id, &secret);
    material.sealed = sealed.ok_or_else(ApiError::internal)?;
    Ok(())
}

pub(super) fn update_primary(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let region = region(&mut input, "PrimaryRegion")?;
    input.finish()?;
    let key = session.managed_key(&name)?;
    session.authorize("UpdatePrimaryRegion", &key, |conditions| {
        conditions.set("kms:PrimaryRegion", &region);
    })?;
    session.service.store.edit(|change| {
        let key = change.key(&key.arn)?.ok_or_else(ApiError::internal)?;
        let mut regions = key.primary_regions("update the primary region of")?;
        key.not_pending()?;
        let Some(place) = regions.replicas.iter().position(|replica| *replica == region) else {
            let arn = key_arn(&region, &key.account, &key.id);
            return Err(ApiError::not_found(format!("Key '{arn}' does not exist")));
        };
        regions.replicas[place] = std::mem::replace(&mut regions.primary, region);
        regions.replicas.sort();
        for mut member in change.family(&key)? {
            member.not_pending()?;
            member.regions = Some(regions.clone());
            change.put(&member)?;
        }
        Ok(json!({}))
    })
}

fn region(input: &mut Input, field: &str) -> Answer<String> {
    let region = input.pattern(field, 1..=32, REGION_PATTERN, is_region)?;
    Ok(input.require(field, region))
}

/// Two or three words of letters and a number.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    (2..=3).contains(&words.len())
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

impl KeyRecord {
    /// The regions of a primary key.
    fn primary_regions(&self, what: &str) -> Answer<Regions> {
        match &self.regions {
            Some(regions) if regions.primary == self.region => Ok(regions.clone()),
            Some(_) => Err(ApiError::unsupported(format!("Unable to {what} a replica key {}", self.id))),
            None => Err(ApiError::unsupported(format!("Unable to {what} a non-MultiRegion key {}", self.id))),
        }
    }
}
