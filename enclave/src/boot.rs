//! From nothing to an enclave that may take keys.
//!
//! The order matters: the kernel's sources of randomness and time are checked before any secret
//! exists (R-1, C-1), and the policy is in a locked register before the first document names it (T-5).

use std::io;
use std::sync::Arc;

use adyton_shared::id::PolicyDigest;
use adyton_shared::policy::{Policy, PolicyError};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::sync::Semaphore;

use crate::attest::Attester;
use crate::clock::EnclaveClock;
use crate::event::Events;
use crate::identity::Identity;
use crate::kms::{KeyService, KmsConfig, RootsError};
use crate::named_keys::{ParentSources, Sources};
use crate::payload::Resources;
use crate::platform::{Attest, AttestError, Dial, Kernel, Nsm, TimeSource};
use crate::replay::ReplayMemory;

/// The register that holds the policy's digest.
pub const POLICY_PCR: u16 = 16;
/// The NSM's random generator, as the kernel names it.
const NSM_RNG: &str = "nsm-hwrng";
/// The hypervisor's clock, as the kernel names it.
const HYPERVISOR_CLOCK: &str = "kvm-clock";

/// Everything outside that an enclave needs.
pub struct Platform {
    /// The security module.
    pub nsm: Arc<dyn Nsm>,
    /// The way to the host.
    pub dial: Arc<dyn Dial>,
    /// The kernel's word on randomness and time.
    pub kernel: Arc<dyn Kernel>,
    /// Where events go.
    pub events: Arc<dyn Events>,
}

/// Why an enclave does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// A kernel file could not be read.
    #[error("the kernel does not show its {what}")]
    Kernel {
        /// What it should show.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The kernel's random source is not the NSM.
    #[error(
        "the kernel's random source is not {NSM_RNG}; this is no Nitro enclave, or its kernel lacks the NSM driver"
    )]
    RandomSource,
    /// The kernel's clock is not the hypervisor's (C-1).
    #[error("the kernel's clock source is not {HYPERVISOR_CLOCK}")]
    ClockSource,
    /// The policy is refused.
    #[error("the policy cannot be used")]
    Policy(#[from] PolicyError),
    /// The policy's trust anchors cannot be used.
    #[error("[kms] roots cannot be used")]
    Roots(#[from] RootsError),
    /// PCR16 could not be extended and locked; it can be only once in an enclave's life.
    #[error("PCR{POLICY_PCR} could not be extended with the policy and locked")]
    PolicyRegister,
    /// There is no attestation document.
    #[error("the NSM gave no attestation document")]
    Attest(#[from] AttestError),
    /// The system refused a limit.
    #[error("core dumps could not be switched off")]
    Limits(#[from] rustix::io::Errno),
}

/// A running enclave: what all its conversations share.
pub struct Enclave {
    pub(crate) policy: Policy,
    pub(crate) identity: Identity,
    pub(crate) attester: Arc<Attester>,
    pub(crate) clock: Arc<EnclaveClock>,
    pub(crate) keys: KeyService,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) replay: ReplayMemory,
    pub(crate) jobs: Arc<Semaphore>,
    /// What all payloads share, see [`crate::payload`].
    pub(crate) payloads: Resources,
    pub(crate) events: Arc<dyn Events>,
}

/// Forbids core dumps and reading of this process's memory by others of the same user.
///
/// # Errors
/// [`BootError::Limits`].
pub fn harden() -> Result<(), BootError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Has panics say where they happened and nothing else: their messages may quote data.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("?", 0), |at| (at.file(), at.line()));
        eprintln!("{{\"event\":\"panicked\",\"at\":\"{file}:{line}\"}}");
    }));
}

/// Starts an enclave under this policy file.
///
/// # Errors
/// [`BootError`]; nothing secret exists then.
pub async fn boot(platform: Platform, policy_file: &[u8]) -> Result<Arc<Enclave>, BootError> {
    let Platform { nsm, dial, kernel, events } = platform;
    check_kernel(kernel.as_ref())?;
    let policy = Policy::parse(policy_file)?;
    lock_policy(nsm.as_ref(), policy.digest)?;
    let attester = Arc::new(Attester::new(nsm));
    let (identity, clock) = Identity::create(&attester, policy.digest).await?;
    let clock = Arc::new(clock);
    let sources = Arc::new(ParentSources::new(Arc::clone(&dial)));
    let keys = KeyService::new(
        KmsConfig::from(&policy),
        dial,
        Arc::clone(&attester) as Arc<dyn Attest>,
        Arc::clone(&clock) as Arc<dyn TimeSource>,
    )?;
    let jobs = Arc::new(Semaphore::new(policy.limits.jobs));
    let payloads = Resources::default();
    let replay = ReplayMemory::default();
    Ok(Arc::new(Enclave { policy, identity, attester, clock, keys, sources, replay, jobs, payloads, events }))
}

fn check_kernel(kernel: &dyn Kernel) -> Result<(), BootError> {
    let unreadable = |what| move |source| BootError::Kernel { what, source };
    // The kernel ends both with a newline.
    if kernel.rng_current().map_err(unreadable("random source"))?.trim_end() != NSM_RNG {
        return Err(BootError::RandomSource);
    }
    if kernel.clocksource().map_err(unreadable("clock source"))?.trim_end() != HYPERVISOR_CLOCK {
        return Err(BootError::ClockSource);
    }
    Ok(())
}

fn lock_policy(nsm: &dyn Nsm, digest: PolicyDigest) -> Result<(), BootError> {
    let extend = Request::ExtendPCR { index: POLICY_PCR, data: digest.as_bytes().to_vec() };
    let Response::ExtendPCR { data: extended } = nsm.process(extend) else {
        return Err(BootError::PolicyRegister);
    };
    if !matches!(nsm.process(Request::LockPCR { index: POLICY_PCR }), Response::LockPCR) {
        return Err(BootError::PolicyRegister);
    }
    match nsm.process(Request::DescribePCR { index: POLICY_PCR }) {
        Response::DescribePCR { lock: true, data } if data == extended => Ok(()),
        _ => Err(BootError::PolicyRegister),
    }
}
