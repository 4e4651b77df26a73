//! A data frame that is filled where it will be sent from, so that a long payload is copied once less.

use std::fmt;

use super::{FrameError, HEADER_BYTES, Kind};

/// A data frame that is being filled. Dropped without [`DataFrame::queue`], it leaves no trace.
pub struct DataFrame<'a> {
    queue: &'a mut Vec<u8>,
    begin: usize,
}

impl<'a> DataFrame<'a> {
    pub(super) fn begin(queue: &'a mut Vec<u8>) -> Self {
        let begin = queue.len();
        queue.extend_from_slice(&[0; HEADER_BYTES]);
        Self { queue, begin }
    }

    /// Append the payload here; what is there before is not to be touched.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.queue
    }

    /// The payload appended so far.
    pub fn payload(&self) -> &[u8] {
        self.queue.get(self.begin.saturating_add(HEADER_BYTES)..).unwrap_or_default()
    }

    /// Completes the frame, to be sent with the next flush; an empty one is left out.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn queue(mut self) -> Result<(), FrameError> {
        let (limit, bytes) = (Kind::Data.limit(), self.payload().len());
        let announced = u32::try_from(bytes).unwrap_or(u32::MAX);
        if announced > limit {
            return Err(FrameError::TooLarge { announced, limit });
        }
        if bytes == 0 {
            return Ok(());
        }
        let frame = self.queue.get_mut(self.begin..).unwrap_or_default();
        if let Some(([kind, length @ ..], _)) = frame.split_first_chunk_mut::<HEADER_BYTES>() {
            *kind = Kind::Data.number();
            *length = announced.to_be_bytes();
        }
        let checksum = crc32c::crc32c(frame);
        self.queue.extend_from_slice(&checksum.to_be_bytes());
        self.begin = self.queue.len();
        Ok(())
    }
}

impl Drop for DataFrame<'_> {
    fn drop(&mut self) {
        self.queue.truncate(self.begin);
    }
}

impl fmt::Debug for DataFrame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataFrame(..)")
    }
}
