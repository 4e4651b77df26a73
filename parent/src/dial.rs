//! Opens a stream to a port of an enclave.

use std::io;
use std::path::Path;
use std::time::Duration;

use adyton_shared::capped::Capped;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_vsock::{VsockAddr, VsockStream};

use crate::address::EnclaveAddress;

/// The longest answer to `CONNECT`: `OK 4294967295` and its newline, in bytes.
const MAX_ANSWER_BYTES: usize = 14;

/// A stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A boxed future, for traits that are used as objects.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Any stream to an enclave.
pub type Stream = Box<dyn Duplex>;

/// Why an enclave was not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Nobody is there.
    #[error("no enclave answers at {address}")]
    NobodyThere {
        /// Where it should be.
        address: EnclaveAddress,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody is there and does not take the connection.
    #[error("the enclave at {address} takes no connection on port {port}")]
    Refused {
        /// Where it is.
        address: EnclaveAddress,
        /// The port.
        port: u32,
    },
    /// Nothing happened in time.
    #[error("the enclave at {address} did not answer within {deadline:?}")]
    Deadline {
        /// Where it should be.
        address: EnclaveAddress,
        /// How long was waited.
        deadline: Duration,
    },
}

/// Connects to a port of an enclave.
///
/// # Errors
/// [`DialError`].
pub async fn dial(address: &EnclaveAddress, port: u32, deadline: Duration) -> Result<Stream, DialError> {
    let connected = timeout(deadline, async {
        match address {
            EnclaveAddress::Vsock(cid) => {
                let stream = VsockStream::connect(VsockAddr::new(*cid, port)).await;
                stream.map(|stream| Some(Box::new(Capped(stream)) as Stream))
            }
            EnclaveAddress::Unix(path) => hybrid(path, port).await,
        }
    })
    .await;
    match connected {
        Ok(Ok(Some(stream))) => Ok(stream),
        Ok(Ok(None)) => Err(DialError::Refused { address: address.clone(), port }),
        Ok(Err(source)) => Err(DialError::NobodyThere { address: address.clone(), source }),
        Err(_) => Err(DialError::Deadline { address: address.clone(), deadline }),
    }
}

/// Firecracker's convention: ask for a port in a line, and the stream begins after the answer's.
async fn hybrid(path: &Path, port: u32) -> io::Result<Option<Stream>> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut answer = Vec::with_capacity(MAX_ANSWER_BYTES);
    while answer.len() < MAX_ANSWER_BYTES {
        // Byte by byte: what follows the newline belongs to the stream.
        match stream.read_u8().await {
            Ok(b'\n') if answer.starts_with(b"OK ") => return Ok(Some(Box::new(stream))),
            Ok(byte) => answer.push(byte),
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}
