//! Feeds messages to the reader as a stream would, and unwraps the raw keys of the official messages.

use std::path::PathBuf;

use adyton_shared::envelope::{
    Draft, EncryptedDataKey, HeaderError, KMS_PROVIDER, OpenError, Opener, Parsed, Step, Suite,
    UnverifiedHeader,
};
use adyton_shared::{DataKey, EncryptionContext};

/// How reading a message ended when it did not end well.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The header is not acceptable.
    Header(HeaderError),
    /// The input ended inside the header.
    HeaderTruncated,
    /// Key, body or footer is not acceptable.
    Open(OpenError),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

pub(crate) fn data_key(bytes: &[u8]) -> DataKey {
    DataKey::copy_from(bytes).expect("length of an AES key")
}

/// The folder of official messages.
pub(crate) fn esdk() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/esdk"))
}

/// Reads the header at the start of a message that is there as a whole.
pub(crate) fn header(message: &[u8]) -> Result<(UnverifiedHeader, usize), Refusal> {
    match UnverifiedHeader::parse(message).map_err(Refusal::Header)? {
        Parsed::Complete { header, length } => Ok((*header, length)),
        Parsed::Incomplete { need_at_least } => {
            assert!(need_at_least > message.len());
            Err(Refusal::HeaderTruncated)
        }
    }
}

/// Opens a message of which `chunk` more bytes arrive whenever the reader asks for more.
pub(crate) fn open_chunked(message: &[u8], key: &DataKey, chunk: usize) -> Result<Vec<u8>, Refusal> {
    open_with(message, |_| data_key(key.expose()), &EncryptionContext::default(), chunk)
}

/// Opens a message that is there as a whole.
pub(crate) fn open(message: &[u8], key: &DataKey) -> Result<Vec<u8>, Refusal> {
    open_chunked(message, key, message.len().max(1))
}

/// Opens a message with the key that `unwrap` finds for its header.
pub(crate) fn open_with(
    message: &[u8],
    unwrap: impl FnOnce(&UnverifiedHeader) -> DataKey,
    extra: &EncryptionContext,
    chunk: usize,
) -> Result<Vec<u8>, Refusal> {
    let mut stream = Stream { rest: message, buffer: Vec::new(), chunk };
    let (header, length) = stream.header()?;
    stream.buffer.drain(..length);
    let key = unwrap(&header);
    stream.body(header.verify(&key, extra)?)
}

struct Stream<'a> {
    rest: &'a [u8],
    buffer: Vec<u8>,
    chunk: usize,
}

impl Stream<'_> {
    fn header(&mut self) -> Result<(UnverifiedHeader, usize), Refusal> {
        loop {
            match UnverifiedHeader::parse(&self.buffer).map_err(Refusal::Header)? {
                Parsed::Complete { header, length } => return Ok((*header, length)),
                Parsed::Incomplete { need_at_least } => {
                    assert!(need_at_least > self.buffer.len(), "asked for bytes that were there");
                    if !self.more() {
                        return Err(Refusal::HeaderTruncated);
                    }
                }
            }
        }
    }

    fn body(&mut self, mut opener: Opener) -> Result<Vec<u8>, Refusal> {
        let mut plaintext = Vec::new();
        loop {
            match opener.next(&mut self.buffer) {
                Ok(Step::Need(bytes)) => {
                    assert!(bytes > self.buffer.len(), "asked for bytes that were there");
                    if !self.more() {
                        return Err(opener.finish().expect_err("more was needed").into());
                    }
                }
                Ok(Step::Frame { consumed, plaintext: range }) => {
                    plaintext.extend_from_slice(&self.buffer[range]);
                    self.buffer.drain(..consumed);
                }
                Ok(Step::End { consumed }) => {
                    self.buffer.drain(..consumed);
                    if !self.more() {
                        opener.finish()?;
                        return Ok(plaintext);
                    }
                }
                Err(error) => {
                    // Poisoned: whatever comes now is refused for the same reason.
                    assert_eq!(opener.next(&mut []), Err(error));
                    assert_eq!(opener.next(&mut [0; 64]), Err(error));
                    assert_eq!(opener.finish(), Err(error));
                    return Err(error.into());
                }
            }
        }
    }

    fn more(&mut self) -> bool {
        let (chunk, rest) = self.rest.split_at(self.chunk.min(self.rest.len()));
        self.buffer.extend_from_slice(chunk);
        self.rest = rest;
        !chunk.is_empty()
    }
}

/// What this project's writer wrapped the data key of test messages with: nothing, it is only named.
pub(crate) const WRAPPED: EncryptedDataKey<'_> = EncryptedDataKey {
    provider: KMS_PROVIDER,
    information: b"arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001",
    ciphertext: b"CiphertextBlob",
};

/// A message that this project's writer made, in its parts.
pub(crate) struct Message {
    pub(crate) header: Vec<u8>,
    /// The last one is the final frame.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Empty unless signed.
    pub(crate) footer: Vec<u8>,
}

impl Message {
    /// Seals; the final frame takes what is left after whole frames, or all of the last whole one.
    pub(crate) fn seal(suite: Suite, key: &DataKey, plaintext: &[u8], frame_length: u32) -> Self {
        let context = EncryptionContext::from_pairs([("tenant", "acme"), ("object", "o")]).unwrap();
        let draft = Draft::new(suite, context).unwrap();
        let (mut sealer, header) = draft.seal_with(key, &[WRAPPED], frame_length).unwrap();
        let mut regular: Vec<&[u8]> = plaintext.chunks(frame_length as usize).collect();
        let last = regular.pop().unwrap_or_default();
        let mut frames = Vec::new();
        for piece in regular {
            let mut frame = Vec::new();
            sealer.seal_frame(piece, &mut frame).unwrap();
            frames.push(frame);
        }
        let mut rest = Vec::new();
        sealer.finish(last, &mut rest).unwrap();
        let footer = rest.split_off(4 + 4 + 12 + 4 + last.len() + 16);
        frames.push(rest);
        Self { header, frames, footer }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.header.clone(), self.frames.concat(), self.footer.clone()].concat()
    }
}
