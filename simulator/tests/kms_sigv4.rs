//! Signatures that others made, and every way in which one is not accepted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adyton_simulator::kms::sigv4::{Caller, Credential, SignatureError, verify};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::request::Parts;
use http::{HeaderValue, Request};

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// 2026-01-02T03:04:05Z.
const NOW: u64 = 1_767_323_045;
const BODY: &[u8] = br#"{"KeyId":"alias/a"}"#;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn credential(token: Option<&str>, expires: Option<u64>) -> Credential {
    Credential {
        secret: SECRET.to_owned().into(),
        session_token: token.map(|token| token.to_owned().into()),
        expires: expires.map(at),
    }
}

/// A request as a KMS client makes it, signed by the crate that the AWS SDK for Rust signs with.
struct Client {
    uri: &'static str,
    service: &'static str,
    secret: &'static str,
    token: Option<&'static str>,
    time: u64,
    header: Option<(&'static str, &'static str)>,
    payload_header: bool,
}

const CLIENT: Client = Client {
    uri: "https://kms.eu-west-1.amazonaws.com/",
    service: "kms",
    secret: SECRET,
    token: None,
    time: NOW,
    header: None,
    payload_header: false,
};

impl Client {
    fn request(&self) -> Parts {
        let mut request = Request::post(self.uri)
            .header("host", "kms.eu-west-1.amazonaws.com")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "TrentService.DescribeKey");
        if let Some((name, value)) = self.header {
            request = request.header(name, value);
        }
        let mut request = request.body(()).unwrap();
        let token = self.token.map(str::to_owned);
        let identity: Identity = Credentials::new(KEY_ID, self.secret, token, None, "test").into();
        let mut settings = SigningSettings::default();
        if self.payload_header {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name(self.service)
            .time(at(self.time))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
        let signable = SignableRequest::new("POST", self.uri, headers, SignableBody::Bytes(BODY)).unwrap();
        let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
        instructions.apply_to_request_http1x(&mut request);
        request.into_parts().0
    }
}

/// Checks at [`NOW`] with a long-term key.
fn check(parts: &Parts) -> Result<Caller, SignatureError> {
    check_with(parts, &credential(None, None))
}

fn check_with(parts: &Parts, credential: &Credential) -> Result<Caller, SignatureError> {
    verify(parts, BODY, |id| (id == KEY_ID).then(|| credential.clone()), "kms", at(NOW))
}

/// A well-signed request whose `Authorization` header was edited.
fn with_authorization(edit: impl Fn(&str) -> String) -> Parts {
    let mut parts = CLIENT.request();
    let edited = edit(parts.headers["authorization"].to_str().unwrap());
    parts.headers.insert("authorization", HeaderValue::from_str(&edited).unwrap());
    parts
}

#[track_caller]
fn assert_refused(parts: &Parts, code: &str, text: &str) {
    let error = check(parts).unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (code, text));
}

#[test]
fn accepts_what_the_aws_sdk_signs() {
    for client in [
        CLIENT,
        Client { payload_header: true, ..CLIENT },
        Client { header: Some(("x-amz-user-agent", "  two   spaces ")), ..CLIENT },
        Client { uri: "https://kms.eu-west-1.amazonaws.com/a%20b/./c/?x=1&a=%2Fb&a=&y", ..CLIENT },
        Client { uri: "https://kms.eu-west-1.amazonaws.com", ..CLIENT },
    ] {
        let caller = check(&client.request()).unwrap();
        assert_eq!((caller.access_key_id.as_str(), caller.region.as_str()), (KEY_ID, "eu-west-1"));
        assert_eq!(caller.require_region("eu-west-1"), Ok(()));
        let error = caller.require_region("us-east-1").unwrap_err();
        assert_eq!(error.code(), "InvalidSignatureException");
        assert_eq!(error.to_string(), "Credential should be scoped to a valid region, not 'eu-west-1'. ");
    }
}

