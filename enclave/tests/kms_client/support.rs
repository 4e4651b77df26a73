//! A KMS that does what a test tells it to, and the parent, NSM and clock beside it.
//!
//! It shares no code with the client but the library of ciphers: requests are read and answers
//! written by hand, so that an answer can be wrong in any way.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adyton_enclave::kms::{CacheLimits, KeyError, KeyService, KmsConfig, Lease};
use adyton_enclave::platform::{Attest, AttestError, BoxFuture, Dial, Stream, TimeSource};
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{PolicyDigest, Sha256Digest};
use adyton_shared::message::{self, CREDENTIALS_PORT, Credentials, FromParent, KMS_PORT, ToParent};
use adyton_shared::{EncryptionContext, KeyArn};
use aws_lc_rs::cipher::{AES_256, EncryptionContext as Iv, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

pub(crate) const HOST: &str = "kms.eu-west-1.amazonaws.com";
pub(crate) const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
/// What an honest KMS wraps a fresh key as.
pub(crate) const WRAPPED: &[u8] = b"wrapped by KMS";
/// 2026-06-01T00:00:00Z, within the validity of the scripted certificates.
pub(crate) const NOW_MS: u64 = 1_780_272_000_000;
pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const POLICY: PolicyDigest = PolicyDigest::new([0x50; 48]);

type Edit = Box<dyn Fn(&mut Map<String, Value>) + Send>;

/// What the KMS does with one request.
pub(crate) enum Act {
    /// Answers as KMS does.
    Honest,
    /// Answers with these fields changed.
    Edited(Edit),
    /// Answers honestly once told to.
    After(Arc<Notify>),
    /// Answers with a status and a body.
    Status(u16, String),
    /// Writes these bytes, then closes.
    Bytes(Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Seals these bytes instead of the data key.
    Seals(Vec<u8>),
    /// Never answers.
    Silent,
}

impl Act {
    pub(crate) fn edited(edit: impl Fn(&mut Map<String, Value>) + Send + 'static) -> Self {
        Self::Edited(Box::new(edit))
    }

    pub(crate) fn error(status: u16, name: &str) -> Self {
        Self::Status(status, json!({"__type": name, "message": "SECRET-TEXT"}).to_string())
    }
}

/// A request as the KMS saw it.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// Everything around the client.
pub(crate) struct World {
    pub(crate) script: Mutex<VecDeque<Act>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) asked: Notify,
    pub(crate) connections: AtomicUsize,
    /// Connections to the KMS are refused while this is not zero.
    pub(crate) refuse_connections: AtomicUsize,
    pub(crate) grants: Mutex<VecDeque<Option<Credentials>>>,
    pub(crate) granted: AtomicUsize,
    pub(crate) documents: AtomicUsize,
    pub(crate) attest_error: Mutex<Option<AttestError>>,
    pub(crate) now_ms: AtomicU64,
    acceptor: Mutex<TlsAcceptor>,
    pub(crate) roots: String,
}

/// A certificate authority, and a server certificate for `host` by it.
pub(crate) fn authority(host: &str) -> (String, TlsAcceptor) {
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::new(Vec::new()).unwrap();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_certificate = root.self_signed(&key).unwrap();
    let issuer = Issuer::new(root, key);
    let leaf_key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![host.to_owned()]).unwrap();
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2026, 5, 1), date_time_ymd(2026, 7, 1));
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap())
        .unwrap();
    (root_certificate.pem(), TlsAcceptor::from(Arc::new(config)))
}

pub(crate) fn credentials(name: &str, expires_unix_ms: Option<u64>) -> Credentials {
    Credentials {
        access_key_id: name.to_owned(),
        secret_access_key: "hidden-secret".to_owned(),
        session_token: Some("hidden-token".to_owned()),
        expires_unix_ms,
    }
}

pub(crate) fn limits() -> CacheLimits {
    CacheLimits { entries: 8, age: Duration::from_mins(5), messages: 1000, bytes: 1 << 30 }
}

pub(crate) fn key() -> KeyArn {
    KeyArn::parse(ARN).unwrap()
}

pub(crate) fn context() -> EncryptionContext {
    EncryptionContext::from_pairs([("tenant", "t"), ("object", "o"), ("purpose", "p"), ("version", "1")])
        .unwrap()
}

/// What an honest KMS finds in a wrapped key: different for each blob and context.
pub(crate) fn unwrapped(ciphertext: &[u8], context: &Value) -> Vec<u8> {
    Sha256Digest::of(&[ciphertext, context.to_string().as_bytes()].concat()).as_bytes().to_vec()
}

