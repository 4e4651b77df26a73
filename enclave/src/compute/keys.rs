//! The secrets that `token` and `hash` work under, and what they make of a value.
//!
//! ```text
//! token = base64url(HMAC-SHA-256(key, "adyton token 1" | length | tenant | length | path | type | value))
//! hash  = hex(HMAC-SHA-256(key, "adyton hash 1" | value))
//! ```
//!
//! Lengths are four bytes, big endian; the path is the field's own in the payload, whatever it is
//! called later; the type is `s`, `n` or `b`; the value is the text without escapes.

use std::collections::BTreeMap;
use std::fmt;

use adyton_shared::id::KeyName;
use adyton_shared::job::FieldPath;

use super::mac::Mac;

const TOKEN_DOMAIN: &[u8] = b"adyton token 1";
const HASH_DOMAIN: &[u8] = b"adyton hash 1";

/// The named keys that a job's steps need, and whose data it is about.
#[derive(Default)]
pub struct StepKeys {
    tenant: String,
    keys: BTreeMap<KeyName, Mac>,
}

/// A step needs a key that is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no key named {0}")]
pub struct NoKey(pub KeyName);

impl StepKeys {
    /// No keys yet, for data of this tenant.
    pub const fn new(tenant: String) -> Self {
        Self { tenant, keys: BTreeMap::new() }
    }

    /// Adds a key. What is made of it is wiped when it is dropped; the caller wipes `secret`.
    pub fn insert(&mut self, name: KeyName, secret: &[u8]) {
        self.keys.insert(name, Mac::new(secret));
    }

    /// What makes tokens of a field's values.
    pub(super) fn token(&self, name: &KeyName, origin: &FieldPath) -> Result<Mac, NoKey> {
        let mut mac = self.start(name, TOKEN_DOMAIN)?;
        for text in [self.tenant.as_str(), &origin.to_string()] {
            // Both are far below 4 GiB: a claim and a path have limits.
            mac.update(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
            mac.update(text.as_bytes());
        }
        Ok(mac)
    }

    /// What makes hashes.
    pub(super) fn hash(&self, name: &KeyName) -> Result<Mac, NoKey> {
        self.start(name, HASH_DOMAIN)
    }

    fn start(&self, name: &KeyName, domain: &[u8]) -> Result<Mac, NoKey> {
        let mut mac = self.keys.get(name).ok_or_else(|| NoKey(name.clone()))?.clone();
        mac.update(domain);
        Ok(mac)
    }
}

impl fmt::Debug for StepKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepKeys(..)")
    }
}
