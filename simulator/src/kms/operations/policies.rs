//! `GetKeyPolicy` and `PutKeyPolicy`.

use adyton_verifier::key_policy::{KeyPolicy, MAX_KEY_POLICY_BYTES};
use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;

/// Longest policy that the API's model admits; the quota is smaller.
pub(super) const MAX_POLICY_CHARACTERS: usize = 131_072;
const POLICY_NAME: &str = "default";

pub(super) fn read(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    policy_name(&mut input)?;
    let key = session.managed_key(&name)?;
    session.authorize("GetKeyPolicy", &key, |_| ())?;
    Ok(json!({"Policy": key.policy, "PolicyName": POLICY_NAME}))
}

pub(super) fn put(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let policy = input.pattern(
        "Policy",
        1..=MAX_POLICY_CHARACTERS,
        r"[\u0009\u000A\u000D\u0020-\u00FF]+",
        is_policy_text,
    )?;
    let policy = input.require("Policy", policy);
    let bypass = input.flag("BypassPolicyLockoutSafetyCheck")?;
    policy_name(&mut input)?;
    let key = session.managed_key(&name)?;
    session.authorize("PutKeyPolicy", &key, |conditions| {
        conditions.set("kms:BypassPolicyLockoutSafetyCheck", if bypass { "true" } else { "false" });
    })?;
    check_policy(session, &key, &policy, bypass)?;
    session.service.store.edit_key(&key.arn, |key| {
        key.policy = policy;
        Answer::Ok(())
    })?;
    Ok(json!({}))
}

fn policy_name(input: &mut Input) -> Answer<()> {
    let name = input.text("PolicyName", 1..=128)?;
    input.finish()?;
    match name.as_deref() {
        None | Some(POLICY_NAME) => Ok(()),
        Some(_) => Err(ApiError::not_found("No such policy exists")),
    }
}

/// Refuses a policy that is too long, not entirely understood, or that locks its author out.
pub(super) fn check_policy(session: &Session<'_>, key: &KeyRecord, policy: &str, bypass: bool) -> Answer<()> {
    if policy.len() > MAX_KEY_POLICY_BYTES {
        let text = format!("The key policy is over the limit of {MAX_KEY_POLICY_BYTES} bytes.");
        return Err(ApiError::new("LimitExceededException", text));
    }
    KeyPolicy::parse(policy).map_err(|error| ApiError::malformed_policy(error.aws_message()))?;
    if bypass || session.could_put_policy(key, policy)? {
        return Ok(());
    }
    Err(ApiError::malformed_policy(
        "The new key policy will not allow you to update the key policy in the future.",
    ))
}

/// The characters that the API's model admits.
pub(super) fn is_policy_text(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{FF}'))
}
