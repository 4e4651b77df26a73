//! The guest side of hybrid vsock: `AF_VSOCK` told over Unix sockets, as Firecracker and
//! `vhost-device-vsock` do it.
//!
//! ```text
//! host → guest   connect to <base>, send "CONNECT <port>\n", read "OK <host port>\n", then the stream
//! guest → host   connect to <base>_<port>
//! ```
//!
//! The host is hostile: the line before the stream has a length limit and a deadline, and however
//! many clients stall in it, others get through up to a bound.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

/// The longest request line in bytes: `CONNECT 4294967295` and its newline.
const MAX_LINE_BYTES: usize = 19;
/// The first port that Firecracker gives to a host's end of a connection.
const FIRST_HOST_PORT: u32 = 1 << 30;
/// Pause after a failed accept, which is mostly a full descriptor table: no spinning until it drains.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
/// How long a guest's connect may wait while the host's queue is full; the kernel's default for
/// `AF_VSOCK`.
const DIAL_DEADLINE: Duration = Duration::from_secs(2);
const DIAL_PAUSE: Duration = Duration::from_millis(5);

/// Bounds on what host-side clients can occupy.
#[derive(Debug, Clone, Copy)]
pub struct HybridLimits {
    /// Time for a client's `CONNECT` line and for taking our answer.
    pub handshake_deadline: Duration,
    /// Clients that may be in the handshake at once; one more is closed. 256 descriptors.
    pub max_handshakes: usize,
    /// Connections that wait to be accepted on one port; one more is closed, as a full
    /// `AF_VSOCK` queue resets it.
    pub backlog: usize,
}

impl Default for HybridLimits {
    fn default() -> Self {
        Self { handshake_deadline: Duration::from_secs(5), max_handshakes: 256, backlog: 128 }
    }
}

/// Why the simulated vsock cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VsockError {
    /// Another process serves this socket: two enclaves on one socket.
    #[error("another enclave already listens on {}; stop it or choose another socket", path.display())]
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
    /// A listener for this port exists already.
    #[error("port {port} is already listened on")]
    PortInUse {
        /// The port.
        port: u32,
    },
    /// Nothing on the host listens for what the guest wants to reach.
    #[error("nothing listens on {}", path.display())]
    NoListener {
        /// The socket's path.
        path: PathBuf,
    },
    /// The host's listener takes no more connections.
    #[error("the listener on {} accepted no connection in {DIAL_DEADLINE:?}", path.display())]
    Busy {
        /// The socket's path.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// The file concerned.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The guest's end of the socket at `base`: takes host connections and hands them to port listeners.
/// Dropping it ends the port listeners and removes the socket.
#[derive(Debug)]
pub struct HybridListener {
    shared: Arc<Shared>,
    accepting: AbortHandle,
    // After `accepting` is aborted: the file goes away while the lock is still held.
    _socket: SocketFile,
}

impl HybridListener {
    /// Binds `base` with the default limits. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`VsockError::InUse`] if a living process serves the socket; a file left by a dead one is
    /// replaced.
    pub fn bind(base: &Path) -> Result<Self, VsockError> {
        Self::bind_with(base, HybridLimits::default())
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// See [`HybridListener::bind`].
    pub fn bind_with(base: &Path, limits: HybridLimits) -> Result<Self, VsockError> {
        let (socket, listener) = SocketFile::bind(base)?;
        let shared = Arc::new(Shared {
            ports: Mutex::default(),
            next_host_port: AtomicU32::new(FIRST_HOST_PORT),
            limits,
        });
        let accepting = tokio::spawn(accept_all(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, accepting, _socket: socket })
    }

    /// Starts to listen on a guest port.
    ///
    /// # Errors
    /// [`VsockError::PortInUse`] if somebody does already.
    pub fn listen(&self, port: u32) -> Result<PortListener, VsockError> {
        let mut ports = self.shared.ports();
        if ports.get(&port).is_some_and(|sender| !sender.is_closed()) {
            return Err(VsockError::PortInUse { port });
        }
        let (sender, incoming) = mpsc::channel(self.shared.limits.backlog.max(1));
        ports.insert(port, sender);
        Ok(PortListener { port, incoming })
    }
}

impl Drop for HybridListener {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shared.ports().clear();
    }
}

/// Connections from the host to one guest port.
#[derive(Debug)]
pub struct PortListener {
    port: u32,
    incoming: mpsc::Receiver<UnixStream>,
}

impl PortListener {
    /// The guest port.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The next connection, or `None` once the [`HybridListener`] is gone. Cancel-safe.
    pub async fn accept(&mut self) -> Option<UnixStream> {
        self.incoming.recv().await
    }
}

/// Connects from the guest to what listens on the host for `port`.
///
/// # Errors
/// [`VsockError::NoListener`] if nobody does, [`VsockError::Busy`] if its queue stays full.
pub async fn dial(base: &Path, port: u32) -> Result<UnixStream, VsockError> {
    let path = host_socket(base, port);
    let connected = timeout(DIAL_DEADLINE, async {
        loop {
            match UnixStream::connect(&path).await {
                // A Unix socket answers a full queue at once, where AF_VSOCK would wait.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(DIAL_PAUSE).await,
                other => return other,
            }
        }
    })
    .await;
    match connected {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => VsockError::NoListener { path },
            _ => VsockError::Io { path, source: error },
        }),
        Err(_) => Err(VsockError::Busy { path }),
    }
}

