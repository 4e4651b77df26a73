//! The hostile parent: it carries everything and may do to it what it likes.
//!
//! As the enclave's egress it listens where the enclave connects to (`<socket>_8000` for KMS,
//! `<socket>_8001` for credentials, `<socket>_8002` for named keys) and plays a role for each. As a carrier of jobs it records and
//! changes the bytes between a requester and the enclave.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{
    self, CREDENTIALS_PORT, Credentials, FromParent, KEYS_PORT, KMS_PORT, KeyAnswer,
};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the hostile parent does with a connection to KMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// Carries it, and remembers every byte.
    Carry,
    /// Closes it at once.
    Close,
    /// Takes it and says nothing.
    Silent,
    /// Answers with something that is not TLS.
    Garbage,
    /// Carries it, and changes every answer's byte after the first so many.
    Corrupt(usize),
    /// Carries only so many bytes of what KMS says, then closes.
    Truncate(usize),
    /// Ends TLS itself, with a certificate for the right name from an authority of its own.
    Impostor,
}

/// What the hostile parent answers when the enclave asks for credentials.
#[derive(Debug, Clone)]
pub enum Wallet {
    /// An access key from the credentials file.
    Profile(PathBuf, &'static str),
    /// An access key that expires at this time, in milliseconds since 1970.
    Expiring(PathBuf, &'static str, u64),
    /// An access key that KMS does not know.
    Unknown,
    /// That it has none.
    None,
    /// Nothing at all.
    Silent,
    /// Something that is not a message.
    Garbage,
}

/// What the hostile parent answers when the enclave asks for a named key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyCupboard {
    /// These bytes, whatever is asked for.
    Blob(Vec<u8>),
    /// That there is none.
    Missing,
    /// Nothing at all.
    Silent,
    /// Something that is not a message.
    Garbage,
    /// Closes at once.
    Close,
}

#[derive(Debug)]
struct Roles {
    cupboard: KeyCupboard,
    egress: Egress,
    wallet: Wallet,
    kms_port: u16,
    seen: Vec<u8>,
    connections: u32,
}

type Shared = Arc<Mutex<Roles>>;

/// The enclave's only way to the world, in the wrong hands.
#[derive(Debug)]
pub struct HostileParent {
    roles: Shared,
    tasks: Vec<JoinHandle<()>>,
}

impl HostileParent {
    /// Stands in for the parent of the enclave on this socket; honest until told otherwise.
    pub fn start(socket: &Path, kms_port: u16, wallet: Wallet) -> Self {
        let roles = Roles {
            cupboard: KeyCupboard::Missing,
            egress: Egress::Carry,
            wallet,
            kms_port,
            seen: Vec::new(),
            connections: 0,
        };
        let roles = Arc::new(Mutex::new(roles));
        let egress = tokio::spawn(serve(listen(socket, KMS_PORT), Arc::clone(&roles), carry));
        let wallet = tokio::spawn(serve(listen(socket, CREDENTIALS_PORT), Arc::clone(&roles), hand_out));
        let keys = tokio::spawn(serve(listen(socket, KEYS_PORT), Arc::clone(&roles), hand_out_keys));
        Self { roles, tasks: vec![egress, wallet, keys] }
    }

    /// Another role at the egress from the next connection on.
    pub fn egress(&self, egress: Egress) {
        lock(&self.roles).egress = egress;
    }

    /// Other credentials from the next question on.
    pub fn wallet(&self, wallet: Wallet) {
        lock(&self.roles).wallet = wallet;
    }

    /// Another answer to the next question for a named key.
    pub fn cupboard(&self, cupboard: KeyCupboard) {
        lock(&self.roles).cupboard = cupboard;
    }

    /// Every byte that went between enclave and KMS, both ways.
    pub fn seen(&self) -> Vec<u8> {
        lock(&self.roles).seen.clone()
    }

    /// How many connections to KMS the enclave has opened.
    pub fn connections(&self) -> u32 {
        lock(&self.roles).connections
    }
}

impl Drop for HostileParent {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn lock(roles: &Shared) -> std::sync::MutexGuard<'_, Roles> {
    roles.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listen(socket: &Path, port: u32) -> UnixListener {
    let path = adyton_simulator::vsock::host_socket(socket, port);
    UnixListener::bind(path).expect("the hostile parent listens")
}

async fn serve<F: Future<Output = io::Result<()>> + Send + 'static>(
    listener: UnixListener,
    roles: Shared,
    role: impl Fn(UnixStream, Shared) -> F,
) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(role(stream, Arc::clone(&roles)));
    }
}

async fn carry(mut enclave: UnixStream, roles: Shared) -> io::Result<()> {
    let (egress, port) = {
        let mut roles = lock(&roles);
        roles.connections += 1;
        (roles.egress, roles.kms_port)
    };
    match egress {
        Egress::Close => Ok(()),
        Egress::Silent => stay_silent(enclave).await,
        Egress::Garbage => {
            enclave.write_all(b"220 this is no TLS at all\r\n").await?;
            stay_silent(enclave).await
        }
        Egress::Impostor => {
            let mut stream = TlsAcceptor::from(impostor()).accept(enclave).await?;
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await?;
            lock(&roles).seen.extend(said);
            Ok(())
        }
        Egress::Carry | Egress::Corrupt(_) | Egress::Truncate(_) => {
            let kms = TcpStream::connect(("127.0.0.1", port)).await?;
            let (mut from_enclave, mut to_enclave) = enclave.into_split();
            let (mut from_kms, mut to_kms) = kms.into_split();
            let upward = copy(&mut from_enclave, &mut to_kms, &roles, Egress::Carry);
            let downward = copy(&mut from_kms, &mut to_enclave, &roles, egress);
            tokio::select! {
                ended = upward => ended,
                ended = downward => ended,
            }
        }
    }
}

