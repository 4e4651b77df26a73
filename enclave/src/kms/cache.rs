//! Released data keys, kept for a while.
//!
//! Each is bound to the digest of the whole request (key, wrapped key, encryption context), so a
//! hit says exactly what KMS would have said. Four limits hold: age, number of keys, messages and
//! bytes opened per key. What is over a limit is dropped, and thereby wiped.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adyton_shared::DataKey;
use adyton_shared::id::Sha256Digest;

/// Bounds on keeping released data keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Keys kept at once; the oldest makes room. 0 keeps none.
    pub entries: usize,
    /// How long a key is kept after its release. 0 keeps none.
    pub age: Duration,
    /// How many messages one release may open. 0 and 1 keep none.
    pub messages: u64,
    /// How many bytes of plaintext one release may open; a message under way is finished.
    pub bytes: u64,
}

impl CacheLimits {
    /// Whether anything is kept at all.
    pub(super) fn keep_any(&self) -> bool {
        self.entries > 0 && self.age > Duration::ZERO && self.messages > 1 && self.bytes > 0
    }
}

/// A released data key and what it has been used for.
#[derive(Debug)]
pub(super) struct Released {
    key: DataKey,
    messages: AtomicU64,
    bytes: AtomicU64,
}

impl Released {
    pub(super) fn new(key: DataKey) -> Arc<Self> {
        Arc::new(Self { key, messages: AtomicU64::new(0), bytes: AtomicU64::new(0) })
    }
}

/// A data key on loan for one message.
///
/// Whoever opens bytes with it says so by [`Lease::charge`]; that is what the limit counts.
#[derive(Debug)]
pub struct Lease {
    released: Arc<Released>,
}