#[test]
fn accepts_the_aws_signing_test_suite() {
    let cases = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/sigv4")).unwrap();
    let mut seen = 0;
    for case in cases.map(|entry| entry.unwrap().path()) {
        let Some(name) = case.file_name().unwrap().to_str().unwrap().strip_suffix(".http") else { continue };
        let (parts, body) = read_request(&std::fs::read_to_string(&case).unwrap());
        let token = parts.headers.get("x-amz-security-token").map(|token| token.to_str().unwrap().to_owned());
        let lookup = |id: &str| (id == KEY_ID).then(|| credential(token.as_deref(), None));
        let result = verify(&parts, body.as_bytes(), lookup, "service", at(1_440_938_160));
        if name == "post-sts-header-after" {
            assert_eq!(result, Err(SignatureError::NotSigned { name: "x-amz-security-token".into() }));
        } else {
            assert_eq!(result.map(|caller| caller.region), Ok("us-east-1".into()), "{name}");
        }
        seen += 1;
    }
    assert_eq!(seen, 30);
}

/// Reads a request of the suite; header lines may be folded (RFC 9112 §5.2).
fn read_request(text: &str) -> (Parts, String) {
    let text = text.replace("\n ", " ");
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap();
    let (method, rest) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(rest.strip_suffix(" HTTP/1.1").unwrap());
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        request = request.header(name, value.trim());
    }
    (request.body(()).unwrap().into_parts().0, body.to_owned())
}

#[test]
fn refuses_requests_that_nobody_signed() {
    let mut unsigned = CLIENT.request();
    unsigned.headers.remove("authorization");
    assert_refused(&unsigned, "MissingAuthenticationTokenException", "Missing Authentication Token");

    for uri in ["/?X-Amz-Signature=00", "/?a=b&x-amz-algorithm=AWS4-HMAC-SHA256"] {
        let mut presigned = CLIENT.request();
        presigned.uri = uri.parse().unwrap();
        assert_eq!(check(&presigned), Err(SignatureError::Presigned));
        assert_eq!(SignatureError::Presigned.code(), "IncompleteSignatureException");
    }
}

#[test]
fn refuses_an_authorization_header_that_is_not_complete() {
    let requires = |names: &[&str]| {
        let texts = names.iter().map(|name| format!("Authorization header requires '{name}' parameter."));
        texts.collect::<Vec<_>>().join(" ")
    };
    let all = requires(&["Credential", "Signature", "SignedHeaders"]);
    for header in [
        "",
        "AWS4-HMAC-SHA256",
        "Bearer token",
        "AWS AKIDEXAMPLE:c2ln",
        "AWS4-ECDSA-P256-SHA256 Credential=a",
    ] {
        assert_refused(&with_authorization(|_| header.to_owned()), "IncompleteSignatureException", &all);
    }
    let signature = requires(&["Signature"]);
    for (edited, text) in [
        (with_authorization(|good| good.split(", Signature").next().unwrap().to_owned()), signature.as_str()),
        (
            with_authorization(|good| format!("{good}, Signature=00")),
            "'Signature' occurs twice in Authorization header.",
        ),
        (
            with_authorization(|good| format!("{good}, Version=4")),
            "'Version' is unknown in Authorization header.",
        ),
        (
            with_authorization(|good| good.replace("AKID", "AKID ")),
            "'EXAMPLE/20260102/eu-west-1/kms/aws4_request' not a valid key=value pair (missing equal-sign) \
             in Authorization header.",
        ),
        (
            with_authorization(|good| good.replace("/aws4_request", "")),
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, \
             got 'AKIDEXAMPLE/20260102/eu-west-1/kms'",
        ),
    ] {
        assert_refused(&edited, "IncompleteSignatureException", text);
    }
    let mut twice = CLIENT.request();
    twice.headers.append("authorization", HeaderValue::from_static("AWS4-HMAC-SHA256 x"));
    assert_refused(&twice, "IncompleteSignatureException", "Authorization header must occur once.");
}

