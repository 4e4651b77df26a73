//! `adyton-sim kms`: the local KMS as a process of its own, and its users.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use tokio::net::TcpListener;

use adyton_verifier::attestation::TrustAnchor;

use super::kms_explain::{self, ExplainArgs};
use super::kms_user::{self, UserCommand};
use crate::kms::{KmsConfig, KmsServer, Transport};
use crate::nsm::SimulatedRoot;
use crate::process::shutdown_requested;
use crate::state::StateDir;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES:
  adyton-sim kms --port 4566
  adyton-sim kms user add alice --policy alice.json
  adyton-sim kms explain last-refused"
)]
pub(super) struct KmsArgs {
    #[command(subcommand)]
    command: Option<KmsCommand>,
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
enum KmsCommand {
    /// Runs the local KMS; the same as without a command.
    Serve(ServeArgs),
    /// Makes, lists and removes users. The KMS must not be running.
    #[command(subcommand)]
    User(UserCommand),
    /// Says which statement or grant decided a call, and which condition did not hold.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
struct ServeArgs {
    /// The TCP port on 127.0.0.1; 0 takes any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Let `POST /_adyton/faults` switch misbehaviour on, for tests and rehearsals.
    #[arg(long)]
    faults: bool,
    /// Let `PUT /_adyton/iam/PRINCIPAL/NAME` set identity policies.
    #[arg(long)]
    iam: bool,
    /// The HSM clusters of custom key stores; otherwise `hsm.toml` in the KMS state folder, if there.
    #[arg(long, value_name = "FILE")]
    hsm: Option<PathBuf>,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    part: bool,
}

/// Opens the local KMS of a state folder, trusting documents of its simulated NSM.
pub(crate) fn open(state: &StateDir, faults: bool) -> Result<KmsServer> {
    open_with(state, |config| config.faults_endpoint = faults)
}

fn open_with(state: &StateDir, adjust: impl FnOnce(&mut KmsConfig)) -> Result<KmsServer> {
    let root = SimulatedRoot::open(state.path(), SystemTime::now())?;
    let anchor = TrustAnchor::from_pem(root.pem()).context("the simulated NSM's root")?;
    let mut config = KmsConfig::new(state.kms(), anchor);
    adjust(&mut config);
    Ok(KmsServer::open(config)?)
}

pub(super) async fn run(folder: &Path, arguments: KmsArgs, json: bool) -> Result<ExitCode> {
    let KmsArgs { command, serve } = arguments;
    match command {
        None => self::serve(folder, serve).await,
        Some(KmsCommand::Serve(serve)) => self::serve(folder, serve).await,
        Some(KmsCommand::User(command)) => kms_user::run(folder, command, json),
        Some(KmsCommand::Explain(arguments)) => kms_explain::run(folder, &arguments, json),
    }
}

async fn serve(folder: &Path, arguments: ServeArgs) -> Result<ExitCode> {
    let ServeArgs { port, faults, iam, hsm, part } = arguments;
    let state = StateDir::open(folder)?;
    let server = open_with(&state, |config| {
        config.faults_endpoint = faults;
        config.iam_endpoint = iam;
        config.hsm = hsm;
    })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let port = listener.local_addr()?.port();
    println!(
        "{}",
        serde_json::json!({ "event": "ready", "endpoint": format!("https://localhost:{port}"), "port": port, "ca": state.kms_ca() })
    );
    server.serve(listener, Transport::Tls, shutdown_requested(part)).await?;
    Ok(ExitCode::SUCCESS)
}
