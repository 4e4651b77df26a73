//! Whole jobs through the simulator: enclave, local KMS and parent are processes of their own.
//!
//! Each row has its yardstick in the same run, taken in turns, because times on shared machines vary
//! more than what is compared. Prints ratios; asserts nothing about time. Arguments `digest`, `rewrap`,
//! `small` and `memory` choose rows.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use adyton_parent::client::{Conversation, SealedResult, Upload, challenge, sign_request};
use adyton_parent::dial::dial;
use adyton_parent::kms::KmsEndpoint;
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Sealer, Suite};
use adyton_shared::id::EnclaveId;
use adyton_shared::job::{Destination, DigestAlgorithm, Input, Job, Step};
use adyton_shared::message::JOB_PORT;
use adyton_shared::{DataKey, EncryptionContext};
use adyton_simulator::world::Info;
use adyton_verifier::attestation::{Expectations, TrustAnchor};
use anyhow::{Context as _, Result};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

const MIB: usize = 1024 * 1024;
const FRAME: u32 = 64 * 1024;
const ROUNDS: usize = 5;
const SMALL_JOBS: usize = 2000;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let simulator = Simulator::start(folder.path())?;
    let bench = Bench::new(simulator.info.clone()).await?;
    println!("| what | measured | yardstick | ratio |\n|---|---|---|---|");
    let wanted = |row: &str| {
        let mut named = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
        named.peek().is_none() || named.any(|name| name == row)
    };
    if wanted("digest") {
        bench.digest().await?;
    }
    if wanted("rewrap") {
        bench.rewrap().await?;
    }
    if wanted("small") {
        bench.small().await?;
    }
    if wanted("memory") {
        bench.memory().await?;
    }
    Ok(())
}

/// `adyton-sim up` beside this program.
struct Simulator {
    child: Child,
    info: Info,
}

