//! The wire: raw requests, signed and not, good and bad, over plain HTTP.

use std::time::SystemTime;

use crate::harness::{Kms, REGION, config, refusal};
use adyton_simulator::kms::{KmsConfig, Transport, User};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(crate) async fn start() -> Kms {
    start_with(|_| ()).await
}

pub(crate) async fn start_with(adjust: impl FnOnce(&mut KmsConfig)) -> Kms {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    adjust(&mut config);
    Kms::serve(folder, config, Transport::Plain).await
}

pub(crate) async fn connect(kms: &Kms) -> TcpStream {
    TcpStream::connect(("127.0.0.1", kms.port)).await.unwrap()
}

/// Sends bytes and reads one answer.
pub(crate) async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Answer {
    stream.write_all(request).await.unwrap();
    read_answer(stream).await.expect("an answer")
}

/// One answer with a Content-Length; `None` if the connection ends before it.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Option<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Answer { status, head, body })
}

fn post(headers: &[(String, String)], body: &[u8]) -> Vec<u8> {
    let mut request = b"POST / HTTP/1.1\r\n".to_vec();
    for (name, value) in headers {
        request.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend_from_slice(body);
    request
}

/// A request signed by the SDK's own signer.
pub(crate) fn signed(user: &User, region: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    signed_at("localhost", user, region, operation, body)
}

fn signed_at(host: &str, user: &User, region: &str, operation: &str, body: &[u8]) -> Vec<u8> {
    let headers = [
        ("host".to_owned(), host.to_owned()),
        ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ("x-amz-target".to_owned(), format!("TrentService.{operation}")),
    ];
    signed_as(user, region, "kms", SystemTime::now(), headers.to_vec(), body)
}

/// A request with these headers, the first of which is `host`, signed for a service at a time.
pub(crate) fn signed_as(
    user: &User,
    region: &str,
    service: &str,
    time: SystemTime,
    mut headers: Vec<(String, String)>,
    body: &[u8],
) -> Vec<u8> {
    let token = user.session_token.as_ref().map(|token| token.to_string());
    let credentials =
        Credentials::new(&user.access_key_id, user.secret_access_key.as_str(), token, None, "test");
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let url = format!("http://{}/", headers[0].1);
    let signable = SignableRequest::new("POST", &url, named, SignableBody::Bytes(body)).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    let added: Vec<(String, String)> =
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    headers.extend(added);
    post(&headers, body)
}

async fn call(kms: &Kms, user: &User, operation: &str, body: &[u8]) -> Answer {
    exchange(&mut connect(kms).await, &signed(user, REGION, operation, body)).await
}

#[tokio::test]
async fn a_call_is_answered_as_aws_json_with_a_request_id() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let answer = call(&kms, &user, "CreateKey", b"").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/x-amz-json-1.1\r\n"));
    assert!(answer.head.contains("x-amzn-requestid: "));
    let metadata = &answer.json()["KeyMetadata"];
    // Times are seconds with a fraction.
    assert!(metadata["CreationDate"].as_f64().unwrap() > 1.7e9);
    let key = json!({"KeyId": metadata["KeyId"], "Unknown": [1]}).to_string();
    let answer = call(&kms, &user, "DisableKey", key.as_bytes()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
}

#[tokio::test]
async fn access_denied_spells_message_with_a_capital_and_other_errors_do_not() {
    let kms = start().await;
    let user = User::generate("arn:aws:iam::111122223333:user/alice", false).unwrap();
    kms.server.add_user(&user).unwrap();
    let denied = call(&kms, &user, "ListKeys", b"{}").await;
    assert_eq!(denied.status, 400);
    assert_eq!(
        denied.json(),
        json!({
            "__type": "AccessDeniedException",
            "Message": "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:ListKeys because no \
                        identity-based policy allows the kms:ListKeys action",
        })
    );
    let absent = call(&kms, &user, "DescribeKey", br#"{"KeyId":"x"}"#).await;
    assert_eq!(absent.status, 400);
    assert_eq!(absent.json(), json!({"__type": "NotFoundException", "message": "Invalid keyId 'x'"}));
    let silent = call(&kms, &user, "Decrypt", br#"{"CiphertextBlob":"eA=="}"#).await;
    assert_eq!((silent.status, silent.json()), (400, json!({"__type": "InvalidCiphertextException"})));
}

#[tokio::test]
async fn every_operation_of_aws_is_known_and_no_other() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    for (operation, code) in [
        ("Sign", "ValidationException"),
        ("CreateGrant", "ValidationException"),
        ("Encapsulate", "UnsupportedOperationException"),
        ("decrypt", "UnknownOperationException"),
        ("Destroy", "UnknownOperationException"),
        ("", "UnknownOperationException"),
    ] {
        let answer = call(&kms, &user, operation, b"{}").await;
        assert_eq!((answer.status, &answer.json()["__type"]), (400, &json!(code)), "{operation}");
    }
}

#[tokio::test]
async fn bodies_of_another_shape_end_in_a_serialization_exception() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let bodies: [&[u8]; 8] = [
        b"[]",
        b"{",
        b"\xff\xfe",
        b"null",
        br#"{"KeyId":7}"#,
        br#"{"KeyId":"x","Plaintext":"not base64!"}"#,
        br#"{"KeyId":"x","Plaintext":"eA==","EncryptionContext":{"a":{}}}"#,
        br#"{"KeyId":"x","Plaintext":"eA==","GrantTokens":[1]}"#,
    ];
    for body in bodies {
        let answer = call(&kms, &user, "Encrypt", body).await;
        assert_eq!((answer.status, &answer.json()["__type"]), (400, &json!("SerializationException")));
    }
    let nested = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    let answer = call(&kms, &user, "Encrypt", &nested).await;
    assert_eq!(answer.json()["__type"], "SerializationException");
}

#[tokio::test]
async fn callers_that_cannot_be_authenticated_learn_why() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let target = ("x-amz-target".to_owned(), "TrentService.ListKeys".to_owned());
    let host = ("host".to_owned(), "localhost".to_owned());
    let unsigned = exchange(&mut connect(&kms).await, &post(&[host, target], b"{}")).await;
    assert_eq!(
        (unsigned.status, &unsigned.json()["__type"]),
        (400, &json!("MissingAuthenticationTokenException"))
    );

    let wrong = User { secret_access_key: "wrong".to_owned().into(), ..user.clone() };
    let answer = call(&kms, &wrong, "ListKeys", b"{}").await;
    assert_eq!((answer.status, &answer.json()["__type"]), (400, &json!("InvalidSignatureException")));

    let unknown = User::generate("arn:aws:iam::111122223333:user/nobody", true).unwrap();
    let answer = call(&kms, &unknown, "ListKeys", b"{}").await;
    assert_eq!(answer.json()["__type"], "UnrecognizedClientException");

    // The endpoint of one region does not serve another.
    let endpoint = format!("kms.{REGION}.localhost:{}", kms.port);
    for (region, code) in [(REGION, Value::Null), ("us-east-1", json!("InvalidSignatureException"))] {
        let request = signed_at(&endpoint, &user, region, "ListKeys", b"{}");
        assert_eq!(exchange(&mut connect(&kms).await, &request).await.json()["__type"], code);
    }

    let mut altered = signed(&user, REGION, "ListKeys", br#"{"Limit":1}"#);
    let last = altered.len() - 2;
    altered[last] = b'2';
    let answer = exchange(&mut connect(&kms).await, &altered).await;
    assert_eq!(answer.json()["__type"], "InvalidSignatureException");
}

#[tokio::test]
async fn temporary_credentials_need_their_token_and_end() {
    let kms = start().await;
    let role = "arn:aws:sts::111122223333:assumed-role/admin/session";
    let hour = std::time::Duration::from_hours(1);
    let user = User::generate_session(role, true, SystemTime::now() + hour).unwrap();
    kms.server.add_user(&user).unwrap();
    assert_eq!(call(&kms, &user, "ListKeys", b"{}").await.status, 200);
    let tokenless = User { session_token: None, ..user.clone() };
    let answer = call(&kms, &tokenless, "ListKeys", b"{}").await;
    assert_eq!(answer.json()["__type"], "UnrecognizedClientException");
    let ended = User { expires: Some(SystemTime::now() - hour), ..user };
    kms.server.add_user(&ended).unwrap();
    let answer = call(&kms, &ended, "ListKeys", b"{}").await;
    assert_eq!((answer.status, &answer.json()["__type"]), (400, &json!("ExpiredTokenException")));
}

#[tokio::test]
async fn a_connection_carries_many_calls() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let mut stream = connect(&kms).await;
    for _ in 0..5 {
        let answer = exchange(&mut stream, &signed(&user, REGION, "ListKeys", b"{}")).await;
        assert_eq!(answer.status, 200);
    }
    // An error of the API does not end it either.
    assert_eq!(exchange(&mut stream, &signed(&user, REGION, "Nothing", b"{}")).await.status, 400);
    assert_eq!(exchange(&mut stream, &signed(&user, REGION, "ListKeys", b"{}")).await.status, 200);
}

