//! One call from its HTTP request to its answer.
//!
//! The order is the point: which operation, who asks, whether that is too often, and only then
//! what is in the body. Whatever the end, one line goes into the audit log.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use adyton_verifier::key_policy::Principal;
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;

use super::audit::Trail;
use super::conditions;
use super::decisions::{CallRecord, Judgement};
use super::error::{Answer, ApiError};
use super::faults::Mishap;
use super::grants::Wanted;
use super::input::Input;
use super::key::Millis;
use super::key_id::Place;
use super::operations::{self, Operation};
use super::sigv4::{self, SignatureError};
use super::user::User;
use super::{KmsError, Service, millis};

/// A request as it came in.
pub(super) struct Call {
    pub(super) request_id: String,
    pub(super) parts: Parts,
    pub(super) body: Vec<u8>,
    pub(super) peer: SocketAddr,
    pub(super) secure: bool,
}

/// What goes out.
pub(super) enum Outcome {
    Answer {
        status: u16,
        body: Vec<u8>,
    },
    /// A fault: the connection ends here.
    Hangup,
}

/// Somebody whose signature was right.
pub(super) struct Caller {
    pub(super) user: User,
    pub(super) principal: Principal,
    /// The region that the request was signed for, and with that the one it is served in.
    pub(super) region: String,
}

impl Caller {
    pub(super) fn account(&self) -> &str {
        self.principal.account()
    }

    pub(super) fn place(&self) -> Place<'_> {
        Place { region: &self.region, account: self.account() }
    }
}

/// What an operation works with.
pub(super) struct Session<'a> {
    pub(super) service: &'a Service,
    pub(super) caller: &'a Caller,
    pub(super) region: &'a str,
    pub(super) peer: SocketAddr,
    pub(super) secure: bool,
    pub(super) now: Millis,
    pub(super) faults: super::Faults,
    /// The alias that the request named its key by.
    pub(super) request_alias: Option<String>,
    /// Condition keys that follow from the request's parameters.
    pub(super) request_conditions: Vec<(String, String)>,
    /// The grant tokens that came with it.
    pub(super) grant_tokens: Vec<String>,
    /// The grant that the call asks for.
    pub(super) wanted_grant: Option<Wanted>,
    /// What policies and grants were asked, for explanations.
    pub(super) judgements: &'a RefCell<Vec<Judgement>>,
    /// What the audit log will say.
    pub(super) trail: &'a mut Trail,
}

impl Service {
    /// How long a fault holds the answer to this call back.
    pub(super) fn delay(&self, call: &Call) -> Duration {
        let name = Operation::of(&call.parts.headers).map_or("", Operation::name);
        let faults = self.faults();
        if faults.concerns(name) { Duration::from_millis(faults.latency_ms) } else { Duration::ZERO }
    }

    /// Answers one call. Blocks: it reads and writes the database.
    pub(super) fn answer(&self, call: &Call) -> Outcome {
        let time = (self.clock)();
        let mut trail = Trail::new(call, millis(time), &self.region);
        let mut caller = None;
        let judgements = RefCell::default();
        let operation = Operation::of(&call.parts.headers);
        let name = operation.map_or("", Operation::name);
        let mishap = self.faults().strike(name, time);
        let answer = match mishap {
            Some(Mishap::Drop) => return Outcome::Hangup,
            Some(Mishap::Garbage) => {
                return Outcome::Answer { status: 200, body: b"<html>\0not what was asked for".to_vec() };
            }
            Some(Mishap::Fail) => Err(ApiError::internal()),
            Some(Mishap::Throttle) => Err(ApiError::throttled()),
            None => operation
                .ok_or_else(|| ApiError::silent("UnknownOperationException"))
                .and_then(|operation| self.perform(operation, call, &mut caller, &judgements, &mut trail)),
        };
        self.audit.write(&trail, name, answer.as_ref().err());
        let error = answer.as_ref().err();
        self.decisions.write(&CallRecord {
            request_id: call.request_id.clone(),
            operation: name.to_owned(),
            time_unix_ms: trail.time,
            caller: caller.as_ref().map(|caller| caller.principal.arn().to_owned()),
            region: caller.as_ref().map(|caller| caller.region.clone()),
            error_code: error.map(|error| error.code.to_owned()),
            error_message: error.and_then(|error| error.message.clone()),
            judgements: judgements.take(),
        });
        let (status, body) = match answer {
            Ok(body) => (200, body),
            Err(error) => (error.status, error.body()),
        };
        // A `Value` with string keys always has an encoding.
        Outcome::Answer { status, body: serde_json::to_vec(&body).unwrap_or_default() }
    }

    fn perform(
        &self,
        operation: Operation,
        call: &Call,
        known: &mut Option<Caller>,
        judgements: &RefCell<Vec<Judgement>>,
        trail: &mut Trail,
    ) -> Answer<Value> {
        let caller = &*known.insert(self.authenticate(call)?);
        trail.caller(caller);
        if operation.is_cryptographic() && !self.throttle.admit(caller.account(), trail.time) {
            return Err(ApiError::throttled());
        }
        let input = Input::parse(&call.body)?;
        trail.parameters(&call.body);
        let faults = self.faults().clone();
        let faults = if faults.concerns(operation.name()) { faults } else { super::Faults::default() };
        let mut session = Session {
            service: self,
            caller,
            region: &caller.region,
            peer: call.peer,
            secure: call.secure,
            now: trail.time,
            faults,
            request_alias: None,
            request_conditions: conditions::of_request(operation.name(), &input),
            grant_tokens: grant_tokens(&input),
            wanted_grant: None,
            judgements,
            trail,
        };
        operations::run(operation, &mut session, input)
    }

    /// Who signed the call.
    fn authenticate(&self, call: &Call) -> Answer<Caller> {
        let lookup = |id: &str| match self.store.user(id) {
            Ok(user) => user.map(|user| user.credential()),
            Err(error) => {
                let _logged = ApiError::from(error);
                None
            }
        };
        let signed = sigv4::verify(&call.parts, &call.body, lookup, "kms", (self.clock)())?;
        signed.require_region(host_region(&call.parts.headers).unwrap_or(&signed.region))?;
        let user = self.store.user(&signed.access_key_id)?.ok_or(SignatureError::UnrecognizedClient)?;
        let principal = Principal::parse(&user.principal_arn).map_err(|_| ApiError::internal())?;
        Ok(Caller { user, principal, region: signed.region })
    }
}

/// The tokens of a request; whether they have the right form is the operation's to say.
fn grant_tokens(input: &Input) -> Vec<String> {
    let tokens = input.peek("GrantTokens").and_then(Value::as_array).into_iter().flatten();
    tokens.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The region of an endpoint's name, `kms.REGION.localhost`. Other names serve every region.
fn host_region(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get(http::header::HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.strip_prefix("kms.")?.strip_suffix(".localhost")
}

impl From<SignatureError> for ApiError {
    fn from(error: SignatureError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<KmsError> for ApiError {
    /// The service's own failures. What exactly failed is for the log, not for the caller.
    fn from(error: KmsError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the local KMS failed");
        Self::internal()
    }
}
