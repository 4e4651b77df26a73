//! The encrypted payload as it comes from the parent: frames in, one contiguous run of bytes out.
//!
//! Frames of the message are decrypted where they lie, so the buffer is wiped whenever it is dropped
//! or replaced. Large message frames of all jobs share one budget of memory (S-10).

use std::num::NonZero;
use std::thread::available_parallelism;

use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameReader, Kind};
use adyton_shared::id::Sha256Digest;
use adyton_shared::limits::{MAX_FRAME_BYTES, MAX_MESSAGE_FRAME_BYTES};
use adyton_shared::message::Refusal;
use tokio::io::AsyncRead;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Duration, timeout};
use zeroize::{Zeroize as _, Zeroizing};

use crate::input_hash::InputHash;

/// What every payload may buffer without asking, in bytes: ordinary message frames are 4 KiB to 1 MiB.
const FREE_BYTES: usize = 1024 * 1024 + 1024;
/// What all payloads with larger frames may buffer together: 16 of the longest at once.
const MEMORY_BYTES: usize = 17 * MAX_MESSAGE_FRAME_BYTES;
/// What one permit stands for.
const SHARE_BLOCK_BYTES: usize = 64 * 1024;
/// How long a payload waits for its share.
const SHARE_DEADLINE: Duration = Duration::from_secs(10);
/// When to try again if there was none, in milliseconds.
const RETRY_AFTER_MS: u64 = 2000;

/// From here on a thread that hashes the payload is worth its start, in bytes.
const LONG_BYTES: u64 = 1024 * 1024;

/// What all payloads share.
pub struct Resources {
    memory: Semaphore,
    /// One for each core: a payload that holds one is hashed on a thread of its own.
    hash_threads: Semaphore,
}

/// Reads a payload and hashes every byte of it.
pub struct Payload<'a, R> {
    frames: &'a mut FrameReader<R>,
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
    hash: InputHash,
    ended: bool,
    resources: &'a Resources,
    share: Option<SemaphorePermit<'a>>,
    hash_thread: Option<SemaphorePermit<'a>>,
}

impl<'a, R: AsyncRead + Unpin> Payload<'a, R> {
    /// A payload whose first frame comes next.
    pub fn new(frames: &'a mut FrameReader<R>, resources: &'a Resources) -> Self {
        Self {
            frames,
            buffer: Zeroizing::default(),
            start: 0,
            hash: InputHash::default(),
            ended: false,
            resources,
            share: None,
            hash_thread: None,
        }
    }