/// The path at which the host listens for the guest's connections to `port`.
pub fn host_socket(base: &Path, port: u32) -> PathBuf {
    let mut path = base.as_os_str().to_owned();
    path.push(format!("_{port}"));
    path.into()
}

#[derive(Debug)]
struct Shared {
    ports: Mutex<HashMap<u32, mpsc::Sender<UnixStream>>>,
    next_host_port: AtomicU32,
    limits: HybridLimits,
}

impl Shared {
    fn ports(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<UnixStream>>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the client to the listener it asks for. Whatever is wrong, the client sees what
    /// Firecracker shows it: the connection closes without a word.
    async fn hand_over(&self, mut stream: UnixStream) {
        let served = timeout(self.limits.handshake_deadline, async {
            let port = read_connect(&mut stream).await?;
            let queue = self.ports().get(&port).cloned()?;
            let place = queue.try_reserve_owned().ok()?;
            let host_port = self.next_host_port.fetch_add(1, Ordering::Relaxed);
            let answer = format!("OK {host_port}\n");
            stream.write_all(answer.as_bytes()).await.ok()?;
            Some(place)
        })
        .await;
        match served {
            Ok(Some(place)) => {
                place.send(stream);
            }
            Ok(None) => tracing::debug!("refused a client of the simulated vsock"),
            Err(_) => tracing::debug!("a client of the simulated vsock asked for no port in time"),
        }
    }
}

async fn accept_all(listener: UnixListener, shared: Arc<Shared>) {
    // Aborted together with this task.
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if handshakes.len() < shared.limits.max_handshakes => {
                    let shared = Arc::clone(&shared);
                    handshakes.spawn(async move { shared.hand_over(stream).await });
                }
                Ok(_) => tracing::warn!("too many clients in the simulated vsock's handshake"),
                Err(error) => {
                    tracing::warn!(%error, "the simulated vsock could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Reads the request line and nothing behind it, where the stream begins.
async fn read_connect(stream: &mut UnixStream) -> Option<u32> {
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    while line.len() < MAX_LINE_BYTES {
        match stream.read_u8().await.ok()? {
            b'\n' => return parse_connect(&line),
            byte => line.push(byte),
        }
    }
    None
}

fn parse_connect(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    // `parse` alone would take a sign.
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The socket in the file system, with the lock that makes it ours.
///
/// The lock file `<base>.lock` stays behind on purpose: removing it would let a third process lock
/// a new file while a second one waits on the old.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    _lock: File,
}

impl SocketFile {
    fn bind(base: &Path) -> Result<(Self, UnixListener), VsockError> {
        let lock = lock(base)?;
        clear_stale(base)?;
        let listener = UnixListener::bind(base).map_err(|error| failed(base, error))?;
        std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o600))
            .map_err(|error| failed(base, error))?;
        let inode = inode(base).map_err(|error| failed(base, error))?;
        let socket = Self { path: base.to_owned(), inode, _lock: lock };
        Ok((socket, listener))
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

fn lock(base: &Path) -> Result<File, VsockError> {
    let mut path = base.as_os_str().to_owned();
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
        Err(Errno::WOULDBLOCK) => Err(VsockError::InUse { path: base.to_owned() }),
        Err(error) => Err(failed(&path, error.into())),
    }
}

/// Removes a socket that a dead process left. The lock keeps other simulators away; a Firecracker
/// knows no lock, so it is asked whether somebody lives behind the socket.
fn clear_stale(base: &Path) -> Result<(), VsockError> {
    let kind = match std::fs::symlink_metadata(base) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(base, error)),
    };
    let path = || base.to_owned();
    if !kind.is_socket() {
        return Err(VsockError::NotASocket { path: path() });
    }
    match probe(base) {
        // A full queue belongs to somebody alive, too.
        Ok(()) | Err(Errno::AGAIN) => Err(VsockError::InUse { path: path() }),
        Err(Errno::CONNREFUSED) => std::fs::remove_file(base).map_err(|error| failed(base, error)),
        Err(error) => Err(failed(base, error.into())),
    }
}

fn probe(base: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(base)?)
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

fn failed(path: &Path, source: io::Error) -> VsockError {
    VsockError::Io { path: path.to_owned(), source }
}