impl Lease {
    /// For one message more; `None` once the release is used up.
    pub(super) fn another(released: Arc<Released>, limits: &CacheLimits) -> Option<Self> {
        if released.bytes.load(Ordering::Relaxed) >= limits.bytes {
            return None;
        }
        let one_more = |used: u64| (used < limits.messages).then(|| used.saturating_add(1));
        released.messages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { released })
    }

    /// For a key that is not kept: nothing to charge.
    pub(super) fn sole(released: Arc<Released>) -> Self {
        Self { released }
    }

    /// The key.
    pub fn key(&self) -> &DataKey {
        &self.released.key
    }

    /// Charges bytes of plaintext opened with the key.
    pub fn charge(&self, bytes: u64) {
        let more = |used: u64| Some(used.saturating_add(bytes));
        let _ = self.released.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// The keys that are kept.
pub(super) struct KeyCache {
    limits: CacheLimits,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_request: HashMap<Sha256Digest, Slot>,
    /// Numbers rise with the time of release, so the first is the oldest.
    by_age: BTreeMap<u64, Sha256Digest>,
    next_number: u64,
    sweeping: bool,
}

struct Slot {
    number: u64,
    released_ms: u64,
    released: Arc<Released>,
}

impl KeyCache {
    pub(super) fn new(limits: CacheLimits) -> Self {
        Self { limits, kept: Mutex::default() }
    }

    pub(super) fn limits(&self) -> &CacheLimits {
        &self.limits
    }

    /// A lease of the key released for this request, if it is within all limits.
    pub(super) fn lease(&self, request: &Sha256Digest, now_ms: u64) -> Option<Lease> {
        let mut kept = self.lock();
        let released = self.fresh(&mut kept, request, now_ms)?;
        let lease = Lease::another(released, &self.limits);
        if lease.is_none() {
            kept.remove(request);
        }
        lease
    }

    /// The key released for this request, not charged yet.
    pub(super) fn find(&self, request: &Sha256Digest, now_ms: u64) -> Option<Arc<Released>> {
        self.fresh(&mut self.lock(), request, now_ms)
    }

    /// Keeps a key. Answers whether somebody must now call [`KeyCache::sweep`] from time to time.
    pub(super) fn keep(&self, request: Sha256Digest, released: Arc<Released>, now_ms: u64) -> bool {
        if !self.limits.keep_any() {
            return false;
        }
        let mut kept = self.lock();
        kept.remove(&request);
        while kept.by_request.len() >= self.limits.entries {
            kept.remove_oldest();
        }
        let number = kept.next_number;
        kept.next_number = number.wrapping_add(1);
        kept.by_age.insert(number, request);
        kept.by_request.insert(request, Slot { number, released_ms: now_ms, released });
        !std::mem::replace(&mut kept.sweeping, true)
    }

    /// Forgets a release that is used up, unless a newer one has taken its place.
    pub(super) fn forget(&self, request: &Sha256Digest, used_up: &Arc<Released>) {
        let mut kept = self.lock();
        if kept.by_request.get(request).is_some_and(|slot| Arc::ptr_eq(&slot.released, used_up)) {
            kept.remove(request);
        }
    }

    /// Drops what is too old; answers whether anything is left to sweep later.
    pub(super) fn sweep(&self, now_ms: u64) -> bool {
        let mut kept = self.lock();
        self.drop_expired(&mut kept, now_ms);
        kept.sweeping = !kept.by_request.is_empty();
        kept.sweeping
    }

    fn fresh(&self, kept: &mut Kept, request: &Sha256Digest, now_ms: u64) -> Option<Arc<Released>> {
        self.drop_expired(kept, now_ms);
        let slot = kept.by_request.get(request)?;
        Some(Arc::clone(&slot.released))
    }

    fn drop_expired(&self, kept: &mut Kept, now_ms: u64) {
        while let Some(oldest) = kept.oldest() {
            // A clock that ran backwards proves no age, so such a key goes as well.
            let age = now_ms.checked_sub(oldest.released_ms).map(Duration::from_millis);
            if age.is_some_and(|age| age < self.limits.age) {
                return;
            }
            kept.remove_oldest();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn oldest(&self) -> Option<&Slot> {
        self.by_request.get(self.by_age.first_key_value()?.1)
    }

    fn remove(&mut self, request: &Sha256Digest) {
        if let Some(slot) = self.by_request.remove(request) {
            self.by_age.remove(&slot.number);
        }
    }

    fn remove_oldest(&mut self) {
        if let Some((_, request)) = self.by_age.pop_first() {
            self.by_request.remove(&request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CacheLimits =
        CacheLimits { entries: 2, age: Duration::from_mins(5), messages: 3, bytes: 100 };

    fn released(byte: u8) -> Arc<Released> {
        Released::new(DataKey::copy_from(&[byte; 32]).unwrap())
    }

    fn request(byte: u8) -> Sha256Digest {
        Sha256Digest::new([byte; 32])
    }

    #[test]
    fn a_key_is_lent_until_its_age() {
        let cache = KeyCache::new(LIMITS);
        assert!(cache.keep(request(1), released(1), 1000), "the first key asks for a sweeper");
        assert!(!cache.keep(request(2), released(2), 1000), "the second has one");
        assert_eq!(cache.lease(&request(1), 300_999).unwrap().key().expose(), [1; 32]);
        assert!(cache.lease(&request(1), 301_000).is_none());
        assert!(cache.lock().by_request.is_empty() && cache.lock().by_age.is_empty());
        assert!(!cache.sweep(301_000), "nothing left to sweep");
    }

    #[test]
    fn a_clock_that_runs_backwards_ends_the_age() {
        let cache = KeyCache::new(LIMITS);
        cache.keep(request(1), released(1), 1000);
        assert!(cache.lease(&request(1), 999).is_none());
    }

    #[test]
    fn a_key_opens_only_so_many_messages_and_bytes() {
        let cache = KeyCache::new(LIMITS);
        cache.keep(request(1), released(1), 0);
        cache.keep(request(2), released(2), 0);
        let leases: Vec<_> = (0..3).map(|_| cache.lease(&request(1), 1).unwrap()).collect();
        assert!(cache.lease(&request(1), 1).is_none());
        assert_eq!(leases[0].key().expose(), [1; 32], "a lease outlives the cache's interest");
        let lease = cache.lease(&request(2), 1).unwrap();
        lease.charge(99);
        cache.lease(&request(2), 1).unwrap().charge(1);
        assert!(cache.lease(&request(2), 1).is_none());
        lease.charge(u64::MAX);
    }

    #[test]
    fn the_oldest_makes_room() {
        let cache = KeyCache::new(LIMITS);
        for byte in 1..=3 {
            cache.keep(request(byte), released(byte), u64::from(byte));
        }
        assert!(cache.lease(&request(1), 4).is_none());
        assert!(cache.lease(&request(2), 4).is_some() && cache.lease(&request(3), 4).is_some());
        assert_eq!(cache.lock().by_age.len(), 2);
    }

    #[test]
    fn a_newer_release_is_not_forgotten_with_an_older() {
        let cache = KeyCache::new(LIMITS);
        let (old, new) = (released(1), released(2));
        cache.keep(request(1), Arc::clone(&new), 0);
        cache.forget(&request(1), &old);
        assert!(cache.find(&request(1), 1).is_some());
        cache.forget(&request(1), &new);
        assert!(cache.find(&request(1), 1).is_none());
    }

    #[test]
    fn a_limit_of_zero_keeps_nothing() {
        for limits in [
            CacheLimits { entries: 0, ..LIMITS },
            CacheLimits { age: Duration::ZERO, ..LIMITS },
            CacheLimits { messages: 1, ..LIMITS },
            CacheLimits { bytes: 0, ..LIMITS },
        ] {
            let cache = KeyCache::new(limits);
            assert!(!cache.keep(request(1), released(1), 0));
            assert!(cache.lease(&request(1), 0).is_none());
        }
    }

    #[test]
    fn a_lease_is_unprintable() {
        let lease = Lease::sole(released(0xA5));
        let text = format!("{lease:?}");
        assert!(!text.contains("165") && !text.to_lowercase().contains("a5"), "{text}");
    }
}
