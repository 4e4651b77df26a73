//! What reading and writing a body have in common: the bytes that each tag binds.
//!
//! Source: AWS Encryption SDK body additional authenticated data reference.

/// In the place of a sequence number: the final frame follows.
pub(super) const FINAL_MARKER: [u8; 4] = [0xff; 4];

/// Sequence number of the first frame, and of an unframed body.
pub(super) const FIRST_SEQUENCE: u32 = 1;

const MAX_ID_BYTES: usize = 32;
const MAX_LABEL_BYTES: usize = 35;
const SEQUENCE_BYTES: usize = 4;
const LENGTH_BYTES: usize = 8;

/// What kind of piece a tag is for; none can pass for another.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Regular,
    Final,
    Unframed,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Regular => b"AWSKMSEncryptionClient Frame",
            Self::Final => b"AWSKMSEncryptionClient Final Frame",
            Self::Unframed => b"AWSKMSEncryptionClient Single Block",
        }
    }
}

/// `message id | label | sequence number 4 | content length 8`, built once and updated per frame.
#[derive(Clone)]
pub(super) struct BodyAad {
    bytes: [u8; MAX_ID_BYTES + MAX_LABEL_BYTES + SEQUENCE_BYTES + LENGTH_BYTES],
    prefix: usize,
}

impl BodyAad {
    pub(super) fn new(message_id: &[u8], kind: Kind) -> Self {
        let mut aad =
            Self { bytes: [0; MAX_ID_BYTES + MAX_LABEL_BYTES + SEQUENCE_BYTES + LENGTH_BYTES], prefix: 0 };
        let label = kind.label();
        let prefix = message_id.iter().chain(label);
        for (slot, byte) in aad.bytes.iter_mut().zip(prefix) {
            *slot = *byte;
        }
        aad.prefix = message_id.len().saturating_add(label.len());
        aad
    }

    /// The bytes for one frame.
    pub(super) fn for_frame(&mut self, sequence: u32, length: u64) -> &[u8] {
        let mut counters = [0; SEQUENCE_BYTES + LENGTH_BYTES];
        let (first, second) = counters.split_at_mut(SEQUENCE_BYTES);
        first.copy_from_slice(&sequence.to_be_bytes());
        second.copy_from_slice(&length.to_be_bytes());
        let end = self.prefix.saturating_add(counters.len());
        if let Some(slot) = self.bytes.get_mut(self.prefix..end) {
            slot.copy_from_slice(&counters);
        }
        self.bytes.get(..end).unwrap_or_default()
    }
}
