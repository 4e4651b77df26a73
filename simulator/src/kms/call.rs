//! One call from its HTTP request to its answer.
//!
//! The order is the point: which operation, who asks, whether that is too often, and only then
//! what is in the body. Whatever the end, one line goes into the audit log.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Instant;

use adyton_verifier::key_policy::Principal;
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;

use super::audit::Trail;
use super::conditions;
use super::decisions::{CallRecord, Judgement};
use super::error::{Answer, ApiError};
use super::faults::{Fate, Mishap, is_change_of_access};
use super::grants::Wanted;
use super::input::Input;
use super::key::{KeyRecord, Millis};
use super::key_id::{Names, Place};
use super::operations::{self, Operation};
use super::quota::{self, Counts, Group};
use super::sigv4::{self, SignatureError};
use super::stale::Access;
use super::sts;
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

impl Call {
    /// The operation of KMS or the action of STS that it asks for.
    pub(super) fn operation(&self) -> Option<&'static str> {
        if sts::is_query(&self.parts) {
            sts::action_of(&self.body)
        } else {
            Operation::of(&self.parts.headers).map(Operation::name)
        }
    }
}

const JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";

/// What goes out.
pub(super) enum Outcome {
    Answer {
        status: u16,
        kind: &'static str,
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
    /// The session of a role that the token holds.
    pub(super) session: Option<sts::Session>,
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
    charged: Charged,
}

/// What a call has been counted against so far.
enum Charged {
    Fixed,
    ByKeys(Vec<Group>),
}

impl Session<'_> {
    /// Every operation tells each key that it has found, before it does anything with it: for the audit
    /// log, and for the quota of the key's kind.
    ///
    /// # Errors
    /// `ThrottlingException`.
    pub(super) fn meets(&mut self, key: &KeyRecord) -> Answer<()> {
        self.trail.key(key);
        let group = quota::group_of(key.spec);
        match &mut self.charged {
            Charged::ByKeys(groups) if !groups.contains(&group) => {
                groups.push(group);
                self.service.charge(self.caller, group, self.now)
            }
            Charged::ByKeys(_) | Charged::Fixed => Ok(()),
        }
    }

    /// A call that failed before its key was known counts as one with a symmetric key.
    fn settle(&self) {
        if matches!(&self.charged, Charged::ByKeys(groups) if groups.is_empty()) {
            let _answered_already = self.service.charge(self.caller, quota::SYMMETRIC, self.now);
        }
    }
}

impl Service {
    /// Takes what faults do to this call.
    pub(super) fn fate(&self, call: &Call) -> Fate {
        self.running().fate(call.operation().unwrap_or_default(), millis((self.clock)()))
    }

    /// Answers one call. Blocks: it reads and writes the database.
    pub(super) fn answer(&self, call: &Call, fate: Fate) -> Outcome {
        let began = Instant::now();
        let mut caller = None;
        let judgements = RefCell::default();
        let name = call.operation().unwrap_or_default();
        let lost = fate.mishap == Some(Mishap::DropAfter);
        let answer = match fate.mishap {
            Some(Mishap::Drop) => return Outcome::Hangup,
            Some(Mishap::Garbage) => {
                let body = b"<html>\0not what was asked for".to_vec();
                return Outcome::Answer { status: 200, kind: JSON, body };
            }
            Some(Mishap::Refuse(error)) => Err(error),
            Some(Mishap::DropAfter) | None => Ok(()),
        };
        let mut trail = Trail::new(call, millis((self.clock)()), &self.region);
        let (error, outcome) = if sts::is_query(&call.parts) {
            let answer = answer.and_then(|()| self.sts(call, &mut caller, &mut trail));
            let (status, body) = sts::encode(call, name, &answer);
            (answer.err(), Outcome::Answer { status, kind: XML, body })
        } else {
            let answer =
                answer.and_then(|()| self.kms(call, fate.stale, &mut caller, &judgements, &mut trail));
            let (status, body) = match &answer {
                Ok(body) => (200, body),
                Err(error) => (error.status, &error.body()),
            };
            // A `Value` with string keys always has an encoding.
            let body = serde_json::to_vec(body).unwrap_or_default();
            (answer.err(), Outcome::Answer { status, kind: JSON, body })
        };
        self.audit.write(&trail, name, error.as_ref());
        self.decisions.write(&CallRecord {
            request_id: call.request_id.clone(),
            operation: name.to_owned(),
            time_unix_ms: trail.time,
            caller: caller.as_ref().map(|caller| caller.principal.arn().to_owned()),
            region: caller.as_ref().map(|caller| caller.region.clone()),
            error_code: error.as_ref().map(|error| error.code.to_owned()),
            error_message: error.as_ref().and_then(|error| error.message.clone()),
            judgements: judgements.take(),
        });
        self.metrics.count(name, error.as_ref().map(|error| error.code), began.elapsed());
        if lost { Outcome::Hangup } else { outcome }
    }