#[tokio::test]
async fn garbage_harms_only_its_own_connection() {
    let kms = start().await;
    let user = kms.server.first_administrator().unwrap();
    let long_header = [b"POST / HTTP/1.1\r\nx: ".to_vec(), vec![b'a'; 2_000_000]].concat();
    let garbage: [&[u8]; 7] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 10\r\n\r\nabc",
        &long_header,
    ];
    for bytes in garbage {
        let mut stream = connect(&kms).await;
        // The server may hang up in the middle of it.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_eq!(call(&kms, &user, "ListKeys", b"{}").await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let kms = start().await;
    let mut stream = connect(&kms).await;
    let head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99999999\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let chunk = vec![b'a'; 64 * 1024];
    for _ in 0..16 {
        if stream.write_all(&chunk).await.is_err() {
            break;
        }
    }
    if let Some(answer) = read_answer(&mut stream).await {
        assert_eq!(answer.status, 413);
    }
    let user = kms.server.first_administrator().unwrap();
    assert_eq!(call(&kms, &user, "ListKeys", b"{}").await.status, 200);
}

#[tokio::test]
async fn only_post_to_the_root_is_the_api() {
    let kms = start().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", 404),
        ("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 404),
        ("POST /other HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n", 404),
        ("GET /_adyton/health HTTP/1.1\r\nhost: localhost\r\n\r\n", 200),
    ] {
        assert_eq!(exchange(&mut connect(&kms).await, request.as_bytes()).await.status, status, "{request}");
    }
}

