//! The guest side of hybrid vsock against well-behaved and hostile hosts.

use std::path::PathBuf;
use std::time::Duration;

use adyton_simulator::vsock::{HybridLimits, HybridListener, PortListener, VsockError, dial, host_socket};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const PORT: u32 = 5000;

struct Guest {
    _folder: TempDir,
    base: PathBuf,
    hybrid: HybridListener,
    listener: PortListener,
}

fn guest_with(limits: HybridLimits) -> Guest {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let hybrid = HybridListener::bind_with(&base, limits).unwrap();
    let listener = hybrid.listen(PORT).unwrap();
    Guest { _folder: folder, base, hybrid, listener }
}

/// A guest whose handshakes never time out, so that only the property under test ends them.
fn guest() -> Guest {
    guest_with(HybridLimits { handshake_deadline: Duration::from_hours(1), ..HybridLimits::default() })
}

/// What the guest answers to these bytes, up to a line's end or the end of the connection.
async fn answer(stream: &mut UnixStream) -> String {
    let mut line = String::new();
    // Nothing follows the line before the guest writes, so the buffer swallows nothing.
    let _ = BufReader::new(stream).read_line(&mut line).await;
    line
}

async fn connect(guest: &Guest, port: u32) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(&guest.base).await.unwrap();
    let request = format!("CONNECT {port}\n");
    // A guest that is full may have closed already.
    let _ = stream.write_all(request.as_bytes()).await;
    let line = answer(&mut stream).await;
    (stream, line)
}

/// Passes bytes both ways, to see that this is the right connection and that none is lost.
async fn exchange(host: &mut UnixStream, guest: &mut UnixStream) {
    pass(host, guest, b"ping").await;
    pass(guest, host, b"pong").await;
}

async fn pass(from: &mut UnixStream, to: &mut UnixStream, text: &[u8; 4]) {
    from.write_all(text).await.unwrap();
    let mut read = [0; 4];
    to.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, text);
}

#[tokio::test]
async fn connects_a_host_client_to_the_port_it_names() {
    let mut guest = guest();
    let mut other = guest.hybrid.listen(6000).unwrap();
    let (mut host, line) = connect(&guest, PORT).await;
    assert_eq!(line, "OK 1073741824\n");
    let mut inside = guest.listener.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;

    let (mut host, line) = connect(&guest, 6000).await;
    assert_eq!(line, "OK 1073741825\n", "each connection has a host port of its own");
    let mut inside = other.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;
}

#[tokio::test]
async fn leaves_what_follows_the_request_line_to_the_stream() {
    let mut guest = guest();
    let mut host = UnixStream::connect(&guest.base).await.unwrap();
    host.write_all(b"CONNECT 5000\nCONNECT 6000\nframe").await.unwrap();
    let mut inside = guest.listener.accept().await.unwrap();
    let mut read = [0; 18];
    inside.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"CONNECT 6000\nframe");
}

