//! The egress proxy against servers on the loopback, through hybrid-vsock sockets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adyton_parent::EnclaveAddress;
use adyton_parent::counters::{Counters, Counts};
use adyton_parent::listen::{Accept, Listener, host_socket};
use adyton_parent::proxy::{
    Addresses, AllowList, Connector, Destination, Limits, NotAllowed, Proxy, Resolve,
};
use adyton_parent::stream::Stream;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// A proxy that runs, and the socket that an enclave would open.
struct Running {
    socket: PathBuf,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
    _folder: TempDir,
}

impl Running {
    fn start(proxy: Proxy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("v.sock");
        let mut listeners = Listener::bind_all(&[EnclaveAddress::Unix(base.clone())], 8000).unwrap();
        let counters = proxy.counters();
        let task = tokio::spawn(Arc::new(proxy).serve(listeners.remove(0)));
        Self { socket: host_socket(&base, 8000), counters, task, _folder: folder }
    }

    async fn open(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Waits until the counts are as wanted; the test's own deadline ends it otherwise.
    async fn counts(&self, wanted: impl Fn(&Counts) -> bool) -> Counts {
        tokio::time::timeout(Duration::from_secs(20), async {
            loop {
                let counts = self.counters.read();
                if wanted(&counts) {
                    return counts;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:?}", self.counters.read()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn to(addresses: Vec<SocketAddr>, limits: Limits) -> Proxy {
    let name = "kms.eu-west-1.amazonaws.com:443".parse().unwrap();
    Proxy::to(Connector::fixed(name, addresses, limits.connect), limits)
}

async fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
async fn dead() -> SocketAddr {
    server().await.1
}

#[tokio::test]
async fn an_end_on_one_side_still_lets_the_answer_through() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![address], Limits::default()));
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).await.unwrap();
        stream.write_all(&question).await.unwrap();
    });
    let mut enclave = proxy.open().await;
    let question: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    enclave.write_all(&question).await.unwrap();
    enclave.shutdown().await.unwrap();
    let mut answer = Vec::new();
    enclave.read_to_end(&mut answer).await.unwrap();
    assert!(answer == question);
    serving.await.unwrap();
    let counts = proxy.counts(|c| c.active == 0).await;
    let wanted =
        Counts { accepted: 1, bytes_to_enclave: 1 << 20, bytes_from_enclave: 1 << 20, ..Counts::default() };
    assert_eq!(counts, wanted);
}

#[tokio::test]
async fn a_server_that_ends_first_still_hears_the_rest() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![address], Limits::default()));
    let mut enclave = proxy.open().await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"bye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut greeting = Vec::new();
    enclave.read_to_end(&mut greeting).await.unwrap();
    enclave.write_all(b"and more").await.unwrap();
    drop(enclave);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!((greeting.as_slice(), rest.as_str()), (&b"bye"[..], "and more"));
}

#[tokio::test]
async fn a_dead_first_address_is_passed_over() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![dead().await, address], Limits::default()));
    let mut enclave = proxy.open().await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    enclave.read_exact(&mut hello).await.unwrap();
    assert_eq!((&hello, proxy.counters.read().failed), (b"hello", 0));
}

/// Answers with the next list at each question, and after the last one with an error.
#[derive(Debug)]
struct Moving(Mutex<VecDeque<Vec<SocketAddr>>>);

impl Resolve for Moving {
    fn resolve<'a>(&'a self, _: &'a Destination) -> Addresses<'a> {
        let next = self.0.lock().unwrap().pop_front();
        Box::pin(async { next.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }
}

#[tokio::test]
async fn each_connection_goes_where_the_name_points_now() {
    let ((old, old_address), (new, new_address)) = (server().await, server().await);
    let answers = Mutex::new(VecDeque::from([vec![old_address], vec![new_address], vec![]]));
    let name = "kms.eu-west-1.amazonaws.com:443".parse().unwrap();
    let limits = Limits::default();
    let proxy = Proxy::to(Connector::resolving(name, Moving(answers), limits.connect), limits);
    let proxy = Running::start(proxy);
    for (listener, word) in [(old, b'o'), (new, b'n')] {
        let mut enclave = proxy.open().await;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[word]).await.unwrap();
        assert_eq!(enclave.read_u8().await.unwrap(), word);
    }
    // No address, then no answer: failures of their connections alone.
    for _ in 0..2 {
        assert_eq!(proxy.open().await.read(&mut [0]).await.unwrap_or(0), 0);
    }
    proxy.counts(|c| c.failed == 2 && c.accepted == 4).await;
}

#[tokio::test]
async fn a_server_that_resets_ends_its_connection_and_no_other() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![address], Limits::default()));
    let mut enclave = proxy.open().await;
    let (stream, _) = listener.accept().await.unwrap();
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream); // with a linger of nothing, a reset
    assert_eq!(enclave.read(&mut [0]).await.unwrap_or(0), 0);
    proxy.counts(|c| c.active == 0 && c.failed == 1).await;
    let mut enclave = proxy.open().await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(enclave.read_u8().await.unwrap(), b'x');
}

