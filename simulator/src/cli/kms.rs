//! `adyton-sim kms`: the local KMS as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::net::TcpListener;

use adyton_verifier::attestation::TrustAnchor;

use crate::kms::{KmsConfig, KmsServer, Transport};
use crate::nsm::SimulatedRoot;
use crate::process::shutdown_requested;
use crate::state::StateDir;

#[derive(Debug, Args)]
pub(super) struct KmsArgs {
    /// The TCP port on 127.0.0.1; 0 takes any.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Let `POST /_adyton/faults` switch misbehaviour on, for tests and rehearsals.
    #[arg(long)]
    faults: bool,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    part: bool,
}

/// Opens the local KMS of a state folder, trusting documents of its simulated NSM.
pub(crate) fn open(state: &StateDir, faults: bool) -> Result<KmsServer> {
    let root = SimulatedRoot::open(state.path(), SystemTime::now())?;
    let anchor = TrustAnchor::from_pem(root.pem()).context("the simulated NSM's root")?;
    let config = KmsConfig { faults_endpoint: faults, ..KmsConfig::new(state.kms(), anchor) };
    Ok(KmsServer::open(config)?)
}

pub(super) async fn run(folder: &Path, arguments: KmsArgs) -> Result<ExitCode> {
    let KmsArgs { port, faults, part } = arguments;
    let state = StateDir::open(folder)?;
    let server = open(&state, faults)?;
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
