//! Signature Version 4 over one KMS call, by the enclave's own clock.

use std::time::{Duration, UNIX_EPOCH};

use adyton_shared::message::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::endpoint::Signed;
use super::error::KeyError;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// What a call is signed for.
pub(super) struct Scope<'a> {
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    /// Milliseconds since 1970.
    pub(super) now: u64,
}

/// Signs a call of this operation with this body.
pub(super) fn sign_call(
    scope: &Scope<'_>,
    credentials: &Credentials,
    operation: &str,
    body: Vec<u8>,
) -> Result<Signed, KeyError> {
    let target = format!("TrentService.{operation}");
    let headers = [("host", scope.host), ("content-type", CONTENT_TYPE), ("x-amz-target", &target)];
    let identity = aws_credential_types::Credentials::new(
        credentials.access_key_id.clone(),
        credentials.secret_access_key.clone(),
        credentials.session_token.clone(),
        None,
        "parent",
    )
    .into();
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(scope.now)).ok_or(KeyError::Internal)?;
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(scope.region)
        .name("kms")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| KeyError::Internal)?
        .into();
    let uri = format!("https://{}/", scope.host);
    let request = SignableRequest::new("POST", uri, headers.into_iter(), SignableBody::Bytes(&body))
        .map_err(|_| KeyError::Internal)?;
    let (instructions, _) =
        sign(request, &parameters).map_err(|_| KeyError::CredentialsRejected)?.into_parts();
    let mut signed = HeaderMap::new();
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| KeyError::Internal)?;
        let mut value = HeaderValue::from_str(value).map_err(|_| KeyError::CredentialsRejected)?;
        value.set_sensitive(true);
        signed.insert(name, value);
    }
    Ok(Signed { headers: signed, body: Bytes::from(body) })
}
