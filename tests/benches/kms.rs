//! Requests per second of the local KMS, beside `moto` on the same machine.
//!
//! `tests/bench kms`. The same client asks both: signed requests over eight connections that stay open, plain HTTP,
//! small blobs, servers taken in turns. `PYTHON` says where a Python with `moto[server,kms]` is; without one the
//! rows have no yardstick and say so.
#![expect(clippy::cast_precision_loss, reason = "figures are printed rounded")]

use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use adyton_simulator::kms::{KmsConfig, KmsServer, Transport, User};
use adyton_simulator::nsm::SimulatedRoot;
use adyton_verifier::attestation::TrustAnchor;
use anyhow::{Context as _, Result, bail};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const REGION: &str = "eu-west-1";
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 5;
/// How long each round asks.
const ROUND: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let root = SimulatedRoot::open(folder.path(), SystemTime::now())?;
    let anchor = TrustAnchor::from_pem(root.pem())?;
    let opening = Instant::now();
    let server = KmsServer::open(KmsConfig::new(folder.path().join("kms"), anchor))?;
    println!("a new state folder opens in {} ms", opening.elapsed().as_millis());
    let user = server.first_administrator()?;
    let listener = StdListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    // A runtime of its own, as the other server is a process of its own.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            anyhow::Ok(server.serve(listener, Transport::Plain, std::future::pending()).await?)
        })
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(compare(&user, port))
}

async fn compare(user: &User, port: u16) -> Result<()> {
    let ours = Target::prepare(user, port).await?;
    let moto = match Moto::start().await {
        Ok(moto) => Some((Target::prepare(user, moto.port).await?, moto)),
        Err(error) => {
            println!("no yardstick: {error:#}");
            None
        }
    };
    println!("| what | measured | moto | ratio |\n|---|---|---|---|");
    for (name, request) in [("Decrypt", 0), ("GenerateDataKey", 1)] {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(ours.rate(request).await?);
            if let Some((target, _)) = &moto {
                other.push(target.rate(request).await?);
            }
        }
        let own = median(own);
        let (other, ratio) = match moto.as_ref().map(|_| median(other)) {
            Some(other) => (format!("{other:.0}/s"), format!("{:.1} x", own / other)),
            None => ("-".into(), "-".into()),
        };
        println!("| {name}, {CONNECTIONS} connections | {own:.0}/s | {other} | {ratio} |");
    }
    Ok(())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A server, and what to ask it.
struct Target {
    port: u16,
    requests: [Vec<u8>; 2],
}

impl Target {
    /// Makes a key and a ciphertext, and signs one request of each kind, which can be sent as often as wanted.
    async fn prepare(user: &User, port: u16) -> Result<Self> {
        let ask = async |operation: &str, body: Value| -> Result<Value> {
            let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
            let body = exchange(&mut stream, &signed(user, operation, &body)?).await?;
            Ok(serde_json::from_slice(&body)?)
        };
        let made = ask("CreateKey", json!({})).await?;
        let key = &made["KeyMetadata"]["KeyId"];
        let context = json!({"tenant": "acme", "purpose": "payments"});
        let plaintext = json!({"KeyId": key, "Plaintext": "c21hbGw=", "EncryptionContext": context});
        let sealed = ask("Encrypt", plaintext).await?;
        let decrypt = json!({"CiphertextBlob": sealed["CiphertextBlob"], "EncryptionContext": context});
        let data_key = json!({"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": context});
        let requests = [signed(user, "Decrypt", &decrypt)?, signed(user, "GenerateDataKey", &data_key)?];
        Ok(Self { port, requests })
    }

    /// Requests per second over all connections.
    async fn rate(&self, request: usize) -> Result<f64> {
        let request = self.requests.get(request).context("no such request")?;
        let start = Instant::now();
        let connections = (0..CONNECTIONS).map(|_| async {
            let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", self.port)).await?);
            let mut done = 0_usize;
            while start.elapsed() < ROUND {
                exchange(&mut stream, request).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
        let mut total = 0;
        for done in join_all(connections).await {
            total += done?;
        }
        Ok(total as f64 / start.elapsed().as_secs_f64())
    }
}

/// Runs futures together on this thread.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, done) in &mut pending {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(result) => *done = Some(result),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    pending.into_iter().filter_map(|(_, done)| done).collect()
}

/// Sends a request and reads its answer; the body, if the status is 200.
async fn exchange(stream: &mut BufReader<TcpStream>, request: &[u8]) -> Result<Vec<u8>> {
    stream.get_mut().write_all(request).await?;
    let (mut status, mut length, mut line) = (String::new(), 0, String::new());
    stream.read_line(&mut status).await?;
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse()?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    if !status.contains(" 200") {
        bail!("{} {}", status.trim_end(), String::from_utf8_lossy(&body));
    }
    Ok(body)
}

fn signed(user: &User, operation: &str, body: &Value) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(body)?;
    let credentials =
        Credentials::new(&user.access_key_id, user.secret_access_key.as_str(), None, None, "bench");
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name("kms")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let mut headers = vec![
        ("host".to_owned(), "localhost".to_owned()),
        ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ("x-amz-target".to_owned(), format!("TrentService.{operation}")),
    ];
    let named = headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let signable = SignableRequest::new("POST", "http://localhost/", named, SignableBody::Bytes(&body))?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    headers.extend(
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>(),
    );
    let mut request = b"POST / HTTP/1.1\r\n".to_vec();
    for (name, value) in headers {
        request.extend(format!("{name}: {value}\r\n").into_bytes());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend(body);
    Ok(request)
}

/// `moto` as a process of its own.
struct Moto {
    port: u16,
    process: Child,
}

impl Moto {
    async fn start() -> Result<Self> {
        let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
        let known = Command::new(&python).args(["-c", "import moto.server"]).stderr(Stdio::null()).status();
        if !known.is_ok_and(|status| status.success()) {
            bail!("moto is not installed; PYTHON names a Python that has it");
        }
        let port = StdListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let process = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let moto = Self { port, process };
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(moto);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("moto did not start")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
