//! A local KMS, an enclave and a parent, each a process of its own, in a folder of their own.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adyton_parent::kms::{KmsEndpoint, client};
use adyton_shared::KeyArn;
use adyton_simulator::kms::Faults;
use adyton_simulator::state::StateDir;
use adyton_simulator::world::{Info, aws_environment};
use adyton_verifier::key_policy::{Measurement, RecipientOnly};
use aws_sdk_kms::Client;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::client::Requester;
use crate::process::{Process, simulator};

/// Whose credentials an enclave uses in the local KMS.
pub const ENCLAVE_USER: &str = "arn:aws:iam::111122223333:user/adyton-enclave";
/// Who encrypts.
pub const OWNER: &str = "arn:aws:iam::111122223333:user/data-owner";
/// What the starting policy's named key `token` is wrapped under.
pub const NAMED_KEY: [(&str, &str); 2] = [("purpose", "payments-token"), ("version", "1")];
const ROOT: &str = "arn:aws:iam::111122223333:root";

/// Everything that `adyton-sim up` starts.
#[derive(Debug)]
pub struct World {
    /// Its state folder.
    pub state: StateDir,
    /// What it said about itself.
    pub info: Info,
    up: Process,
    numbers: AtomicU32,
    // Removed last.
    folder: TempDir,
}

/// One more enclave in the same world, under a policy and a KMS key of its own.
#[derive(Debug)]
pub struct Enclave {
    /// The process.
    pub process: Process,
    /// Its hybrid-vsock socket.
    pub socket: PathBuf,
    /// The key that its policy names.
    pub key: KeyArn,
    /// Its policy file.
    pub policy: PathBuf,
}

