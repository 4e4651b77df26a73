//! A result that has arrived and cannot be read yet.
//!
//! It waits in memory while small, else in an unnamed file: whoever ends this program at any time
//! leaves nothing behind. What is stored is ciphertext under a key that has not come yet.

use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use adyton_shared::id::{JobId, Sha256Digest};
use adyton_shared::limits::MAX_FRAME_BYTES;
use adyton_shared::message::ResultKey;
use adyton_shared::result::ResultOpener;
use aws_lc_rs::digest::{Context, SHA256};
use tempfile::SpooledTempFile;
use zeroize::Zeroizing;

use super::ClientError;

/// A sealed result is kept in memory up to this many bytes.
const MEMORY_BYTES: usize = 4 * 1024 * 1024;

/// The frames of a result, in order.
pub struct SealedResult {
    spool: BufWriter<SpooledTempFile>,
}

impl SealedResult {
    /// A result that is spooled in this folder if it is large.
    pub fn in_folder(folder: &Path) -> Self {
        Self { spool: BufWriter::new(tempfile::spooled_tempfile_in(MEMORY_BYTES, folder)) }
    }

    /// Stores one sealed frame.
    pub(super) fn push(&mut self, frame: &[u8]) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.spool.write_all(&length.to_be_bytes())?;
        self.spool.write_all(frame)
    }

    /// Opens the result into `out`; its digest and length are to be compared with the receipt's
    /// before anybody uses it.
    ///
    /// # Errors
    /// [`ClientError::ResultTampered`] at the first frame that is not the one that belongs there.
    pub fn open(
        self,
        key: &ResultKey,
        job: JobId,
        out: &mut impl Write,
    ) -> Result<(Sha256Digest, u64), ClientError> {
        let mut opener = ResultOpener::new(key, job).map_err(|_| ClientError::ResultTampered)?;
        let mut spool = self.spool.into_inner().map_err(|error| ClientError::Spool(error.into_error()))?;
        spool.seek(SeekFrom::Start(0)).map_err(ClientError::Spool)?;
        let mut spool = io::BufReader::with_capacity(MAX_FRAME_BYTES as usize, spool);
        let (mut hash, mut total) = (Context::new(&SHA256), 0);
        let mut frame = Zeroizing::new(Vec::new());
        let mut length = [0; 4];
        while read_length(&mut spool, &mut length).map_err(ClientError::Spool)? {
            frame.resize(u32::from_be_bytes(length) as usize, 0);
            spool.read_exact(&mut frame).map_err(ClientError::Spool)?;
            let plaintext = opener.open(&mut frame).map_err(|_| ClientError::ResultTampered)?;
            hash.update(plaintext);
            total += plaintext.len() as u64;
            out.write_all(plaintext).map_err(ClientError::Spool)?;
        }
        Ok((Sha256Digest::from_digest(&hash.finish()), total))
    }
}

/// `false` at the end of the spool.
fn read_length(spool: &mut impl io::Read, length: &mut [u8; 4]) -> io::Result<bool> {
    match spool.read_exact(length) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
