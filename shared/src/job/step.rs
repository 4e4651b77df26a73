//! What a job can do to records and to bytes.

use serde::{Deserialize, Serialize};

use super::{Aggregate, FieldPath};
use crate::id::KeyName;

/// One step. In a file: `mask = { fields = ["card.pan"], keep_last = 4 }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Keeps the named fields and drops all others.
    Select(Vec<FieldPath>),
    /// Drops the named fields.
    Drop(Vec<FieldPath>),
    /// Gives a field another name in the same object.
    Rename(Rename),
    /// Replaces characters of the named fields by asterisks.
    Mask(Mask),
    /// Replaces the named fields by tokens: equal values of one field and one tenant have equal tokens.
    Token(Keyed),
    /// Replaces the named fields by keyed hashes: equal values have equal hashes, whatever field they are in.
    Hash(Keyed),
    /// Lets only records pass for which this condition holds, see [`super::Condition`].
    Filter(String),
    /// Replaces records by figures about groups of them.
    Aggregate(Box<Aggregate>),
    /// Replaces the whole payload by its digest.
    Digest(DigestAlgorithm),
}

/// How a field is renamed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The field.
    pub from: FieldPath,
    /// Its new name: a path that differs in the last part only.
    pub to: FieldPath,
}

/// How a field is masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// Which fields.
    pub fields: Vec<FieldPath>,
    /// How many characters at the end stay readable; a value shorter than twice as long is masked whole.
    #[serde(default)]
    pub keep_last: u8,
}

/// How a field is replaced under a key that the policy names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keyed {
    /// Which fields.
    pub fields: Vec<FieldPath>,
    /// Under which key.
    pub key: KeyName,
}

/// What an aggregate can say of a group of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// How many records.
    Count,
    /// The sum of a field.
    Sum,
    /// The smallest value of a field.
    Min,
    /// The largest value of a field.
    Max,
    /// The mean of a field.
    Mean,
    /// How many different values a field has.
    Distinct,
    /// Values below which given parts of a field's values lie.
    Quantiles,
}

/// The digest of a payload's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// FIPS 180-4.
    #[serde(rename = "sha-256")]
    Sha256,
}

impl Step {
    /// The named key that the step needs.
    pub const fn key(&self) -> Option<&KeyName> {
        match self {
            Self::Token(keyed) | Self::Hash(keyed) => Some(&keyed.key),
            Self::Select(_)
            | Self::Drop(_)
            | Self::Rename(_)
            | Self::Mask(_)
            | Self::Filter(_)
            | Self::Aggregate(_)
            | Self::Digest(_) => None,
        }
    }
}
