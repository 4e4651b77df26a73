//! `adyton serve`: the parent's daemon.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval_at};

use crate::address::EnclaveAddress;
use crate::credentials::CredentialService;
use crate::daemon::Daemon;
use crate::exit::{Exit, Failure};
use crate::listen::ListenError;
use crate::named_keys::NamedKeyService;
use crate::proxy::{AllowList, AllowListError, Destination, Limits, Proxy};

const EXAMPLES: &str = "\
EXAMPLES:
  Serve the enclave with CID 16 on this EC2 instance:
    adyton serve --enclave vsock:16 --proxy 8000=kms.eu-west-1.amazonaws.com:443

  With the wrapped keys that the policy's [keys.*] name:
    adyton serve --enclave vsock:16 --proxy 8000=kms.eu-west-1.amazonaws.com:443 --keys /etc/adyton/keys

  Through a VPC endpoint, with the allow-list of AWS's vsock-proxy:
    adyton serve --enclave vsock:16 --proxy 8000=vpce-1-2.kms.eu-west-1.vpce.amazonaws.com:443 \\
      --allow-list /etc/nitro_enclaves/vsock-proxy.yaml

Prints one line when it is ready. SIGUSR1 prints the counters as JSON; SIGINT and SIGTERM stop it.";

/// Runs the parent's daemon: the way out to KMS, credentials, and wrapped named keys.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    /// An enclave to serve, vsock:CID or unix:SOCKET; may be repeated.
    #[arg(long, env = "ADYTON_ENCLAVE", required = true, value_name = "ADDRESS")]
    enclave: Vec<EnclaveAddress>,
    /// Forwards what enclaves open on PORT to HOST:PORT; may be repeated.
    #[arg(long, required = true, value_name = "PORT=HOST:PORT")]
    proxy: Vec<Forward>,
    /// What may be reached, in the format of vsock-proxy.yaml. Without it: the public endpoints of AWS KMS.
    #[arg(long, value_name = "FILE")]
    allow_list: Option<PathBuf>,
    /// Connections that one proxy carries at once.
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections, value_parser = connections)]
    max_connections: usize,
    /// Ends a connection that carries nothing for so long.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().idle.as_secs(), value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Hands no credentials to enclaves.
    #[arg(long)]
    no_credentials: bool,
    /// The folder of wrapped named keys, for the policy's `file:` sources.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Stops when standard input ends.
    #[arg(long, hide = true)]
    part: bool,
    /// Prints the counters as JSON every so often.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    stats_interval: Option<u64>,
}

/// `8000=kms.eu-west-1.amazonaws.com:443`
#[derive(Clone, Debug)]
struct Forward {
    port: u32,
    to: Destination,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (port, to) = text
            .split_once('=')
            .ok_or_else(|| format!("'{text}' has no '='; write 8000=kms.eu-west-1.amazonaws.com:443"))?;
        let port = port.parse().map_err(|_| format!("'{port}' is not a port"))?;
        Ok(Self { port, to: to.parse().map_err(|error| format!("{error}"))? })
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65_536) => Ok(count),
        _ => Err("write 1 to 65536".to_owned()),
    }
}

