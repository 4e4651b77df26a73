//! The header of a message, read from a hostile sender.
//!
//! ```text
//! v1: 01 80 | suite 2 | message id 16 | context | keys | content type 1 | 0000_0000 | 0c | frame length 4 | IV 12 | tag 16
//! v2: 02    | suite 2 | message id 32 | context | keys | content type 1 | frame length 4 | commitment 32  | tag 16
//! context: length 2 | bytes       keys: count 2 | (provider, information, ciphertext: each length 2 | bytes)*
//! ```
//!
//! Each limit is checked as soon as its field is there, and nothing is copied
//! before the header is complete. Until [`UnverifiedHeader::verify`] has checked
//! the commitment and the tag, everything here is the sender's claim.
//! Source: AWS Encryption SDK message format reference, "Header structure".

use std::num::NonZeroU32;
use std::ops::Range;

use super::error::{HeaderError, OpenError};
use super::open::Opener;
use super::suite::{Suite, Version};
use crate::context::ContextError;
use crate::limits::{MAX_ENCRYPTED_DATA_KEYS, MAX_HEADER_BYTES};
use crate::{DataKey, EncryptionContext, KeyArn};

/// Provider of data keys that KMS wrapped.
pub const KMS_PROVIDER: &str = "aws-kms";

pub(super) const TAG_BYTES: usize = 16;
pub(super) const IV_BYTES: usize = 12;
pub(super) const VERSION_1: u8 = 0x01;
pub(super) const VERSION_2: u8 = 0x02;
pub(super) const UNFRAMED: u8 = 0x01;
pub(super) const FRAMED: u8 = 0x02;
const TYPE: u8 = 0x80;

/// What bytes at the start of a message are.
#[derive(Debug)]
pub enum Parsed {
    /// The beginning of a header; nothing is wrong so far.
    Incomplete {
        /// So many bytes, those already there included, are needed to say more.
        need_at_least: usize,
    },
    /// A whole header, in its own `length` first bytes.
    Complete {
        /// The header.
        header: Box<UnverifiedHeader>,
        /// Where the body starts, in bytes.
        length: usize,
    },
}

/// A data key as a key provider wrapped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptedDataKey<'a> {
    /// Who wrapped it; [`KMS_PROVIDER`] for KMS.
    pub provider: &'a str,
    /// What the provider needs to know; the full key ARN for KMS.
    pub information: &'a [u8],
    /// The wrapped key; `CiphertextBlob` for KMS.
    pub ciphertext: &'a [u8],
}

/// A well-formed header that nobody has vouched for yet.
#[derive(Debug)]
pub struct UnverifiedHeader {
    pub(super) bytes: Box<[u8]>,
    pub(super) suite: Suite,
    pub(super) context: EncryptionContext,
    pub(super) content: Content,
    message_id: Range<usize>,
    keys: Vec<KeyRanges>,
}

/// How the body is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Unframed,
    Framed(NonZeroU32),
}

#[derive(Debug)]
struct KeyRanges {
    provider: Range<usize>,
    information: Range<usize>,
    ciphertext: Range<usize>,
}

impl UnverifiedHeader {
    /// Reads a header from the start of `bytes`, which may hold more than it or less.
    ///
    /// # Errors
    /// [`HeaderError`] as soon as the bytes that are there cannot become an acceptable header.
    pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
        match scan(bytes) {
            Ok((header, length)) => Ok(Parsed::Complete { header: Box::new(header), length }),
            Err(Stop::Need(need_at_least)) => Ok(Parsed::Incomplete { need_at_least }),
            Err(Stop::Refused(error)) => Err(error),
        }
    }

    /// The algorithm suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The message's random identifier, 16 or 32 bytes.
    pub fn message_id(&self) -> &[u8] {
        self.slice(&self.message_id)
    }

    /// The pairs that the message stores.
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// Length of the frames in bytes; `None` if the body is one piece.
    pub fn frame_length(&self) -> Option<NonZeroU32> {
        match self.content {
            Content::Unframed => None,
            Content::Framed(length) => Some(length),
        }
    }

    /// The wrapped data keys, in the message's order.
    pub fn encrypted_data_keys(&self) -> impl Iterator<Item = EncryptedDataKey<'_>> {
        self.keys.iter().map(|key| EncryptedDataKey {
            // Was UTF-8 when the header was read.
            provider: std::str::from_utf8(self.slice(&key.provider)).unwrap_or_default(),
            information: self.slice(&key.information),
            ciphertext: self.slice(&key.ciphertext),
        })
    }

    /// The first data key that KMS wrapped under a listed key, with that key's ARN.
    ///
    /// The ARNs are compared byte for byte (K-9).
    pub fn select_kms_key(&self, allowed: &[KeyArn]) -> Option<(KeyArn, &[u8])> {
        self.encrypted_data_keys().filter(|key| key.provider == KMS_PROVIDER).find_map(|key| {
            let arn = allowed.iter().find(|arn| arn.as_str().as_bytes() == key.information)?;
            Some((arn.clone(), key.ciphertext))
        })
    }

    /// Checks the key commitment, then the header's tag, and becomes the opener of the body.
    ///
    /// `extra_context` holds the pairs that were authenticated but not stored (the SDKs'
    /// required encryption context); it is empty for most messages.
    ///
    /// # Errors
    /// [`OpenError::Tampered`] if the key or the header is not the one that was sealed,
    /// [`OpenError::Signature`] if a signed suite comes without a usable verification key, or an
    /// unsigned one with one.
    pub fn verify(self, key: &DataKey, extra_context: &EncryptionContext) -> Result<Opener, OpenError> {
        Opener::new(self, key, extra_context)
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }
}