impl Simulator {
    fn start(folder: &Path) -> Result<Self> {
        let binary = std::env::var_os("ADYTON_SIM")
            .map_or_else(beside_this_program, |path| Ok(PathBuf::from(path)))?;
        let mut child = Command::new(&binary)
            .arg("--state")
            .arg(folder)
            .args(["--json", "up"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| {
                format!("{}: build it with `cargo build --release --bin adyton-sim`", binary.display())
            })?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(Self { child, info: serde_json::from_str(&line)? })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// `target/release/adyton-sim` for `target/release/deps/job-…`.
fn beside_this_program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().and_then(Path::parent).context("this program has no folder")?;
    Ok(folder.join("adyton-sim"))
}

struct Bench {
    info: Info,
    key: Ed25519KeyPair,
    enclave: EnclaveId,
    wrapped: Vec<u8>,
    data_key: Vec<u8>,
}

impl Bench {
    async fn new(info: Info) -> Result<Self> {
        let key = requester_key(&info)?;
        let kms = adyton_parent::kms::client(KmsEndpoint {
            region: Some(info.region.clone()),
            url: Some(info.kms_endpoint.clone()),
            ca: Some(info.kms_ca.clone()),
            credentials: Some(info.credentials_file.clone()),
            profile: Some("owner".to_owned()),
        })
        .await?;
        let pairs = context()?.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        let made = kms
            .generate_data_key()
            .key_id(&info.key_arn)
            .number_of_bytes(32)
            .set_encryption_context(Some(pairs))
            .send()
            .await?;
        let blob = |blob: Option<&aws_sdk_kms::primitives::Blob>| blob.map(|blob| blob.as_ref().to_vec());
        let wrapped = blob(made.ciphertext_blob()).context("no wrapped key")?;
        let data_key = blob(made.plaintext()).context("no data key")?;
        let anchor = TrustAnchor::from_pem(&std::fs::read_to_string(&info.root)?)?;
        let mut conversation = Conversation::new(dial(&info.enclave.parse()?, JOB_PORT).await?);
        let enclave = challenge(&mut conversation, &anchor, &Expectations::any_image()).await?.id;
        Ok(Self { info, key, enclave, wrapped, data_key })
    }

    fn sealer(&self) -> Result<(Sealer, Vec<u8>)> {
        let key = DataKey::copy_from(&self.data_key).context("not an AES key")?;
        let edk = EncryptedDataKey {
            provider: KMS_PROVIDER,
            information: self.info.key_arn.as_bytes(),
            ciphertext: &self.wrapped,
        };
        let suite = Suite::from_id(0x0478).context("suite")?;
        Ok(Draft::new(suite, context()?)?.seal_with(&key, &[edk], FRAME)?)
    }

    fn message(&self, bytes: usize) -> Result<Vec<u8>> {
        let (sealer, header) = self.sealer()?;
        let mut source = Generated {
            sealer: Some(sealer),
            left: bytes,
            buffer: header,
            start: 0,
            plaintext: vec![0x5a; FRAME as usize],
        };
        let mut message = Vec::with_capacity(bytes + bytes / 1000 + 4096);
        while source.refill() {
            message.extend_from_slice(&source.buffer);
            source.start = source.buffer.len();
        }
        Ok(message)
    }

    fn request(&self) -> Result<Vec<u8>> {
        self.request_to(vec![Step::Digest(DigestAlgorithm::Sha256)], Destination::Parent)
    }

    fn request_to(&self, steps: Vec<Step>, to: Destination) -> Result<Vec<u8>> {
        let claims = BTreeMap::from(
            [("tenant", "acme"), ("object", "bench")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let job = Job { version: 1, input: Input::Raw, steps, to };
        Ok(sign_request(self.enclave, &"billing".parse()?, &self.key, claims, job)?.1)
    }

    async fn conversation(&self) -> Result<Conversation<adyton_parent::Stream>> {
        Ok(Conversation::new(dial(&self.info.enclave.parse()?, JOB_PORT).await?))
    }

    /// 1 GiB, one digest job; the enclave hashes ciphertext and plaintext.
    async fn digest(&self) -> Result<()> {
        let message = self.message(1024 * MIB)?;
        let (mut job, mut hashed, mut sha) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            sha.push(time(|| digest(&SHA256, black_box(&message))));
            job.push(self.timed_job(&message, false).await?);
            hashed.push(self.timed_job(&message, true).await?);
        }
        let speed = |time: Duration| format!("{:.0} MiB/s", 1024.0 / time.as_secs_f64());
        let (job, hashed, sha) = (median(job), median(hashed), median(sha));
        row("1 GiB digest job", &speed(job), &format!("SHA-256 once: {}", speed(sha)), sha, job);
        row(
            "the same, the client hashes too",
            &speed(hashed),
            &format!("SHA-256 once: {}", speed(sha)),
            sha,
            hashed,
        );
        Ok(())
    }

    async fn timed_job(&self, message: &[u8], hash: bool) -> Result<Duration> {
        let request = self.request()?;
        let mut conversation = self.conversation().await?;
        let begin = Instant::now();
        send(&mut conversation, request, message, hash).await?;
        Ok(begin.elapsed())
    }

    /// 1 GiB to another message: opened, sealed, sealed again for the way, hashed twice.
    async fn rewrap(&self) -> Result<()> {
        let message = self.message(1024 * MIB)?;
        let to: Destination = self.info.partner_key_arn.parse()?;
        let (mut job, mut bare) = (Vec::new(), Vec::new());
        let mut buffer = vec![0x5a; 64 * MIB];
        for _ in 0..ROUNDS {
            bare.push(time(|| (0..16).for_each(|_| open_and_seal(black_box(&mut buffer)))));
            let request = self.request_to(Vec::new(), to.clone())?;
            let mut conversation = self.conversation().await?;
            let begin = Instant::now();
            send(&mut conversation, request, &message[..], false).await?;
            job.push(begin.elapsed());
        }
        let speed = |time: Duration| format!("{:.0} MiB/s", 1024.0 / time.as_secs_f64());
        let (job, bare) = (median(job), median(bare));
        let yardstick = format!("opening and sealing its frames bare: {}", speed(bare));
        row("1 GiB re-wrap", &speed(job), &yardstick, bare, job);
        Ok(())
    }

    /// 1 KiB jobs on connections that stay open, the data key cached, requests signed beforehand.
    async fn small(&self) -> Result<()> {
        let message = self.message(1024)?;
        let mut conversation = self.conversation().await?;
        let mut echo = Echo::start()?;
        let (mut jobs, mut trips) = (Vec::new(), Vec::new());
        for _ in 0..SMALL_JOBS {
            let request = self.request()?;
            let begin = Instant::now();
            send(&mut conversation, request, &message[..], false).await?;
            jobs.push(begin.elapsed());
            let begin = Instant::now();
            echo.round_trip().await?;
            trips.push(begin.elapsed());
        }
        let micros = |time: Duration| format!("{:.0} µs", time.as_secs_f64() * 1e6);
        let (job, trip) = (median(jobs), median(trips));
        println!(
            "| 1 KiB job, data key cached, p50 | {} | bare round trip: {} | {:.1} × |",
            micros(job),
            micros(trip),
            job.as_secs_f64() / trip.as_secs_f64()
        );
        let one = self.throughput(&message, 1).await?;
        let eight = self.throughput(&message, 8).await?;
        println!(
            "| 1 KiB jobs, 8 connections | {eight:.0} a second | 1 connection: {one:.0} a second | {:.1} × |",
            eight / one
        );
        Ok(())
    }

    async fn throughput(&self, message: &[u8], connections: usize) -> Result<f64> {
        let each = SMALL_JOBS / connections;
        let mut work = Vec::new();
        for _ in 0..connections {
            let requests = (0..each).map(|_| self.request()).collect::<Result<Vec<_>>>()?;
            work.push((self.conversation().await?, requests, message.to_vec()));
        }
        let begin = Instant::now();
        let tasks: Vec<_> = work
            .into_iter()
            .map(|(mut conversation, requests, message)| {
                tokio::spawn(async move {
                    for request in requests {
                        send(&mut conversation, request, &message[..], false).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(f64::from(u32::try_from(each * connections)?) / begin.elapsed().as_secs_f64())
    }

    /// The enclave's memory over a 4 GiB job, from its own high-water mark.
    async fn memory(&self) -> Result<()> {
        let pid = self.info.pids.get("enclave").context("no enclave")?;
        let (sealer, header) = self.sealer()?;
        let source = Generated {
            sealer: Some(sealer),
            left: 4096 * MIB,
            buffer: header,
            start: 0,
            plaintext: vec![0x5a; FRAME as usize],
        };
        let mut conversation = self.conversation().await?;
        send(&mut conversation, self.request()?, source, false).await?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no high-water mark")?;
        let peak: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        println!(
            "| enclave's peak memory, 4 GiB job | {:.1} MiB | 64 MiB | {:.2} × |",
            peak / 1024.0,
            peak / 1024.0 / 64.0
        );
        Ok(())
    }
}

async fn send(
    conversation: &mut Conversation<adyton_parent::Stream>,
    request: Vec<u8>,
    payload: impl AsyncRead + Unpin,
    hash: bool,
) -> Result<()> {
    let mut progress = |_| {};
    let upload = Upload { payload, hash, progress: &mut progress };
    black_box(conversation.job(request, upload, SealedResult::in_folder(&std::env::temp_dir())).await?);
    Ok(())
}

/// A message that is sealed while it is read.
struct Generated {
    sealer: Option<Sealer>,
    left: usize,
    buffer: Vec<u8>,
    start: usize,
    plaintext: Vec<u8>,
}

impl Generated {
    /// Whether there is something to read in the buffer; seals the next frame if it is empty.
    fn refill(&mut self) -> bool {
        if self.start < self.buffer.len() {
            return true;
        }
        self.buffer.clear();
        self.start = 0;
        let Some(mut sealer) = self.sealer.take() else { return false };
        if self.left > self.plaintext.len() {
            sealer.seal_frame(&self.plaintext, &mut self.buffer).expect("a frame can be sealed");
            self.left -= self.plaintext.len();
            self.sealer = Some(sealer);
        } else {
            sealer
                .finish(&self.plaintext[..self.left], &mut self.buffer)
                .expect("the last frame can be sealed");
        }
        true
    }
}

impl AsyncRead for Generated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.refill() {
            let count = out.remaining().min(self.buffer.len() - self.start);
            let start = self.start;
            out.put_slice(&self.buffer[start..start + count]);
            self.start += count;
        }
        Poll::Ready(Ok(()))
    }
}

/// A bare round trip of 1 KiB on the same kind of socket, answered by another thread's runtime.
struct Echo {
    stream: tokio::net::UnixStream,
    buffer: Vec<u8>,
}

impl Echo {
    fn start() -> Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        ours.set_nonblocking(true)?;
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::spawn(async move {
                    let mut stream = tokio::net::UnixStream::from_std(theirs).expect("a stream");
                    let mut buffer = vec![0; 1024];
                    while stream.read_exact(&mut buffer).await.is_ok()
                        && stream.write_all(&buffer).await.is_ok()
                    {}
                })
                .await
            })
        });
        Ok(Self { stream: tokio::net::UnixStream::from_std(ours)?, buffer: vec![0; 1024] })
    }

    async fn round_trip(&mut self) -> Result<()> {
        self.stream.write_all(&self.buffer).await?;
        self.stream.read_exact(&mut self.buffer).await?;
        Ok(())
    }
}

/// What a re-wrap cannot do without: AES-256-GCM over each frame, once each way, on one thread.
fn open_and_seal(bytes: &mut [u8]) {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key");
    let key = LessSafeKey::new(key);
    let nonce = || Nonce::assume_unique_for_key([0; 12]);
    for frame in bytes.chunks_mut(FRAME as usize) {
        let tag = key.seal_in_place_separate_tag(nonce(), Aad::empty(), frame).expect("sealed");
        key.open_in_place_separate_tag(nonce(), Aad::empty(), tag.as_ref(), frame).expect("opened");
    }
}

fn context() -> Result<EncryptionContext> {
    let pairs = [("tenant", "acme"), ("object", "bench"), ("purpose", "payments"), ("version", "1")];
    Ok(EncryptionContext::from_pairs(pairs)?)
}

fn requester_key(info: &Info) -> Result<Ed25519KeyPair> {
    let path = info.client_config.with_file_name("requester.key");
    let pem = std::fs::read_to_string(path)?;
    let encoded: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(encoded)?;
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| anyhow::anyhow!("not an Ed25519 key"))
}

fn time<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    black_box(work());
    begin.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn row(what: &str, measured: &str, yardstick: &str, reference: Duration, time: Duration) {
    println!("| {what} | {measured} | {yardstick} | {:.2} × |", reference.as_secs_f64() / time.as_secs_f64());
}