#[tokio::test]
async fn a_destination_that_is_down_closes_the_connection_and_is_counted() {
    let proxy = Running::start(to(vec![dead().await, dead().await], Limits::default()));
    for _ in 0..3 {
        assert_eq!(proxy.open().await.read(&mut [0]).await.unwrap(), 0);
    }
    let counts = proxy.counts(|c| c.active == 0 && c.failed == 3).await;
    assert_eq!(counts.accepted, 3);
}

// S-3
#[tokio::test]
async fn a_silent_connection_is_ended() {
    let (listener, address) = server().await;
    let limits = Limits { idle: Duration::from_millis(50), ..Limits::default() };
    let proxy = Running::start(to(vec![address], limits));
    let mut enclave = proxy.open().await;
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(enclave.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    proxy.counts(|c| c.active == 0 && c.failed == 1).await;
}

// S-2, S-6
#[tokio::test]
async fn connections_are_bound_and_a_freed_place_is_used_again() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![address], Limits { connections: 2, ..Limits::default() }));
    let accept = || async { listener.accept().await.unwrap().0 };
    let (first, one) = (proxy.open().await, accept().await);
    let (_second, _two) = (proxy.open().await, accept().await);
    for _ in 0..5 {
        assert_eq!(proxy.open().await.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert_eq!(proxy.counters.read().refused, 5);
    drop((first, one));
    proxy.counts(|c| c.active == 1).await;
    let (mut third, mut three) = (proxy.open().await, accept().await);
    three.write_all(b"x").await.unwrap();
    assert_eq!(third.read_u8().await.unwrap(), b'x');
}

#[test]
fn a_destination_off_the_list_is_refused_at_start() {
    let list = AllowList::parse("allowlist:\n- {address: kms.us-east-1.amazonaws.com, port: 443}\n").unwrap();
    let other: Destination = "example.com:443".parse().unwrap();
    let refused = Proxy::new(other.clone(), &list, Limits::default()).unwrap_err();
    assert_eq!(refused, NotAllowed(other));
}

#[tokio::test]
async fn a_name_is_resolved_and_reached() {
    let (listener, address) = server().await;
    let destination = format!("localhost:{}", address.port());
    let list = AllowList::parse(&format!("allowlist: [{{address: localhost, port: {}}}]", address.port()));
    let proxy = Proxy::new(destination.parse().unwrap(), &list.unwrap(), Limits::default()).unwrap();
    let proxy = Running::start(proxy);
    let mut enclave = proxy.open().await;
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(enclave.read_u8().await.unwrap(), b'x');
}

/// Fails as a full descriptor table does before each connection.
struct Failing {
    inner: Listener,
    fail: bool,
}

impl Accept for Failing {
    async fn accept(&mut self) -> io::Result<Option<Stream>> {
        self.fail = !self.fail;
        if self.fail {
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        }
        self.inner.accept().await
    }
}

// S-6
#[tokio::test]
async fn goes_on_accepting_after_errors() {
    let (listener, address) = server().await;
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let inner = Listener::bind_all(&[EnclaveAddress::Unix(base.clone())], 8000).unwrap().remove(0);
    let proxy = Arc::new(to(vec![address], Limits::default()));
    let counters = proxy.counters();
    let task = tokio::spawn(proxy.serve(Failing { inner, fail: false }));
    for _ in 0..3 {
        let mut enclave = UnixStream::connect(host_socket(&base, 8000)).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(enclave.read_u8().await.unwrap(), b'x');
    }
    assert!(counters.read().accept_errors >= 3);
    task.abort();
}

#[tokio::test]
async fn two_servers_on_one_socket_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let base: &Path = &folder.path().join("v.sock");
    let enclaves = [EnclaveAddress::Unix(base.to_owned())];
    let first = Listener::bind_all(&enclaves, 8000).unwrap();
    let second = Listener::bind_all(&enclaves, 8000).unwrap_err().to_string();
    assert!(second.contains("another process already listens on"), "{second}");
    drop(first);
    assert!(!host_socket(base, 8000).exists());
    Listener::bind_all(&enclaves, 8000).unwrap();
}

#[tokio::test]
async fn a_server_that_resets_ends_its_own_connection_and_no_other() {
    let (listener, address) = server().await;
    let proxy = Running::start(to(vec![address], Limits::default()));
    let (mut first, mut second) = (proxy.open().await, proxy.open().await);
    let (one, _) = listener.accept().await.unwrap();
    let (mut two, _) = listener.accept().await.unwrap();
    // Which of them is whose connection does not matter: the one that is reset ends, the other goes on.
    one.set_zero_linger().unwrap();
    drop(one);
    two.write_all(b"x").await.unwrap();
    let mut heard = [[0; 1]; 2];
    let [a, b] = &mut heard;
    let counts = tokio::join!(first.read(a), second.read(b));
    let mut counts = [counts.0.unwrap_or(0), counts.1.unwrap_or(0)];
    counts.sort_unstable();
    assert_eq!(counts, [0, 1]);
    proxy.counts(|c| c.active == 1 && c.failed == 1).await;
}
