//! `adyton serve` as a process: readiness, credentials from the environment, clean stop.

use std::process::Stdio;
use std::time::Duration;

use adyton_parent::listen::host_socket;
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::message::{self, CREDENTIALS_PORT, FromParent, ToParent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdout, Command};

const SECRET: &str = "wJalrXUtnFEMI-CANARY";
const DEADLINES: Deadlines = Deadlines { idle: Duration::from_secs(30), frame: Duration::from_secs(5) };

struct Serving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
}

impl Serving {
    fn command(folder: &TempDir) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adyton"));
        command.env_clear().env("ADYTON_LOG", "trace").env("AWS_EC2_METADATA_DISABLED", "true");
        // No profile of this machine's user.
        command.env("HOME", folder.path()).current_dir(folder.path());
        command.arg("serve").arg("--enclave").arg(format!("unix:{}", folder.path().join("v.sock").display()));
        command.args(["--proxy", "8000=kms.eu-west-1.amazonaws.com:443", "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Self::command(&folder);
        let mut child = command.envs(variables.iter().copied()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(ready["event"], "ready");
        assert_eq!(ready["proxies"]["8000"], "kms.eu-west-1.amazonaws.com:443");
        Self { child, lines, folder }
    }

    async fn want(&self) -> FromParent {
        let socket = host_socket(&self.folder.path().join("v.sock"), CREDENTIALS_PORT);
        let (read, write) = UnixStream::connect(socket).await.unwrap().into_split();
        let question = message::encode(&ToParent::Want {}).unwrap();
        FrameWriter::new(write, DEADLINES).send(Kind::Control, &question).await.unwrap();
        let mut answer = Vec::new();
        assert_eq!(FrameReader::new(read, DEADLINES).next(&mut answer).await.unwrap(), Kind::Control);
        message::decode(&answer).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Stops it and returns what it logged.
    async fn stop(mut self) -> String {
        self.signal(Signal::TERM);
        let stopped: Value = serde_json::from_str(&self.lines.next_line().await.unwrap().unwrap()).unwrap();
        assert_eq!(stopped["event"], "stopped");
        assert_eq!(self.child.wait().await.unwrap().code(), Some(0));
        let base = self.folder.path().join("v.sock");
        assert!(!host_socket(&base, 8000).exists() && !host_socket(&base, 8001).exists());
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).await.unwrap();
        log
    }
}

/// The failure comes after the log.
fn last_line(stderr: &[u8]) -> Value {
    serde_json::from_str(std::str::from_utf8(stderr).unwrap().lines().last().unwrap()).unwrap()
}

#[tokio::test]
async fn credentials_of_the_environment_reach_the_enclave_and_no_log() {
    let serving = Serving::start(&[
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_SESSION_TOKEN", "token-CANARY"),
    ])
    .await;
    let FromParent::Credentials(credentials) = serving.want().await else { panic!("there are some") };
    assert_eq!(credentials.access_key_id, "AKIAEXAMPLE");
    assert_eq!(credentials.secret_access_key, SECRET);
    assert_eq!(credentials.session_token.as_deref(), Some("token-CANARY"));
    assert_eq!(credentials.expires_unix_ms, None);
    let log = serving.stop().await;
    assert!(!log.contains("CANARY"), "{log}");
}

/// A retry after the cause is gone succeeds.
#[tokio::test]
async fn credentials_of_a_profile_are_found_when_the_file_is_written_later() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("credentials");
    let serving = Serving::start(&[
        ("AWS_PROFILE", "payments"),
        ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()),
    ])
    .await;
    assert!(matches!(serving.want().await, FromParent::Unavailable {}));
    let profile = "[payments]\naws_access_key_id = AKIALATER\naws_secret_access_key = later-CANARY\n";
    std::fs::write(&file, profile).unwrap();
    let found = async {
        // Paced: the log of this process is read at the end, and must not fill its pipe.
        let mut turns = tokio::time::interval(Duration::from_millis(100));
        loop {
            turns.tick().await;
            if let FromParent::Credentials(credentials) = serving.want().await {
                return credentials.access_key_id.clone();
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await;
    assert_eq!(found.expect("found without a restart"), "AKIALATER");
    let log = serving.stop().await;
    assert!(!log.contains("CANARY"), "{log}");
}

#[tokio::test]
async fn without_any_the_enclave_is_told_so() {
    let serving = Serving::start(&[]).await;
    assert!(matches!(serving.want().await, FromParent::Unavailable {}));
    serving.stop().await;
}

#[tokio::test]
async fn the_counters_are_printed_on_request() {
    let mut serving = Serving::start(&[]).await;
    serving.want().await;
    serving.signal(Signal::USR1);
    let stats: Value = serde_json::from_str(&serving.lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(stats["event"], "stats");
    assert_eq!(stats["stats"]["credentials"]["accepted"], 1);
    assert_eq!(stats["stats"]["proxies"]["8000"]["accepted"], 0);
    serving.stop().await;
}

#[tokio::test]
async fn a_second_daemon_and_a_destination_off_the_list_are_refused_with_a_hint() {
    let serving = Serving::start(&[]).await;
    let second = Serving::command(&serving.folder).output().await.unwrap();
    let said = last_line(&second.stderr);
    assert_eq!((second.status.code(), &said["code"]), (Some(5), &"in_use".into()));
    assert!(said["hint"].as_str().unwrap().contains("running already"));
    serving.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let other = Serving::command(&folder).args(["--proxy", "8002=example.com:443"]).output().await.unwrap();
    let said = last_line(&other.stderr);
    assert_eq!((other.status.code(), &said["code"]), (Some(1), &"not_allowed".into()));
    assert_eq!(said["message"], "example.com:443 is not on the allow-list");
}
