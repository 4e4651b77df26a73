//! Seals the body of a version 2 message, frame by frame.
//!
//! The IV of a frame is its sequence number, so that it cannot repeat under the
//! message's own derived key; zero is the header's. Plaintext is never in the
//! output buffer, only ciphertext. Memory does not grow with the message.
//! Source: message format reference, "Body structure" and "Footer structure".

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::digest::{self, SHA384};
use aws_lc_rs::signature::EcdsaKeyPair;

use super::body::{BodyAad, FINAL_MARKER, FIRST_SEQUENCE, Kind};
use super::error::SealError;
use super::header::{IV_BYTES, TAG_BYTES};

/// Seals the body of one message.
pub struct Sealer {
    cipher: LessSafeKey,
    frame_length: u32,
    sequence: u32,
    regular: BodyAad,
    last: BodyAad,
    signature: Option<Signature>,
}

struct Signature {
    hash: digest::Context,
    key: EcdsaKeyPair,
}

impl Sealer {
    pub(super) fn new(
        cipher: LessSafeKey,
        message_id: &[u8],
        header: &[u8],
        frame_length: u32,
        signing_key: Option<EcdsaKeyPair>,
    ) -> Self {
        let signature = signing_key.map(|key| {
            let mut hash = digest::Context::new(&SHA384);
            hash.update(header);
            Signature { hash, key }
        });
        Self {
            cipher,
            frame_length,
            sequence: FIRST_SEQUENCE,
            regular: BodyAad::new(message_id, Kind::Regular),
            last: BodyAad::new(message_id, Kind::Final),
            signature,
        }
    }

    /// Length of every frame but the last, in bytes.
    pub fn frame_length(&self) -> usize {
        self.frame_length as usize
    }

    /// Appends a frame that is not the last one.
    ///
    /// # Errors
    /// [`SealError::PlaintextLength`] unless `plaintext` has the frame length,
    /// [`SealError::TooManyFrames`] if no number would be left for the last frame.
    pub fn seal_frame(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if plaintext.len() != self.frame_length() {
            return Err(SealError::PlaintextLength { bytes: plaintext.len() });
        }
        // The last number marks the final frame, and is the final frame's own at most.
        let next = self.sequence.checked_add(1).ok_or(SealError::TooManyFrames)?;
        let start = out.len();
        out.extend(self.sequence.to_be_bytes());
        out.extend(iv(self.sequence));
        self.seal(Kind::Regular, plaintext, start, out)?;
        self.sequence = next;
        Ok(())
    }

    /// Appends the last frame, of at most the frame length and perhaps empty, and the footer.
    ///
    /// # Errors
    /// [`SealError::PlaintextLength`] if `last` is longer than a frame.
    pub fn finish(mut self, last: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        let too_long = SealError::PlaintextLength { bytes: last.len() };
        let length = u32::try_from(last.len()).ok().filter(|length| *length <= self.frame_length);
        let length = length.ok_or(too_long)?;
        let start = out.len();
        out.extend(FINAL_MARKER);
        out.extend(self.sequence.to_be_bytes());
        out.extend(iv(self.sequence));
        out.extend(length.to_be_bytes());
        self.seal(Kind::Final, last, start, out)?;
        if let Some(Signature { hash, key }) = self.signature {
            let signature = key.sign_digest(&hash.finish())?;
            let length = u16::try_from(signature.as_ref().len()).map_err(|_| SealError::Cryptography)?;
            out.extend(length.to_be_bytes());
            out.extend(signature.as_ref());
        }
        Ok(())
    }

    /// Appends content and tag of the frame that starts at `start`, and shows it to the signature.
    fn seal(
        &mut self,
        kind: Kind,
        plaintext: &[u8],
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let aad = match kind {
            Kind::Final => &mut self.last,
            Kind::Regular | Kind::Unframed => &mut self.regular,
        };
        let aad = Aad::from(aad.for_frame(self.sequence, plaintext.len() as u64));
        let nonce = Nonce::assume_unique_for_key(iv(self.sequence));
        let content = out.len();
        out.resize(content.saturating_add(plaintext.len()).saturating_add(TAG_BYTES), 0);
        let sealed = out.get_mut(content..).and_then(|sealed| sealed.split_at_mut_checked(plaintext.len()));
        let (ciphertext, tag) = sealed.ok_or(SealError::Cryptography)?;
        self.cipher.seal_out_of_place_scatter(nonce, aad, plaintext, ciphertext, &[], tag)?;
        if let Some(signature) = &mut self.signature {
            signature.hash.update(out.get(start..).unwrap_or_default());
        }
        Ok(())
    }
}

/// The sequence number, padded to an IV.
fn iv(sequence: u32) -> [u8; IV_BYTES] {
    u128::from(sequence).to_be_bytes().last_chunk().copied().unwrap_or_default()
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Draft, EncryptedDataKey, Suite};
    use crate::{DataKey, EncryptionContext};

    #[test]
    fn keeps_the_last_number_for_the_final_frame() {
        let draft = Draft::new(Suite::Aes256Commit, EncryptionContext::default()).unwrap();
        let key = DataKey::copy_from(&[1; 32]).unwrap();
        let wrapped = EncryptedDataKey { provider: "p", information: b"", ciphertext: b"" };
        let (mut sealer, _) = draft.seal_with(&key, &[wrapped], 1).unwrap();
        sealer.sequence = u32::MAX - 1;
        let mut out = Vec::new();
        assert_eq!(sealer.seal_frame(b"a", &mut out), Ok(()));
        let written = out.len();
        assert_eq!(sealer.seal_frame(b"b", &mut out), Err(SealError::TooManyFrames));
        assert_eq!(out.len(), written);
        assert_eq!(sealer.finish(b"c", &mut out), Ok(()));
        assert_eq!(out[written..written + 8], [0xff; 8]);
    }

    #[test]
    fn the_iv_is_the_sequence_number() {
        assert_eq!(iv(0x0102_0304), [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    }
}
