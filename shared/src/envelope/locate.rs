//! Where the next piece of a body lies in the buffer, from its prefix alone.
//!
//! ```text
//! frame:       sequence 4             | IV 12 | content            | tag 16
//! final frame: ffff_ffff | sequence 4 | IV 12 | length 4 | content | tag 16
//! unframed:                             IV 12 | length 8 | content | tag 16
//! ```
//!
//! Everything here is unauthenticated: order and lengths are judged before the
//! content is asked for, so that a forged length costs no memory.

use super::body::{FINAL_MARKER, FIRST_SEQUENCE};
use super::error::OpenError;
use super::header::{Content, IV_BYTES};
use crate::limits::MAX_MESSAGE_FRAME_BYTES;

/// A piece of the body whose prefix has been read.
pub(super) struct Piece {
    pub(super) sequence: u32,
    pub(super) iv: [u8; IV_BYTES],
    /// Bytes before the content.
    pub(super) prefix: usize,
    /// Bytes of the content.
    pub(super) content: usize,
    /// Whether nothing but a footer may follow.
    pub(super) is_last: bool,
}

/// Why there is no piece.
pub(super) enum Stop {
    /// So many bytes must be in the buffer to see the prefix.
    Need(usize),
    Refused(OpenError),
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Refused(error)
    }
}

/// Reads the prefix of the piece at the front of `buffer`, which must have this sequence number.
pub(super) fn locate(buffer: &[u8], body: Content, expected: u32) -> Result<Piece, Stop> {
    let mut prefix = Prefix { buffer, position: 0 };
    let (sequence, iv, content, is_last);
    match body {
        Content::Unframed => {
            sequence = FIRST_SEQUENCE;
            iv = prefix.take()?;
            content = u64::from_be_bytes(prefix.take()?);
            is_last = true;
        }
        Content::Framed(frame_length) => {
            let first = prefix.take()?;
            is_last = first == FINAL_MARKER;
            sequence = u32::from_be_bytes(if is_last { prefix.take()? } else { first });
            if sequence != expected {
                return Err(OpenError::Malformed.into());
            }
            iv = prefix.take()?;
            let length = if is_last { u32::from_be_bytes(prefix.take()?) } else { frame_length.get() };
            if length > frame_length.get() {
                return Err(OpenError::Malformed.into());
            }
            content = u64::from(length);
        }
    }
    match usize::try_from(content) {
        Ok(content) if content <= MAX_MESSAGE_FRAME_BYTES => {
            Ok(Piece { sequence, iv, prefix: prefix.position, content, is_last })
        }
        _ => Err(OpenError::FrameTooLarge { announced: content }.into()),
    }
}

struct Prefix<'a> {
    buffer: &'a [u8],
    position: usize,
}

impl Prefix<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let end = self.position.saturating_add(N);
        let bytes = self.buffer.get(self.position..end).ok_or(Stop::Need(end))?;
        self.position = end;
        bytes.try_into().map_err(|_| Stop::Need(end))
    }
}