// S-3, S-5
#[tokio::test]
async fn reads_a_request_line_that_comes_byte_by_byte() {
    let mut guest = guest();
    let mut host = UnixStream::connect(&guest.base).await.unwrap();
    for byte in b"CONNECT 5000\n" {
        host.write_all(&[*byte]).await.unwrap();
        host.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(answer(&mut host).await.starts_with("OK "));
    let mut inside = guest.listener.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;
}

#[tokio::test]
async fn closes_on_anything_but_a_request_line() {
    let guest = guest();
    let lines: [&[u8]; 15] = [
        b"\n",
        b"CONNECT\n",
        b"CONNECT \n",
        b"CONNECT  5000\n",
        b"CONNECT 5000\r\n",
        b"CONNECT 5000 \n",
        b" CONNECT 5000\n",
        b"connect 5000\n",
        b"CONNECT +5000\n",
        b"CONNECT -1\n",
        b"CONNECT 0x1388\n",
        b"CONNECT 4294967296\n",
        b"CONNECT 9999999999999999999999999999\n",
        b"\xff\xfe\x00CONNECT 5000\n",
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for line in lines {
        let mut host = UnixStream::connect(&guest.base).await.unwrap();
        // The guest may close before it has all of an overlong line.
        let _ = host.write_all(line).await;
        assert_eq!(answer(&mut host).await, "", "{:?}", line.escape_ascii());
    }
}

#[tokio::test]
async fn closes_on_a_line_without_end_before_reading_all_of_it() {
    let guest = guest();
    let mut host = UnixStream::connect(&guest.base).await.unwrap();
    let _ = host.write_all(b"CONNECT 00000000000").await;
    assert_eq!(answer(&mut host).await, "", "19 bytes and no line's end");
}

#[tokio::test]
async fn closes_a_connection_to_a_port_nobody_listens_on() {
    let mut guest = guest();
    // Replaces, and so ends, the listener on `PORT`.
    guest.listener = guest.hybrid.listen(7000).unwrap();
    for port in [0, PORT, 5001, u32::MAX] {
        assert_eq!(connect(&guest, port).await.1, "", "port {port}");
    }
    assert!(connect(&guest, 7000).await.1.starts_with("OK "));
}

// S-2
#[tokio::test]
async fn serves_others_while_many_clients_stay_silent_or_slow() {
    let mut guest = guest();
    let mut stalled = Vec::new();
    for index in 0..200 {
        let mut host = UnixStream::connect(&guest.base).await.unwrap();
        host.write_all(&b"CONNECT 500"[..index % 12]).await.unwrap();
        stalled.push(host);
    }
    let (mut host, line) = connect(&guest, PORT).await;
    assert!(line.starts_with("OK "));
    let mut inside = guest.listener.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;
}

// S-3
#[tokio::test]
async fn closes_a_silent_client_at_the_deadline() {
    let guest =
        guest_with(HybridLimits { handshake_deadline: Duration::from_millis(50), ..HybridLimits::default() });
    let mut silent = UnixStream::connect(&guest.base).await.unwrap();
    let mut slow = UnixStream::connect(&guest.base).await.unwrap();
    let _ = slow.write_all(b"CONNECT ").await;
    assert_eq!(answer(&mut silent).await, "");
    assert_eq!(answer(&mut slow).await, "");
}

// S-6
#[tokio::test]
async fn closes_clients_beyond_the_handshake_bound_and_recovers() {
    let mut guest = guest_with(HybridLimits {
        handshake_deadline: Duration::from_hours(1),
        max_handshakes: 4,
        ..HybridLimits::default()
    });
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(UnixStream::connect(&guest.base).await.unwrap());
    }
    assert_eq!(connect(&guest, PORT).await.1, "");

    // One stalled client gone: the guest notices in its own time, then serves again.
    drop(stalled.pop());
    let mut host = loop {
        let (host, line) = connect(&guest, PORT).await;
        if !line.is_empty() {
            break host;
        }
    };
    let mut inside = guest.listener.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;
}

// S-6
#[tokio::test]
async fn closes_clients_beyond_the_backlog_and_recovers() {
    let mut guest = guest_with(HybridLimits { backlog: 2, ..HybridLimits::default() });
    let waiting = [connect(&guest, PORT).await, connect(&guest, PORT).await];
    assert!(waiting.iter().all(|(_, line)| line.starts_with("OK ")));
    assert_eq!(connect(&guest, PORT).await.1, "");

    let _first = guest.listener.accept().await.unwrap();
    assert!(connect(&guest, PORT).await.1.starts_with("OK "));
}

// S-2
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_hundreds_of_connections_apart() {
    let mut guest = guest();
    let base = guest.base.clone();
    let echo = tokio::spawn(async move {
        while let Some(mut stream) = guest.listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    let clients: Vec<_> = (0..100_u32)
        .map(|index| {
            let base = base.clone();
            tokio::spawn(async move {
                let mut host = UnixStream::connect(&base).await.unwrap();
                host.write_all(b"CONNECT 5000\n").await.unwrap();
                assert!(answer(&mut host).await.starts_with("OK "));
                let sent = index.to_be_bytes().repeat(4096);
                let (mut read, mut write) = host.split();
                let (written, echoed) = tokio::join!(
                    async {
                        write.write_all(&sent).await?;
                        write.shutdown().await
                    },
                    async {
                        let mut echoed = Vec::new();
                        read.read_to_end(&mut echoed).await.map(|_| echoed)
                    }
                );
                written.unwrap();
                assert_eq!(echoed.unwrap(), sent);
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    echo.abort();
}

#[tokio::test]
async fn refuses_a_second_listener_on_a_port() {
    let guest = guest();
    let refused = guest.hybrid.listen(PORT).unwrap_err();
    assert!(matches!(refused, VsockError::PortInUse { port: PORT }));
    drop(guest.listener);
    assert_eq!(guest.hybrid.listen(PORT).unwrap().port(), PORT);
}

#[tokio::test]
async fn ends_port_listeners_with_the_socket() {
    let mut guest = guest();
    drop(guest.hybrid);
    assert!(guest.listener.accept().await.is_none());
}

#[tokio::test]
async fn dials_what_listens_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let path = host_socket(&base, 8000);
    assert_eq!(path, folder.path().join("v.sock_8000"));
    let listener = UnixListener::bind(path).unwrap();
    let mut inside = dial(&base, 8000).await.unwrap();
    let (mut host, _) = listener.accept().await.unwrap();
    exchange(&mut host, &mut inside).await;
}

#[tokio::test]
async fn says_so_when_nothing_listens_on_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let path = host_socket(&base, 8000);
    let refused = dial(&base, 8000).await.unwrap_err();
    assert!(matches!(&refused, VsockError::NoListener { path: named } if *named == path));

    // A socket whose listener died.
    drop(UnixListener::bind(&path).unwrap());
    let refused = dial(&base, 8000).await.unwrap_err();
    assert!(matches!(&refused, VsockError::NoListener { path: named } if *named == path));
}
