//! A running local KMS and what its tests need around it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use adyton_simulator::kms::{KmsConfig, KmsServer, Transport, User};
use adyton_simulator::nsm::{NsmConfig, SimulatedNsm, SimulatedRoot};
use adyton_verifier::attestation::TrustAnchor;
use aws_credential_types::Credentials;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::{BehaviorVersion, Region};
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use aws_smithy_async::time::TimeSource;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde_bytes::ByteBuf;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub(crate) const REGION: &str = "eu-west-1";
pub(crate) const ACCOUNT: &str = "111122223333";

/// A local KMS on a port of its own.
pub(crate) struct Kms {
    pub(crate) server: KmsServer,
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    clock: Option<MovingClock>,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<()>,
}

/// A clock that a test moves; server and clients go by it.
#[derive(Debug, Clone)]
pub(crate) struct MovingClock(Arc<Mutex<SystemTime>>);

impl MovingClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl TimeSource for MovingClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

pub(crate) fn days(count: u64) -> Duration {
    Duration::from_hours(24 * count)
}

/// The configuration for a folder whose simulated NSM roots the documents.
pub(crate) fn config(folder: &Path) -> KmsConfig {
    let root = SimulatedRoot::open(folder, SystemTime::now()).unwrap();
    KmsConfig::new(folder.join("kms"), TrustAnchor::from_pem(root.pem()).unwrap())
}

impl Kms {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(crate) async fn start_with(adjust: impl FnOnce(&mut KmsConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        adjust(&mut config);
        Self::serve(folder, config, Transport::Tls).await
    }

    /// A local KMS whose time the test moves.
    pub(crate) async fn start_moving() -> (Self, MovingClock) {
        // Whole seconds: fractions do not survive their way over the wire to the millisecond.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now);
        let clock = MovingClock(Arc::new(Mutex::new(now)));
        let time = clock.clone();
        let mut kms = Self::start_with(move |config| config.clock = Arc::new(move || time.now())).await;
        kms.clock = Some(clock.clone());
        (kms, clock)
    }

    pub(crate) async fn serve(folder: TempDir, config: KmsConfig, transport: Transport) -> Self {
        let server = KmsServer::open(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let running = server.clone();
        let task = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            running.serve(listener, transport, stopped).await.unwrap();
        });
        Self { server, port, folder, clock: None, stop: Some(stop), task }
    }

    /// Stops the server and leaves its state.
    pub(crate) async fn stop(mut self) -> TempDir {
        self.stop.take().unwrap().send(()).unwrap();
        self.task.await.unwrap();
        self.folder
    }

    /// Stops and starts again on the same state.
    pub(crate) async fn restart(self) -> Self {
        let folder = self.stop().await;
        let config = config(folder.path());
        Self::serve(folder, config, Transport::Tls).await
    }

    pub(crate) fn administrator(&self) -> Client {
        self.client(&self.server.first_administrator().unwrap())
    }

    /// A client of a user that is not an administrator.
    pub(crate) fn stranger(&self, arn: &str) -> Client {
        let user = User::generate(arn, false).unwrap();
        self.server.add_user(&user).unwrap();
        self.client(&user)
    }

    pub(crate) fn client(&self, user: &User) -> Client {
        self.client_at(user, self.port)
    }

    /// A client that trusts this server's authority, wherever it connects to.
    pub(crate) fn client_at(&self, user: &User, port: u16) -> Client {
        client_for(self.server.ca_pem().as_bytes(), user, REGION, port, self.clock.clone())
    }

    /// A client in another region.
    pub(crate) fn client_in(&self, user: &User, region: &'static str) -> Client {
        client_for(self.server.ca_pem().as_bytes(), user, region, self.port, self.clock.clone())
    }

    /// The lines of the audit log.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("kms/audit.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A device whose root this KMS trusts, measured as `pcr0`.
    pub(crate) fn nsm(&self, pcr0: u8) -> SimulatedNsm {
        SimulatedNsm::open(NsmConfig::new(self.folder.path(), measured(pcr0))).unwrap()
    }
}

/// A client with an authority and a user.
pub(crate) fn client_of(authority: &[u8], user: &User, port: u16) -> Client {
    client_for(authority, user, REGION, port, None)
}

