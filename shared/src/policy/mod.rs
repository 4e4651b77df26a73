//! The measured policy: everything that changes what the enclave does.
//!
//! `policy.toml` is part of the image's measurement, and its SHA-384 digest is extended into
//! PCR16. Reading it is strict: what is unknown, doubled, contradictory or without effect is an
//! error, because a policy that says less than its author believes is worse than none.

mod context;
mod file;
mod keys;
mod release;
mod size;

use std::collections::BTreeMap;

pub use context::{ContextRefusal, ContextRule, ContextRules};
pub use file::PolicyError;
pub use keys::{NamedKey, Source, SourceError};
pub use release::{AggregateRule, Allowance, Demand, FieldRule, ReleaseRefusal, ReleaseRule};

use crate::KeyArn;
use crate::id::{KeyName, PolicyDigest, RequesterKey, RequesterName};

/// A policy that has been read and makes sense.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What people call it.
    pub name: String,
    /// SHA-384 of the file, as in PCR16.
    pub digest: PolicyDigest,
    /// Which keys, where.
    pub kms: Kms,
    /// Whether messages without key commitment are opened (suites below 0x0400).
    pub allow_non_committing: bool,
    /// What every payload's encryption context must say.
    pub context: ContextRules,
    /// Who may send jobs.
    pub requesters: BTreeMap<RequesterName, RequesterKey>,
    /// The only ways out.
    pub release: Vec<ReleaseRule>,
    /// Secrets that steps can use, by name.
    pub keys: BTreeMap<KeyName, NamedKey>,
    /// Bounds on one job and on all.
    pub limits: Limits,
    /// Bounds on keeping released data keys.
    pub cache: Cache,
}

/// `[kms]`
#[derive(Clone, Debug)]
pub struct Kms {
    /// The region that requests are signed for.
    pub region: String,
    /// The endpoint's host name, as its certificate must have it.
    pub host: String,
    /// Trust anchors in PEM instead of the built-in ones.
    pub roots: Option<String>,
    /// The keys that may release data keys, by full ARN.
    pub keys: Vec<KeyArn>,
    /// How long one release may take, attempts and pauses together, in seconds.
    pub deadline_seconds: u64,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest plaintext of a payload, in bytes.
    pub payload: u64,
    /// Longest record, in bytes. Each job buffers at most one, and a frame.
    pub record: usize,
    /// Longest result, in bytes.
    pub result: u64,
    /// Jobs at once.
    pub jobs: usize,
    /// Groups of one aggregate.
    pub groups: usize,
    /// Memory for the groups of one aggregate and what they hold, in bytes.
    pub group_bytes: usize,
}

/// `[cache]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Data keys kept at once.
    pub entries: usize,
    /// How long a data key is kept after its release, in seconds. 0 keeps none.
    pub age_seconds: u64,
    /// How many messages one release may open.
    pub messages: u64,
    /// How many bytes of plaintext one release may open.
    pub bytes: u64,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] that says what is wrong and where.
    pub fn parse(file: &[u8]) -> Result<Self, PolicyError> {
        file::parse(file)
    }

    /// The contexts of the named keys under this KMS key: what its key policy must allow beside payloads.
    pub fn named_contexts(&self, key: &KeyArn) -> Vec<Vec<(&str, &str)>> {
        let under = self.keys.values().filter(|named| named.key == *key);
        under.map(|named| named.context.pairs().collect()).collect()
    }
}
