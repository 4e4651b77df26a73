//! SHA-256 of a payload while it arrives.
//!
//! A long payload is hashed on a thread of its own: the job opens it and hashes or treats the plaintext
//! in the meantime, and one core can do only one of them. What passes through here is ciphertext.

use adyton_shared::ErrorCode;
use adyton_shared::id::Sha256Digest;
use aws_lc_rs::digest::{Context, SHA256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

/// What goes to the thread at once, in bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// How many batches may wait for the thread; then the payload waits.
const WAITING_BATCHES: usize = 4;

/// The hash of one payload.
pub struct InputHash {
    bytes: u64,
    place: Place,
}

enum Place {
    Here(Context),
    Thread(Thread),
}

struct Thread {
    batch: Vec<u8>,
    to: mpsc::Sender<Vec<u8>>,
    used: mpsc::Receiver<Vec<u8>>,
    done: JoinHandle<Context>,
}

impl Default for InputHash {
    fn default() -> Self {
        Self { bytes: 0, place: Place::Here(Context::new(&SHA256)) }
    }
}

impl InputHash {
    /// Hashes on a thread of its own from now on. It ends with this.
    pub fn move_to_thread(&mut self) {
        if let Place::Here(context) = &self.place {
            self.place = Place::Thread(Thread::start(context.clone()));
        }
    }

    /// Adds the next bytes.
    ///
    /// # Errors
    /// [`ErrorCode::Internal`] if the thread has ended.
    pub async fn update(&mut self, bytes: &[u8]) -> Result<(), ErrorCode> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        match &mut self.place {
            Place::Here(context) => {
                context.update(bytes);
                Ok(())
            }
            Place::Thread(thread) => thread.update(bytes).await,
        }
    }

    /// Number of bytes so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Digest and number of all bytes.
    ///
    /// # Errors
    /// As [`InputHash::update`].
    pub async fn finish(self) -> Result<(Sha256Digest, u64), ErrorCode> {
        let context = match self.place {
            Place::Here(context) => context,
            Place::Thread(thread) => thread.finish().await?,
        };
        Ok((Sha256Digest::from_digest(&context.finish()), self.bytes))
    }
}

impl Thread {
    fn start(mut context: Context) -> Self {
        let (to, mut batches) = mpsc::channel::<Vec<u8>>(WAITING_BATCHES);
        let (give_back, used) = mpsc::channel(WAITING_BATCHES.saturating_add(2));
        let done = spawn_blocking(move || {
            while let Some(mut batch) = batches.blocking_recv() {
                context.update(&batch);
                batch.clear();
                // Nobody waits for it if the job is over.
                let _ = give_back.try_send(batch);
            }
            context
        });
        Self { batch: Vec::new(), to, used, done }
    }

    async fn update(&mut self, mut bytes: &[u8]) -> Result<(), ErrorCode> {
        while !bytes.is_empty() {
            self.batch.reserve_exact(BATCH_BYTES.saturating_sub(self.batch.len()));
            let room = BATCH_BYTES.saturating_sub(self.batch.len());
            let (now, later) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.batch.extend_from_slice(now);
            bytes = later;
            if self.batch.len() >= BATCH_BYTES {
                let next = self.used.try_recv().unwrap_or_default();
                let full = std::mem::replace(&mut self.batch, next);
                self.to.send(full).await.map_err(|_| ErrorCode::Internal)?;
            }
        }
        Ok(())
    }

    async fn finish(self) -> Result<Context, ErrorCode> {
        let Self { batch, to, used: _used, done } = self;
        to.send(batch).await.map_err(|_| ErrorCode::Internal)?;
        drop(to);
        done.await.map_err(|_| ErrorCode::Internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_digest_is_the_same_wherever_it_is_made() {
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * BATCH_BYTES + 12_345).collect();
        for part in [1000, BATCH_BYTES - 1, BATCH_BYTES, 2 * BATCH_BYTES + 1, bytes.len()] {
            for moved_at in [0, 1, 2, usize::MAX] {
                let mut hash = InputHash::default();
                for (number, part) in bytes.chunks(part).enumerate() {
                    if number == moved_at {
                        hash.move_to_thread();
                    }
                    hash.update(part).await.unwrap();
                }
                assert_eq!(
                    hash.finish().await.unwrap(),
                    (Sha256Digest::of(&bytes), bytes.len() as u64),
                    "{part} {moved_at}"
                );
            }
        }
    }
}
