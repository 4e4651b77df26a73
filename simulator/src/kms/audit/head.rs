//! The sealed head of the audit log: how far the chain has come, in a file that only the holder of the
//! root key can write.
//!
//! It is written after each line and not synchronised, like the log itself. It does not show that
//! log and head were both put back to an earlier state together, and it cannot stop whoever has the
//! root key.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::chain::Link;
use crate::kms::master::RootKey;

const IDENTITY: &str = "audit/head";

pub(super) struct Head {
    file: File,
    root: RootKey,
}

/// What a head file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed {
    Absent,
    /// Not written with this root key, or damaged.
    Unreadable,
    At(Link),
}

/// The head file of a log.
pub(super) fn path_of(log: &Path) -> PathBuf {
    log.with_extension("head")
}

impl Head {
    pub(super) fn open(path: &Path, root: RootKey) -> io::Result<(Self, Sealed)> {
        let sealed = read(path, &root)?;
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok((Self { file, root }, sealed))
    }

    pub(super) fn write(&self, link: Link) -> io::Result<()> {
        let plain = [&link.sequence.to_be_bytes()[..], &link.hash].concat();
        let sealed = self.root.seal(IDENTITY, &plain).ok_or_else(|| io::Error::other("no randomness"))?;
        // Always of one length, so that one write replaces the whole.
        self.file.write_all_at(&sealed, 0)
    }
}

pub(super) fn read(path: &Path, root: &RootKey) -> io::Result<Sealed> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Sealed::Absent),
        Err(error) => return Err(error),
    };
    let link = root.open_sealed(IDENTITY, &bytes).and_then(|plain| {
        let (sequence, hash) = plain.split_first_chunk::<8>()?;
        Some(Link { sequence: u64::from_be_bytes(*sequence), hash: hash.try_into().ok()? })
    });
    Ok(link.map_or(Sealed::Unreadable, Sealed::At))
}
