//! Amazon Resource Names of KMS keys, as the policy pins them.
//!
//! Only a full key ARN is a [`KeyArn`]: aliases can be moved to another key, so
//! none is ever accepted where a key is meant (K-9).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_KEY_ARN_BYTES;

/// The full ARN of a KMS key: `arn:aws:kms:REGION:ACCOUNT:key/ID`.
///
/// Compared byte for byte. Source: AWS KMS Developer Guide, "Key identifiers (`KeyId`)".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyArn(String);

/// Why a text is not the ARN of a KMS key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArnError {
    /// It names an alias, which can be moved to another key.
    #[error("an alias is not a key: write the full key ARN, arn:aws:kms:REGION:ACCOUNT:key/ID")]
    Alias,
    /// It is longer than an ARN can be.
    #[error("a key ARN of {length} bytes is over the limit of {MAX_KEY_ARN_BYTES}")]
    TooLong {
        /// Length in bytes.
        length: usize,
    },
    /// A part is missing or holds a character that it cannot hold.
    #[error("not a key ARN: its {part} is missing or malformed; write arn:aws:kms:REGION:ACCOUNT:key/ID")]
    Malformed {
        /// Which part.
        part: &'static str,
    },
}

impl KeyArn {
    /// Parses a full key ARN.
    ///
    /// # Errors
    /// [`ArnError`] for aliases, bare key ids, other services and any character outside ASCII.
    pub fn parse(text: &str) -> Result<Self, ArnError> {
        if text.len() > MAX_KEY_ARN_BYTES {
            return Err(ArnError::TooLong { length: text.len() });
        }
        if text.starts_with("alias/") {
            return Err(ArnError::Alias);
        }
        let mut parts = text.splitn(6, ':');
        let mut part =
            |name| parts.next().filter(|p| !p.is_empty()).ok_or(ArnError::Malformed { part: name });
        let (prefix, partition, service) = (part("prefix")?, part("partition")?, part("service")?);
        let (region, account, resource) = (part("region")?, part("account")?, part("resource")?);
        let word = |s: &str| s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if prefix != "arn" {
            return Err(ArnError::Malformed { part: "prefix" });
        }
        if !partition.starts_with("aws") || !word(partition) {
            return Err(ArnError::Malformed { part: "partition" });
        }
        if service != "kms" {
            return Err(ArnError::Malformed { part: "service" });
        }
        if !word(region) {
            return Err(ArnError::Malformed { part: "region" });
        }
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ArnError::Malformed { part: "account" });
        }
        if resource.starts_with("alias/") {
            return Err(ArnError::Alias);
        }
        let id = resource.strip_prefix("key/").ok_or(ArnError::Malformed { part: "resource" })?;
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(ArnError::Malformed { part: "key id" });
        }
        Ok(Self(text.to_owned()))
    }

    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The region, the fourth part.
    pub fn region(&self) -> &str {
        self.part(3)
    }

    /// The twelve-digit account, the fifth part.
    pub fn account(&self) -> &str {
        self.part(4)
    }

    fn part(&self, index: usize) -> &str {
        self.0.split(':').nth(index).unwrap_or_default()
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for KeyArn {
    type Error = ArnError;
    fn try_from(text: String) -> Result<Self, ArnError> {
        Self::parse(&text)
    }
}

impl std::str::FromStr for KeyArn {
    type Err = ArnError;
    fn from_str(text: &str) -> Result<Self, ArnError> {
        Self::parse(text)
    }
}

impl From<KeyArn> for String {
    fn from(arn: KeyArn) -> Self {
        arn.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";

    #[test]
    fn reads_the_parts_of_a_key_arn() {
        let arn = KeyArn::parse(GOOD).unwrap();
        assert_eq!((arn.region(), arn.account()), ("eu-west-1", "111122223333"));
        assert!(KeyArn::parse("arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-12").is_ok());
    }

    // K-9
    #[test]
    fn refuses_aliases_and_look_alikes() {
        for alias in ["alias/payments", "arn:aws:kms:eu-west-1:111122223333:alias/payments"] {
            assert_eq!(KeyArn::parse(alias), Err(ArnError::Alias));
        }
        for (text, part) in [
            ("8a51b3c0-0000-4000-8000-000000000001", "partition"),
            ("arn:aws:s3:eu-west-1:111122223333:key/1", "service"),
            ("arn:aws:kms::111122223333:key/1", "region"),
            ("arn:aws:kms:eu-west-1:11112222333:key/1", "account"),
            ("arn:aws:kms:eu-west-1:111122223333:key/", "key id"),
            ("arn:aws:kms:eu-west-1:111122223333:kеy/1", "resource"), // Cyrillic е
            ("arn:aws:kms:eu-west-1:111122223333:key/1\n", "key id"),
        ] {
            assert_eq!(KeyArn::parse(text), Err(ArnError::Malformed { part }), "{text}");
        }
    }
}
