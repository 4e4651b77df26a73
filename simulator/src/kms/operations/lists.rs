//! The lists, and their pages.
//!
//! A marker is the sort key of the last entry, encoded and marked with the list it belongs to;
//! it stays valid when entries come and go.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::key_id;
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::seconds;
use crate::kms::key_id::Names;

/// Longest marker, in characters.
const MAX_MARKER: usize = 1024;

/// Which part of a list is wanted.
pub(super) struct Page {
    limit: usize,
    /// Entries up to and including this one have been seen.
    after: Option<String>,
    list: &'static str,
}

impl Page {
    pub(super) fn read(input: &mut Input, list: &'static str, default: i64, most: i64) -> Answer<Self> {
        let limit = input.number("Limit", 1..=most)?.unwrap_or(default);
        let marker = input.text("Marker", 1..=MAX_MARKER)?;
        input.finish()?;
        let after =
            marker.map(|marker| decode(&marker, list).ok_or_else(ApiError::invalid_marker)).transpose()?;
        Ok(Self { limit: usize::try_from(limit).map_err(|_| ApiError::internal())?, after, list })
    }

    /// Cuts the page out of all entries, which are given with their sort keys.
    pub(super) fn cut(&self, field: &str, mut entries: Vec<(String, Value)>) -> Value {
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let after = |key: &String| self.after.as_ref().is_none_or(|after| key > after);
        let mut rest = entries.into_iter().filter(|(key, _)| after(key));
        let page: Vec<(String, Value)> = rest.by_ref().take(self.limit).collect();
        let truncated = rest.next().is_some();
        let mut answer = json!({"Truncated": truncated});
        if let Some((last, _)) = page.last().filter(|_| truncated) {
            answer["NextMarker"] = encode(last, self.list).into();
        }
        answer[field] = page.into_iter().map(|(_, entry)| entry).collect();
        answer
    }
}

fn encode(seen: &str, list: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{list}\0{seen}"))
}

fn decode(marker: &str, list: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(marker).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    text.strip_prefix(list)?.strip_prefix('\0').map(str::to_owned)
}

pub(super) fn keys(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let page = Page::read(&mut input, "keys", 100, 1000)?;
    session.authorize_by_identity("ListKeys", None)?;
    session.service.settle(session.now)?;
    let keys = session.service.store.keys_in(session.region, session.caller.account())?.into_iter();
    let entries = keys.map(|key| (key.id.clone(), json!({"KeyId": key.id, "KeyArn": key.arn}))).collect();
    Ok(page.cut("Keys", entries))
}

pub(super) fn aliases(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = input.text("KeyId", 1..=super::MAX_KEY_ID)?;
    let page = Page::read(&mut input, "aliases", 50, 100)?;
    session.authorize_by_identity("ListAliases", None)?;
    let key = name.map(|name| session.named_key(&name, Names::KeysOnly)).transpose()?;
    session.service.settle(session.now)?;
    let aliases = session.service.store.aliases_in(session.region, session.caller.account())?.into_iter();
    let entries = aliases
        .filter(|alias| key.as_ref().is_none_or(|key| key.arn == alias.key_arn))
        .map(|alias| {
            let entry = json!({
                "AliasName": alias.name,
                "AliasArn": alias.arn,
                "TargetKeyId": alias.key_id(),
                "CreationDate": seconds(alias.created),
                "LastUpdatedDate": seconds(alias.updated),
            });
            (alias.name, entry)
        })
        .collect();
    Ok(page.cut("Aliases", entries))
}

pub(super) fn key_policies(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let page = Page::read(&mut input, "policies", 100, 1000)?;
    let key = session.managed_key(&name)?;
    session.authorize("ListKeyPolicies", &key, |_| ())?;
    Ok(page.cut("PolicyNames", vec![("default".into(), "default".into())]))
}

pub(super) fn tags(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let name = key_id(&mut input, "KeyId")?;
    let page = Page::read(&mut input, "tags", 50, 50)?;
    let key = session.managed_key(&name)?;
    session.authorize("ListResourceTags", &key, |_| ())?;
    let tags = key.tags.into_iter();
    let entries = tags.map(|(tag, value)| (tag.clone(), json!({"TagKey": tag, "TagValue": value}))).collect();
    Ok(page.cut("Tags", entries))
}