impl Serve {
    pub(super) async fn run(self, json: bool) -> Result<(), Failure> {
        // Before anything is bound, so that no signal is missed.
        let mut signals = Signals::new()?;
        let daemon = Daemon::start(&self.enclave, self.proxies()?, self.credentials(), self.named_keys()?)
            .map_err(listen_failure)?;
        self.say_ready(json);
        let period = Duration::from_secs(self.stats_interval.unwrap_or(u64::from(u32::MAX)));
        let mut ticks = interval_at(Instant::now() + period, period);
        let mut orphaned = std::pin::pin!(orphaned(self.part));
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break,
                _ = signals.terminate.recv() => break,
                () = &mut orphaned => break,
                _ = signals.user.recv() => {}
                _ = ticks.tick() => {}
            }
            say(&json!({ "event": "stats", "stats": daemon.stats() }).to_string());
        }
        let stats = daemon.stats();
        daemon.stop().await;
        say(&if json { json!({ "event": "stopped", "stats": stats }).to_string() } else { "stopped".into() });
        Ok(())
    }

    fn proxies(&self) -> Result<BTreeMap<u32, Proxy>, Failure> {
        let allowed = match &self.allow_list {
            Some(path) => AllowList::read(path).map_err(|error| allow_list_failure(&error))?,
            None => AllowList::AwsKms,
        };
        let limits = Limits {
            connections: self.max_connections,
            idle: Duration::from_secs(self.idle),
            ..Limits::default()
        };
        let mut proxies = BTreeMap::new();
        for Forward { port, to } in &self.proxy {
            let proxy = Proxy::new(to.clone(), &allowed, limits).map_err(|error| {
                let hint = match &self.allow_list {
                    Some(path) => format!(
                        "add `- {{address: {}, port: {}}}` to {}",
                        to.host(),
                        to.port(),
                        path.display()
                    ),
                    None => {
                        "without --allow-list only the public endpoints of AWS KMS are allowed".to_owned()
                    }
                };
                Failure::of(Exit::Refused, &error).code("not_allowed").hint(hint)
            })?;
            if proxies.insert(*port, proxy).is_some() {
                return Err(Failure::new(Exit::Usage, format!("port {port} is forwarded twice"))
                    .hint("use one port for each destination"));
            }
        }
        Ok(proxies)
    }

    fn credentials(&self) -> Option<CredentialService> {
        (!self.no_credentials).then(CredentialService::new)
    }

    fn named_keys(&self) -> Result<Option<NamedKeyService>, Failure> {
        let Some(folder) = &self.keys else { return Ok(None) };
        // Later it would look like a key that is missing.
        if !folder.is_dir() {
            let message = format!("--keys {} is not a folder", folder.display());
            return Err(Failure::new(Exit::File, message).hint("`adyton key new` says what belongs in it"));
        }
        Ok(Some(NamedKeyService::new(folder.clone())))
    }

    fn say_ready(&self, json: bool) {
        let enclaves: Vec<_> = self.enclave.iter().map(ToString::to_string).collect();
        let proxies: BTreeMap<_, _> = self.proxy.iter().map(|f| (f.port, f.to.to_string())).collect();
        if json {
            let (credentials, keys) = (!self.no_credentials, self.keys.is_some());
            let ready = json!({ "event": "ready", "enclaves": enclaves, "proxies": proxies, "credentials": credentials, "keys": keys });
            return say(&ready.to_string());
        }
        let proxies: Vec<_> = proxies.iter().map(|(port, to)| format!("{port} to {to}")).collect();
        say(&format!("ready: {} for {}", proxies.join(", "), enclaves.join(", ")));
    }
}

/// A closed standard output is no reason to stop serving.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Completes when standard input ends, if this process is to live no longer than that.
async fn orphaned(part: bool) {
    if !part {
        return std::future::pending().await;
    }
    let (mut stdin, mut byte) = (tokio::io::stdin(), [0]);
    while matches!(stdin.read(&mut byte).await, Ok(read) if read > 0) {}
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let of = |kind| signal(kind).map_err(|error| Failure::of(Exit::File, &error));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            user: of(SignalKind::user_defined1())?,
        })
    }
}

fn allow_list_failure(error: &AllowListError) -> Failure {
    let exit = if matches!(error, AllowListError::Io { .. }) { Exit::File } else { Exit::Usage };
    Failure::of(exit, error)
        .hint("entries look like `allowlist: [{address: kms.eu-west-1.amazonaws.com, port: 443}]`")
}

fn listen_failure(error: ListenError) -> Failure {
    let failure = Failure::of(Exit::File, &error);
    match error {
        ListenError::File(crate::socket_file::SocketFileError::InUse { .. }) => {
            failure.code("in_use").hint("is `adyton serve` running already for this enclave? stop it, or use another socket")
        }
        ListenError::Vsock { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            failure.code("in_use").hint("is `adyton serve` or vsock-proxy running already?")
        }
        ListenError::Vsock { .. } => failure.hint("does this machine have AF_VSOCK? `modprobe vsock_loopback` or an EC2 instance with enclaves enabled"),
        ListenError::File(_) => failure.hint("does the folder exist, and may this user write to it?"),
    }
}
