//! Secrets at rest: the root key file, and what is sealed under it.
//!
//! The database holds master keys and the users' secret access keys only sealed, each bound to
//! the record it belongs to. Whoever reads the root key file reads everything; it stands where a
//! hardware security module stands in life.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{Aead, KeyInit, Payload};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;

/// The AES-256 key of one KMS key. Never leaves the process.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct MasterKey([u8; KEY_BYTES]);

/// The key that all other secrets are sealed under.
pub(super) struct RootKey(Aes256Gcm);

impl MasterKey {
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Self([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl RootKey {
    /// Reads the root key, or makes it if there is neither a key nor a database.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be used; `InvalidData` if it is not a root key.
    pub(super) fn open(path: &Path, may_make: bool) -> io::Result<Self> {
        if !path.try_exists()? && may_make {
            let mut key = Zeroizing::new([0; KEY_BYTES]);
            getrandom::fill(key.as_mut_slice())
                .map_err(|_| io::Error::other("the system has no randomness"))?;
            write_whole(path, key.as_slice(), 0o600)?;
        }
        let bytes = Zeroizing::new(fs_err::read(path)?);
        Self::from_bytes(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{} is not a root key", path.display()))
        })
    }

    /// `None` unless there are 32 bytes.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Aes256Gcm::new_from_slice(bytes).ok().map(Self)
    }

    /// Seals a secret of the record named by `identity`.
    pub(super) fn seal(&self, identity: &str, secret: &[u8]) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let sealed = self.0.encrypt(&nonce.into(), Payload { msg: secret, aad: identity.as_bytes() }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what [`RootKey::seal`] made for the same record.
    pub(super) fn open_sealed(&self, identity: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: identity.as_bytes() };
        self.0.decrypt(&(*nonce).into(), payload).ok().map(Zeroizing::new)
    }
}

/// Writes under another name and renames, so that a reader sees all of it or nothing.
pub(super) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs_err::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_only_for_its_own_record() {
        let folder = tempfile::tempdir().unwrap();
        let root = RootKey::open(&folder.path().join("root.key"), true).unwrap();
        let sealed = root.seal("keys/a", b"secret").unwrap();
        assert_eq!(root.open_sealed("keys/a", &sealed).unwrap().as_slice(), b"secret");
        assert!(root.open_sealed("keys/b", &sealed).is_none());
    }

    #[test]
    fn a_lost_root_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let error = RootKey::open(&folder.path().join("root.key"), false).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
