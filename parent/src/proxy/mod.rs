//! The egress proxy: one vsock port for each destination, in the shape of AWS's `vsock-proxy`.
//!
//! It forwards bytes and understands none of them. A destination must be in the allow-list; its
//! name is resolved anew for each connection, every address is tried, and no error of one
//! connection ends another.

mod allow_list;
mod copy;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

pub use allow_list::{AllowList, AllowListError, Destination};

use crate::dial::{BoxFuture, Stream};
use crate::listen::PortListener;
use copy::both_ways;

/// Connections at once for one destination; more wait in the listener's queue. Each holds two
/// descriptors and 128 KiB.
const MAX_CONNECTIONS: usize = 256;
/// For one address.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// A connection on which nothing moves for so long is closed.
const IDLE_DEADLINE: Duration = Duration::from_mins(5);
/// Pause after a failed accept, which is mostly a full descriptor table.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Turns a destination's name into addresses.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses, in the order in which they are to be tried.
    fn resolve<'a>(&'a self, destination: &'a Destination) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, destination: &'a Destination) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let name = (destination.address.as_str(), destination.port);
            Ok(tokio::net::lookup_host(name).await?.collect())
        })
    }
}

/// Bounds on connections and waits.
#[derive(Debug, Clone, Copy)]
pub struct ProxyLimits {
    /// Connections at once.
    pub connections: usize,
    /// For one address.
    pub connect: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self { connections: MAX_CONNECTIONS, connect: CONNECT_DEADLINE, idle: IDLE_DEADLINE }
    }
}

/// Counters of one destination.
#[derive(Debug, Default)]
pub struct Counters {
    accepted: AtomicU64,
    active: AtomicU64,
    unreachable: AtomicU64,
    accept_failed: AtomicU64,
    broken: AtomicU64,
    bytes_out: AtomicU64,
    bytes_in: AtomicU64,
}

/// What [`Counters`] showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Connections taken.
    pub accepted: u64,
    /// Connections open now.
    pub active: u64,
    /// Connections for which no address of the destination answered.
    pub unreachable: u64,
    /// Accepts that failed.
    pub accept_failed: u64,
    /// Connections that ended in an error or by the idle deadline.
    pub broken: u64,
    /// Bytes from the enclave.
    pub bytes_out: u64,
    /// Bytes to the enclave.
    pub bytes_in: u64,
}

impl Counters {
    /// The present values.
    pub fn stats(&self) -> Stats {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            accepted: value(&self.accepted),
            active: value(&self.active),
            unreachable: value(&self.unreachable),
            accept_failed: value(&self.accept_failed),
            broken: value(&self.broken),
            bytes_out: value(&self.bytes_out),
            bytes_in: value(&self.bytes_in),
        }
    }
}

/// Forwards what comes in on one port to one destination.
pub struct Proxy<R = SystemResolver> {
    destination: Destination,
    limits: ProxyLimits,
    resolver: R,
    counters: Arc<Counters>,
}

impl Proxy {
    /// A proxy for a destination that the allow-list has.
    ///
    /// # Errors
    /// [`AllowListError::NotListed`].
    pub fn new(destination: Destination, allow_list: &AllowList) -> Result<Self, AllowListError> {
        Self::with(destination, allow_list, ProxyLimits::default(), SystemResolver)
    }
}

impl<R: Resolve> Proxy<R> {
    /// The same with other limits and another resolver.
    ///
    /// # Errors
    /// [`AllowListError::NotListed`].
    pub fn with(
        destination: Destination,
        allow_list: &AllowList,
        limits: ProxyLimits,
        resolver: R,
    ) -> Result<Self, AllowListError> {
        allow_list.check(&destination)?;
        Ok(Self { destination, limits, resolver, counters: Arc::default() })
    }

    /// What has been forwarded so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves for ever.
    pub async fn serve(self, listener: PortListener) {
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let proxy = Arc::new(self);
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok(stream) => {
                    let proxy = Arc::clone(&proxy);
                    tokio::spawn(async move {
                        proxy.forward(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    proxy.counters.accept_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "the proxy could not accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn forward(&self, enclave: Stream) {
        let counters = &self.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        let _active = Active::enter(&counters.active);
        match self.connect().await {
            Ok(remote) => {
                let passed =
                    both_ways(enclave, remote, self.limits.idle, &counters.bytes_out, &counters.bytes_in);
                if let Err(error) = passed.await {
                    counters.broken.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(%error, destination = %self.destination, "a connection broke");
                }
            }
            Err(error) => {
                counters.unreachable.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, destination = %self.destination, "no address answers");
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        let resolved = timeout(self.limits.connect, self.resolver.resolve(&self.destination));
        for address in resolved.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            match timeout(self.limits.connect, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small TLS records must not wait for more.
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

/// Counts a connection for as long as it lives.
struct Active<'a>(&'a AtomicU64);

impl<'a> Active<'a> {
    fn enter(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
