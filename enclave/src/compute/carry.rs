//! The beginning of a record whose end has not arrived: bounded, and wiped when it is dropped or grows.

use zeroize::{Zeroize, Zeroizing};

use super::error::Flaw;

/// Bytes of one unfinished record.
pub(super) struct Carry {
    bytes: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl Carry {
    /// `limit` is the longest record, in bytes; never more than that is held.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Zeroizing::default(), limit }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds a part of the record.
    pub(super) fn add(&mut self, part: &[u8]) -> Result<(), Flaw> {
        let length = self.bytes.len().saturating_add(part.len());
        if length > self.limit {
            return Err(Flaw::TooLarge);
        }
        if length > self.bytes.capacity() {
            // A vector that grows by itself leaves its old memory unwiped.
            let doubled = self.bytes.capacity().saturating_mul(2).clamp(length, self.limit);
            let mut larger = Zeroizing::new(Vec::with_capacity(doubled));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// Forgets the record and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
    }
}