/// Why scanning stopped before the end of the header.
enum Stop {
    Need(usize),
    Refused(HeaderError),
}

impl From<HeaderError> for Stop {
    fn from(error: HeaderError) -> Self {
        Self::Refused(error)
    }
}

fn scan(bytes: &[u8]) -> Result<(UnverifiedHeader, usize), Stop> {
    let mut cursor = Cursor { bytes, position: 0 };
    let (suite, message_id) = prologue(&mut cursor)?;
    let pairs = cursor.counted()?;
    let keys = key_ranges(&mut cursor)?;
    let content = epilogue(&mut cursor, suite)?;
    let header = UnverifiedHeader {
        bytes: bytes.get(..cursor.position).ok_or(HeaderError::Malformed)?.into(),
        suite,
        context: stored_context(bytes.get(pairs).ok_or(HeaderError::Malformed)?)?,
        content,
        message_id,
        keys,
    };
    Ok((header, cursor.position))
}

fn prologue(cursor: &mut Cursor<'_>) -> Result<(Suite, Range<usize>), Stop> {
    let version = match cursor.u8()? {
        VERSION_1 => Version::One,
        VERSION_2 => Version::Two,
        _ => return Err(HeaderError::Malformed.into()),
    };
    if version == Version::One && cursor.u8()? != TYPE {
        return Err(HeaderError::Malformed.into());
    }
    let id = cursor.u16()?;
    let suite = Suite::from_id(id).ok_or(HeaderError::UnknownSuite(id))?;
    if suite.version() != version {
        return Err(HeaderError::Malformed.into());
    }
    let message_id = cursor.range(suite.message_id_bytes())?;
    Ok((suite, message_id))
}

fn stored_context(bytes: &[u8]) -> Result<EncryptionContext, HeaderError> {
    EncryptionContext::parse_unordered(bytes).map_err(|error| match error {
        ContextError::TooManyPairs { pairs } => HeaderError::TooManyPairs { announced: pairs },
        _ => HeaderError::Malformed,
    })
}

fn key_ranges(cursor: &mut Cursor<'_>) -> Result<Vec<KeyRanges>, Stop> {
    let announced = cursor.u16()?;
    let count = usize::from(announced);
    if count == 0 {
        return Err(HeaderError::Malformed.into());
    }
    if count > MAX_ENCRYPTED_DATA_KEYS {
        return Err(HeaderError::TooManyKeys { announced }.into());
    }
    let mut keys = Vec::with_capacity(count);
    for _ in 0..count {
        let (provider, information, ciphertext) = (cursor.counted()?, cursor.counted()?, cursor.counted()?);
        if std::str::from_utf8(cursor.bytes.get(provider.clone()).unwrap_or_default()).is_err() {
            return Err(HeaderError::Malformed.into());
        }
        keys.push(KeyRanges { provider, information, ciphertext });
    }
    Ok(keys)
}

/// Content type, frame length and whatever the version has around and after them.
fn epilogue(cursor: &mut Cursor<'_>, suite: Suite) -> Result<Content, Stop> {
    let content_type = cursor.u8()?;
    if !matches!(content_type, UNFRAMED | FRAMED) {
        return Err(HeaderError::Malformed.into());
    }
    if suite.version() == Version::One {
        let (reserved, iv_bytes) = (cursor.u32()?, cursor.u8()?);
        if reserved != 0 || usize::from(iv_bytes) != IV_BYTES {
            return Err(HeaderError::Malformed.into());
        }
    }
    let content = match (content_type, NonZeroU32::new(cursor.u32()?)) {
        (UNFRAMED, None) => Content::Unframed,
        (FRAMED, Some(length)) => Content::Framed(length),
        _ => return Err(HeaderError::Malformed.into()),
    };
    let authentication = match suite.version() {
        Version::One => IV_BYTES,
        Version::Two => super::derive::COMMITMENT_BYTES,
    };
    cursor.range(authentication)?;
    cursor.range(TAG_BYTES)?;
    Ok(content)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// The next bytes; what is over the limit is refused without waiting for it.
    fn range(&mut self, length: usize) -> Result<Range<usize>, Stop> {
        let end = self.position.saturating_add(length);
        if end > MAX_HEADER_BYTES {
            return Err(HeaderError::TooLarge { bytes: end }.into());
        }
        if end > self.bytes.len() {
            return Err(Stop::Need(end));
        }
        let range = self.position..end;
        self.position = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let range = self.range(N)?;
        let bytes: &'a [u8] = self.bytes.get(range).unwrap_or_default();
        bytes.try_into().map_err(|_| HeaderError::Malformed.into())
    }

    fn u8(&mut self) -> Result<u8, Stop> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_be_bytes)
    }

    /// Bytes after their 16-bit length.
    fn counted(&mut self) -> Result<Range<usize>, Stop> {
        let length = self.u16()?;
        self.range(length.into())
    }
}
