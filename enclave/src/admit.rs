//! Stage 1: is this a request that the policy knows, for this enclave, now, and for the first time?
//!
//! Everything here is decided before a byte of the payload is looked at and before KMS hears of it.

use std::sync::Arc;

use adyton_shared::ErrorCode;
use adyton_shared::cose::CoseError;
use adyton_shared::id::Sha256Digest;
use adyton_shared::job::{Leaving, Outcome};
use adyton_shared::limits::{CLOCK_SKEW_SECONDS, MAX_REQUEST_LIFETIME_SECONDS};
use adyton_shared::message::Refusal;
use adyton_shared::policy::{Allowance, ContextRefusal, ReleaseRefusal};
use adyton_shared::request::{Request, RequestError, UnverifiedRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Duration, timeout};

use crate::boot::Enclave;
use crate::platform::TimeSource;
use crate::replay::ReplayRefusal;

/// How long an admitted job waits for its turn.
const TURN_DEADLINE: Duration = Duration::from_secs(10);
/// When to try again if no turn came, in milliseconds.
const RETRY_AFTER_MS: u64 = 2000;

/// A request that may be served.
pub struct Admitted {
    pub(crate) request: Request,
    pub(crate) job_digest: Sha256Digest,
    /// What the job comes down to.
    pub(crate) outcome: Outcome,
    /// The least group of records that figures may be about.
    pub(crate) minimum_group: u64,
    /// How many aggregates of the payload's object this requester may ask for, if the job is one.
    pub(crate) budget: Option<u32>,
    /// Whether the result's length is to be hidden.
    pub(crate) pad: bool,
    /// Milliseconds since 1970.
    pub(crate) started: u64,
    /// Held until the job has ended, however it ends.
    pub(crate) _turn: OwnedSemaphorePermit,
}

impl Admitted {
    /// Admits a signed request.
    ///
    /// # Errors
    /// A [`Refusal`] with a code of 2xx, or [`ErrorCode::Busy`].
    pub async fn admit(enclave: &Enclave, signed: &[u8]) -> Result<Self, Refusal> {
        let started = enclave.clock.unix_millis();
        let request = verify(enclave, signed)?;
        check_time(&request, started / 1000)?;
        let policy = &enclave.policy;
        let outcome = request.job.outcome().map_err(|error| job_refusal(&error))?;
        let rule = policy.rule_for(&request.requester, &request.job.to, &outcome).map_err(release_refusal)?;
        // A digest has one length, and the payload's own is known.
        let pad = rule.pad && !matches!(outcome.leaving, Leaving::Bytes | Leaving::Digest(_));
        if request.job.keys().into_iter().any(|name| !policy.keys.contains_key(name)) {
            return Err(ErrorCode::KeyUnknown.into());
        }
        policy.context.check_claims(&request.claims).map_err(context_code)?;
        let job_digest = request.job.digest().map_err(|_| ErrorCode::RequestMalformed)?;
        // The last check that can fail for the requester's own reasons is the one that uses the id up.
        enclave.replay.take(request.id, request.expires, started / 1000).map_err(
            |refusal| match refusal {
                ReplayRefusal::Seen => ErrorCode::RequestReplayed,
                ReplayRefusal::Expired => ErrorCode::RequestExpired,
                ReplayRefusal::Full => ErrorCode::ReplayMemoryFull,
            },
        )?;
        let budget = match &rule.what {
            Allowance::Aggregate(rule) => Some(rule.budget),
            Allowance::Fields(_) | Allowance::Digest | Allowance::Everything => None,
        };
        let minimum_group = rule.what.minimum_group();
        let turn = timeout(TURN_DEADLINE, Arc::clone(&enclave.jobs).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(Refusal { retry_after_ms: Some(RETRY_AFTER_MS), ..ErrorCode::Busy.into() });
        };
        Ok(Self { request, job_digest, outcome, minimum_group, budget, pad, started, _turn: turn })
    }
}

fn verify(enclave: &Enclave, signed: &[u8]) -> Result<Request, ErrorCode> {
    let unverified = UnverifiedRequest::parse(signed).map_err(request_code)?;
    let key = enclave
        .policy
        .requesters
        .get(unverified.requester_unverified())
        .ok_or(ErrorCode::RequesterUnknown)?;
    let request = unverified.verify(key).map_err(request_code)?;
    if request.enclave != enclave.identity.id() {
        return Err(ErrorCode::WrongEnclave);
    }
    Ok(request)
}

fn request_code(error: RequestError) -> ErrorCode {
    match error {
        RequestError::Cose(CoseError::Signature) => ErrorCode::RequestSignature,
        _ => ErrorCode::RequestMalformed,
    }
}

/// Times in seconds since 1970.
fn check_time(request: &Request, now: u64) -> Result<(), ErrorCode> {
    let lifetime = request.expires.checked_sub(request.issued).ok_or(ErrorCode::RequestLifetime)?;
    if lifetime > MAX_REQUEST_LIFETIME_SECONDS || request.issued > now.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(ErrorCode::RequestLifetime);
    }
    if request.expires <= now { Err(ErrorCode::RequestExpired) } else { Ok(()) }
}

fn job_refusal(error: &adyton_shared::job::JobError) -> Refusal {
    let step = error.step().and_then(|step| u16::try_from(step).ok());
    Refusal { step, ..ErrorCode::JobInvalid.into() }
}

fn release_refusal(refusal: ReleaseRefusal) -> Refusal {
    let code = match refusal {
        ReleaseRefusal::NoRule => ErrorCode::ReleaseNoRule,
        _ => ErrorCode::ReleaseFieldRefused,
    };
    Refusal { step: refusal.step(), ..code.into() }
}

pub(crate) fn context_code(refusal: ContextRefusal) -> ErrorCode {
    match refusal {
        ContextRefusal::Claim => ErrorCode::ClaimMismatch,
        ContextRefusal::Version => ErrorCode::VersionTooOld,
        _ => ErrorCode::ContextRefused,
    }
}
