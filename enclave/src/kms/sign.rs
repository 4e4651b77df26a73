//! AWS Signature Version 4 for KMS, by the crate `aws-sigv4`, at the enclave's own time.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::{Method, Request};

use super::error::KeyError;

const SERVICE: &str = "kms";
const JSON: &str = "application/x-amz-json-1.1";
const TARGET: &str = "x-amz-target";

/// Where requests go.
pub(super) struct Endpoint {
    pub(super) region: String,
    pub(super) host: String,
}

impl Endpoint {
    /// A signed request for one operation.
    pub(super) fn request(
        &self,
        operation: &'static str,
        body: Bytes,
        credentials: &Credentials,
        now_ms: u64,
    ) -> Result<Request<Bytes>, KeyError> {
        let target = format!("TrentService.{operation}");
        let headers = [(HOST.as_str(), self.host.as_str()), (CONTENT_TYPE.as_str(), JSON), (TARGET, &target)];
        let mut request = Request::builder().method(Method::POST).uri("/");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        for (name, value) in self.signature(&headers, &body, credentials, now_ms).ok_or(KeyError::Internal)? {
            request = request.header(name, value);
        }
        request.body(body).map_err(|_| KeyError::Internal)
    }

    fn signature(
        &self,
        headers: &[(&str, &str)],
        body: &[u8],
        credentials: &Credentials,
        now_ms: u64,
    ) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let identity = credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(now_ms))?)
            .settings(SigningSettings::default())
            .build()
            .ok()?
            .into();
        let uri = format!("https://{}/", self.host);
        let signable =
            SignableRequest::new("POST", uri, headers.iter().copied(), SignableBody::Bytes(body)).ok()?;
        let (instructions, _) = sign(signable, &params).ok()?.into_parts();
        let header = |(name, value): (&str, &str)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
        };
        instructions.headers().map(header).collect()
    }
}
