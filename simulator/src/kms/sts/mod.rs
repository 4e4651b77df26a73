//! The part of AWS STS that clients of KMS need: who am I, and roles.
//!
//! It speaks STS's query protocol (form in, XML out) on the same address as KMS, under signatures for
//! the service `sts`. Credentials of a role's session live in their session token, sealed under the
//! root key: nothing is stored, nothing has to be cleaned up, and an expired token is only bytes.
//!
//! Source: AWS STS API Reference, version 2011-06-15.

mod assume;
mod form;
mod role;
mod session;
mod xml;

use http::request::Parts;

use super::Service;
use super::audit::Trail;
use super::call::{Call, Caller};
use super::error::{Answer, ApiError};
use super::iam;
use form::Form;
pub use role::{Role, RoleError};
pub(super) use session::Session;

/// The actions that are here.
pub(super) const ACTIONS: [&str; 2] = ["AssumeRole", "GetCallerIdentity"];
/// The version of the API.
const VERSION: &str = "2011-06-15";

/// Whether a request is one of the query protocol.
pub(super) fn is_query(parts: &Parts) -> bool {
    let kind = parts.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let form = kind.is_some_and(|kind| kind.trim_start().starts_with("application/x-www-form-urlencoded"));
    form && !parts.headers.contains_key("x-amz-target")
}

/// The action of a form, if it is one that is here.
pub(super) fn action_of(body: &[u8]) -> Option<&'static str> {
    let form = Form::parse(body).ok()?;
    ACTIONS.into_iter().find(|action| form.get("Action") == Some(action))
}

/// An answer's status and its XML.
pub(super) fn encode(call: &Call, action: &str, answer: &Answer<String>) -> (u16, Vec<u8>) {
    let (status, text) = match answer {
        Ok(result) => (200, xml::response(action, result, &call.request_id)),
        Err(error) => xml::error(error, &call.request_id),
    };
    (status, text.into_bytes())
}

/// The name of an error in this protocol.
pub(super) fn code_of(error: &ApiError) -> &'static str {
    xml::name_of(error).0
}

impl Service {
    /// Answers one call of STS with what stands inside the result element.
    pub(super) fn sts(&self, call: &Call, known: &mut Option<Caller>, trail: &mut Trail) -> Answer<String> {
        let caller = &*known.insert(self.authenticate(call, "sts")?);
        trail.caller(caller);
        let form = Form::parse(&call.body)?;
        if form.get("Version").is_some_and(|version| version != VERSION) {
            return Err(no_action(&form));
        }
        match form.get("Action") {
            Some("GetCallerIdentity") => Ok(identity(caller)),
            Some("AssumeRole") => self.assume_role(call, caller, &form, trail),
            Some(_) => Err(no_action(&form)),
            None => Err(ApiError::new("MissingAction", "The request must contain the parameter Action.")),
        }
    }
}

fn no_action(form: &Form) -> ApiError {
    let (action, version) = (form.get("Action").unwrap_or_default(), form.get("Version").unwrap_or_default());
    ApiError::new("InvalidAction", format!("Could not find operation {action} for version {version}"))
}

/// `GetCallerIdentity`, which needs no permission.
fn identity(caller: &Caller) -> String {
    xml::elements(&[
        ("Arn", caller.principal.arn()),
        ("UserId", &iam::unique_id(&caller.principal)),
        ("Account", caller.account()),
    ])
}
