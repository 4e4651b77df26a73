//! A Unix socket in the file system, with the lock that makes it ours.
//!
//! The lock file `<socket>.lock` stays behind on purpose: removing it would let a third process lock
//! a new file while a second one waits on the old.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::UnixListener;

/// Why nothing can listen at a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketFileError {
    /// Another process serves this socket.
    #[error("another process already listens on {}", path.display())]
    InUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something that is not a socket is in the way; it is left alone.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot listen on {}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket; dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    _lock: File,
}

impl SocketFile {
    /// Binds `path` for this user alone. A file that a dead process left is replaced.
    pub(crate) fn bind(path: &Path) -> Result<(Self, UnixListener), SocketFileError> {
        let lock = lock(path)?;
        clear_stale(path)?;
        let listener = UnixListener::bind(path).map_err(|error| failed(path, error))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(path, error))?;
        let inode = inode(path).map_err(|error| failed(path, error))?;
        Ok((Self { path: path.to_owned(), inode, _lock: lock }, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another file there by hand: not ours to remove.
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock(socket: &Path) -> Result<File, SocketFileError> {
    let mut path = socket.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .map_err(|error| failed(&path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(SocketFileError::InUse { path: socket.to_owned() }),
        Err(error) => Err(failed(&path, error.into())),
    }
}

/// Removes a socket that a dead process left. Programs that know nothing of the lock are asked
/// whether they live.
fn clear_stale(path: &Path) -> Result<(), SocketFileError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(path, error)),
    };
    if !kind.is_socket() {
        return Err(SocketFileError::NotASocket { path: path.to_owned() });
    }
    match probe(path) {
        // A full queue belongs to somebody alive, too.
        Ok(()) | Err(Errno::AGAIN) => Err(SocketFileError::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path).map_err(|error| failed(path, error)),
        Err(error) => Err(failed(path, error.into())),
    }
}

fn probe(path: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn failed(path: &Path, source: io::Error) -> SocketFileError {
    SocketFileError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_process_at_a_time_and_a_dead_ones_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock_8000");
        drop(UnixListener::bind(&path).unwrap()); // leaves the file
        let (first, _listener) = SocketFile::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(SocketFile::bind(&path), Err(SocketFileError::InUse { .. })));
        drop(first);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stranger_without_the_lock_is_seen_and_a_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock_8000");
        let _stranger = UnixListener::bind(&path).unwrap();
        assert!(matches!(SocketFile::bind(&path), Err(SocketFileError::InUse { .. })));
        let file = folder.path().join("notes.txt");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(SocketFile::bind(&file), Err(SocketFileError::NotASocket { .. })));
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    }
}