    /// The bytes that have arrived and are not consumed.
    pub fn bytes(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.start..).unwrap_or_default()
    }

    /// Marks bytes at the front as done with.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.buffer.len());
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Waits until at least `count` unconsumed bytes are there; `false` if the payload ends before.
    ///
    /// # Errors
    /// A [`Refusal`] for what is wrong with the stream.
    pub async fn fill(&mut self, count: usize) -> Result<bool, Refusal> {
        while self.buffer.len().saturating_sub(self.start) < count {
            if self.ended {
                return Ok(false);
            }
            self.afford(count).await?;
            self.make_room(count);
            let before = self.buffer.len();
            match self.frames.next(&mut self.buffer).await.map_err(|error| ErrorCode::from(&error))? {
                Kind::Data => {
                    self.hash.update(self.buffer.get(before..).unwrap_or_default()).await?;
                    if self.hash_thread.is_none() && self.hash.bytes() >= LONG_BYTES {
                        self.hash_elsewhere();
                    }
                }
                Kind::End => self.ended = true,
                Kind::Control => return Err(ErrorCode::UnexpectedMessage.into()),
            }
        }
        Ok(true)
    }

    /// Digest and length of the whole payload, once all of it has been consumed.
    ///
    /// # Errors
    /// [`ErrorCode::PayloadTrailing`] if bytes come after the message.
    pub async fn finish(mut self) -> Result<(Sha256Digest, u64), Refusal> {
        if self.fill(1).await? {
            return Err(ErrorCode::PayloadTrailing.into());
        }
        Ok(self.hash.finish().await?)
    }

    /// Moves what is left to the front, so that `count` bytes and the frame in which the last of them comes
    /// have room.
    fn make_room(&mut self, count: usize) {
        self.buffer.drain(..self.start);
        self.start = 0;
        let length = self.buffer.len();
        let wanted = count.max(length).saturating_add(MAX_FRAME_BYTES as usize);
        if self.buffer.capacity() >= wanted {
            return;
        }
        // The next frame may move the buffer to larger memory; what was decrypted in the old one is wiped
        // before. What is left at the front is still encrypted.
        self.buffer.spare_capacity_mut().zeroize();
        if count.max(self.buffer.capacity()) >= MAX_FRAME_BYTES as usize {
            // Once and for all: left to itself a vector takes up to twice as much.
            self.buffer.reserve_exact(wanted.saturating_sub(length));
        }
    }

    /// Lets hashing go on beside the job, unless as many payloads as there are cores do so.
    fn hash_elsewhere(&mut self) {
        if let Ok(permit) = self.resources.hash_threads.try_acquire() {
            self.hash_thread = Some(permit);
            self.hash.move_to_thread();
        }
    }

    /// Takes the buffer's share of the enclave's memory if it is to become large.
    async fn afford(&mut self, count: usize) -> Result<(), Refusal> {
        let held = self.share.as_ref().map_or(0, SemaphorePermit::num_permits);
        let blocks = count.div_ceil(SHARE_BLOCK_BYTES);
        if count <= FREE_BYTES || blocks <= held {
            return Ok(());
        }
        let more = u32::try_from(blocks.saturating_sub(held)).map_err(|_| ErrorCode::FrameTooLarge)?;
        let Ok(Ok(more)) = timeout(SHARE_DEADLINE, self.resources.memory.acquire_many(more)).await else {
            return Err(Refusal { retry_after_ms: Some(RETRY_AFTER_MS), ..ErrorCode::Busy.into() });
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            memory: Semaphore::new(MEMORY_BYTES.div_euclid(SHARE_BLOCK_BYTES)),
            hash_threads: Semaphore::new(available_parallelism().map_or(1, NonZero::get)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adyton_shared::frame::{Deadlines, FrameWriter};

    const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(1), frame: Duration::from_secs(1) };

    async fn frames(count: u8) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut writer = FrameWriter::new(&mut stream, DEADLINES);
        for number in 0..count {
            writer.send(Kind::Data, &vec![number; MAX_FRAME_BYTES as usize]).await.unwrap();
        }
        writer.send(Kind::End, &[]).await.unwrap();
        stream
    }

    // S-10
    #[tokio::test]
    async fn the_buffer_holds_one_frame_of_the_message_and_one_of_the_stream() {
        const STREAM_FRAME: usize = MAX_FRAME_BYTES as usize;
        let (stream, resources) = (frames(3).await, Resources::default());
        let mut reader = FrameReader::new(stream.as_slice(), DEADLINES);
        let mut payload = Payload::new(&mut reader, &resources);
        assert!(payload.fill(1000).await.unwrap());
        assert_eq!(payload.bytes().len(), STREAM_FRAME);
        payload.bytes().fill(b'P');
        payload.consume(STREAM_FRAME - 10);
        assert!(payload.fill(2 * STREAM_FRAME).await.unwrap());
        let bytes = payload.bytes();
        assert_eq!((bytes.len(), &bytes[..11]), (2 * STREAM_FRAME + 10, &b"PPPPPPPPPP\x01"[..]));
        assert_eq!(payload.buffer.capacity(), 3 * STREAM_FRAME);
    }

    // S-10
    #[tokio::test(start_paused = true)]
    async fn large_frames_share_one_budget_and_small_ones_need_none() {
        let (stream, resources) = (frames(1).await, Resources::default());
        let memory = &resources.memory;
        let share = memory.acquire_many(u32::try_from(memory.available_permits()).unwrap()).await.unwrap();
        let mut reader = FrameReader::new(stream.as_slice(), DEADLINES);
        let mut payload = Payload::new(&mut reader, &resources);
        assert!(payload.fill(1000).await.unwrap(), "no budget is needed");
        let refused = payload.fill(FREE_BYTES + 1).await.unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::Busy, Some(RETRY_AFTER_MS)));
        drop(share);
        let all = memory.available_permits();
        assert!(!payload.fill(FREE_BYTES + 1).await.unwrap(), "there are not so many bytes");
        let taken = all.saturating_sub(memory.available_permits());
        assert_eq!(taken, (FREE_BYTES + 1).div_ceil(SHARE_BLOCK_BYTES));
        drop(payload);
        assert_eq!(memory.available_permits(), all);
    }
}
