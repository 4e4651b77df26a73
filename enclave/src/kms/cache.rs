//! Released data keys, kept within limits; concurrent misses for one key make one call.
//!
//! An entry is found by a digest over key, wrapped key and context together: what KMS has once
//! bound can never be looked up apart. Failures are not kept.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adyton_shared::DataKey;
use adyton_shared::id::Sha256Digest;
use tokio::sync::watch;

use super::error::KeyError;
use crate::platform::TimeSource;

/// Bounds on keeping released data keys.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Keys kept at once.
    pub entries: usize,
    /// How long a key is kept, in milliseconds; 0 keeps none.
    pub age_ms: u64,
    /// How many messages one release opens.
    pub messages: u64,
    /// How many bytes one release opens.
    pub bytes: u64,
}

/// A data key for one message. Tells the cache how much was opened with it.
#[derive(Debug, Clone)]
pub struct Lease {
    key: Arc<DataKey>,
    bytes: Arc<AtomicU64>,
}

impl Lease {
    /// The key.
    pub fn key(&self) -> &DataKey {
        &self.key
    }

    /// Charges opened bytes to the release.
    pub fn charge(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

type Outcome = Option<Result<Lease, KeyError>>;

pub(super) struct KeyCache {
    limits: CacheLimits,
    time: Arc<dyn TimeSource>,
    slots: Mutex<HashMap<Sha256Digest, Slot>>,
}

enum Slot {
    Asking(watch::Receiver<Outcome>),
    Held { lease: Lease, since: u64, messages: u64 },
}

/// What a look-up found.
enum Found {
    Held(Lease),
    Asking(watch::Receiver<Outcome>),
    Nothing(watch::Sender<Outcome>, watch::Receiver<Outcome>),
}

impl KeyCache {
    pub(super) fn new(limits: CacheLimits, time: Arc<dyn TimeSource>) -> Self {
        Self { limits, time, slots: Mutex::default() }
    }

    /// The key under this name, or what `ask` brings. `ask` runs on a task of its own, so that nobody
    /// who waits for it is let down when the one who asked first goes away.
    pub(super) async fn get<F>(
        self: &Arc<Self>,
        name: Sha256Digest,
        ask: impl FnOnce() -> F,
    ) -> Result<Lease, KeyError>
    where
        F: Future<Output = Result<DataKey, KeyError>> + Send + 'static,
    {
        let mut receiver = match self.look_up(name) {
            Found::Held(lease) => return Ok(lease),
            Found::Asking(receiver) => receiver,
            Found::Nothing(sender, receiver) => {
                let (cache, asked) = (Arc::clone(self), ask());
                tokio::spawn(async move {
                    // If this task dies, the slot must not wait for ever.
                    let guard = Asking { cache: &cache, name };
                    let outcome = asked.await.map(|key| Lease { key: Arc::new(key), bytes: Arc::default() });
                    guard.finish(outcome.as_ref().ok());
                    let _ = sender.send(Some(outcome));
                });
                receiver
            }
        };
        let outcome = receiver.wait_for(Option::is_some).await.map_err(|_| KeyError::Internal)?;
        outcome.clone().unwrap_or(Err(KeyError::Internal))
    }

    fn look_up(&self, name: Sha256Digest) -> Found {
        let now = self.time.unix_millis();
        let mut slots = self.slots();
        match slots.get_mut(&name) {
            Some(Slot::Asking(receiver)) => return Found::Asking(receiver.clone()),
            Some(Slot::Held { lease, since, messages }) if self.is_good(lease, *since, *messages, now) => {
                *messages = messages.saturating_add(1);
                return Found::Held(lease.clone());
            }
            _ => {}
        }
        let (sender, receiver) = watch::channel(None);
        slots.insert(name, Slot::Asking(receiver.clone()));
        Found::Nothing(sender, receiver)
    }

    fn is_good(&self, lease: &Lease, since: u64, messages: u64, now: u64) -> bool {
        now.saturating_sub(since) < self.limits.age_ms
            && messages < self.limits.messages
            && lease.bytes.load(Ordering::Relaxed) < self.limits.bytes
    }

    fn settle(&self, name: Sha256Digest, lease: Option<&Lease>) {
        let now = self.time.unix_millis();
        let mut slots = self.slots();
        slots.remove(&name);
        let Some(lease) = lease.filter(|_| self.limits.age_ms > 0 && self.limits.entries > 0) else { return };
        self.make_room(&mut slots, now);
        slots.insert(name, Slot::Held { lease: lease.clone(), since: now, messages: 1 });
    }

    /// Drops what is no longer good, then the oldest, until one more fits.
    fn make_room(&self, slots: &mut HashMap<Sha256Digest, Slot>, now: u64) {
        let held = |slots: &HashMap<Sha256Digest, Slot>| {
            slots.values().filter(|slot| matches!(slot, Slot::Held { .. })).count()
        };
        if held(slots) < self.limits.entries {
            return;
        }
        slots.retain(|_, slot| match slot {
            Slot::Asking(_) => true,
            Slot::Held { lease, since, messages } => self.is_good(lease, *since, *messages, now),
        });
        while held(slots) >= self.limits.entries {
            let oldest = slots
                .iter()
                .filter_map(|(name, slot)| match slot {
                    Slot::Held { since, .. } => Some((*since, *name)),
                    Slot::Asking(_) => None,
                })
                .min();
            let Some((_, name)) = oldest else { return };
            slots.remove(&name);
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Sha256Digest, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clears the slot of a question however it ends.
struct Asking<'a> {
    cache: &'a KeyCache,
    name: Sha256Digest,
}

impl Asking<'_> {
    fn finish(self, lease: Option<&Lease>) {
        self.cache.settle(self.name, lease);
        std::mem::forget(self);
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.cache.settle(self.name, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Notify;

    #[derive(Default)]
    struct FakeTime(AtomicU64);
    impl TimeSource for FakeTime {
        fn unix_millis(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    const LIMITS: CacheLimits = CacheLimits { entries: 2, age_ms: 1000, messages: 3, bytes: 100 };

    struct Setup {
        cache: Arc<KeyCache>,
        time: Arc<FakeTime>,
        calls: Arc<AtomicUsize>,
    }

    fn setup(limits: CacheLimits) -> Setup {
        let time = Arc::new(FakeTime::default());
        Setup { cache: Arc::new(KeyCache::new(limits, time.clone())), time, calls: Arc::default() }
    }

    impl Setup {
        async fn get(&self, name: &[u8]) -> Result<Lease, KeyError> {
            let calls = Arc::clone(&self.calls);
            self.cache
                .get(Sha256Digest::of(name), || async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    Ok(DataKey::copy_from(&[1; 32]).unwrap())
                })
                .await
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_release_ends_by_age_by_messages_and_by_bytes() {
        let it = setup(LIMITS);
        for _ in 0..3 {
            it.get(b"a").await.unwrap();
        }
        assert_eq!(it.calls(), 1);
        it.get(b"a").await.unwrap();
        assert_eq!(it.calls(), 2, "messages");
        it.time.0.store(1000, Ordering::Relaxed);
        let lease = it.get(b"a").await.unwrap();
        assert_eq!(it.calls(), 3, "age");
        lease.charge(100);
        it.get(b"a").await.unwrap();
        assert_eq!(it.calls(), 4, "bytes");
    }

    #[tokio::test]
    async fn the_oldest_entry_makes_room_and_age_zero_keeps_none() {
        let it = setup(LIMITS);
        for (at, name) in [(1, b"a"), (2, b"b"), (3, b"c"), (4, b"b"), (5, b"c")] {
            it.time.0.store(at, Ordering::Relaxed);
            it.get(name).await.unwrap();
        }
        assert_eq!(it.calls(), 3);
        it.get(b"a").await.unwrap();
        assert_eq!(it.calls(), 4);
        let none = setup(CacheLimits { age_ms: 0, ..LIMITS });
        none.get(b"a").await.unwrap();
        none.get(b"a").await.unwrap();
        assert_eq!(none.calls(), 2);
    }

    #[tokio::test]
    async fn fifty_misses_make_one_call_even_if_the_first_goes_away() {
        let it = setup(LIMITS);
        let (go, calls) = (Arc::new(Notify::new()), Arc::clone(&it.calls));
        let ask = |cache: Arc<KeyCache>, go: Arc<Notify>, calls: Arc<AtomicUsize>| async move {
            cache
                .get(Sha256Digest::of(b"a"), || async move {
                    calls.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Ok(DataKey::copy_from(&[1; 32]).unwrap())
                })
                .await
        };
        let leader = tokio::spawn(ask(it.cache.clone(), go.clone(), calls.clone()));
        while it.calls() == 0 {
            tokio::task::yield_now().await;
        }
        let followers: Vec<_> =
            (0..50).map(|_| tokio::spawn(ask(it.cache.clone(), go.clone(), calls.clone()))).collect();
        leader.abort();
        assert!(leader.await.unwrap_err().is_cancelled());
        go.notify_one();
        for follower in followers {
            follower.await.unwrap().unwrap();
        }
        assert_eq!(it.calls(), 1);
    }

    #[tokio::test]
    async fn failures_and_panics_are_not_kept() {
        let it = setup(LIMITS);
        let name = Sha256Digest::of(b"a");
        let failed = it.cache.get(name, || async { Err(KeyError::Denied) }).await;
        assert_eq!(failed.unwrap_err(), KeyError::Denied);
        let panicked = it.cache.get(name, || async { panic!("on purpose") }).await;
        assert_eq!(panicked.unwrap_err(), KeyError::Internal);
        assert!(it.get(b"a").await.is_ok());
    }
}