async fn stay_silent(mut stream: UnixStream) -> io::Result<()> {
    let mut sink = [0; 1024];
    while stream.read(&mut sink).await? > 0 {}
    Ok(())
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    roles: &Shared,
    egress: Egress,
) -> io::Result<()> {
    let (mut buffer, mut carried) = (vec![0; 16 * 1024], 0);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        lock(roles).seen.extend_from_slice(&buffer[..read]);
        let mut passed = &mut buffer[..read];
        match egress {
            Egress::Corrupt(after) => {
                for (at, byte) in passed.iter_mut().enumerate() {
                    if carried + at >= after {
                        *byte ^= 0x55;
                    }
                }
            }
            Egress::Truncate(after) if carried + read > after => {
                passed = &mut passed[..after - carried];
            }
            _ => {}
        }
        to.write_all(passed).await?;
        if passed.len() < read {
            return to.shutdown().await;
        }
        carried += read;
    }
}

/// A server with a certificate for `localhost` that nobody the enclave trusts has signed.
fn impostor() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a server");
    Arc::new(config)
}

const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(10), frame: Duration::from_secs(10) };

async fn hand_out(stream: UnixStream, roles: Shared) -> io::Result<()> {
    let wallet = lock(&roles).wallet.clone();
    let answer = match wallet {
        Wallet::Silent => return stay_silent(stream).await,
        Wallet::Garbage => b"\x82\x01\xa1\x64gold\xf6".to_vec(),
        Wallet::None => message::encode(&FromParent::Unavailable {}).map_err(io::Error::other)?,
        Wallet::Unknown => {
            let nobody = Credentials {
                access_key_id: "AKIANOBODYKNOWSTHIS0".into(),
                secret_access_key: "x".repeat(40),
                session_token: None,
                expires_unix_ms: None,
            };
            message::encode(&FromParent::Credentials(nobody)).map_err(io::Error::other)?
        }
        Wallet::Profile(file, profile) => encode(profile_credentials(&file, profile, None))?,
        Wallet::Expiring(file, profile, at) => encode(profile_credentials(&file, profile, Some(at)))?,
    };
    let (read, write) = tokio::io::split(stream);
    let mut question = Vec::new();
    FrameReader::new(read, DEADLINES).next(&mut question).await.map_err(io::Error::other)?;
    FrameWriter::new(write, DEADLINES).send(Kind::Control, &answer).await.map_err(io::Error::other)
}

async fn hand_out_keys(stream: UnixStream, roles: Shared) -> io::Result<()> {
    let cupboard = lock(&roles).cupboard.clone();
    let answer = match cupboard {
        KeyCupboard::Close => return Ok(()),
        KeyCupboard::Silent => return stay_silent(stream).await,
        KeyCupboard::Garbage => b"\x82\x01\xa1\x67wrapped\xf6".to_vec(),
        KeyCupboard::Missing => message::encode(&KeyAnswer::Missing {}).map_err(io::Error::other)?,
        KeyCupboard::Blob(blob) => {
            message::encode(&KeyAnswer::Wrapped { blob: blob.into() }).map_err(io::Error::other)?
        }
    };
    let (read, write) = tokio::io::split(stream);
    let mut question = Vec::new();
    FrameReader::new(read, DEADLINES).next(&mut question).await.map_err(io::Error::other)?;
    FrameWriter::new(write, DEADLINES).send(Kind::Control, &answer).await.map_err(io::Error::other)
}

fn encode(credentials: Credentials) -> io::Result<Vec<u8>> {
    message::encode(&FromParent::Credentials(credentials)).map_err(io::Error::other)
}

/// An access key of the credentials file that the simulator writes.
pub fn profile_credentials(file: &Path, profile: &str, expires_unix_ms: Option<u64>) -> Credentials {
    let text = std::fs::read_to_string(file).expect("a credentials file");
    let section = text.split(&format!("[{profile}]\n")).nth(1).expect("the profile");
    let value = |name: &str| {
        let line = section.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.expect("the access key").to_owned()
    };
    Credentials {
        access_key_id: value("aws_access_key_id"),
        secret_access_key: value("aws_secret_access_key"),
        session_token: None,
        expires_unix_ms,
    }
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the end of time")
}

/// Bytes that a carrier has seen, both ways.
pub type Seen = Arc<Mutex<Vec<u8>>>;

/// A stream that remembers everything that passes, as the parent could.
#[derive(Debug)]
pub struct Recorded<S> {
    stream: S,
    seen: Seen,
    requests: bool,
}

impl<S> Recorded<S> {
    /// Records what passes through `stream`.
    pub fn new(stream: S, seen: Seen) -> Self {
        Self { stream, seen, requests: true }
    }

    /// Records only what comes back through `stream`.
    pub fn answers(stream: S, seen: Seen) -> Self {
        Self { stream, seen, requests: false }
    }

    fn remember(&self, bytes: &[u8]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Recorded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        self.remember(&into.filled()[before..]);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Recorded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = written
            && self.requests
        {
            self.remember(&bytes[..count]);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
