//! Connects to a destination: resolves its name anew and tries every address in turn.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::destination::Destination;

/// For the resolver.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// Questions to the system's resolver at once. Each occupies a thread, also after its deadline: while
/// the resolver is silent, they must not take all threads that the process has for such work.
const MAX_QUESTIONS: usize = 16;
/// Addresses tried for one connection: with the deadline of each, a bound on the whole.
const MAX_ADDRESSES: usize = 8;

/// What a resolver promises.
pub type Addresses<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of a destination. A trait, so that tests need no DNS.
pub trait Resolve: fmt::Debug + Send + Sync + 'static {
    /// The addresses, best first. Asked once for each connection.
    fn resolve<'a>(&'a self, destination: &'a Destination) -> Addresses<'a>;
}

/// The system's resolver.
#[derive(Debug)]
struct System {
    places: Arc<Semaphore>,
}

impl Resolve for System {
    fn resolve<'a>(&'a self, destination: &'a Destination) -> Addresses<'a> {
        Box::pin(async {
            let place = Arc::clone(&self.places).acquire_owned().await.map_err(io::Error::other)?;
            let Destination { host, port } = destination.clone();
            let question = spawn_blocking(move || {
                let answer = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                drop(place);
                answer
            });
            question.await.map_err(io::Error::other)?
        })
    }
}

/// Addresses that are known beforehand.
#[derive(Debug)]
struct Fixed(Vec<SocketAddr>);

impl Resolve for Fixed {
    fn resolve<'a>(&'a self, _: &'a Destination) -> Addresses<'a> {
        Box::pin(async { Ok(self.0.clone()) })
    }
}

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
    resolver: Box<dyn Resolve>,
}

impl Connector {
    /// Connects to `destination`, spending at most `deadline` on each of its addresses.
    pub fn new(destination: Destination, deadline: Duration) -> Self {
        let places = Arc::new(Semaphore::new(MAX_QUESTIONS));
        Self::resolving(destination, System { places }, deadline)
    }

    /// Connects to these addresses and asks no resolver.
    pub fn fixed(destination: Destination, addresses: Vec<SocketAddr>, deadline: Duration) -> Self {
        Self::resolving(destination, Fixed(addresses), deadline)
    }

    /// Connects to where this resolver says `destination` is.
    pub fn resolving(destination: Destination, resolver: impl Resolve, deadline: Duration) -> Self {
        Self { destination, deadline, resolver: Box::new(resolver) }
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
        let mut outcome = Err(ConnectError::Resolve(io::ErrorKind::NotFound.into()));
        for (index, address) in self.addresses().await?.into_iter().take(MAX_ADDRESSES).enumerate() {
            let attempt = timeout(self.deadline, TcpStream::connect(address)).await;
            match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(stream) => return Ok(stream),
                Err(source) => outcome = Err(ConnectError::Connect { tried: index + 1, address, source }),
            }
        }
        outcome
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        timeout(RESOLVE_DEADLINE, self.resolver.resolve(&self.destination))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(ConnectError::Resolve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[derive(Debug)]
    struct Silent;

    impl Resolve for Silent {
        fn resolve<'a>(&'a self, _: &'a Destination) -> Addresses<'a> {
            Box::pin(std::future::pending())
        }
    }

    // S-2, S-3
    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_holds_up_each_connection_once_and_none_behind_another() {
        let destination = "kms.eu-west-1.amazonaws.com:443".parse().unwrap();
        let connector = Connector::resolving(destination, Silent, Duration::from_secs(3));
        let begin = Instant::now();
        let (one, two, three) = tokio::join!(connector.connect(), connector.connect(), connector.connect());
        for outcome in [one, two, three] {
            let Err(ConnectError::Resolve(error)) = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(begin.elapsed(), RESOLVE_DEADLINE);
    }
}
