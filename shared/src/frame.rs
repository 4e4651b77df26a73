//! Frames on a stream between parent and enclave.
//!
//! ```text
//! kind (1) | length (4, big endian) | payload | CRC-32C of all before (4, big endian)
//! ```
//!
//! The checksum finds what a faulty transport did; it protects against nobody (S-9). Lengths are
//! checked before anything is allocated (S-10), every wait has a deadline (S-3), interrupted calls
//! are repeated and short ones continued (S-5).
//! Source: `docs/protocol.md` §2.

mod in_place;

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::Zeroizing;

pub use in_place::DataFrame;

use crate::error_code::ErrorCode;
use crate::limits::{MAX_CONTROL_BYTES, MAX_FRAME_BYTES};

const HEADER_BYTES: usize = 5;
const CHECKSUM_BYTES: usize = 4;
/// Bytes read ahead: small conversations arrive in one read.
const AHEAD_BYTES: usize = 8 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A control message in CBOR, at most [`MAX_CONTROL_BYTES`].
    Control,
    /// Bytes of a payload or a sealed result, at most [`MAX_FRAME_BYTES`].
    Data,
    /// Nothing: the payload or result is complete.
    End,
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Data => 2,
            Self::End => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Control),
            2 => Some(Self::Data),
            3 => Some(Self::End),
            _ => None,
        }
    }

    /// The longest payload of this kind, in bytes.
    pub const fn limit(self) -> u32 {
        match self {
            Self::Control => MAX_CONTROL_BYTES,
            Self::Data => MAX_FRAME_BYTES,
            Self::End => 0,
        }
    }
}

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer announced more than the kind allows.
    #[error("a frame of {announced} bytes is over the limit of {limit}")]
    TooLarge {
        /// Length in the header, in bytes.
        announced: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// A kind that this version does not know.
    #[error("unknown frame kind {0}")]
    UnknownKind(u8),
    /// The checksum does not match.
    #[error("a frame was changed on the way")]
    Corrupt,
    /// The stream ended within a frame.
    #[error("the stream ended within a frame")]
    Truncated,
    /// The stream ended between two frames.
    #[error("the stream ended")]
    Closed,
    /// The other side was too slow.
    #[error("no frame within {0:?}")]
    Deadline(Duration),
    /// The stream failed.
    #[error("the stream failed")]
    Io(#[from] io::Error),
}

impl From<&FrameError> for ErrorCode {
    fn from(error: &FrameError) -> Self {
        match error {
            FrameError::TooLarge { .. } => Self::FrameTooLarge,
            FrameError::UnknownKind(_) => Self::MalformedMessage,
            FrameError::Corrupt => Self::CorruptFrame,
            FrameError::Truncated | FrameError::Closed | FrameError::Io(_) => Self::Cancelled,
            FrameError::Deadline(_) => Self::DeadlineExceeded,
        }
    }
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For the first byte of the next frame.
    pub idle: Duration,
    /// For the rest of a frame, and for one frame to be taken by the other side.
    pub frame: Duration,
}

/// Reads frames from a stream.
///
/// What it has read ahead may be a credential, so it is wiped and never printed.
pub struct FrameReader<R> {
    stream: R,
    ahead: Zeroizing<Box<[u8]>>,
    start: usize,
    end: usize,
    deadlines: Deadlines,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R, deadlines: Deadlines) -> Self {
        Self {
            stream,
            ahead: Zeroizing::new(vec![0; AHEAD_BYTES].into_boxed_slice()),
            start: 0,
            end: 0,
            deadlines,
        }
    }

    /// Other deadlines from now on.
    pub fn set_deadlines(&mut self, deadlines: Deadlines) {
        self.deadlines = deadlines;
    }

    /// Whether bytes of a next frame have been read already.
    pub fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    /// Appends the payload of the next frame to `into`, which is left as it was on an error.
    ///
    /// # Errors
    /// [`FrameError`]; after any of them the stream is of no further use.
    pub async fn next(&mut self, into: &mut Vec<u8>) -> Result<Kind, FrameError> {
        let length = into.len();
        let result = self.read_frame(into).await;
        if result.is_err() {
            into.truncate(length);
        }
        result
    }

    async fn read_frame(&mut self, into: &mut Vec<u8>) -> Result<Kind, FrameError> {
        let Deadlines { idle, frame } = self.deadlines;
        if !self.has_buffered() {
            let filled = timeout(idle, self.fill()).await.map_err(|_| FrameError::Deadline(idle))??;
            if filled == 0 {
                return Err(FrameError::Closed);
            }
        }
        timeout(frame, self.read_rest(into)).await.map_err(|_| FrameError::Deadline(frame))?
    }

    async fn read_rest(&mut self, into: &mut Vec<u8>) -> Result<Kind, FrameError> {
        let header = self.header().await?;
        let [number, length @ ..] = header;
        let announced = u32::from_be_bytes(length);
        let kind = Kind::from_number(number).ok_or(FrameError::UnknownKind(number))?;
        if announced > kind.limit() {
            return Err(FrameError::TooLarge { announced, limit: kind.limit() });
        }
        let payload = usize::try_from(announced).map_err(|_| FrameError::Truncated)?;
        let begin = into.len();
        self.append(into, payload).await?;
        let mut checksum = [0; CHECKSUM_BYTES];
        self.exact(&mut checksum).await?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&header), into.get(begin..).unwrap_or_default());
        if computed == u32::from_be_bytes(checksum) { Ok(kind) } else { Err(FrameError::Corrupt) }
    }

    async fn header(&mut self) -> Result<[u8; HEADER_BYTES], FrameError> {
        let mut header = [0; HEADER_BYTES];
        self.exact(&mut header).await?;
        Ok(header)
    }

    async fn exact(&mut self, mut out: &mut [u8]) -> Result<(), FrameError> {
        while !out.is_empty() {
            if !self.has_buffered() && self.fill().await? == 0 {
                return Err(FrameError::Truncated);
            }
            let available = self.ahead.get(self.start..self.end).unwrap_or_default();
            let take = available.len().min(out.len());
            let (now, later) = out.split_at_mut_checked(take).ok_or(FrameError::Truncated)?;
            now.copy_from_slice(available.get(..take).unwrap_or_default());
            self.start = self.start.saturating_add(take);
            out = later;
        }
        Ok(())
    }

    /// Large payloads are read straight into the caller's buffer.
    async fn append(&mut self, into: &mut Vec<u8>, length: usize) -> Result<(), FrameError> {
        into.reserve(length);
        let available = self.ahead.get(self.start..self.end).unwrap_or_default();
        let take = available.len().min(length);
        into.extend_from_slice(available.get(..take).unwrap_or_default());
        self.start = self.start.saturating_add(take);
        let mut missing = length.saturating_sub(take);
        while missing > 0 {
            let limit = u64::try_from(missing).map_err(|_| FrameError::Truncated)?;
            match (&mut self.stream).take(limit).read_buf(into).await {
                Ok(0) => return Err(FrameError::Truncated),
                Ok(read) => missing = missing.saturating_sub(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads once into the empty read-ahead buffer; 0 at the end of the stream.
    async fn fill(&mut self) -> Result<usize, FrameError> {
        loop {
            match self.stream.read(&mut self.ahead).await {
                Ok(read) => {
                    (self.start, self.end) = (0, read);
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R> fmt::Debug for FrameReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameReader(..)")
    }
}

/// Writes frames to a stream.
///
/// What is queued may be a result's key, so it is wiped and never printed.
pub struct FrameWriter<W> {
    stream: W,
    buffer: Zeroizing<Vec<u8>>,
    deadline: Duration,
}

impl<W> fmt::Debug for FrameWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameWriter(..)")
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes to `stream`.
    pub fn new(stream: W, deadlines: Deadlines) -> Self {
        Self { stream, buffer: Zeroizing::default(), deadline: deadlines.frame }
    }

    /// Adds a frame to what is written next. Nothing is sent before [`FrameWriter::flush`], so that small
    /// frames leave together.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn queue(&mut self, kind: Kind, payload: &[u8]) -> Result<(), FrameError> {
        let limit = kind.limit();
        let announced = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        if announced > limit {
            return Err(FrameError::TooLarge { announced, limit });
        }
        let begin = self.buffer.len();
        self.buffer.push(kind.number());
        self.buffer.extend_from_slice(&announced.to_be_bytes());
        self.buffer.extend_from_slice(payload);
        let checksum = crc32c::crc32c(self.buffer.get(begin..).unwrap_or_default());
        self.buffer.extend_from_slice(&checksum.to_be_bytes());
        Ok(())
    }

    /// Begins a data frame whose payload is appended where it will be sent from, without a copy.
    pub fn data_frame(&mut self) -> DataFrame<'_> {
        DataFrame::begin(&mut self.buffer)
    }

    /// Writes everything queued. The deadline holds for each piece that the other side takes, so a slow
    /// reader is not cut off and one that takes nothing is.
    ///
    /// # Errors
    /// [`FrameError::Deadline`], [`FrameError::Io`].
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let written = timeout(self.deadline, self.stream.write(rest))
                .await
                .map_err(|_| FrameError::Deadline(self.deadline))?;
            match written {
                Ok(0) => return Err(FrameError::Closed),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.buffer.clear();
        timeout(self.deadline, self.stream.flush())
            .await
            .map_err(|_| FrameError::Deadline(self.deadline))??;
        Ok(())
    }

    /// Forgets what was queued and not written, for a conversation that ends in a refusal.
    pub fn discard(&mut self) {
        self.buffer.clear();
    }

    /// Queues one frame and writes it.
    ///
    /// # Errors
    /// As [`FrameWriter::queue`] and [`FrameWriter::flush`].
    pub async fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<(), FrameError> {
        self.queue(kind, payload)?;
        self.flush().await
    }

    /// Ends the writing direction of the stream.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn shutdown(&mut self) -> Result<(), FrameError> {
        Ok(self.stream.shutdown().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(1), frame: Duration::from_secs(1) };

    // S-10
    #[tokio::test]
    async fn a_length_over_the_limit_is_refused_before_anything_is_allocated() {
        for (number, limit) in [(1, MAX_CONTROL_BYTES), (2, MAX_FRAME_BYTES), (3, 0)] {
            for announced in [limit + 1, u32::MAX] {
                let header = [&[number][..], &announced.to_be_bytes()].concat();
                let mut into = Vec::new();
                let refused = FrameReader::new(&header[..], DEADLINES).next(&mut into).await;
                assert!(
                    matches!(refused, Err(FrameError::TooLarge { announced: a, limit: l }) if (a, l) == (announced, limit))
                );
                assert_eq!(into.capacity(), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_frame_filled_in_place_is_the_frame_that_a_copy_makes() {
        let (mut placed, mut copied) = (Vec::new(), Vec::new());
        let mut writer = FrameWriter::new(&mut placed, DEADLINES);
        writer.queue(Kind::Control, b"control").unwrap();
        let mut frame = writer.data_frame();
        frame.buffer().extend_from_slice(b"payload");
        assert_eq!(frame.payload(), b"payload");
        frame.queue().unwrap();
        writer.data_frame().queue().unwrap();
        writer.data_frame().buffer().extend_from_slice(b"given up");
        let mut long = writer.data_frame();
        long.buffer().resize(MAX_FRAME_BYTES as usize + 100, 0);
        assert!(matches!(long.queue(), Err(FrameError::TooLarge { .. })));
        writer.send(Kind::End, &[]).await.unwrap();
        let mut writer = FrameWriter::new(&mut copied, DEADLINES);
        writer.queue(Kind::Control, b"control").unwrap();
        writer.queue(Kind::Data, b"payload").unwrap();
        writer.send(Kind::End, &[]).await.unwrap();
        assert_eq!(placed, copied);
    }

    #[tokio::test]
    async fn neither_end_prints_what_it_holds() {
        let mut stream = Vec::new();
        let mut writer = FrameWriter::new(&mut stream, DEADLINES);
        writer.queue(Kind::Data, &[0xA5; 3]).unwrap();
        assert_eq!(format!("{writer:?}"), "FrameWriter(..)");
        writer.send(Kind::Data, &[0xA5; 3]).await.unwrap();
        let mut reader = FrameReader::new(stream.as_slice(), DEADLINES);
        assert_eq!(reader.next(&mut Vec::new()).await.unwrap(), Kind::Data);
        assert!(reader.has_buffered());
        assert_eq!(format!("{reader:?}"), "FrameReader(..)");
    }
}
