//! Listens for what an enclave opens: `AF_VSOCK`, or `<socket>_<port>` in hybrid vsock.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use adyton_shared::capped::Capped;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::UnixListener;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::address::EnclaveAddress;
use crate::dial::Stream;

/// Why a port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Another process serves it.
    #[error("another parent already serves {}; stop it first", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket is in the way; it is left alone.
    #[error("{} exists and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen on {place}")]
    Io {
        /// The path or port.
        place: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket for one port.
#[derive(Debug)]
pub enum PortListener {
    /// `AF_VSOCK`.
    Vsock(VsockListener),
    /// Hybrid vsock; the file is removed when this is dropped.
    Unix(UnixListener, SocketFile),
}

impl PortListener {
    /// Listens for what the enclave at `address` opens to `port`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn bind(address: &EnclaveAddress, port: u32) -> Result<Self, ListenError> {
        match address {
            EnclaveAddress::Vsock(_) => VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
                .map(Self::Vsock)
                .map_err(|source| ListenError::Io { place: format!("vsock port {port}"), source }),
            EnclaveAddress::Unix(base) => {
                let mut path = base.as_os_str().to_owned();
                path.push(format!("_{port}"));
                let (file, listener) = SocketFile::bind(path.into())?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The next stream.
    ///
    /// # Errors
    /// [`io::Error`]; another one may follow well.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Vsock(listener) => Ok(Box::new(Capped(listener.accept().await?.0))),
            Self::Unix(listener, _) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

/// A socket in the file system, with the lock that makes it ours. The lock file stays behind:
/// removing it would let a third process lock a new one while a second waits on the old.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    _lock: File,
}

impl SocketFile {
    fn bind(path: PathBuf) -> Result<(Self, UnixListener), ListenError> {
        let failed = |source: io::Error| ListenError::Io { place: path.display().to_string(), source };
        let lock = lock(&path, failed)?;
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => {
                std::fs::remove_file(&path).map_err(failed)?
            }
            Ok(_) => return Err(ListenError::NotASocket { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let inode = inode(&path).map_err(failed)?;
        Ok((Self { path, inode, _lock: lock }, listener))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|inode| inode == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn lock(path: &Path, failed: impl Fn(io::Error) -> ListenError) -> Result<File, ListenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(PathBuf::from(name))
        .map_err(&failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(ListenError::InUse { path: path.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
