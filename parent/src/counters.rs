//! What a service has done so far.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts; shared between a service and whoever wants to know.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    accept_errors: AtomicU64,
    active: AtomicU64,
    to_enclave: AtomicU64,
    from_enclave: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Connections taken.
    pub accepted: u64,
    /// Connections closed at once: over the bound, or from an enclave that is not served.
    pub refused: u64,
    /// Connections that were taken and did not end well.
    pub failed: u64,
    /// Failures to take a connection at all.
    pub accept_errors: u64,
    /// Connections at present.
    pub active: u64,
    /// Bytes towards enclaves.
    pub bytes_to_enclave: u64,
    /// Bytes from enclaves.
    pub bytes_from_enclave: u64,
}

impl Counters {
    /// The counts now.
    pub fn read(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            accepted: load(&self.accepted),
            refused: load(&self.refused),
            failed: load(&self.failed),
            accept_errors: load(&self.accept_errors),
            active: load(&self.active),
            bytes_to_enclave: load(&self.to_enclave),
            bytes_from_enclave: load(&self.from_enclave),
        }
    }

    /// Counts a connection that was taken, and counts it as active until the guard is dropped.
    pub(crate) fn connection(self: &Arc<Self>) -> Active {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        Active(Arc::clone(self))
    }

    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fail(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accept_error(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The count of bytes in one direction.
    pub(crate) fn bytes(&self, to_enclave: bool) -> &AtomicU64 {
        if to_enclave { &self.to_enclave } else { &self.from_enclave }
    }
}

/// One active connection.
#[derive(Debug)]
pub(crate) struct Active(Arc<Counters>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
