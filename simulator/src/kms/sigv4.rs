//! AWS Signature Version 4, the side that checks.
//!
//! Says who signed a request, or why nobody did, in AWS's words. Trusts the
//! credential look-up and the clock that it is given, and nothing in the request.
//! Never echoes the canonical request, as AWS does in places: it holds the session token.
//!
//! Source: IAM User Guide, "AWS Signature Version 4 for API requests". The texts are those that
//! AWS services of the JSON protocol answer with, as far as they are public.

mod authorization;
mod canonical;

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use http::request::Parts;
use subtle::ConstantTimeEq;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};
use zeroize::Zeroizing;

use authorization::Authorization;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
/// How far the clocks may differ; KMS says "5 min." in its own errors.
const SKEW: Duration = Duration::from_mins(5);
/// Where the session token of temporary credentials is.
pub(super) const TOKEN: &str = "x-amz-security-token";

/// What belongs to an access key.
#[derive(Clone)]
pub struct Credential {
    /// The secret access key.
    pub secret: Zeroizing<String>,
    /// For temporary credentials, the session token that must come with each request.
    pub session_token: Option<Zeroizing<String>>,
    /// When temporary credentials end.
    pub expires: Option<SystemTime>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// Whose signature a request carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Caller {
    /// The access key; whom it belongs to is known to whoever looked it up.
    pub access_key_id: String,
    /// The region that the request was signed for.
    pub region: String,
}

impl Caller {
    /// Refuses requests that were signed for another region than the one that serves them.
    ///
    /// # Errors
    /// [`SignatureError::Region`].
    pub fn require_region(&self, region: &str) -> Result<(), SignatureError> {
        if self.region == region { Ok(()) } else { Err(SignatureError::Region { got: self.region.clone() }) }
    }
}

/// Why a request is not authenticated. The text is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// No `Authorization` header.
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    /// An `Authorization` header that is not what Signature Version 4 says.
    #[error("{0}")]
    Incomplete(String),
    /// Signed in the query string; KMS clients never are.
    #[error(
        "Requests that are signed in the query string are not accepted here. Sign the Authorization header."
    )]
    Presigned,
    /// Signed longer ago than the clocks may differ.
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - 5 min.)")]
    Expired {
        /// The time in the request.
        signed: String,
        /// The earliest that would do.
        earliest: String,
        /// The time here.
        now: String,
    },
    /// Signed further ahead than the clocks may differ.
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + 5 min.)")]
    NotYetCurrent {
        /// The time in the request.
        signed: String,
        /// The latest that would do.
        latest: String,
        /// The time here.
        now: String,
    },
    /// The scope is of another day than the request.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != '{date}', from '{signed}'."
    )]
    ScopeDate {
        /// The day in the scope.
        scope: String,
        /// The day of the request.
        date: String,
        /// The time of the request.
        signed: String,
    },
    /// The scope is of another service.
    #[error("Credential should be scoped to correct service: '{wanted}'. ")]
    Service {
        /// The service that this is.
        wanted: String,
    },
    /// The scope is of another region.
    #[error("Credential should be scoped to a valid region, not '{got}'. ")]
    Region {
        /// The region in the scope.
        got: String,
    },
    /// The scope does not end as it must.
    #[error("Credential should be scoped with a valid terminator: 'aws4_request', not '{got}'. ")]
    Terminator {
        /// The end of the scope.
        got: String,
    },
    /// A header that must be signed is not.
    #[error("'{name}' must be a 'SignedHeader' in the AWS Authorization.")]
    NotSigned {
        /// Its name.
        name: String,
    },
    /// Another secret, or another request.
    #[error(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )]
    Mismatch,
    /// No such access key, or not the session token that belongs to it.
    #[error("The security token included in the request is invalid.")]
    UnrecognizedClient,
    /// Temporary credentials past their end.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
}

impl SignatureError {
    /// The exception that a client sees.
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::Incomplete(_) | Self::Presigned => "IncompleteSignatureException",
            Self::Expired { .. }
            | Self::NotYetCurrent { .. }
            | Self::ScopeDate { .. }
            | Self::Service { .. }
            | Self::Region { .. }
            | Self::Terminator { .. }
            | Self::NotSigned { .. }
            | Self::Mismatch => "InvalidSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::ExpiredToken => "ExpiredTokenException",
        }
    }
}

