//! `adyton run`, `attest` and `receipt verify` as processes, against a scripted enclave on a socket.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use adyton_shared::ErrorCode;
use adyton_shared::frame::{FrameReader, FrameWriter, Kind};
use adyton_shared::id::RequesterKey;
use adyton_shared::message::{self, Done, FromEnclave, Refusal, ToEnclave};
use adyton_shared::request::UnverifiedRequest;
use adyton_shared::sealed_request::OpenedRequest;
use rustix::process::{Pid, Signal, kill_process};
use serde_bytes::ByteBuf;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::forge::{Enclave, Forge};
use crate::jobs::{DEADLINES, receipt, sealed};

/// What the enclave does with a job after it has the whole payload.
#[derive(Clone)]
enum Plan {
    Answer(Vec<u8>),
    /// Answers with half of what the receipt says.
    Half(Vec<u8>),
    Refuse(Refusal),
    /// Sends most of a result and stops.
    Stall,
}

/// An enclave on a hybrid-vsock socket, in a folder with all that a job needs.
struct Scene {
    folder: TempDir,
    stalled: mpsc::Receiver<()>,
    task: JoinHandle<()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scene {
    async fn new(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let forge = Forge::new();
        let requester = settings(&folder, &forge).await;
        let listener = UnixListener::bind(folder.path().join("v.sock")).unwrap();
        let (stalls, stalled) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let enclave = forge.enclave();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                serve(stream, &enclave, &requester, &plan, &stalls).await;
            }
        });
        Self { folder, stalled, task }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        adyton(&self.folder, arguments)
    }

    async fn adyton(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is there besides what the scene began with.
    fn new_files(&self) -> Vec<String> {
        let old = ["root.pem", "adyton.toml", "job.toml", "data.enc", "v.sock", "billing.key"];
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !old.contains(&name.as_str())).collect();
        names.sort();
        names
    }
}

/// Writes all that a job needs, and returns the requester's public key.
pub(crate) async fn settings(folder: &TempDir, forge: &Forge) -> RequesterKey {
    std::fs::write(folder.path().join("root.pem"), forge.root_pem()).unwrap();
    let [pcr, first, second] = ["07", "01", "02"].map(|byte| byte.repeat(48));
    let settings = format!(
        "enclave = \"unix:v.sock\"\nroot = \"root.pem\"\npcrs = {{ 0 = \"{pcr}\", 1 = \"{first}\", 2 = \"{second}\" }}\n\
         [requester]\nname = \"billing\"\nkey = \"billing.key\"\n"
    );
    std::fs::write(folder.path().join("adyton.toml"), settings).unwrap();
    let job = "version = 1\ninput = \"raw\"\nto = \"parent\"\nstep = [{ digest = \"sha-256\" }]\n";
    std::fs::write(folder.path().join("job.toml"), job).unwrap();
    std::fs::write(folder.path().join("data.enc"), vec![7; 300_000]).unwrap();
    let mut made = adyton(folder, &["requester", "new", "--name", "billing", "-o", "billing.key", "--json"]);
    json(&made.output().await.unwrap().stdout)["key"].as_str().unwrap().parse().unwrap()
}

/// The program in this folder, without this machine's settings.
pub(crate) fn adyton(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adyton"));
    command.env_clear().env("TMPDIR", folder.path()).current_dir(folder.path()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub(crate) const RUN: [&str; 7] = ["run", "job.toml", "data.enc", "--tenant", "acme", "--object", "data"];

fn run_to<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&RUN[..], &["-o", output], more].concat()
}

pub(crate) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(bytes)))
}

