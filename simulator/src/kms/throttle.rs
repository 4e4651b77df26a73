//! Request quotas: one token bucket per account, shared by the symmetric cryptographic operations.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::key::Millis;

/// How many cryptographic operations an account may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Calls per second in the long run. Zero refuses everything once the burst is used up.
    pub per_second: u32,
    /// Calls at once after a pause.
    pub burst: u32,
}

impl Default for Quota {
    /// What AWS grants in most regions; a local test does not get there by accident.
    fn default() -> Self {
        Self { per_second: 20_000, burst: 20_000 }
    }
}

pub(super) struct Throttle {
    quota: Quota,
    buckets: Mutex<HashMap<String, Bucket>>,
}

/// Tokens are counted in thousandths, so that a millisecond's share is a whole number.
struct Bucket {
    thousandths: u64,
    filled: Millis,
}

impl Throttle {
    pub(super) fn new(quota: Quota) -> Self {
        Self { quota, buckets: Mutex::default() }
    }

    /// Takes one token; `false` if the account has none left.
    pub(super) fn admit(&self, account: &str, now: Millis) -> bool {
        let full = u64::from(self.quota.burst) * 1000;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        // Only accounts of known users get here, so the map stays small.
        let bucket = buckets.entry(account.to_owned()).or_insert(Bucket { thousandths: full, filled: now });
        let elapsed = now.saturating_sub(bucket.filled);
        let earned = elapsed.saturating_mul(u64::from(self.quota.per_second));
        bucket.thousandths = bucket.thousandths.saturating_add(earned).min(full);
        // A clock that was put back earns nothing until it has caught up.
        bucket.filled = bucket.filled.max(now);
        match bucket.thousandths.checked_sub(1000) {
            Some(rest) => {
                bucket.thousandths = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_beyond_the_burst_and_recovers_with_time() {
        let throttle = Throttle::new(Quota { per_second: 2, burst: 3 });
        for _ in 0..3 {
            assert!(throttle.admit("a", 1000));
        }
        assert!(!throttle.admit("a", 1000));
        assert!(throttle.admit("b", 1000));
        assert!(!throttle.admit("a", 1499));
        assert!(throttle.admit("a", 1500));
        assert!(!throttle.admit("a", 900));
        assert!(!throttle.admit("a", 1999));
        assert!(throttle.admit("a", 2000));
    }
}
