//! Results on their way to the parent: sealed under a one-time key that is sent last.
//!
//! The enclave streams a result while it computes it, yet nothing of it can be read before the
//! whole payload has verified and the job has succeeded: each data frame is one AES-256-GCM
//! ciphertext under a fresh key, and the key comes with the receipt or never.
//!
//! ```text
//! data frame n (from 0):   ciphertext | tag (16)     nonce = n in 12 bytes, AAD = job id
//! ```
//!
//! Order and number of the frames are bound by nonce and by the receipt's digest and length.
//! Source: `docs/protocol.md` §4.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroize;

use crate::id::JobId;
use crate::message::ResultKey;

/// Longest plaintext of one sealed frame, in bytes.
pub const MAX_RESULT_CHUNK_BYTES: usize = 128 * 1024;
const TAG_BYTES: usize = 16;

/// Why a sealed result could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResultError {
    /// A frame is not the one that belongs here.
    #[error("a frame of the sealed result was changed, moved or left out")]
    Tampered,
    /// The random source or the cipher failed.
    #[error("the result could not be sealed")]
    Unsealed,
}

struct Cipher {
    key: LessSafeKey,
    job: JobId,
    next: u64,
}

impl Cipher {
    fn new(key: &[u8; 32], job: JobId) -> Option<Self> {
        Some(Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?), job, next: 0 })
    }

    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce = [0; 12];
        nonce.last_chunk_mut::<8>()?.copy_from_slice(&self.next.to_be_bytes());
        self.next = self.next.checked_add(1)?;
        Some(Nonce::assume_unique_for_key(nonce))
    }
}

/// Seals the frames of one result.
pub struct ResultSealer {
    cipher: Cipher,
    key: ResultKey,
}

impl ResultSealer {
    /// A sealer with a fresh key.
    ///
    /// # Errors
    /// [`ResultError::Unsealed`] if the random source fails.
    pub fn new(job: JobId) -> Result<Self, ResultError> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ResultError::Unsealed)?;
        let cipher = Cipher::new(&bytes, job).ok_or(ResultError::Unsealed)?;
        let key = ResultKey(bytes);
        bytes.zeroize();
        Ok(Self { cipher, key })
    }

    /// Turns a plaintext chunk into the payload of the next data frame, in place.
    ///
    /// # Errors
    /// [`ResultError::Unsealed`].
    pub fn seal(&mut self, chunk: &mut Vec<u8>) -> Result<(), ResultError> {
        let nonce = self.cipher.nonce().ok_or(ResultError::Unsealed)?;
        let aad = Aad::from(*self.cipher.job.as_bytes());
        self.cipher.key.seal_in_place_append_tag(nonce, aad, chunk).map_err(|_| ResultError::Unsealed)
    }

    /// The key, once the job has succeeded.
    pub fn finish(self) -> ResultKey {
        self.key
    }
}

/// Opens the frames of one result.
pub struct ResultOpener {
    cipher: Cipher,
}

impl ResultOpener {
    /// Opens frames of this job with the key from [`crate::message::Done`].
    ///
    /// # Errors
    /// [`ResultError::Tampered`] if the key is none.
    pub fn new(key: &ResultKey, job: JobId) -> Result<Self, ResultError> {
        Ok(Self { cipher: Cipher::new(&key.0, job).ok_or(ResultError::Tampered)? })
    }

    /// Opens the next data frame in place and returns its plaintext.
    ///
    /// # Errors
    /// [`ResultError::Tampered`].
    pub fn open<'a>(&mut self, frame: &'a mut [u8]) -> Result<&'a mut [u8], ResultError> {
        let nonce = self.cipher.nonce().ok_or(ResultError::Tampered)?;
        let aad = Aad::from(*self.cipher.job.as_bytes());
        self.cipher.key.open_in_place(nonce, aad, frame).map_err(|_| ResultError::Tampered)
    }
}

/// Length of the data frame for a chunk of this many bytes.
pub const fn sealed_length(chunk: usize) -> usize {
    chunk.saturating_add(TAG_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_open_in_order_under_their_own_job_only() {
        let job = JobId::new([1; 16]);
        let mut sealer = ResultSealer::new(job).unwrap();
        let mut frames: Vec<Vec<u8>> = vec![b"one".to_vec(), b"two".to_vec()];
        for frame in &mut frames {
            sealer.seal(frame).unwrap();
        }
        let key = sealer.finish();
        let open = |job, order: [usize; 2]| {
            let mut opener = ResultOpener::new(&key, job).unwrap();
            order.map(|n| opener.open(&mut frames[n].clone()).map(|plain| plain.to_vec()))
        };
        assert_eq!(open(job, [0, 1]), [Ok(b"one".to_vec()), Ok(b"two".to_vec())]);
        assert_eq!(open(job, [1, 0]), [Err(ResultError::Tampered), Err(ResultError::Tampered)]);
        assert_eq!(open(JobId::new([2; 16]), [0, 1])[0], Err(ResultError::Tampered));
    }
}