/// Says who signed this request for `service`.
///
/// The region is reported, not judged: see [`Caller::require_region`].
///
/// # Errors
/// [`SignatureError`], with the exception's name in [`SignatureError::code`] and its text as `Display`.
pub fn verify(
    parts: &Parts,
    body: &[u8],
    lookup: impl Fn(&str) -> Option<Credential>,
    service: &str,
    now: SystemTime,
) -> Result<Caller, SignatureError> {
    let authorization = Authorization::of(parts)?;
    let scope = authorization.scope()?;
    let signed_at = authorization::time_of(parts)?;
    check_scope(&scope, service, signed_at)?;
    check_clock(signed_at, now)?;
    check_signed_headers(parts, &authorization)?;
    let credential = lookup(scope.access_key_id).ok_or(SignatureError::UnrecognizedClient)?;
    check_session(parts, &credential, now)?;

    let request =
        canonical::request(parts, body, &authorization.signed_headers).ok_or(SignatureError::Mismatch)?;
    let date = basic(signed_at);
    let lines = [ALGORITHM, &date, &scope.to_string(), &canonical::sha256(&request)].join("\n");
    let mut expected = [0; 32];
    hex::decode_to_slice(authorization.signature, &mut expected).map_err(|_| SignatureError::Mismatch)?;
    let key = signing_key(&credential.secret, &scope);
    hmac::verify(&key, lines.as_bytes(), &expected).map_err(|_| SignatureError::Mismatch)?;
    Ok(Caller { access_key_id: scope.access_key_id.to_owned(), region: scope.region.to_owned() })
}

/// `KEY/YYYYMMDD/region/service/aws4_request`.
struct Scope<'a> {
    access_key_id: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    terminator: &'a str,
}

impl fmt::Display for Scope<'_> {
    /// As it is signed: without the access key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_key_id: _, date, region, service, terminator } = self;
        write!(f, "{date}/{region}/{service}/{terminator}")
    }
}

fn check_scope(scope: &Scope, service: &str, signed_at: OffsetDateTime) -> Result<(), SignatureError> {
    let signed = basic(signed_at);
    let day = signed.split('T').next().unwrap_or_default();
    if scope.terminator != TERMINATOR {
        return Err(SignatureError::Terminator { got: scope.terminator.to_owned() });
    }
    if scope.service != service {
        return Err(SignatureError::Service { wanted: service.to_owned() });
    }
    if scope.date != day {
        let (scope, date) = (scope.date.to_owned(), day.to_owned());
        return Err(SignatureError::ScopeDate { scope, date, signed });
    }
    Ok(())
}

fn check_clock(signed_at: OffsetDateTime, now: SystemTime) -> Result<(), SignatureError> {
    let now = OffsetDateTime::from(now);
    let (earliest, latest) = (now - SKEW, now + SKEW);
    if signed_at < earliest {
        let (signed, earliest, now) = (basic(signed_at), basic(earliest), basic(now));
        return Err(SignatureError::Expired { signed, earliest, now });
    }
    if signed_at > latest {
        let (signed, latest, now) = (basic(signed_at), basic(latest), basic(now));
        return Err(SignatureError::NotYetCurrent { signed, latest, now });
    }
    Ok(())
}

/// Without this, a header that changes what the request means could be added on the way.
fn check_signed_headers(parts: &Parts, authorization: &Authorization) -> Result<(), SignatureError> {
    let amazon = parts.headers.keys().map(http::HeaderName::as_str).filter(|name| name.starts_with("x-amz-"));
    let date = (!parts.headers.contains_key("x-amz-date")).then_some("date");
    let unsigned = ["host"]
        .into_iter()
        .chain(date)
        .chain(amazon)
        .find(|name| !authorization.signed_headers.iter().any(|signed| signed == name));
    match unsigned {
        None => Ok(()),
        Some("host") => Err(SignatureError::NotSigned { name: "Host".to_owned() }),
        Some(name) => Err(SignatureError::NotSigned { name: name.to_owned() }),
    }
}

fn check_session(parts: &Parts, credential: &Credential, now: SystemTime) -> Result<(), SignatureError> {
    let mut given = parts.headers.get_all(TOKEN).iter();
    let matches = match (&credential.session_token, given.next(), given.next()) {
        (None, None, None) => true,
        (Some(own), Some(given), None) => bool::from(own.as_bytes().ct_eq(given.as_bytes())),
        _ => false,
    };
    if !matches {
        return Err(SignatureError::UnrecognizedClient);
    }
    match credential.expires {
        Some(end) if end <= now => Err(SignatureError::ExpiredToken),
        _ => Ok(()),
    }
}

fn signing_key(secret: &str, scope: &Scope) -> hmac::Key {
    let start = Zeroizing::new(format!("AWS4{secret}"));
    let mut key = hmac::Key::new(HMAC_SHA256, start.as_bytes());
    for part in [scope.date, scope.region, scope.service, scope.terminator] {
        key = hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
    }
    key
}

/// `20150830T123600Z`.
fn basic(time: OffsetDateTime) -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    // Formatting a time into a text fails for no input.
    time.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_default()
}

fn parse_basic(text: &str) -> Option<OffsetDateTime> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    PrimitiveDateTime::parse(text, format).ok().map(PrimitiveDateTime::assume_utc)
}
