//! Connects from the parent to a port of an enclave.
//!
//! On hybrid sockets the host writes `CONNECT <port>\n` and reads `OK <n>\n` before the stream begins
//! (Firecracker, `docs/vsock.md`). Whoever listens is not trusted with more than a short line.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_vsock::{VsockAddr, VsockStream};

use crate::address::EnclaveAddress;
use crate::stream::Stream;

/// For the connection and the line that answers it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between attempts while a Unix socket's queue is full, which `AF_VSOCK` would wait for in the kernel.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);
/// `OK 4294967295` and its newline.
const MAX_LINE_BYTES: usize = 14;

/// Why no enclave could be reached. Which one it was is the caller's to say.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody is there.
    #[error("nothing listens there")]
    Nobody(#[source] io::Error),
    /// Somebody is there, but not on this port.
    #[error("something listens there, but takes no connections to port {port}")]
    Port {
        /// The port.
        port: u32,
    },
    /// The answer is not one of hybrid vsock.
    #[error("what listens there does not speak hybrid vsock")]
    Protocol,
    /// Nobody took the connection in time.
    #[error("no answer within {DEADLINE:?}")]
    Deadline,
    /// The system would not let us.
    #[error("the connection failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for DialError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => {
                Self::Nobody(error)
            }
            io::ErrorKind::TimedOut => Self::Deadline,
            // ENODEV: this machine has no vsock; to the user it is the same as nobody.
            _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => Self::Nobody(error),
            _ => Self::Io(error),
        }
    }
}

/// Connects to a port of an enclave.
///
/// # Errors
/// [`DialError`].
pub async fn dial(enclave: &EnclaveAddress, port: u32) -> Result<Stream, DialError> {
    timeout(DEADLINE, async {
        match enclave {
            EnclaveAddress::Vsock(cid) => Ok(VsockStream::connect(VsockAddr::new(*cid, port)).await?.into()),
            EnclaveAddress::Unix(base) => dial_hybrid(base, port).await,
        }
    })
    .await
    .unwrap_or(Err(DialError::Deadline))
}

async fn dial_hybrid(base: &Path, port: u32) -> Result<Stream, DialError> {
    let mut stream = loop {
        match UnixStream::connect(base).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(QUEUE_PAUSE).await,
            other => break other?,
        }
    };
    // A listener that is not there, or full, closes without a word: a broken pipe here, or an end below.
    let asked = stream.write_all(format!("CONNECT {port}\n").as_bytes()).await;
    if asked.is_err() {
        return Err(DialError::Port { port });
    }
    read_answer(&mut stream, port).await?;
    Ok(stream.into())
}

/// Reads the answer and nothing behind it, where the stream begins.
async fn read_answer(stream: &mut UnixStream, port: u32) -> Result<(), DialError> {
    let mut line = Vec::with_capacity(MAX_LINE_BYTES);
    while line.len() < MAX_LINE_BYTES {
        match stream.read_u8().await {
            Ok(b'\n') if is_ok(&line) => return Ok(()),
            Ok(b'\n') => return Err(DialError::Protocol),
            Ok(byte) => line.push(byte),
            Err(_) if line.is_empty() => return Err(DialError::Port { port }),
            Err(_) => return Err(DialError::Protocol),
        }
    }
    Err(DialError::Protocol)
}

fn is_ok(line: &[u8]) -> bool {
    line.strip_prefix(b"OK ").is_some_and(|port| !port.is_empty() && port.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    /// Dials port 5000 at a listener that reads the line and answers with these bytes.
    async fn answered(answer: &'static [u8]) -> (Vec<u8>, Result<Stream, DialError>) {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("v.sock");
        let listener = UnixListener::bind(&base).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut line = vec![0; b"CONNECT 5000\n".len()];
            stream.read_exact(&mut line).await.unwrap();
            stream.write_all(answer).await.unwrap();
            line
        });
        let dialed = dial(&EnclaveAddress::Unix(base), 5000).await;
        (server.await.unwrap(), dialed)
    }

    #[tokio::test]
    async fn the_stream_begins_right_after_the_answer() {
        let (line, dialed) = answered(b"OK 1073741824\nhello").await;
        assert_eq!(line, b"CONNECT 5000\n");
        let mut rest = String::new();
        dialed.unwrap().read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
    }

    #[tokio::test]
    async fn tells_a_missing_port_from_a_stranger_and_from_nobody() {
        assert!(matches!(answered(b"").await.1, Err(DialError::Port { port: 5000 })));
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"OK \n", b"OK x\n", b"OK 1"] {
            assert!(matches!(answered(answer).await.1, Err(DialError::Protocol)), "{answer:?}");
        }
        let nowhere = EnclaveAddress::Unix("/nonexistent/v.sock".into());
        assert!(matches!(dial(&nowhere, 5000).await, Err(DialError::Nobody(_))));
    }

    // S-3
    #[tokio::test(start_paused = true)]
    async fn one_that_takes_the_connection_and_says_nothing_is_given_up_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("v.sock");
        let _silent = UnixListener::bind(&base).unwrap();
        let begin = tokio::time::Instant::now();
        let dialed = dial(&EnclaveAddress::Unix(base), 5000).await;
        assert!(matches!(dialed, Err(DialError::Deadline)));
        assert_eq!(begin.elapsed(), DEADLINE);
    }

    #[tokio::test]
    async fn the_file_that_a_dead_process_left_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("v.sock");
        drop(UnixListener::bind(&base).unwrap());
        let Err(DialError::Nobody(source)) = dial(&EnclaveAddress::Unix(base), 5000).await else {
            panic!("nobody is there")
        };
        assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
    }
}