fn client_for(
    authority: &[u8],
    user: &User,
    region: &'static str,
    port: u16,
    clock: Option<MovingClock>,
) -> Client {
    let trust = TrustStore::empty().with_pem_certificate(authority);
    let tls = TlsContext::builder().with_trust_store(trust).build().unwrap();
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(tls)
        .build_https();
    let credentials = Credentials::new(
        &user.access_key_id,
        user.secret_access_key.as_str(),
        user.session_token.as_ref().map(|token| token.to_string()),
        None,
        "test",
    );
    let mut config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(region))
        .endpoint_url(format!("https://localhost:{port}"))
        .credentials_provider(credentials)
        .retry_config(RetryConfig::disabled())
        .http_client(http);
    if let Some(clock) = clock {
        config = config.time_source(clock);
    }
    Client::from_conf(config.build())
}

pub(crate) fn measured(pcr0: u8) -> BTreeMap<u16, [u8; 48]> {
    BTreeMap::from([(0, [pcr0; 48]), (1, [2; 48]), (2, [3; 48]), (3, [4; 48])])
}

/// An enclave's RSA key.
pub(crate) struct EnclaveKey {
    pair: PrivateDecryptingKey,
    pub(crate) spki: Vec<u8>,
}

impl EnclaveKey {
    pub(crate) fn new() -> Self {
        Self::of(KeySize::Rsa2048)
    }

    pub(crate) fn of(size: KeySize) -> Self {
        let pair = PrivateDecryptingKey::generate(size).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { pair, spki }
    }

    pub(crate) fn pkcs8(&self) -> Vec<u8> {
        let der: Pkcs8V1Der = self.pair.as_der().unwrap();
        der.as_ref().to_vec()
    }

    /// RSAES-OAEP with SHA-256.
    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Vec<u8> {
        let key = OaepPrivateDecryptingKey::new(self.pair.clone()).unwrap();
        let mut buffer = vec![0; key.min_output_size()];
        key.decrypt(&OAEP_SHA256_MGF1SHA256, wrapped, &mut buffer, None).unwrap().to_vec()
    }
}

pub(crate) fn attest(nsm: &SimulatedNsm, public_key: Option<&[u8]>, user_data: Option<&[u8]>) -> Vec<u8> {
    let bytes = |bytes: &[u8]| ByteBuf::from(bytes.to_vec());
    let request = Request::Attestation {
        user_data: user_data.map(bytes),
        nonce: None,
        public_key: public_key.map(bytes),
    };
    match nsm.process(request) {
        Response::Attestation { document } => document,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn recipient(document: Vec<u8>) -> RecipientInfo {
    RecipientInfo::builder()
        .attestation_document(Blob::new(document))
        .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
        .build()
}

/// Name and text of the error that a call ended in.
pub(crate) fn refusal<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(
    result: Result<T, SdkError<E>>,
) -> (String, Option<String>) {
    let error = result.unwrap_err();
    (error.code().unwrap_or_else(|| panic!("{error:?}")).to_owned(), error.message().map(str::to_owned))
}

/// Opens an envelope with `openssl cms`; `None` where there is no such program.
pub(crate) fn opened_by_openssl(key: &EnclaveKey, envelope: &[u8]) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let (blob, pem) = (folder.path().join("blob"), folder.path().join("key.der"));
    std::fs::write(&blob, envelope).unwrap();
    std::fs::write(&pem, key.pkcs8()).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["cms", "-decrypt", "-inform", "DER", "-keyform", "DER", "-in"])
        .arg(&blob)
        .arg("-inkey")
        .arg(&pem)
        .output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(error) => {
            println!("skipped: openssl does not run here: {error}");
            None
        }
    }
}

/// A policy under which `principal` may do everything on the key, and only enclaves measured as
/// `pcr0` may decrypt.
pub(crate) fn attested_policy(principal: &str, pcr0: u8) -> String {
    serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "administer",
                "Effect": "Allow",
                "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")},
                "Action": ["kms:PutKeyPolicy", "kms:GetKeyPolicy", "kms:DescribeKey", "kms:Encrypt", "kms:EnableKey",
                    "kms:DisableKey", "kms:ScheduleKeyDeletion", "kms:CancelKeyDeletion", "kms:CreateAlias"],
                "Resource": "*",
            },
            {
                "Sid": "enclave",
                "Effect": "Allow",
                "Principal": {"AWS": principal},
                "Action": ["kms:Decrypt", "kms:GenerateDataKey"],
                "Resource": "*",
                "Condition": {
                    "StringEqualsIgnoreCase": {"kms:RecipientAttestation:ImageSha384": hex::encode([pcr0; 48])},
                },
            },
        ],
    })
    .to_string()
}

/// What [`refusal`] gives for this error.
pub(crate) fn refused(code: &str, text: &str) -> (String, Option<String>) {
    (code.into(), Some(text.into()))
}
