//! How many sessions may be at work at once.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::HsmError;

/// A bound on sessions. Calls run on threads that may block, so waiting is a condition variable.
pub(super) struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One session's worth, given back by drop.
pub(super) struct Permit<'a>(&'a Permits);

impl Permits {
    pub(super) fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    /// # Errors
    /// [`HsmError::Unreachable`] if none is free within the deadline.
    pub(super) fn take(&self, deadline: Duration) -> Result<Permit<'_>, HsmError> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut free, _) = self
            .freed
            .wait_timeout_while(free, deadline, |free| *free == 0)
            .unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1).ok_or(HsmError::Unreachable)?;
        Ok(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_there_again_when_its_holder_is_done() {
        let permits = Permits::new(1);
        let held = permits.take(Duration::ZERO).unwrap();
        assert_eq!(permits.take(Duration::ZERO).err(), Some(HsmError::Unreachable));
        drop(held);
        assert!(permits.take(Duration::ZERO).is_ok());
    }
}