#[tokio::test]
async fn faults_can_be_set_from_outside_only_where_that_is_enabled() {
    let request = |body: &str| {
        let length = body.len();
        format!("POST /_adyton/faults HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let closed = start().await;
    let answer = exchange(&mut connect(&closed).await, request("{}").as_bytes()).await;
    assert_eq!(answer.status, 404);

    let open = start_with(|config| config.faults_endpoint = true).await;
    let mut stream = connect(&open).await;
    let answer =
        exchange(&mut stream, request(r#"{"throttle_next":2,"cms_form":{"chunks":16}}"#).as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(open.server.faults().throttle_next, 2);
    assert_eq!(exchange(&mut stream, request(r#"{"throtle":2}"#).as_bytes()).await.status, 400);
    let read = b"GET /_adyton/faults HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(exchange(&mut stream, read).await.json()["throttle_next"], 2);
    assert_eq!(exchange(&mut stream, request("{}").as_bytes()).await.status, 200);
    assert_eq!(open.server.faults(), adyton_simulator::kms::Faults::default());
}

// K-16
#[tokio::test]
async fn a_client_that_does_not_know_the_authority_does_not_talk_to_it() {
    let (ours, theirs) = (Kms::start().await, Kms::start().await);
    let user = ours.server.first_administrator().unwrap();
    // A client that trusts the other one's authority.
    let stranger = theirs.client_at(&user, ours.port);
    let error = stranger.list_keys().send().await.unwrap_err();
    assert!(matches!(error, aws_sdk_kms::error::SdkError::DispatchFailure(_)), "{error:?}");
    assert_eq!(refusal(theirs.client(&user).list_keys().send().await).0, "UnrecognizedClientException");
}
