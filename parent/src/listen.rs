//! Listens on the parent for what enclaves open.
//!
//! On `AF_VSOCK` one listener serves a set of CIDs and closes everybody else's connections; on
//! hybrid sockets each enclave's port is a file, `<base>_<port>`.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener};

use crate::address::EnclaveAddress;
use crate::counters::Counters;
use crate::socket_file::{SocketFile, SocketFileError};
use crate::stream::Stream;

/// Pause after a failed accept, which is mostly a full descriptor table: no spinning until it drains.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Why a port cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The socket's file.
    #[error(transparent)]
    File(#[from] SocketFileError),
    /// The vsock.
    #[error("cannot listen on vsock port {port}")]
    Vsock {
        /// The port.
        port: u32,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes connections. A trait, so that tests can let accepting fail.
pub trait Accept: Send + 'static {
    /// The next connection; `None` for one that is not welcome and has been closed. Cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Option<Stream>>> + Send;
}

/// Listens on one port.
#[derive(Debug)]
pub enum Listener {
    /// On `AF_VSOCK`.
    Vsock {
        /// The socket.
        listener: VsockListener,
        /// Whose connections are taken.
        cids: BTreeSet<u32>,
    },
    /// On a hybrid-vsock socket.
    Unix {
        /// The socket.
        listener: UnixListener,
        /// Its file; kept so that it is removed at the end.
        file: SocketFileGuard,
    },
}

/// Removes a socket's file when dropped.
#[derive(Debug)]
pub struct SocketFileGuard(#[expect(dead_code, reason = "held for its drop")] SocketFile);

impl Listener {
    /// Listens on `port` for each of these enclaves: one listener for all CIDs, one for each file.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is then left behind.
    pub fn bind_all(enclaves: &[EnclaveAddress], port: u32) -> Result<Vec<Self>, ListenError> {
        let mut listeners = Vec::new();
        let mut cids = BTreeSet::new();
        for enclave in enclaves {
            match enclave {
                EnclaveAddress::Vsock(cid) => {
                    cids.insert(*cid);
                }
                EnclaveAddress::Unix(base) => {
                    let (file, listener) = SocketFile::bind(&host_socket(base, port))?;
                    listeners.push(Self::Unix { listener, file: SocketFileGuard(file) });
                }
            }
        }
        if !cids.is_empty() {
            let listener = VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port))
                .map_err(|source| ListenError::Vsock { port, source })?;
            listeners.push(Self::Vsock { listener, cids });
        }
        Ok(listeners)
    }
}

impl Accept for Listener {
    async fn accept(&mut self) -> io::Result<Option<Stream>> {
        match self {
            Self::Unix { listener, .. } => Ok(Some(listener.accept().await?.0.into())),
            Self::Vsock { listener, cids } => {
                let (stream, peer) = listener.accept().await?;
                Ok(cids.contains(&peer.cid()).then(|| stream.into()))
            }
        }
    }
}

/// The path at which the host listens for an enclave's connections to `port`.
pub fn host_socket(base: &Path, port: u32) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(format!("_{port}"));
    path.into()
}

/// Takes connections for ever and handles each in a task of its own, at most as many at once as there
/// are permits; one more is closed at once. Dropping the future ends them all.
pub async fn serve<A, H, F>(mut listener: A, places: Arc<Semaphore>, counters: Arc<Counters>, handle: H)
where
    A: Accept,
    H: Fn(Stream) -> F + Send,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Some(stream)) => match Arc::clone(&places).try_acquire_owned() {
                Ok(place) => {
                    let active = counters.connection();
                    let work = handle(stream);
                    connections.spawn(async move {
                        work.await;
                        drop(active);
                        drop(place);
                    });
                }
                Err(_) => counters.refuse(),
            },
            Ok(None) => counters.refuse(),
            Err(error) => {
                counters.accept_error();
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