    fn kms(
        &self,
        call: &Call,
        stale: Option<Millis>,
        known: &mut Option<Caller>,
        judgements: &RefCell<Vec<Judgement>>,
        trail: &mut Trail,
    ) -> Answer<Value> {
        let operation = Operation::of(&call.parts.headers);
        let operation = operation.ok_or_else(|| ApiError::silent("UnknownOperationException"))?;
        self.perform(operation, call, stale, known, judgements, trail)
    }

    fn perform(
        &self,
        operation: Operation,
        call: &Call,
        stale: Option<Millis>,
        known: &mut Option<Caller>,
        judgements: &RefCell<Vec<Judgement>>,
        trail: &mut Trail,
    ) -> Answer<Value> {
        let caller = &*known.insert(self.authenticate(call, "kms")?);
        trail.caller(caller);
        self.serve(operation, caller, call, stale, judgements, trail)
    }

    /// Does what a caller asks for whose signature was right.
    pub(super) fn serve(
        &self,
        operation: Operation,
        caller: &Caller,
        call: &Call,
        stale: Option<Millis>,
        judgements: &RefCell<Vec<Judgement>>,
        trail: &mut Trail,
    ) -> Answer<Value> {
        let input = Input::parse(&call.body);
        let pair_spec = input.as_ref().ok().and_then(|input| input.peek("KeyPairSpec")?.as_str());
        let counts = quota::counts(operation.name(), pair_spec);
        if let Counts::Against(group) = counts {
            self.charge(caller, group, trail.time)?;
        }
        let input = input?;
        trail.parameters(&call.body);
        let before = match stale {
            Some(time) => self.access_before(operation, caller, &input, trail.time)?.map(|seen| (time, seen)),
            None => None,
        };
        let faults = self.running().faults().clone();
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
            charged: match counts {
                Counts::Against(_) => Charged::Fixed,
                Counts::AgainstTheKeysGroup => Charged::ByKeys(Vec::new()),
            },
        };
        let answer = operations::run(operation, &mut session, input);
        session.settle();
        if let (Ok(_), Some((time, (arn, access)))) = (&answer, before) {
            self.keep(&arn, access, trail.time, trail.time.saturating_add(time));
        }
        answer
    }

    /// The key whose access the call is about to change, and how that is seen before.
    fn access_before(
        &self,
        operation: Operation,
        caller: &Caller,
        input: &Input,
        now: Millis,
    ) -> Answer<Option<(String, Access)>> {
        let name = input.peek("KeyId").and_then(Value::as_str);
        let Some(name) = name.filter(|_| is_change_of_access(operation.name())) else { return Ok(None) };
        // A name that leads nowhere is refused by the operation itself.
        let Ok(named) = self.find_key(name, Names::KeysOnly, caller.place(), now) else { return Ok(None) };
        let access = self.access_seen(&named.key, now)?;
        Ok(Some((named.key.arn, access)))
    }

    fn charge(&self, caller: &Caller, group: Group, now: Millis) -> Answer<()> {
        if self.throttle.admit(caller.account(), &caller.region, group, now) {
            Ok(())
        } else {
            Err(ApiError::throttled())
        }
    }

    /// Who signed the call for this service.
    pub(super) fn authenticate(&self, call: &Call, service: &str) -> Answer<Caller> {
        let token = call.parts.headers.get(sigv4::TOKEN).and_then(|token| token.to_str().ok());
        let lookup = |id: &str| {
            let user = self.store.user(id).unwrap_or_else(|error| {
                let _logged = ApiError::from(error);
                None
            });
            match (user, token) {
                (Some(user), _) => Some(user.credential()),
                (None, Some(token)) => Some(self.session(id, token)?.credential(token)),
                (None, None) => None,
            }
        };
        let signed = sigv4::verify(&call.parts, &call.body, lookup, service, (self.clock)())?;
        signed.require_region(host_region(&call.parts.headers).unwrap_or(&signed.region))?;
        let region = signed.region;
        if let Some(user) = self.store.user(&signed.access_key_id)? {
            let principal = Principal::parse(&user.principal_arn).map_err(|_| ApiError::internal())?;
            return Ok(Caller { user, principal, region, session: None });
        }
        let session = token.and_then(|token| self.session(&signed.access_key_id, token));
        let session = session.ok_or(SignatureError::UnrecognizedClient)?;
        // A role that is gone takes its sessions along.
        let role = self.store.role(&session.role_arn)?.ok_or(SignatureError::UnrecognizedClient)?;
        let principal = Principal::assumed(&role.arn, &session.name).map_err(|_| ApiError::internal())?;
        let user = session.user(principal.arn(), role.administrator);
        Ok(Caller { user, principal, region, session: Some(session) })
    }

    fn session(&self, access_key_id: &str, token: &str) -> Option<sts::Session> {
        sts::Session::open(access_key_id, token, |identity, sealed| self.store.open_sealed(identity, sealed))
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