async fn serve(
    mut stream: UnixStream,
    enclave: &Enclave<'_>,
    requester: &RequesterKey,
    plan: &Plan,
    stalls: &mpsc::Sender<()>,
) {
    let mut line = vec![0; b"CONNECT 5000\n".len()];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(line, b"CONNECT 5000\n");
    stream.write_all(b"OK 1073741824\n").await.unwrap();
    let (read, write) = tokio::io::split(stream);
    let (mut frames, mut answers) = (FrameReader::new(read, DEADLINES), FrameWriter::new(write, DEADLINES));
    let mut bytes = Vec::new();
    while frames.next(&mut bytes).await.is_ok() {
        let message = message::decode(&bytes).unwrap();
        let (message, reply) = match message {
            ToEnclave::SealedJob(sealed) => {
                let OpenedRequest { signed, reply } = enclave.opening.open(enclave.id(), &sealed).unwrap();
                (ToEnclave::Job { request: ByteBuf::from(signed.to_vec()) }, Some(reply))
            }
            other => (other, None),
        };
        let answer = match message {
            ToEnclave::SealedJob(_) => unreachable!("opened above"),
            ToEnclave::Attest { nonce } => {
                let document = enclave.document(Some(nonce.as_bytes().to_vec()));
                FromEnclave::Document { document: ByteBuf::from(document) }
            }
            ToEnclave::Job { request } => {
                let request = UnverifiedRequest::parse(&request).unwrap().verify(requester).unwrap();
                let mut payload = Vec::new();
                while frames.next(&mut payload).await.unwrap() == Kind::Data {}
                match plan {
                    Plan::Answer(result) | Plan::Half(result) => {
                        let sent =
                            if let Plan::Half(_) = plan { &result[..result.len() / 2] } else { result };
                        let (parts, sealer) = sealed(request.id, sent);
                        for frame in parts {
                            answers.send(Kind::Data, &frame).await.unwrap();
                        }
                        answers.send(Kind::End, &[]).await.unwrap();
                        let receipt = receipt(&request, &payload, result);
                        let receipt = receipt.sign(&enclave.key, enclave.document(None)).unwrap();
                        let done = Done { key: sealer.finish(), receipt: ByteBuf::from(receipt) };
                        match reply {
                            Some(reply) => {
                                FromEnclave::SealedDone { sealed: ByteBuf::from(reply.seal(&done).unwrap()) }
                            }
                            None => FromEnclave::Done(done),
                        }
                    }
                    Plan::Refuse(refusal) => FromEnclave::Refused(*refusal),
                    Plan::Stall => {
                        // More than is kept in memory.
                        for _ in 0..50 {
                            answers.send(Kind::Data, &vec![1; 128 * 1024]).await.unwrap();
                        }
                        stalls.send(()).await.unwrap();
                        std::future::pending().await
                    }
                }
            }
        };
        let _ = answers.send(Kind::Control, &message::encode(&answer).unwrap()).await;
        bytes.clear();
    }
}

#[tokio::test]
async fn a_job_ends_in_a_result_and_a_receipt_that_verifies_offline() {
    let scene = Scene::new(Plan::Answer(b"the digest\n".to_vec())).await;
    let ran = scene.adyton(&run_to("out", &["--json"])).await;
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let said = json(&ran.stdout);
    assert_eq!((&said["verdict"], &said["input"]["bytes"]), (&"accepted".into(), &300_000.into()));
    assert_eq!(std::fs::read(scene.path("out")).unwrap(), b"the digest\n");
    assert_eq!(scene.new_files(), ["out", "out.receipt"]);

    let verify = [
        "receipt",
        "verify",
        "out.receipt",
        "--input",
        "data.enc",
        "--output",
        "out",
        "--config",
        "adyton.toml",
    ];
    let verified = scene.adyton(&verify).await;
    assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
    assert!(verified.stdout.starts_with(b"accepted"));
    std::fs::write(scene.path("out"), b"the digest!\n").unwrap();
    let refused = scene.adyton(&verify).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another output"));

    let again = scene.adyton(&run_to("out", &[])).await;
    assert_eq!(again.status.code(), Some(5));
    let forced = scene.adyton(&run_to("out", &["--force"])).await;
    assert_eq!(forced.status.code(), Some(0), "{}", String::from_utf8_lossy(&forced.stderr));
    assert_eq!(std::fs::read(scene.path("out")).unwrap(), b"the digest\n");
}

