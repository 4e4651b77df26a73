//! Changes of access that are not seen yet: the eventual consistency of AWS, where a fault asks for it.
//!
//! What was there before a change is kept for a while and shown in its place, to reads and to
//! decisions alike. The database has the new value from the start. A grant's token makes it seen
//! at once, as AWS says.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Answer;
use super::grants::GrantRecord;
use super::key::{KeyRecord, Millis};
use super::{KmsError, Service};

/// Most keys of which something old is remembered at once. Beyond that changes are seen at once.
const MAX_KEYS: usize = 4096;

/// Old values by the ARN of their key.
#[derive(Default)]
pub(super) struct Stale(Mutex<HashMap<String, Old>>);

/// How a key was before a change.
pub(super) struct Access {
    policy: String,
    grants: Vec<GrantRecord>,
}

struct Old {
    access: Access,
    until: Millis,
}

impl Stale {
    fn old(&self) -> MutexGuard<'_, HashMap<String, Old>> {
        // Every change is one insertion or removal.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn clear(&self) {
        self.old().clear();
    }

    /// Puts back the policy that is still to be seen.
    pub(super) fn show(&self, key: &mut KeyRecord, now: Millis) {
        if let Some(old) = self.old().get(&key.arn).filter(|old| old.until > now) {
            key.policy.clone_from(&old.access.policy);
        }
    }
}

impl Service {
    /// How a key is seen before a change.
    pub(super) fn access_seen(&self, key: &KeyRecord, now: Millis) -> Answer<Access> {
        Ok(Access { policy: key.policy.clone(), grants: self.grants_seen(&key.arn, now, |_| false)? })
    }

    /// Shows this in place of what the key has, until that time.
    pub(super) fn keep(&self, key_arn: &str, access: Access, now: Millis, until: Millis) {
        let mut old = self.stale.old();
        old.retain(|_, old| old.until > now);
        if old.len() < MAX_KEYS {
            old.insert(key_arn.to_owned(), Old { access, until });
        }
    }

    /// The grants of a key, those with a token in any case.
    pub(super) fn grants_seen(
        &self,
        key_arn: &str,
        now: Millis,
        has_token: impl Fn(&str) -> bool,
    ) -> Result<Vec<GrantRecord>, KmsError> {
        let mut grants = self.store.grants_of(key_arn)?;
        if let Some(old) = self.stale.old().get(key_arn).filter(|old| old.until > now) {
            let known = |id: &str| old.access.grants.iter().any(|grant| grant.id == id);
            grants.retain(|grant| has_token(&grant.id) && !known(&grant.id));
            grants.extend(old.access.grants.iter().cloned());
        }
        Ok(grants)
    }
}
