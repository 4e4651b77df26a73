//! The life of a key: made, described, disabled, deleted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::key_id;
use super::policies::{MAX_POLICY_CHARACTERS, check_policy, is_policy_text};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::{KeyRecord, KeyState, seconds};
use crate::kms::key_id::Names;
use crate::kms::master::MasterKey;

/// The key specs of the service model; only the first is here.
const KEY_SPECS: [&str; 20] = [
    "SYMMETRIC_DEFAULT",
    "RSA_2048",
    "RSA_3072",
    "RSA_4096",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "ECC_SECG_P256K1",
    "ECC_NIST_EDWARDS25519",
    "HMAC_224",
    "HMAC_256",
    "HMAC_384",
    "HMAC_512",
    "SM2",
    "ML_DSA_44",
    "ML_DSA_65",
    "ML_DSA_87",
    "ML_KEM_512",
    "ML_KEM_768",
    "ML_KEM_1024",
];
const KEY_USAGES: [&str; 5] =
    ["ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "KEY_ENCAPSULATION"];
const ORIGINS: [&str; 4] = ["AWS_KMS", "EXTERNAL", "AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"];
const MAX_DESCRIPTION: usize = 8192;
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(super) fn create(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let policy = input.pattern(
        "Policy",
        1..=MAX_POLICY_CHARACTERS,
        r"[\u0009\u000A\u000D\u0020-\u00FF]+",
        is_policy_text,
    )?;
    let description = input.text("Description", 0..=MAX_DESCRIPTION)?.unwrap_or_default();
    let bypass = input.flag("BypassPolicyLockoutSafetyCheck")?;
    let tags = input.list("Tags", 0..=200)?;
    refuse_other_kinds(&mut input)?;
    let tags = read_tags(tags)?;

    session.authorize_by_identity("CreateKey", None)?;
    let account = session.caller.account().to_owned();
    let id = uuid::Uuid::new_v4().to_string();
    let master = MasterKey::generate().ok_or_else(ApiError::internal)?;
    let mut material = [0; 32];
    getrandom::fill(&mut material).map_err(|_| ApiError::internal())?;
    let key = KeyRecord {
        arn: format!("arn:aws:kms:{}:{account}:key/{id}", session.service.region),
        created: session.now,
        description,
        state: KeyState::Enabled,
        policy: policy.unwrap_or_else(|| default_policy(&account)),
        tags,
        material,
        sealed_master: session.service.store.seal_master(&id, &master).ok_or_else(ApiError::internal)?,
        account,
        id,
    };
    check_policy(session, &key, &key.policy, bypass)?;
    session.service.store.insert_key(&key)?;
    session.trail.key(&key);
    Ok(json!({"KeyMetadata": key.metadata()}))
}

/// Reads what kind of key is wanted, and says clearly what is not here.
fn refuse_other_kinds(input: &mut Input) -> Answer<()> {
    let spec = input.choice("KeySpec", &KEY_SPECS)?;
    let old_spec = input.choice("CustomerMasterKeySpec", &KEY_SPECS)?;
    let usage = input.choice("KeyUsage", &KEY_USAGES)?;
    let origin = input.choice("Origin", &ORIGINS)?;
    let multi_region = input.flag("MultiRegion")?;
    let store = input.text("CustomKeyStoreId", 1..=64)?;
    let external = input.text("XksKeyId", 1..=128)?;
    input.finish()?;
    if spec.is_some() && old_spec.is_some() {
        let text = "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.";
        return Err(ApiError::validation(text));
    }
    let spec = spec.or(old_spec).unwrap_or("SYMMETRIC_DEFAULT");
    if spec != "SYMMETRIC_DEFAULT" {
        if usage.is_none() {
            let text =
                "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.";
            return Err(ApiError::validation(text));
        }
        return Err(ApiError::unsupported(format!("KeySpec {spec} is not available in the local KMS yet.")));
    }
    if let Some(usage) = usage.filter(|usage| *usage != "ENCRYPT_DECRYPT") {
        return Err(ApiError::validation(format!("KeyUsage {usage} is not compatible with KeySpec {spec}")));
    }
    if let Some(origin) = origin.filter(|origin| *origin != "AWS_KMS") {
        return Err(ApiError::unsupported(format!("Origin {origin} is not available in the local KMS yet.")));
    }
    if multi_region {
        return Err(ApiError::unsupported("Multi-Region keys are not available in the local KMS yet."));
    }
    if store.is_some() || external.is_some() {
        return Err(ApiError::unsupported("Custom key stores are not available in the local KMS."));
    }
    Ok(())
}

fn read_tags(tags: Vec<Value>) -> Answer<BTreeMap<String, String>> {
    let refused = |text: &str| Err(ApiError::new("TagException", text));
    if tags.len() > MAX_TAGS {
        return refused("Too many tags");
    }
    let mut read = BTreeMap::new();
    for tag in tags {
        let Value::Object(fields) = tag else {
            return Err(ApiError::serialization("Tags is not a list of objects."));
        };
        let mut input = Input::nested(fields);
        let key = input.text("TagKey", 1..=MAX_TAG_KEY)?;
        let key = input.require("TagKey", key);
        let value = input.text("TagValue", 0..=MAX_TAG_VALUE)?;
        let value = input.require("TagValue", value);
        input.finish()?;
        if key.starts_with("aws:") {
            return refused("Tags beginning with aws: are reserved");
        }
        if read.insert(key, value).is_some() {
            return refused("Duplicate tag keys");
        }
    }
    Ok(read)
}

/// What the API gives a key that is made without a policy: IAM decides.
fn default_policy(account: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    format!("{policy:#}")
}

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
    session.service.store.edit_key(&key.id, |key| {
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
    session.service.store.edit_key(&key.id, |key| {
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
    session.service.store.edit_key(&key.id, |key| match key.state {
        KeyState::PendingDeletion { .. } => {
            // Whoever wants to use it again has to say so.
            key.state = KeyState::Disabled;
            Ok(())
        }
        KeyState::Enabled | KeyState::Disabled => {
            Err(ApiError::invalid_state(format!("{} is not pending deletion.", key.arn)))
        }
    })?;
    Ok(json!({"KeyId": key.arn}))
}
