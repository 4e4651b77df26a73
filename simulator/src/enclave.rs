//! The enclave as an ordinary process: the production code behind a simulated device and vsock.
//!
//! This file only builds the ports; everything from `boot` on is what runs in a real enclave.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use adyton_enclave::boot::{self, BootError, Enclave, Platform};
use adyton_enclave::event::StderrEvents;
use adyton_enclave::platform::{BoxFuture, Dial, Kernel, Listen, Nsm, Stream};
use adyton_shared::message::JOB_PORT;
use aws_nitro_enclaves_nsm_api::api::{Request, Response};

use crate::nsm::{NsmConfig, NsmError, SimulatedHost, SimulatedNsm, measure_policy};
use crate::vsock::{HybridListener, PortListener, VsockError, dial};

/// How a simulated enclave is launched.
#[derive(Debug, Clone)]
pub struct EnclaveConfig {
    /// The simulator's state folder, for the NSM's root.
    pub state_dir: PathBuf,
    /// The hybrid-vsock socket that stands for the enclave's context id.
    pub socket: PathBuf,
    /// The executable that is measured into PCR0.
    pub executable: PathBuf,
    /// Debug mode: measurements are zero.
    pub debug: bool,
    /// What the kernel shows.
    pub host: SimulatedHost,
}

/// Why a simulated enclave does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The executable cannot be measured.
    #[error("the executable cannot be measured")]
    Measure(#[source] io::Error),
    /// The device does not start.
    #[error(transparent)]
    Nsm(#[from] NsmError),
    /// The socket cannot be used.
    #[error(transparent)]
    Vsock(#[from] VsockError),
    /// The enclave itself refuses.
    #[error(transparent)]
    Boot(#[from] BootError),
}

/// An enclave that has booted and listens.
pub struct Launched {
    /// What the production service serves.
    pub enclave: Arc<Enclave>,
    /// Where it listens.
    pub listener: HybridListen,
    /// The device, for tests that make it misbehave.
    pub nsm: Arc<SimulatedNsm>,
}

/// Launches an enclave under this policy file. The socket is taken before the enclave boots, so
/// that of two enclaves on one socket the second fails and leaves the first alone.
///
/// # Errors
/// [`LaunchError`].
pub async fn launch(config: EnclaveConfig, policy: &[u8]) -> Result<Launched, LaunchError> {
    let EnclaveConfig { state_dir, socket, executable, debug, host } = config;
    let hybrid = HybridListener::bind(&socket)?;
    let port = hybrid.listen(JOB_PORT)?;
    let pcrs = measure_policy(&executable, policy).map_err(LaunchError::Measure)?;
    let nsm = Arc::new(SimulatedNsm::open(NsmConfig { debug, ..NsmConfig::new(state_dir, pcrs) })?);
    let platform = Platform {
        nsm: Arc::clone(&nsm) as Arc<dyn Nsm>,
        dial: Arc::new(HybridDial { socket }),
        kernel: Arc::new(host),
        events: Arc::new(StderrEvents::default()),
    };
    let enclave = boot::boot(platform, policy).await?;
    Ok(Launched { enclave, listener: HybridListen { port, _hybrid: hybrid }, nsm })
}

impl Nsm for SimulatedNsm {
    fn process(&self, request: Request) -> Response {
        Self::process(self, request)
    }
}

impl Kernel for SimulatedHost {
    fn rng_current(&self) -> io::Result<String> {
        Ok(self.rng_current.clone())
    }

    fn clocksource(&self) -> io::Result<String> {
        Ok(self.clocksource.clone())
    }
}

/// Opens streams to what listens on `<socket>_<port>`.
#[derive(Debug, Clone)]
pub struct HybridDial {
    /// The enclave's socket.
    pub socket: PathBuf,
}

impl Dial for HybridDial {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move { connect(&self.socket, port).await })
    }
}

async fn connect(socket: &Path, port: u32) -> io::Result<Stream> {
    let stream = dial(socket, port).await.map_err(|error| match error {
        VsockError::NoListener { .. } => io::Error::new(io::ErrorKind::ConnectionRefused, error),
        VsockError::Io { source, .. } => source,
        other => io::Error::other(other),
    })?;
    Ok(Box::new(stream))
}

/// The enclave's port, with the socket that it came through.
#[derive(Debug)]
pub struct HybridListen {
    port: PortListener,
    _hybrid: HybridListener,
}

impl Listen for HybridListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Option<Stream>>> {
        Box::pin(async move { Ok(self.port.accept().await.map(|stream| Box::new(stream) as Stream)) })
    }
}
