//! `adyton-sim kms`: the local KMS as a process of its own, and its users.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use tokio::net::TcpListener;

use adyton_verifier::attestation::TrustAnchor;

use super::kms_explain::{self, ExplainArgs};
use super::kms_role::{self, RoleCommand};
use super::kms_state::{self, AuditCommand, FixtureArgs};
use super::kms_user::{self, UserCommand};
use crate::kms::{Faults, KmsConfig, KmsServer, Quotas, Rule, Transport};
use crate::nsm::SimulatedRoot;
use crate::process::shutdown_requested;
use crate::state::StateDir;

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES:
  adyton-sim kms --port 4566
  adyton-sim kms --port 4566 --http --fault throttle,from=5s,until=20s,operations=Decrypt
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
    /// Makes, lists and removes roles. The KMS must not be running.
    #[command(subcommand)]
    Role(RoleCommand),
    /// Checks the audit log.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Writes the whole state to a file, to share as a fixture. The KMS must not be running.
    ///
    /// Keys, aliases, grants, users, roles and policies; not the audit log, certificates, quotas and what
    /// lies in an HSM. Secrets in the file open only with the key file; policies, names, tags and ARNs
    /// can be read by everybody.
    Export(FixtureArgs),
    /// Makes the state of an exported file in a state folder that has none, all of it or nothing.
    Import(FixtureArgs),
    /// Says which statement or grant decided a call, and which condition did not hold.
    Explain(ExplainArgs),
}

#[derive(Debug, Args)]
#[command(after_help = Rule::HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
struct ServeArgs {
    /// The TCP port; 0 takes any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// The address to listen on. Who can reach another than a loopback address can try access keys.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    listen: IpAddr,
    /// Speak plain HTTP instead of HTTPS; on a loopback address only.
    #[arg(long)]
    http: bool,
    /// Something that goes wrong on a schedule; may be given more than once. See below.
    #[arg(long = "fault", value_name = "SPEC")]
    schedule: Vec<Rule>,
    /// Let `POST /_adyton/faults` switch misbehaviour on, for tests and rehearsals.
    #[arg(long)]
    faults: bool,
    /// How many calls of each kind a second: a TOML file, or "aws" for AWS's figures. `quota.toml` in
    /// the KMS's folder, or else AWS's figures of 500 and more, if not given.
    #[arg(long, value_name = "FILE")]
    quota: Option<PathBuf>,
    /// Let `POST /_adyton/reset` remove all keys.
    #[arg(long)]
    admin: bool,
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
    Ok(KmsServer::open(KmsConfig { faults_endpoint: faults, ..config(state)? })?)
}

fn config(state: &StateDir) -> Result<KmsConfig> {
    let root = SimulatedRoot::open(state.path(), SystemTime::now())?;
    let anchor = TrustAnchor::from_pem(root.pem()).context("the simulated NSM's root")?;
    Ok(KmsConfig::new(state.kms(), anchor))
}

fn quotas(file: &Path) -> Result<Quotas> {
    if file == Path::new("aws") {
        return Ok(Quotas::aws());
    }
    Quotas::parse(&fs_err::read_to_string(file)?).with_context(|| file.display().to_string())
}

pub(super) async fn run(folder: &Path, arguments: KmsArgs, json: bool) -> Result<ExitCode> {
    let KmsArgs { command, serve } = arguments;
    match command {
        None => self::serve(folder, serve).await,
        Some(KmsCommand::Serve(serve)) => self::serve(folder, serve).await,
        Some(KmsCommand::Role(command)) => kms_role::run(folder, command, json),
        Some(KmsCommand::Audit(command)) => kms_state::audit(folder, command, json),
        Some(KmsCommand::Export(arguments)) => kms_state::export(folder, &arguments, json),
        Some(KmsCommand::Import(arguments)) => kms_state::import(folder, &arguments, json),
        Some(KmsCommand::User(command)) => kms_user::run(folder, command, json),
        Some(KmsCommand::Explain(arguments)) => kms_explain::run(folder, &arguments, json),
    }
}

async fn serve(folder: &Path, arguments: ServeArgs) -> Result<ExitCode> {
    let ServeArgs { port, listen, http, schedule, faults, quota, admin, iam, hsm, part } = arguments;
    ensure!(
        !http || listen.is_loopback(),
        "plain HTTP is for loopback addresses only, not for {listen}; leave --http out"
    );
    let state = StateDir::open(folder)?;
    let local = listen.is_loopback() || listen.is_unspecified();
    let server = KmsServer::open(KmsConfig {
        faults_endpoint: faults,
        iam_endpoint: iam,
        admin_endpoint: admin,
        hsm,
        quotas: quota.as_deref().map(quotas).transpose()?,
        server_names: if local { Vec::new() } else { vec![listen.to_string()] },
        ..config(&state)?
    })?;
    server.set_faults(Faults { schedule, ..Faults::default() });
    let address = SocketAddr::from((listen, port));
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let port = listener.local_addr()?.port();
    let (scheme, transport) = if http { ("http", Transport::Plain) } else { ("https", Transport::Tls) };
    let host = match listen {
        _ if local => "localhost".to_owned(),
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    println!(
        "{}",
        serde_json::json!({ "event": "ready", "endpoint": format!("{scheme}://{host}:{port}"), "port": port, "ca": state.kms_ca() })
    );
    server.serve(listener, transport, shutdown_requested(part)).await?;
    Ok(ExitCode::SUCCESS)
}