impl World {
    pub(crate) fn new(script: impl IntoIterator<Item = Act>) -> Arc<Self> {
        let (roots, acceptor) = authority(HOST);
        Arc::new(Self {
            script: Mutex::new(script.into_iter().collect()),
            seen: Mutex::default(),
            asked: Notify::new(),
            connections: AtomicUsize::new(0),
            refuse_connections: AtomicUsize::new(0),
            grants: Mutex::default(),
            granted: AtomicUsize::new(0),
            documents: AtomicUsize::new(0),
            attest_error: Mutex::default(),
            now_ms: AtomicU64::new(NOW_MS),
            acceptor: Mutex::new(acceptor),
            roots,
        })
    }

    pub(crate) fn service(self: &Arc<Self>) -> Arc<KeyService> {
        self.service_with(limits(), Duration::from_mins(1))
    }

    pub(crate) fn service_with(self: &Arc<Self>, cache: CacheLimits, deadline: Duration) -> Arc<KeyService> {
        let config = KmsConfig {
            region: "eu-west-1".into(),
            host: HOST.into(),
            roots: Some(self.roots.clone()),
            cache,
            deadline,
            policy: POLICY,
        };
        let port = || Arc::new(Port(Arc::clone(self)));
        Arc::new(KeyService::new(config, port(), port(), port()).unwrap())
    }

    pub(crate) fn serve_as(&self, acceptor: TlsAcceptor) {
        *self.acceptor.lock().unwrap() = acceptor;
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn at(&self, now_ms: u64) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Waits until the KMS has been asked so often.
    pub(crate) async fn asked(&self, times: usize) {
        loop {
            let next = self.asked.notified();
            if self.calls() >= times {
                return;
            }
            next.await;
        }
    }

    async fn serve_kms(self: Arc<Self>, stream: Stream) -> io::Result<()> {
        let acceptor = self.acceptor.lock().unwrap().clone();
        let mut stream = acceptor.accept(stream).await?;
        loop {
            let Some(seen) = read_request(&mut stream).await? else { return Ok(()) };
            let act = self.script.lock().unwrap().pop_front().unwrap_or(Act::Honest);
            self.seen.lock().unwrap().push(seen.clone());
            self.asked.notify_waiters();
            let answer = match act {
                Act::Honest => response(200, &Value::Object(honest(&seen.body, None)).to_string()),
                Act::Edited(edit) => {
                    let mut fields = honest(&seen.body, None);
                    edit(&mut fields);
                    response(200, &Value::Object(fields).to_string())
                }
                Act::Seals(bytes) => {
                    response(200, &Value::Object(honest(&seen.body, Some(&bytes))).to_string())
                }
                Act::After(gate) => {
                    gate.notified().await;
                    response(200, &Value::Object(honest(&seen.body, None)).to_string())
                }
                Act::Status(status, body) => response(status, &body),
                Act::Bytes(bytes) => {
                    stream.write_all(&bytes).await?;
                    return stream.shutdown().await;
                }
                Act::Close => return Ok(()),
                Act::Silent => return std::future::pending().await,
            };
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
    }

    async fn serve_credentials(self: Arc<Self>, stream: Stream) {
        let deadlines = Deadlines { idle: Duration::from_mins(1), frame: Duration::from_mins(1) };
        let (from, to) = tokio::io::split(stream);
        let mut question = Vec::new();
        assert_eq!(FrameReader::new(from, deadlines).next(&mut question).await.unwrap(), Kind::Control);
        assert_eq!(message::decode::<ToParent>(&question), Ok(ToParent::Want {}));
        self.granted.fetch_add(1, Ordering::Relaxed);
        let default = Some(credentials("ASIADEFAULT", Some(self.now_ms.load(Ordering::Relaxed) + HOUR_MS)));
        let grant = self.grants.lock().unwrap().pop_front().unwrap_or(default);
        let answer = grant.map_or(FromParent::Unavailable {}, FromParent::Credentials);
        let answer = message::encode(&answer).unwrap();
        FrameWriter::new(to, deadlines).send(Kind::Control, &answer).await.unwrap();
    }
}

/// The world as the client's ports.
struct Port(Arc<World>);

impl Dial for Port {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Stream>> {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            match port {
                KMS_PORT => {
                    world.connections.fetch_add(1, Ordering::Relaxed);
                    let less = |left: usize| left.checked_sub(1);
                    let refused = &world.refuse_connections;
                    if refused.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    tokio::spawn(world.serve_kms(Box::new(far)));
                }
                CREDENTIALS_PORT => drop(tokio::spawn(world.serve_credentials(Box::new(far)))),
                other => panic!("nobody listens on {other}"),
            }
            Ok(Box::new(near) as Stream)
        })
    }
}

