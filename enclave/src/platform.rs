//! The ports through which the enclave meets the world: device, transport, kernel, time.
//!
//! The real ones are in `device.rs`; the simulator brings its own. Everything else in this crate
//! is written against these traits, so a simulated run exercises the very code of a real one.

use std::future::Future;
use std::io;
use std::pin::Pin;

use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed future, so that the ports can be used as trait objects.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Any stream to the host.
pub type Stream = Box<dyn Duplex>;

/// The Nitro Secure Module.
pub trait Nsm: Send + Sync + 'static {
    /// Answers one request; blocks while another is under way (the driver takes one lock).
    fn process(&self, request: Request) -> Response;
}

/// Opens streams from the enclave to the host.
pub trait Dial: Send + Sync + 'static {
    /// Connects to what listens on the host for `port`.
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Stream>>;
}

/// Takes streams from the host.
pub trait Listen: Send + 'static {
    /// The next stream, or `None` once listening has ended. Cancel-safe.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Option<Stream>>>;
}

/// What the kernel says about its sources of randomness and time (R-1, C-1).
pub trait Kernel: Send + Sync + 'static {
    /// Content of `/sys/class/misc/hw_random/rng_current`.
    fn rng_current(&self) -> io::Result<String>;
    /// Content of `/sys/devices/system/clocksource/clocksource0/current_clocksource`.
    fn clocksource(&self) -> io::Result<String>;
}

/// Wall-clock time that nobody outside can set: the NSM's, advanced by the monotonic clock.
pub trait TimeSource: Send + Sync + 'static {
    /// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
    fn unix_millis(&self) -> u64;
}

/// Issues attestation documents, rate-limited and off the async workers (T-6).
pub trait Attest: Send + Sync + 'static {
    /// A document over these fields; `public_key` is DER or raw as its purpose says.
    fn document(
        &self,
        user_data: Vec<u8>,
        public_key: Vec<u8>,
        nonce: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Vec<u8>, AttestError>>;
}

/// Why there is no attestation document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttestError {
    /// The device refused or failed.
    #[error("the NSM gave no attestation document")]
    Unavailable,
    /// Documents were asked for faster than they are issued.
    #[error("attestation documents are asked for too often")]
    Limited,
}
