//! The enclave's wall clock: the NSM's time, advanced by the monotonic clock.
//!
//! A time that the parent supplies is never used (C-2). Each new attestation document corrects
//! the clock forwards; it never goes back, because signed requests and credentials that have
//! expired once must stay expired (C-3).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::platform::TimeSource;

/// What a correction found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Correction {
    /// The NSM is ahead by so many milliseconds; the clock was set to it.
    Forwards(u64),
    /// The NSM is behind by so many milliseconds; the clock was left alone.
    Backwards(u64),
}

/// See the module's description.
#[derive(Debug)]
pub struct EnclaveClock {
    base: Mutex<Base>,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    unix_millis: u64,
    at: Instant,
}

impl Base {
    fn now(&self) -> u64 {
        let elapsed = u64::try_from(self.at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.unix_millis.saturating_add(elapsed)
    }
}

impl EnclaveClock {
    /// A clock that shows `unix_millis` now.
    pub fn starting_at(unix_millis: u64) -> Self {
        Self { base: Mutex::new(Base { unix_millis, at: Instant::now() }) }
    }

    /// Takes note of a document's time.
    pub fn correct(&self, document_millis: u64) -> Correction {
        let mut base = self.base();
        let now = base.now();
        if document_millis < now {
            return Correction::Backwards(now.saturating_sub(document_millis));
        }
        *base = Base { unix_millis: document_millis, at: Instant::now() };
        Correction::Forwards(document_millis.saturating_sub(now))
    }

    fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TimeSource for EnclaveClock {
    fn unix_millis(&self) -> u64 {
        self.base().now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    // C-3
    #[tokio::test(start_paused = true)]
    async fn advances_by_itself_and_never_goes_back() {
        let clock = EnclaveClock::starting_at(1_000_000);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(clock.unix_millis(), 1_005_000);
        assert_eq!(clock.correct(1_004_000), Correction::Backwards(1_000));
        assert_eq!(clock.unix_millis(), 1_005_000);
        assert_eq!(clock.correct(1_006_000), Correction::Forwards(1_000));
        assert_eq!(clock.unix_millis(), 1_006_000);
    }
}
