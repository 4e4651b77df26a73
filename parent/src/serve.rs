//! `adyton serve`: the parent's daemon, the enclave's only way to the world.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use adyton_shared::message::CREDENTIALS_PORT;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::address::EnclaveAddress;
use crate::credentials::CredentialService;
use crate::listen::PortListener;
use crate::proxy::{AllowList, Counters, Destination, Proxy};

/// Arguments of `adyton serve`.
#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton serve --enclave vsock:16 --proxy 8000=kms.eu-west-1.amazonaws.com:443
  adyton serve --enclave unix:/tmp/v.sock --proxy 8000=localhost:4599 --allow-list allow.yaml

The allow-list has the format of AWS's vsock-proxy. Without one, only KMS endpoints of AWS are served.
Credentials come from the AWS SDK's default chain and are handed to the enclave on port 8001.")]
pub struct ServeArgs {
    /// The enclave: vsock:CID or unix:PATH.
    #[arg(long, env = "ADYTON_ENCLAVE")]
    pub enclave: EnclaveAddress,
    /// A vsock port and where it leads: PORT=HOST:PORT. Can be given several times.
    #[arg(long = "proxy", value_name = "PORT=HOST:PORT", required = true, value_parser = parse_route)]
    pub routes: Vec<(u32, Destination)>,
    /// YAML file of allowed destinations.
    #[arg(long, value_name = "FILE")]
    pub allow_list: Option<PathBuf>,
    /// Print counters as a line of JSON from time to time.
    #[arg(long, value_name = "SECONDS")]
    pub stats_interval: Option<u64>,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    pub part: bool,
}

fn parse_route(text: &str) -> Result<(u32, Destination), String> {
    let (port, destination) =
        text.split_once('=').ok_or_else(|| format!("'{text}': write PORT=HOST:PORT"))?;
    let port = port.parse().map_err(|_| format!("'{port}' is not a vsock port"))?;
    Ok((port, destination.parse().map_err(|error| format!("{error}"))?))
}

/// Serves until it is told to stop.
///
/// # Errors
/// What cannot be listened on or is not allowed; nothing is served then.
pub async fn run(arguments: ServeArgs, json: bool) -> Result<()> {
    let ServeArgs { enclave, routes, allow_list, stats_interval, part } = arguments;
    let allow_list = allow_list
        .map(|path| -> Result<_> {
            AllowList::parse(&fs_err::read_to_string(&path)?).with_context(|| path.display().to_string())
        })
        .transpose()?;
    let mut tasks = JoinSet::new();
    let mut counters = BTreeMap::new();
    for (port, destination) in routes {
        if port == CREDENTIALS_PORT {
            bail!("port {CREDENTIALS_PORT} is where the enclave asks for credentials; choose another");
        }
        let name = format!("{port}={destination}");
        let list = match &allow_list {
            Some(list) => list.clone(),
            None => AllowList::kms_only(&destination)?,
        };
        let proxy = Proxy::new(destination, &list)?;
        let listener = PortListener::bind(&enclave, port)?;
        if counters.insert(name, proxy.counters()).is_some() {
            bail!("--proxy {port} is given twice");
        }
        tasks.spawn(proxy.serve(listener));
    }
    let listener = PortListener::bind(&enclave, CREDENTIALS_PORT)?;
    tasks.spawn(CredentialService::new().serve(listener));
    if json {
        println!(
            "{}",
            serde_json::json!({ "event": "ready", "enclave": enclave, "proxies": counters.keys().collect::<Vec<_>>() })
        );
    } else {
        println!(
            "serving {enclave}: {}; credentials on {CREDENTIALS_PORT}",
            counters.keys().cloned().collect::<Vec<_>>().join(", ")
        );
    }
    tokio::select! {
        () = stop_requested(part) => {}
        () = print_stats(stats_interval, &counters) => {}
        _ = tasks.join_next() => bail!("a service ended by itself"),
    }
    if json || stats_interval.is_some() {
        print(&counters);
    }
    Ok(())
}

async fn print_stats(interval: Option<u64>, counters: &BTreeMap<String, std::sync::Arc<Counters>>) {
    let Some(seconds) = interval else { return std::future::pending().await };
    loop {
        tokio::time::sleep(Duration::from_secs(seconds.max(1))).await;
        print(counters);
    }
}

fn print(counters: &BTreeMap<String, std::sync::Arc<Counters>>) {
    let stats: BTreeMap<_, _> = counters.iter().map(|(name, counters)| (name, counters.stats())).collect();
    println!("{}", serde_json::json!({ "event": "stats", "proxies": stats }));
}

async fn stop_requested(part: bool) {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    let orphaned = async {
        if !part {
            return std::future::pending().await;
        }
        let (mut stdin, mut byte) = (tokio::io::stdin(), [0]);
        while matches!(stdin.read(&mut byte).await, Ok(read) if read > 0) {}
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
        () = orphaned => {}
    }
}
