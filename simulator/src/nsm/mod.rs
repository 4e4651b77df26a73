//! A simulated Nitro Secure Module: all seven requests, answered as the device answers them.
//!
//! What the device does is taken from AWS's own device test (`nsm-check` in
//! `aws-nitro-enclaves-nsm-api`), from QEMU's `virtio-nsm`, and from real attestation documents.
//! Documents are signed by a chain of the simulator's own root, so a verifier treats them exactly
//! like real ones and only its trust anchor differs. Nothing here is ever linked into the enclave.

mod chain;
mod device;
mod document;
mod host;
mod measure;
mod pcr;
mod root;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_nitro_enclaves_nsm_api::api::{Request, Response};

pub use document::{MapForm, encode_payload};
pub use host::SimulatedHost;
pub use measure::{measure, measure_policy, parent_pcr};
pub use pcr::{MAX_PCRS, Pcr};
pub use root::{NsmError, SIMULATOR_MARK, SimulatedRoot};

use device::Device;

/// Where the device reads the time.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How a simulated device starts.
#[derive(Clone)]
pub struct NsmConfig {
    /// The simulator's state folder; the root is kept in its subfolder `nsm`.
    pub state_dir: PathBuf,
    /// Registers set before the enclave runs, by index below 16. See [`measure`] and [`parent_pcr`].
    /// PCR4 is derived from the simulated instance's id where it is not given.
    pub pcrs: BTreeMap<u16, Pcr>,
    /// Whether the enclave runs in debug mode, where its measurements are zero.
    pub debug: bool,
    /// How the payload's map is encoded.
    pub map_form: MapForm,
    /// The device's clock.
    pub clock: Clock,
}

impl NsmConfig {
    /// A device outside debug mode, on the host's clock, encoding as today's devices do.
    pub fn new(state_dir: impl Into<PathBuf>, pcrs: BTreeMap<u16, Pcr>) -> Self {
        Self {
            state_dir: state_dir.into(),
            pcrs,
            debug: false,
            map_form: MapForm::Indefinite,
            clock: Arc::new(SystemTime::now),
        }
    }
}

impl fmt::Debug for NsmConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NsmConfig")
            .field("state_dir", &self.state_dir)
            .field("debug", &self.debug)
            .field("map_form", &self.map_form)
            .finish_non_exhaustive()
    }
}

/// Misbehaviour that a test can switch on and off while the device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// Every attestation request ends in `InternalError`.
    pub attestation_fails: bool,
    /// Every request for randomness ends in `InternalError`.
    pub random_fails: bool,
    /// How long an attestation holds the device, which serves one request at a time.
    pub attestation_takes: Duration,
}

/// A running simulated device. One enclave, one device: the registers live as long as this value.
pub struct SimulatedNsm {
    // The Linux driver takes one lock for the whole of a request; so does this.
    device: Mutex<Device>,
    root_pem: String,
    module_id: String,
}

impl SimulatedNsm {
    /// Starts a device, making the simulator's root first if the state folder has none.
    ///
    /// # Errors
    /// [`NsmError`] if the state folder cannot be used or the configuration names a register
    /// that the enclave itself owns.
    pub fn open(config: NsmConfig) -> Result<Self, NsmError> {
        let root = SimulatedRoot::open(&config.state_dir, (config.clock)())?;
        let root_pem = root.pem().to_owned();
        let device = Device::start(root, config)?;
        let module_id = device.module_id().to_owned();
        Ok(Self { device: Mutex::new(device), root_pem, module_id })
    }

    /// Answers one request, as `nsm_process_request` does. Safe to call from many threads; blocks
    /// while another request is under way.
    pub fn process(&self, request: Request) -> Response {
        self.with_device(|device| device.process(request))
    }

    /// The certificate that signs all of this simulator's chains, in PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The module's id, `i-<17 hex digits>-enc<16 hex digits>`.
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.with_device(|device| device.set_faults(faults));
    }

    fn with_device<T>(&self, work: impl FnOnce(&mut Device) -> T) -> T {
        // Every change to the device is complete before anything that could panic.
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut device)
    }
}

impl fmt::Debug for SimulatedNsm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedNsm").field("module_id", &self.module_id).finish_non_exhaustive()
    }
}