#[test]
fn refuses_requests_without_one_well_formed_time() {
    let mut none = CLIENT.request();
    none.headers.remove("x-amz-date");
    assert_refused(
        &none,
        "IncompleteSignatureException",
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
    );
    for text in ["", "20260102", "2026-01-02T03:04:05Z", "20260102T030405", "20261302T030405Z", "now"] {
        let mut malformed = CLIENT.request();
        malformed.headers.insert("x-amz-date", HeaderValue::from_static(text));
        let expected = format!(
            "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        );
        assert_refused(&malformed, "IncompleteSignatureException", &expected);
    }
    let mut twice = CLIENT.request();
    twice.headers.append("x-amz-date", HeaderValue::from_static("20260102T030405Z"));
    assert_refused(&twice, "IncompleteSignatureException", "'x-amz-date' must occur once.");
    // The time of the Date header counts only if it is signed.
    let mut date = none;
    date.headers.insert("date", HeaderValue::from_static("Fri, 02 Jan 2026 03:04:05 GMT"));
    assert_refused(
        &date,
        "InvalidSignatureException",
        "'date' must be a 'SignedHeader' in the AWS Authorization.",
    );
}

/// Signed by hand after the documentation: SDKs always send `X-Amz-Date`.
#[test]
fn accepts_the_time_of_a_signed_date_header() {
    use aws_lc_rs::digest::{SHA256, digest};
    use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
    let date = "Fri, 02 Jan 2026 03:04:05 GMT";
    let body = hex::encode(digest(&SHA256, BODY));
    let canonical = format!("POST\n/\n\ndate:{date}\nhost:localhost\n\ndate;host\n{body}");
    let scope = "20260102/eu-west-1/kms/aws4_request";
    let hash = hex::encode(digest(&SHA256, canonical.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n20260102T030405Z\n{scope}\n{hash}");
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| {
        sign(&Key::new(HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec()
    });
    let signature = hex::encode(sign(&Key::new(HMAC_SHA256, &key), to_sign.as_bytes()));
    let request = Request::post("/").header("host", "localhost").header("date", date).header(
        "authorization",
        format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders=date;host, Signature={signature}"
        ),
    );
    assert!(check(&request.body(()).unwrap().into_parts().0).is_ok());
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    for (time, accepted) in [(NOW - 300, true), (NOW + 300, true), (NOW - 301, false), (NOW + 301, false)] {
        assert_eq!(check(&Client { time, ..CLIENT }.request()).is_ok(), accepted, "{time}");
    }
    assert_refused(
        &Client { time: NOW - 400, ..CLIENT }.request(),
        "InvalidSignatureException",
        "Signature expired: 20260102T025725Z is now earlier than 20260102T025905Z (20260102T030405Z - 5 min.)",
    );
    assert_refused(
        &Client { time: NOW + 400, ..CLIENT }.request(),
        "InvalidSignatureException",
        "Signature not yet current: 20260102T031045Z is still later than 20260102T030905Z (20260102T030405Z + 5 min.)",
    );
}

#[test]
fn refuses_a_scope_that_is_not_of_this_request() {
    let invalid = "InvalidSignatureException";
    let text = "Credential should be scoped to correct service: 'kms'. ";
    assert_refused(&Client { service: "s3", ..CLIENT }.request(), invalid, text);
    let edited = |from: &'static str, to: &'static str| with_authorization(|good| good.replace(from, to));
    let text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                '20260101' != '20260102', from '20260102T030405Z'.";
    assert_refused(&edited("/20260102/", "/20260101/"), invalid, text);
    let text = "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. ";
    assert_refused(&edited("aws4_request", "aws5_request"), invalid, text);
    assert_eq!(check(&edited("eu-west-1", "eu-west-2")), Err(SignatureError::Mismatch));
}

#[test]
fn refuses_requests_that_do_not_sign_what_changes_their_meaning() {
    let unsigned = |name: &str| with_authorization(|good| good.replace(&format!("{name};"), ""));
    for (name, shown) in [("host", "Host"), ("x-amz-date", "x-amz-date")] {
        assert_eq!(check(&unsigned(name)), Err(SignatureError::NotSigned { name: shown.into() }), "{name}");
    }
    let mut target = with_authorization(|good| good.replace(";x-amz-target", ""));
    let error = SignatureError::NotSigned { name: "x-amz-target".into() };
    assert_eq!(check(&target), Err(error.clone()));
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        ("InvalidSignatureException", "'x-amz-target' must be a 'SignedHeader' in the AWS Authorization.")
    );
    target = CLIENT.request();
    target.headers.insert("x-amz-added", HeaderValue::from_static("on the way"));
    assert_eq!(check(&target), Err(SignatureError::NotSigned { name: "x-amz-added".into() }));
    // What hop-by-hop proxies and tracing add is of no concern.
    let mut traced = CLIENT.request();
    traced.headers.insert("x-amzn-trace-id", HeaderValue::from_static("Root=1"));
    traced.headers.insert("user-agent", HeaderValue::from_static("another"));
    assert!(check(&traced).is_ok());
}

#[test]
fn refuses_anything_changed_after_signing() {
    let mismatch = Err(SignatureError::Mismatch);
    assert_eq!(check(&Client { secret: "another", ..CLIENT }.request()), mismatch);
    for (name, value) in [
        ("x-amz-target", "TrentService.Decrypt"),
        ("host", "kms.eu-west-2.amazonaws.com"),
        ("content-type", "application/x-amz-json-1.0"),
        ("x-amz-date", "20260102T030406Z"),
    ] {
        let mut parts = CLIENT.request();
        parts.headers.insert(name, HeaderValue::from_static(value));
        assert_eq!(check(&parts), mismatch, "{name}");
    }
    let mut twice = CLIENT.request();
    twice.headers.append("x-amz-target", HeaderValue::from_static("TrentService.Decrypt"));
    assert_eq!(check(&twice), mismatch);
    let mut parts = CLIENT.request();
    parts.headers.remove("content-type");
    assert_eq!(check(&parts), mismatch);
    let mut parts = CLIENT.request();
    parts.uri = "/?a=b".parse().unwrap();
    assert_eq!(check(&parts), mismatch);
    let mut parts = CLIENT.request();
    parts.method = http::Method::PUT;
    assert_eq!(check(&parts), mismatch);
    let other = verify(&CLIENT.request(), b"{}", |_| Some(credential(None, None)), "kms", at(NOW));
    assert_eq!(other, mismatch);
    for edit in ["Signature=00", "Signature=zz", "Signature=0"] {
        let parts = with_authorization(|good| good.replace("Signature=", edit));
        assert_eq!(check(&parts), mismatch);
    }
    assert_eq!(
        SignatureError::Mismatch.to_string(),
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
         Access Key and signing method. Consult the service documentation for details."
    );
}

#[test]
fn an_unsigned_payload_is_not_accepted() {
    let client = Client { header: Some(("x-amz-content-sha256", "UNSIGNED-PAYLOAD")), ..CLIENT };
    assert_eq!(check(&client.request()), Err(SignatureError::Mismatch));
}

#[test]
fn a_session_is_its_key_and_its_token_until_it_ends() {
    let with_token = Client { token: Some("session-token"), ..CLIENT }.request();
    let (own, other) = (credential(Some("session-token"), Some(NOW + 1)), credential(Some("other"), None));
    assert!(check_with(&with_token, &own).is_ok());
    for (parts, credential) in
        [(&with_token, &other), (&with_token, &credential(None, None)), (&CLIENT.request(), &own)]
    {
        let error = check_with(parts, credential).unwrap_err();
        assert_eq!(error.code(), "UnrecognizedClientException");
        assert_eq!(error.to_string(), "The security token included in the request is invalid.");
    }
    let mut twice = with_token.clone();
    twice.headers.append("x-amz-security-token", HeaderValue::from_static("session-token"));
    assert_eq!(check_with(&twice, &own), Err(SignatureError::UnrecognizedClient));
    let ended = check_with(&with_token, &credential(Some("session-token"), Some(NOW))).unwrap_err();
    assert_eq!(ended.code(), "ExpiredTokenException");
    assert_eq!(ended.to_string(), "The security token included in the request is expired");
    let unknown = verify(&CLIENT.request(), BODY, |_| None, "kms", at(NOW));
    assert_eq!(unknown, Err(SignatureError::UnrecognizedClient));
}

#[test]
fn secrets_and_tokens_cannot_be_printed() {
    let credential = credential(Some("session-token"), None);
    let wrong = Client { token: Some("session-token"), secret: "another", ..CLIENT }.request();
    let error = check_with(&wrong, &credential).unwrap_err();
    for printed in [format!("{credential:?}"), format!("{error:?}"), error.to_string()] {
        assert!(!printed.contains(SECRET) && !printed.contains("session-token"), "{printed}");
    }
}
