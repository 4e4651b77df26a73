//! Remembers what must not be forgotten between requests: their ids until they have expired, so that none
//! is served twice (K-14), and how many aggregates each requester has asked for.

mod budget;

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use adyton_shared::id::{JobId, RequesterName};

use budget::Budgets;
pub use budget::{BudgetRefusal, Object};

/// Most ids remembered: at 15 minutes of life, 72 requests a second. 65,536 × about 100 bytes = 6.5 MiB.
const MAX_REMEMBERED: usize = 65_536;

/// Why an id is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayRefusal {
    /// It was seen before.
    Seen,
    /// It has expired by the latest time that was shown here.
    Expired,
    /// No more can be remembered; forgetting one would allow its replay.
    Full,
}

/// The ids of requests that have not expired.
#[derive(Debug, Default)]
pub struct ReplayMemory {
    seen: Mutex<Seen>,
    budgets: Budgets,
}

#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<JobId>,
    by_expiry: BTreeSet<(u64, JobId)>,
    /// The latest time shown. Callers read the clock before they take the lock, so times can come out of order.
    now: u64,
}

impl ReplayMemory {
    /// Spends one aggregate of this object by this requester; it stays spent whatever becomes of the job.
    ///
    /// # Errors
    /// [`BudgetRefusal`].
    pub fn spend(
        &self,
        requester: &RequesterName,
        object: Object<'_>,
        budget: u32,
    ) -> Result<(), BudgetRefusal> {
        self.budgets.spend(requester, object, budget)
    }

    /// Takes an id that no request before had. Times in seconds since 1970.
    ///
    /// # Errors
    /// [`ReplayRefusal`].
    pub fn take(&self, id: JobId, expires: u64, now: u64) -> Result<(), ReplayRefusal> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.max(seen.now);
        seen.now = now;
        // What may have been forgotten already cannot be told from what is new.
        if expires <= now {
            return Err(ReplayRefusal::Expired);
        }
        while let Some((expiry, old)) = seen.by_expiry.first().copied().filter(|(expiry, _)| *expiry <= now) {
            seen.by_expiry.remove(&(expiry, old));
            seen.ids.remove(&old);
        }
        if seen.ids.contains(&id) {
            return Err(ReplayRefusal::Seen);
        }
        if seen.ids.len() >= MAX_REMEMBERED {
            return Err(ReplayRefusal::Full);
        }
        seen.ids.insert(id);
        seen.by_expiry.insert((expires, id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> JobId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        JobId::new(bytes)
    }

    // K-14
    #[test]
    fn an_id_is_taken_once_and_forgotten_only_after_its_expiry() {
        let memory = ReplayMemory::default();
        assert_eq!(memory.take(id(1), 100, 50), Ok(()));
        assert_eq!(memory.take(id(1), 100, 50), Err(ReplayRefusal::Seen));
        assert_eq!(memory.take(id(1), 200, 99), Err(ReplayRefusal::Seen));
        // An expired request is refused before it comes here, so its id may be forgotten.
        assert_eq!(memory.take(id(1), 200, 100), Ok(()));
    }

    // K-14
    #[test]
    fn an_id_that_another_call_has_just_forgotten_is_not_taken_by_one_with_an_earlier_time() {
        let memory = ReplayMemory::default();
        assert_eq!(memory.take(id(1), 100, 50), Ok(()));
        assert_eq!(memory.take(id(2), 200, 100), Ok(()));
        assert_eq!(memory.take(id(1), 100, 99), Err(ReplayRefusal::Expired));
        assert_eq!(memory.take(id(2), 200, 99), Err(ReplayRefusal::Seen));
    }

    #[test]
    fn a_full_memory_refuses_and_recovers() {
        let memory = ReplayMemory::default();
        for n in 0..65_536 {
            assert_eq!(memory.take(id(n), 100, 0), Ok(()));
        }
        assert_eq!(memory.take(id(70_000), 100, 0), Err(ReplayRefusal::Full));
        assert_eq!(memory.take(id(70_000), 300, 100), Ok(()));
    }
}
