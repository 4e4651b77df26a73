//! The `Authorization` header and the time of a request.

use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::request::Parts;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::{ALGORITHM, Scope, SignatureError, parse_basic};

/// `AWS4-HMAC-SHA256 Credential=.., SignedHeaders=.., Signature=..`.
pub(super) struct Authorization<'a> {
    credential: &'a str,
    /// Lower case, sorted, each once.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: &'a str,
}

impl<'a> Authorization<'a> {
    pub(super) fn of(parts: &'a Parts) -> Result<Self, SignatureError> {
        let in_query =
            |name| parts.uri.query().is_some_and(|query| query.split('&').any(|pair| is(pair, name)));
        if in_query("X-Amz-Signature") || in_query("X-Amz-Algorithm") {
            return Err(SignatureError::Presigned);
        }
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let value = values.next().ok_or(SignatureError::MissingAuthenticationToken)?;
        if values.next().is_some() {
            return Err(incomplete("Authorization header must occur once."));
        }
        let text = value.to_str().map_err(|_| incomplete("Authorization header must be ASCII text."))?;
        Self::parse(text)
    }

    /// Parameters stand between commas and spaces.
    fn parse(text: &'a str) -> Result<Self, SignatureError> {
        let (algorithm, parameters) = text.split_once(' ').unwrap_or((text, ""));
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        if algorithm == ALGORITHM {
            for parameter in parameters.split([',', ' ']).filter(|parameter| !parameter.is_empty()) {
                let (name, value) = parameter.split_once('=').ok_or_else(|| {
                    incomplete(&format!(
                        "'{parameter}' not a valid key=value pair (missing equal-sign) in Authorization header."
                    ))
                })?;
                let place = match name {
                    "Credential" => &mut credential,
                    "SignedHeaders" => &mut signed_headers,
                    "Signature" => &mut signature,
                    _ => return Err(incomplete(&format!("'{name}' is unknown in Authorization header."))),
                };
                if !value.is_empty() && place.replace(value).is_some() {
                    return Err(incomplete(&format!("'{name}' occurs twice in Authorization header.")));
                }
            }
        }
        match (credential, signed_headers, signature) {
            (Some(credential), Some(headers), Some(signature)) => {
                let mut signed_headers = headers.split(';').map(str::to_lowercase).collect::<Vec<_>>();
                signed_headers.sort_unstable();
                signed_headers.dedup();
                Ok(Self { credential, signed_headers, signature })
            }
            (credential, headers, signature) => {
                let missing =
                    [("Credential", credential), ("Signature", signature), ("SignedHeaders", headers)]
                        .into_iter()
                        .filter(|(_, value)| value.is_none())
                        .map(|(name, _)| format!("Authorization header requires '{name}' parameter."));
                Err(incomplete(&missing.collect::<Vec<_>>().join(" ")))
            }
        }
    }

    pub(super) fn scope(&self) -> Result<Scope<'a>, SignatureError> {
        let parts = self.credential.split('/').collect::<Vec<_>>();
        let [access_key_id, date, region, service, terminator] = parts[..] else {
            return Err(incomplete(&format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{}'",
                self.credential
            )));
        };
        Ok(Scope { access_key_id, date, region, service, terminator })
    }
}

/// The time that was signed: of `X-Amz-Date`, else of `Date`.
pub(super) fn time_of(parts: &Parts) -> Result<OffsetDateTime, SignatureError> {
    let one = |name| {
        let mut values = parts.headers.get_all(name).iter();
        let value: Option<&HeaderValue> = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(incomplete(&format!("'{name}' must occur once."))),
        }
    };
    let malformed = |text: &str| {
        incomplete(&format!(
            "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    };
    if let Some(value) = one("x-amz-date")? {
        let text = value.to_str().unwrap_or_default().trim();
        return parse_basic(text).ok_or_else(|| malformed(text));
    }
    let value = one("date")?.ok_or_else(|| {
        incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    })?;
    let text = value.to_str().unwrap_or_default().trim();
    let time = parse_basic(text).or_else(|| OffsetDateTime::parse(text, &Rfc2822).ok());
    time.ok_or_else(|| malformed(text))
}

fn is(pair: &str, name: &str) -> bool {
    pair.split('=').next().is_some_and(|key| key.eq_ignore_ascii_case(name))
}

fn incomplete(text: &str) -> SignatureError {
    SignatureError::Incomplete(text.to_owned())
}
