//! Changes of access that are not seen yet: the eventual consistency of AWS, where a fault asks for it.
//!
//! What was there before a change is kept for a while and shown in its place, to reads and to
//! decisions alike. The database has the new value from the start.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::key::{KeyRecord, Millis};

/// Most changes that are remembered at once. Beyond that changes are seen at once.
const MAX_CHANGES: usize = 4096;

/// Old values by the ARN of their key.
#[derive(Default)]
pub(super) struct Stale {
    policies: Mutex<HashMap<String, Old<String>>>,
}

struct Old<T> {
    value: T,
    until: Millis,
}

impl Stale {
    /// Shows this policy in place of the key's until that time.
    pub(super) fn keep_policy(&self, key_arn: &str, policy: String, now: Millis, until: Millis) {
        let mut policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        policies.retain(|_, old| old.until > now);
        if policies.len() < MAX_CHANGES {
            policies.insert(key_arn.to_owned(), Old { value: policy, until });
        }
    }

    pub(super) fn clear(&self) {
        self.policies.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Puts back what is still to be seen.
    pub(super) fn show(&self, key: &mut KeyRecord, now: Millis) {
        let policies = self.policies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = policies.get(&key.arn).filter(|old| old.until > now) {
            key.policy.clone_from(&old.value);
        }
    }
}
