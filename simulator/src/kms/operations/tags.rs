//! Tags, as requests give them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;

const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;

/// The field `Tags`.
///
/// # Errors
/// `TagException` in AWS's words.
pub(super) fn read_tags(tags: Vec<Value>) -> Answer<BTreeMap<String, String>> {
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
