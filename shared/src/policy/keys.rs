//! `[keys.*]`: secrets that live outside, wrapped under a KMS key, and are fetched by name.
//!
//! What the parent answers when it is asked for one is a claim. The measured policy says under which
//! key and which encryption context the secret must be wrapped, and KMS opens it for nothing else: so
//! another key's blob, an older version's, or a payload's data key cannot take its place (K-7, K-14).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Kms;
use super::context::REQUIRED_PAIRS;
use super::file::{PolicyError, meaning};
use super::release::{Allowance, Demand, ReleaseRule};
use crate::id::KeyName;
use crate::limits::MAX_FILE_NAME_BYTES;
use crate::{EncryptionContext, KeyArn};

/// The pair that keeps one use's secrets apart from another's.
const PURPOSE: &str = "purpose";

/// `[keys.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKey {
    /// Where the parent finds the wrapped secret.
    pub source: Source,
    /// The KMS key that wrapped it.
    pub key: KeyArn,
    /// What it was wrapped under, exactly.
    pub context: EncryptionContext,
}

/// Where a wrapped secret is kept, as the parent understands it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// `file:NAME`: a file in the folder of wrapped keys, which the parent's settings name.
    File(String),
}

/// Why a text is not a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// A scheme that this release does not know.
    #[error("not a source; write file: and the name of a file")]
    Scheme,
    /// A path, a hidden file, or characters that a plain name has not.
    #[error(
        "a file: source is a plain name of letters, digits, dots, dashes and underscores, without a folder"
    )]
    FileName,
}

impl FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let name = text.strip_prefix("file:").ok_or(SourceError::Scheme)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        // No name that begins with a dot leads out of the folder, and none of these has a slash.
        if name.is_empty()
            || name.len() > MAX_FILE_NAME_BYTES
            || name.starts_with('.')
            || !name.bytes().all(plain)
        {
            return Err(SourceError::FileName);
        }
        Ok(Self::File(name.to_owned()))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => write!(f, "file:{name}"),
        }
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;
    fn try_from(text: String) -> Result<Self, SourceError> {
        text.parse()
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyTable {
    source: Source,
    context: EncryptionContext,
    kms: Option<KeyArn>,
}

/// Checks the tables.
pub(super) fn named_keys(
    tables: BTreeMap<KeyName, KeyTable>,
    kms: &Kms,
) -> Result<BTreeMap<KeyName, NamedKey>, PolicyError> {
    let mut keys: BTreeMap<KeyName, NamedKey> = BTreeMap::new();
    for (name, KeyTable { source, context, kms: key }) in tables {
        let wrong = |problem: String| meaning(format!("[keys.{name}]"), problem);
        check_context(&context).map_err(|problem| wrong(problem.to_owned()))?;
        let key = match (key, kms.keys.as_slice()) {
            (Some(key), listed) if listed.contains(&key) => key,
            (Some(key), _) => return Err(wrong(format!("{key} is not in [kms] keys"))),
            (None, [only]) => only.clone(),
            (None, _) => {
                return Err(wrong("[kms] lists several keys: say which one in kms = \"arn:…\"".into()));
            }
        };
        // KMS tells wrapped secrets of one key apart by their contexts and by nothing else.
        if let Some((other, _)) = keys.iter().find(|(_, other)| other.key == key && other.context == context)
        {
            return Err(wrong(format!("{other} has the same context, so one could be given for the other")));
        }
        keys.insert(name, NamedKey { source, key, context });
    }
    Ok(keys)
}

/// A rule that demands a key which is not there would let nothing out.
pub(super) fn check_demands(
    rules: &[ReleaseRule],
    keys: &BTreeMap<KeyName, NamedKey>,
) -> Result<(), PolicyError> {
    for (index, rule) in rules.iter().enumerate() {
        let Allowance::Fields(fields) = &rule.what else { continue };
        for field in fields {
            if let Demand::Token { key: Some(name) } | Demand::Hash { key: Some(name) } = &field.demand
                && !keys.contains_key(name)
            {
                let place = format!("[[release]] number {}", index.saturating_add(1));
                return Err(meaning(
                    place,
                    format!("'{}' needs [keys.{name}], which is not there", field.path),
                ));
            }
        }
    }
    Ok(())
}

fn check_context(context: &EncryptionContext) -> Result<(), &'static str> {
    if context.value(PURPOSE).is_none_or(str::is_empty) {
        return Err("context needs a purpose, such as purpose = \"payments-token\"");
    }
    if context.pairs().any(|(key, _)| key.starts_with("aws-crypto-")) {
        return Err("pairs that begin with aws-crypto- belong to the message format");
    }
    // Every payload has all of these: with one of them missing, no payload's data key is wrapped alike.
    if REQUIRED_PAIRS.iter().all(|pair| context.value(pair).is_some()) {
        return Err(
            "context has all pairs that payloads have, so a payload's data key could be given for it; \
                    leave object out",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_plain_name_and_never_a_path() {
        for text in ["file:token.key", "file:a", "file:A_b-c.9"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for text in ["", "token.key", "s3://bucket/key", "FILE:a", "ssm:/a"] {
            assert_eq!(text.parse::<Source>(), Err(SourceError::Scheme), "{text}");
        }
        let long = format!("file:{}", "a".repeat(256));
        for text in [
            "file:",
            "file:.",
            "file:..",
            "file:.a",
            "file:a/b",
            "file:/etc/passwd",
            "file:../a",
            "file:a\0",
            "file:ä",
            &long,
        ] {
            assert_eq!(text.parse::<Source>(), Err(SourceError::FileName), "{text}");
        }
    }
}
