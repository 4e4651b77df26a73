//! Connects to a destination: resolves its name anew and tries every address in turn.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::destination::Destination;

/// How long an answer of the resolver is used. Endpoints of AWS change theirs within a minute.
const KEEP_ADDRESSES: Duration = Duration::from_secs(3);
/// For the resolver.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Addresses tried for one connection: with the deadline of each, a bound on the whole.
const MAX_ADDRESSES: usize = 8;

/// Why a destination was not reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address, or nobody knows.
    #[error("cannot resolve the name: {0}")]
    Resolve(io::Error),
    /// No address took the connection; the last one's error.
    #[error("none of {tried} addresses took the connection; the last, {address}: {source}")]
    Connect {
        /// How many were tried.
        tried: usize,
        /// The last one.
        address: SocketAddr,
        /// Its error.
        source: io::Error,
    },
}

/// Connects to one destination.
#[derive(Debug)]
pub struct Connector {
    destination: Destination,
    deadline: Duration,
    known: Mutex<Option<Known>>,
}

/// The resolver's latest answer.
#[derive(Debug)]
struct Known {
    addresses: Vec<SocketAddr>,
    /// `None`: they never change.
    until: Option<Instant>,
}

impl Connector {
    /// Connects to `destination`, spending at most `deadline` on each of its addresses.
    pub fn new(destination: Destination, deadline: Duration) -> Self {
        Self { destination, deadline, known: Mutex::new(None) }
    }

    /// Connects to these addresses and asks no resolver.
    pub fn fixed(destination: Destination, addresses: Vec<SocketAddr>, deadline: Duration) -> Self {
        Self { destination, deadline, known: Mutex::new(Some(Known { addresses, until: None })) }
    }

    /// Where it connects to.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self) -> Result<TcpStream, ConnectError> {
        let addresses = self.addresses().await.map_err(ConnectError::Resolve)?;
        let mut outcome = Err(ConnectError::Resolve(io::ErrorKind::NotFound.into()));
        for (index, address) in addresses.into_iter().take(MAX_ADDRESSES).enumerate() {
            let attempt = timeout(self.deadline, TcpStream::connect(address)).await;
            match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok(stream),
                Err(source) => outcome = Err(ConnectError::Connect { tried: index + 1, address, source }),
            }
        }
        outcome
    }

    /// Waiters share one question: while the lock is held, the others wait for its answer.
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut known = self.known.lock().await;
        if let Some(Known { addresses, until }) = known.as_ref()
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(addresses.clone());
        }
        let question = lookup_host((self.destination.host(), self.destination.port()));
        let answer = timeout(RESOLVE_DEADLINE, question).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let addresses: Vec<_> = answer.collect();
        *known = Some(Known { addresses: addresses.clone(), until: Some(Instant::now() + KEEP_ADDRESSES) });
        Ok(addresses)
    }
}
