//! Cuts a stream of bytes into chunks of one length, for formats that must know their last chunk.
//!
//! One chunk is held back until either more bytes or the end has come. What is held is wiped.

use zeroize::{Zeroize, Zeroizing};

/// Holds at most one chunk.
pub struct Chunks {
    length: usize,
    held: Zeroizing<Vec<u8>>,
}

impl Chunks {
    /// Cuts chunks of `length` bytes; 0 counts as 1.
    pub fn new(length: usize) -> Self {
        let length = length.max(1);
        Self { length, held: Zeroizing::new(Vec::with_capacity(length)) }
    }

    /// Takes bytes, and gives each chunk away that is full and not the last.
    ///
    /// # Errors
    /// The first that `full` returns.
    pub fn push<E>(
        &mut self,
        mut bytes: &[u8],
        mut full: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            if self.held.len() == self.length {
                full(&self.held)?;
                self.held.as_mut_slice().zeroize();
                self.held.clear();
            }
            // Whole chunks with something behind them need not be copied.
            if self.held.is_empty()
                && bytes.len() > self.length
                && let Some((chunk, rest)) = bytes.split_at_checked(self.length)
            {
                full(chunk)?;
                bytes = rest;
                continue;
            }
            let room = self.length.saturating_sub(self.held.len()).min(bytes.len());
            let (part, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.held.extend_from_slice(part);
            bytes = rest;
        }
        Ok(())
    }

    /// The last chunk: empty only if there were no bytes at all.
    pub fn finish(self) -> Zeroizing<Vec<u8>> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_chunk_is_empty_only_for_an_empty_stream() {
        for (total, sizes) in
            [(0, vec![0]), (1, vec![1]), (4, vec![4]), (5, vec![4, 1]), (8, vec![4, 4]), (9, vec![4, 4, 1])]
        {
            let bytes: Vec<u8> = (0..total).collect();
            for piece in 1..=10 {
                let (mut chunks, mut cut) = (Chunks::new(4), Vec::new());
                for part in bytes.chunks(piece) {
                    chunks
                        .push(part, |chunk| {
                            cut.push(chunk.to_vec());
                            Ok::<_, ()>(())
                        })
                        .unwrap();
                }
                cut.push(chunks.finish().to_vec());
                assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{total} in {piece}");
                assert_eq!(cut.concat(), bytes);
            }
        }
    }
}
