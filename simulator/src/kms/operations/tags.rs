//! Tags: `TagResource`, `UntagResource`, and the tags of a new key.

use std::collections::BTreeMap;

use adyton_verifier::key_policy::ConditionContext;
use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;

const MAX_TAGS: usize = 50;
/// Longest list that is read at all.
const MAX_LISTED: usize = 200;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;

pub(super) fn tag(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    require_list(&mut input, "Tags");
    let tags = tag_list(&mut input)?;
    input.finish()?;
    let tags = checked(tags)?;
    let key = session.managed_key(&name)?;
    session.authorize("TagResource", &key, |conditions| add_conditions(conditions, &tags))?;
    session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        key.tags.extend(tags);
        if key.tags.len() > MAX_TAGS { Err(refused("Too many tags")) } else { Ok(()) }
    })?;
    Ok(json!({}))
}

pub(super) fn untag(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    require_list(&mut input, "TagKeys");
    let keys = tag_keys(&mut input)?;
    input.finish()?;
    if keys.iter().any(|key| key.starts_with("aws:")) {
        return Err(refused("Tags beginning with aws: are reserved"));
    }
    let key = session.managed_key(&name)?;
    session.authorize("UntagResource", &key, |conditions| {
        for key in &keys {
            conditions.add("aws:TagKeys", key);
        }
    })?;
    session.service.store.edit_key(&key.arn, |key| {
        key.not_pending()?;
        // One that is not there is no error.
        key.tags.retain(|tag, _| !keys.contains(tag));
        Answer::Ok(())
    })?;
    Ok(json!({}))
}

/// What policies can ask about the tags in a request.
pub(super) fn add_conditions(conditions: &mut ConditionContext, tags: &BTreeMap<String, String>) {
    for (key, value) in tags {
        conditions.set(&format!("aws:RequestTag/{key}"), value);
        conditions.add("aws:TagKeys", key);
    }
}

/// The field `Tags`, pair by pair.
pub(super) fn tag_list(input: &mut Input) -> Answer<Vec<(String, String)>> {
    let mut tags = Vec::new();
    for (index, tag) in input.list("Tags", 0..=MAX_LISTED)?.into_iter().enumerate() {
        let Value::Object(fields) = tag else {
            return Err(ApiError::serialization("Tags is not a list of objects."));
        };
        tags.push(input.inside(&format!("tags.{}.member", index + 1), fields, |input| {
            let key = input.text("TagKey", 1..=MAX_TAG_KEY)?;
            let value = input.text("TagValue", 0..=MAX_TAG_VALUE)?;
            Ok((input.require("TagKey", key), input.require("TagValue", value)))
        })?);
    }
    Ok(tags)
}

/// Refuses tags that no key can have.
///
/// # Errors
/// `TagException` in AWS's words.
pub(super) fn checked(tags: Vec<(String, String)>) -> Answer<BTreeMap<String, String>> {
    let count = tags.len();
    if tags.iter().any(|(key, _)| key.starts_with("aws:")) {
        return Err(refused("Tags beginning with aws: are reserved"));
    }
    let tags: BTreeMap<String, String> = tags.into_iter().collect();
    if tags.len() < count {
        return Err(refused("Duplicate tag keys"));
    }
    if count > MAX_TAGS { Err(refused("Too many tags")) } else { Ok(tags) }
}

fn tag_keys(input: &mut Input) -> Answer<Vec<String>> {
    let mut keys = Vec::new();
    for (index, key) in input.list("TagKeys", 0..=MAX_LISTED)?.into_iter().enumerate() {
        let fields = serde_json::Map::from_iter([("Member".to_owned(), key)]);
        keys.push(input.inside(&format!("tagKeys.{}", index + 1), fields, |input| {
            let key = input.text("Member", 1..=MAX_TAG_KEY)?;
            Ok(input.require("Member", key))
        })?);
    }
    Ok(keys)
}

fn require_list(input: &mut Input, name: &str) {
    if !input.has(name) {
        input.require::<String>(name, None);
    }
}

fn refused(text: &str) -> ApiError {
    ApiError::new("TagException", text)
}
