//! The encrypted payload as it comes from the parent: frames in, one contiguous run of bytes out.

use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameReader, Kind};
use adyton_shared::id::Sha256Digest;
use adyton_shared::message::Refusal;
use aws_lc_rs::digest::{Context, SHA256};
use tokio::io::AsyncRead;

/// Reads a payload and hashes every byte of it.
pub struct Payload<'a, R> {
    frames: &'a mut FrameReader<R>,
    buffer: Vec<u8>,
    start: usize,
    hash: Context,
    bytes: u64,
    ended: bool,
}

impl<'a, R: AsyncRead + Unpin> Payload<'a, R> {
    /// A payload whose first frame comes next.
    pub fn new(frames: &'a mut FrameReader<R>) -> Self {
        Self { frames, buffer: Vec::new(), start: 0, hash: Context::new(&SHA256), bytes: 0, ended: false }
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
            self.compact();
            let before = self.buffer.len();
            match self.frames.next(&mut self.buffer).await.map_err(|error| ErrorCode::from(&error))? {
                Kind::Data => {
                    let new = self.buffer.get(before..).unwrap_or_default();
                    self.hash.update(new);
                    self.bytes = self.bytes.saturating_add(new.len() as u64);
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
        Ok((Sha256Digest::from_digest(&self.hash.finish()), self.bytes))
    }

    /// Moves what is left to the front before more is appended: at most one message frame.
    fn compact(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}
