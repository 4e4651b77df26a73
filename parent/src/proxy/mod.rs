//! The way out: one port of the parent for one destination, in the shape of AWS's vsock-proxy.
//!
//! The proxy sees TLS records and no more; what it may reach is on an allow-list that is read at
//! start. The enclave verifies whom it talks to, so a wrong address here is a failure and not a leak.

mod allow_list;
mod connect;
mod destination;
mod relay;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use allow_list::{AllowList, AllowListError, NotAllowed};
pub use connect::{Addresses, ConnectError, Connector, Resolve};
pub use destination::{Destination, DestinationError};

use crate::counters::Counters;
use crate::listen::{self, Accept};
use crate::stream::Stream;

/// Bounds of one proxy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once. 256 × two buffers of 16 KiB = 8 MiB.
    pub connections: usize,
    /// For one address of the destination.
    pub connect: Duration,
    /// How long a connection may carry nothing in either direction.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 256, connect: Duration::from_secs(3), idle: Duration::from_mins(3) }
    }
}

/// Forwards connections to one destination.
#[derive(Debug)]
pub struct Proxy {
    connector: Connector,
    idle: Duration,
    places: Arc<Semaphore>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// A proxy for a destination, which must be on the list.
    ///
    /// # Errors
    /// [`NotAllowed`].
    pub fn new(destination: Destination, allowed: &AllowList, limits: Limits) -> Result<Self, NotAllowed> {
        allowed.check(&destination)?;
        Ok(Self::to(Connector::new(destination, limits.connect), limits))
    }

    /// A proxy that connects in its own way, such as to addresses that are known beforehand.
    pub fn to(connector: Connector, limits: Limits) -> Self {
        Self {
            connector,
            idle: limits.idle,
            places: Arc::new(Semaphore::new(limits.connections)),
            counters: Arc::default(),
        }
    }

    /// What it has done so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves for ever, on several listeners if called several times; all share one bound.
    pub async fn serve(self: Arc<Self>, listener: impl Accept) {
        let (places, counters) = (Arc::clone(&self.places), self.counters());
        let handle = |stream| {
            let proxy = Arc::clone(&self);
            async move { proxy.forward(stream).await }
        };
        listen::serve(listener, places, counters, handle).await;
    }

    async fn forward(&self, enclave: Stream) {
        let destination = match self.connector.connect().await {
            Ok(stream) => stream,
            Err(error) => {
                self.counters.fail();
                tracing::warn!(destination = %self.connector.destination(), %error, "could not connect");
                return;
            }
        };
        // TLS records are written whole; waiting for more would only add latency.
        let _ = destination.set_nodelay(true);
        if let Err(error) = relay::relay(enclave, destination, self.idle, &self.counters).await {
            self.counters.fail();
            tracing::debug!(destination = %self.connector.destination(), %error, "a connection broke");
        }
    }
}