impl TimeSource for Port {
    fn unix_millis(&self) -> u64 {
        self.0.now_ms.load(Ordering::Relaxed)
    }
}

impl Attest for Port {
    fn document(
        &self,
        user_data: Vec<u8>,
        public_key: Vec<u8>,
        nonce: Option<Vec<u8>>,
    ) -> BoxFuture<'_, Result<Vec<u8>, AttestError>> {
        assert_eq!(nonce, None);
        self.0.documents.fetch_add(1, Ordering::Relaxed);
        let error = *self.0.attest_error.lock().unwrap();
        let document = json!({"user_data": hex::encode(user_data), "public_key": hex::encode(public_key)});
        Box::pin(async move { error.map_or(Ok(document.to_string().into_bytes()), Err) })
    }
}

async fn read_request(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = header(&head, "content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Seen { head, body: serde_json::from_slice(&body).unwrap() }))
}

pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

pub(crate) fn response(status: u16, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\nx-amzn-RequestId: 1\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + body).into_bytes()
}

/// The document that a request carries: its `user_data` and public key.
pub(crate) fn document(body: &Value) -> (Vec<u8>, Vec<u8>) {
    let document = STANDARD.decode(body["Recipient"]["AttestationDocument"].as_str().unwrap()).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let field = |name: &str| hex::decode(document[name].as_str().unwrap()).unwrap();
    (field("user_data"), field("public_key"))
}

fn honest(body: &Value, content: Option<&[u8]>) -> Map<String, Value> {
    // A question without one is for a fresh key.
    let asked = body["CiphertextBlob"].as_str();
    let blob = asked.map_or_else(|| WRAPPED.to_vec(), |blob| STANDARD.decode(blob).unwrap());
    let data_key = unwrapped(&blob, &body["EncryptionContext"]);
    let (_, public_key) = document(body);
    let envelope = seal(&public_key, content.unwrap_or(&data_key));
    let fields = json!({
        "CiphertextForRecipient": STANDARD.encode(envelope),
        "EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "KeyId": body["KeyId"],
        "Plaintext": null,
        "FieldOfTomorrow": {"a": [1, 2]},
    });
    let mut fields = fields.as_object().unwrap().clone();
    if asked.is_none() {
        fields.remove("EncryptionAlgorithm");
        fields.insert("CiphertextBlob".into(), json!(STANDARD.encode(&blob)));
    }
    fields
}

/// `EnvelopedData` in the first of the forms that KMS writes.
pub(crate) fn seal(public_key: &[u8], content: &[u8]) -> Vec<u8> {
    let content_key = [0x33; 32];
    let recipient = PublicEncryptingKey::from_der(public_key).unwrap();
    let recipient = OaepPublicEncryptingKey::new(recipient).unwrap();
    let mut encrypted_key = vec![0; recipient.ciphertext_size()];
    recipient.encrypt(&OAEP_SHA256_MGF1SHA256, &content_key, &mut encrypted_key, None).unwrap();
    let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(UnboundCipherKey::new(&AES_256, &content_key).unwrap());
    let mut ciphertext = content.to_vec();
    let iv = Iv::Iv128(FixedLength::from([0x44; 16]));
    cipher.unwrap().less_safe_encrypt(&mut ciphertext, iv).unwrap();
    let sha256 = hex::decode("300d06096086480165030402010500").unwrap();
    let oaep = [
        hex::decode("303c06092a864886f70d010107302fa00f").unwrap(),
        sha256.clone(),
        hex::decode("a11c301a06092a864886f70d010108").unwrap(),
        sha256,
    ]
    .concat();
    [
        hex::decode("308006092a864886f70d010703a0803080020102").unwrap(),
        hex::decode("3182016b308201670201028020").unwrap(),
        Sha256Digest::of(public_key).as_bytes().to_vec(),
        oaep,
        hex::decode("04820100").unwrap(),
        encrypted_key,
        hex::decode("308006092a864886f70d010701301d060960864801650304012a0410").unwrap(),
        vec![0x44; 16],
        vec![0xa0, 0x80, 0x04, u8::try_from(ciphertext.len()).unwrap()],
        ciphertext,
        vec![0; 10],
    ]
    .concat()
}

/// One request with the usual key and context.
pub(crate) async fn ask(service: &KeyService, ciphertext: &[u8]) -> Result<Lease, KeyError> {
    service.data_key(&key(), ciphertext, &context()).await
}

/// What [`ask`] should bring.
pub(crate) fn expected(ciphertext: &[u8]) -> Vec<u8> {
    unwrapped(ciphertext, &json!({"tenant": "t", "object": "o", "purpose": "p", "version": "1"}))
}