#[tokio::test]
async fn standard_streams_serve_as_input_and_output() {
    let scene = Scene::new(Plan::Answer(b"the digest\n".to_vec())).await;
    let arguments = ["run", "job.toml", "-", "-o", "-", "--receipt", "r", "--json"];
    let mut command = scene.command(&arguments);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"payload").await.unwrap();
    drop(input);
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(ended.stdout, b"the digest\n");
    assert_eq!(json(&ended.stderr)["input"]["bytes"], 7);
    assert_eq!(scene.new_files(), ["r"]);
}

#[tokio::test]
async fn a_refusal_has_status_1_its_code_and_leaves_nothing() {
    let refusal =
        Refusal { code: ErrorCode::RecordMalformed, record: Some(12), step: None, retry_after_ms: Some(50) };
    let scene = Scene::new(Plan::Refuse(refusal)).await;
    let ended = scene.adyton(&run_to("out", &["--json"])).await;
    let said = json(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!((&said["code"], &said["number"]), (&"record_malformed".into(), &500.into()));
    assert_eq!((&said["record"], &said["retry_after_ms"]), (&12.into(), &50.into()));
    assert_eq!(said["hint"], ErrorCode::RecordMalformed.hint());
    assert_eq!(scene.new_files(), Vec::<String>::new());
}

#[tokio::test]
async fn half_a_result_is_never_an_output() {
    let scene = Scene::new(Plan::Half(vec![b'x'; 1000])).await;
    for output in ["out", "-"] {
        let ended = scene.adyton(&run_to(output, &[])).await;
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0));
        assert!(String::from_utf8_lossy(&ended.stderr).contains("do not use the result"));
        assert_eq!(scene.new_files(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_no_receipt_without_its_result() {
    let scene = Scene::new(Plan::Answer(b"the digest\n".to_vec())).await;
    let ended = scene.adyton(&run_to("/dev/full", &["--receipt", "r"])).await;
    assert_eq!(ended.status.code(), Some(5));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("No space left") && said.contains("make room on the disk"), "{said}");
    assert_eq!(scene.new_files(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_job_leaves_nothing_whatever_the_signal() {
    for (signal, status) in [(Signal::INT, Some(130)), (Signal::TERM, Some(130)), (Signal::KILL, None)] {
        let mut scene = Scene::new(Plan::Stall).await;
        let child = scene.command(&run_to("out", &[])).spawn().unwrap();
        scene.stalled.recv().await.unwrap();
        kill_process(Pid::from_raw(child.id().unwrap().cast_signed()).unwrap(), signal).unwrap();
        let ended = child.wait_with_output().await.unwrap();
        assert_eq!(ended.status.code(), status);
        assert_eq!(scene.new_files(), Vec::<String>::new());
    }
}

// V-11, V-12
#[tokio::test]
async fn a_challenge_is_kept_and_another_image_gets_no_job() {
    let scene = Scene::new(Plan::Answer(Vec::new())).await;
    let attested = scene.adyton(&["attest", "-o", "enclave.cbor"]).await;
    assert_eq!(attested.status.code(), Some(0), "{}", String::from_utf8_lossy(&attested.stderr));
    assert!(String::from_utf8_lossy(&attested.stdout).starts_with("accepted: "));
    assert_eq!(scene.new_files(), ["enclave.cbor"]);
    let [zero, one, two] =
        [(0, "08"), (1, "01"), (2, "02")].map(|(n, byte)| format!("{n}={}", byte.repeat(48)));
    let other = ["--json", "--pcr", &zero, "--pcr", &one, "--pcr", &two];
    for arguments in [run_to("out", &other), [&["attest"][..], &other].concat()] {
        let ended = scene.adyton(&arguments).await;
        assert_eq!((ended.status.code(), &json(&ended.stderr)["code"]), (Some(1), &"pcr_mismatch".into()));
    }
    assert_eq!(scene.new_files(), ["enclave.cbor"]);
}