impl World {
    /// Starts everything.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("adyton-e2e-").tempdir().expect("a folder");
        let state = StateDir::open(&folder.path().join("state")).expect("a state folder");
        let arguments =
            [OsString::from("--state"), state.path().into(), "--json".into(), "up".into(), "--faults".into()];
        let up = Process::start(&arguments, &[], folder.path().join("up.log")).await.expect("it starts");
        let info = serde_json::from_value(up.ready.clone()).expect("it says what runs");
        Self { state, info, up, numbers: AtomicU32::new(0), folder }
    }

    /// A folder beside the state, for a test's own files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Stops everything.
    pub async fn stop(self) {
        self.up.stop().await;
    }

    /// The process id of a part: `enclave`, `parent`, `kms`.
    pub fn pid(&self, part: &str) -> u32 {
        self.info.pids[part]
    }

    /// A KMS client with the access key of this profile: `default` administers.
    pub async fn kms(&self, profile: &str) -> Client {
        let endpoint = KmsEndpoint {
            region: Some(self.info.region.clone()),
            url: Some(self.info.kms_endpoint.clone()),
            ca: Some(self.info.kms_ca.clone()),
            credentials: Some(self.info.credentials_file.clone()),
            profile: Some(profile.to_owned()),
        };
        client(endpoint).await.expect("a client")
    }

    /// Makes the local KMS misbehave from now on.
    pub async fn faults(&self, faults: Faults) {
        let body = serde_json::to_string(&faults).expect("faults are JSON");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(&self.info.kms_ca).expect("certificates") {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", self.info.kms_port)).await.expect("the local KMS");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("TLS");
        let request = format!(
            "POST /_adyton/faults HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// A new KMS key; nobody but the administrator may do anything with it yet.
    pub async fn create_key(&self) -> KeyArn {
        let made = self.kms("default").await.create_key().send().await.expect("a key");
        KeyArn::parse(made.key_metadata().and_then(|key| key.arn()).expect("an ARN")).expect("a full ARN")
    }

    /// Has a key demand these measurements.
    pub async fn demand(&self, key: &KeyArn, pcrs: &serde_json::Value) {
        let pcrs = pcrs.as_object().expect("measurements by register");
        let pcrs = pcrs
            .iter()
            .map(|(index, value)| {
                let value = value.as_str().expect("hexadecimal digits");
                (index.parse().expect("a register"), Measurement::from_hex(value).expect("a measurement"))
            })
            .collect();
        let policy = RecipientOnly {
            enclave_role: ENCLAVE_USER,
            data_owners: &[OWNER],
            administrator: ROOT,
            pcrs: &pcrs,
            vpc_endpoint: None,
            required_context: &["tenant", "object", "purpose", "version"],
            // The named key of the policy, and what stands in for it in attacks.
            named_keys: &[
                NAMED_KEY.to_vec(),
                vec![("purpose", "payments-token"), ("version", "0")],
                vec![("purpose", "other"), ("version", "1")],
            ],
            fixed_context: &[],
        };
        let policy = policy.render().expect("a key policy");
        let put = self.kms("default").await.put_key_policy().key_id(key.as_str()).policy(policy).send().await;
        put.expect("the key policy is taken");
    }

    /// The world's policy for another key, impatient with KMS and keeping no data keys, so that a test
    /// sees every release and need not wait.
    pub fn policy(&self, key: &KeyArn) -> String {
        let text = std::fs::read_to_string(&self.info.policy).expect("a policy");
        let text = text.replace(&self.info.key_arn, key.as_str());
        text.replace("endpoint = ", "deadline_seconds = 3\nendpoint = ") + "\n[cache]\nage_seconds = 0\n"
    }

    /// Starts an enclave under the policy that `edit` makes of [`World::policy`], with a key of its own
    /// that releases to it.
    pub async fn enclave(&self, edit: impl FnOnce(String) -> String) -> Enclave {
        let key = self.create_key().await;
        let policy = edit(self.policy(&key));
        let (process, socket, path) = self.launch(&policy, &[], &[]).await.expect("an enclave");
        self.demand(&key, &process.ready["pcrs"]).await;
        Enclave { process, socket, key, policy: path }
    }

    /// Starts an enclave process and nothing else.
    ///
    /// # Errors
    /// What it says when it does not start.
    pub async fn launch(
        &self,
        policy: &str,
        flags: &[&str],
        environment: &[(&str, OsString)],
    ) -> Result<(Process, PathBuf, PathBuf), String> {
        let socket = self.folder().join(format!("e{}.sock", self.numbers.fetch_add(1, Ordering::Relaxed)));
        let (process, path) = self.launch_on(&socket, policy, flags, environment).await?;
        Ok((process, socket, path))
    }

    /// Starts an enclave process on this socket.
    ///
    /// # Errors
    /// What it says when it does not start.
    pub async fn launch_on(
        &self,
        socket: &Path,
        policy: &str,
        flags: &[&str],
        environment: &[(&str, OsString)],
    ) -> Result<(Process, PathBuf), String> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = self.folder().join(format!("policy-{number}.toml"));
        std::fs::write(&path, policy).expect("the policy is written");
        let mut arguments = self.part("enclave");
        arguments.extend(["--policy".into(), path.clone().into(), "--socket".into(), socket.into()]);
        arguments.extend(flags.iter().map(OsString::from));
        let log = self.folder().join(format!("enclave-{number}.log"));
        Ok((Process::start(&arguments, environment, log).await?, path))
    }

    fn part(&self, command: &str) -> Vec<OsString> {
        vec!["--state".into(), self.state.path().into(), command.into(), "--part".into()]
    }

    /// Starts an honest parent for the enclave on this socket.
    pub async fn parent(&self, socket: &Path) -> Process {
        self.parent_with(socket, &[]).await
    }

    /// Starts an honest parent with further flags.
    pub async fn parent_with(&self, socket: &Path, flags: &[&OsStr]) -> Process {
        let allow_list = self.state.path().join("allow-list.yaml");
        let port = self.info.kms_port;
        let mut enclave = OsString::from("unix:");
        enclave.push(socket);
        let arguments = [
            "parent".into(),
            "serve".into(),
            "--part".into(),
            "--json".into(),
            "--enclave".into(),
            enclave,
            "--proxy".into(),
            format!("8000=localhost:{port}").into(),
            "--allow-list".into(),
            allow_list.into_os_string(),
        ];
        let arguments: Vec<_> = arguments.into_iter().chain(flags.iter().map(OsString::from)).collect();
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let log = self.folder().join(format!("parent-{number}.log"));
        let environment = aws_environment(&self.state, "enclave");
        Process::start(&arguments, &environment, log).await.expect("a parent")
    }

    /// The world's requester, talking to the world's own enclave.
    pub fn requester(&self) -> Requester {
        self.requester_at(&self.state.socket())
    }

    /// The world's requester, talking to another enclave.
    pub fn requester_at(&self, socket: &Path) -> Requester {
        Requester::new(socket, &self.state.nsm_root(), &self.state.requester_key())
    }

    /// The key of the world's own enclave.
    pub fn key(&self) -> KeyArn {
        KeyArn::parse(&self.info.key_arn).expect("a full ARN")
    }

    /// The `adyton` command with the world's settings, in the test's folder.
    pub fn adyton(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(simulator());
        command
            .arg("parent")
            .args(arguments)
            .arg("--config")
            .arg(&self.info.client_config)
            .envs(aws_environment(&self.state, "owner"))
            .current_dir(self.folder())
            .kill_on_drop(true);
        command
    }

    /// Runs the `adyton` command to its end.
    pub async fn run_adyton(&self, arguments: &[&str]) -> Output {
        self.adyton(arguments).stdin(Stdio::null()).output().await.expect("adyton runs")
    }

    /// The lines of the local KMS's audit log.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.state.kms().join("audit.ndjson")).expect("an audit log");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}
