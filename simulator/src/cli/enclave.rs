//! `adyton-sim enclave`: one simulated enclave as a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use clap::Args;

use adyton_enclave::{boot, service};

use crate::enclave::{EnclaveConfig, launch};
use crate::nsm::{MAX_PCRS, SimulatedHost, SimulatedNsm};
use crate::process::shutdown_requested;
use crate::state::StateDir;

#[derive(Debug, Args)]
pub(super) struct EnclaveArgs {
    /// The policy file that is measured; the state folder's, if not given.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The hybrid-vsock socket to listen on; the state folder's, if not given.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Debug mode: all measurements are zero, and nobody should release a key.
    #[arg(long)]
    debug: bool,
    /// What the kernel names as its random source.
    #[arg(long, default_value = "nsm-hwrng", value_name = "NAME")]
    rng_current: String,
    /// What the kernel names as its clock source.
    #[arg(long, default_value = "kvm-clock", value_name = "NAME")]
    clocksource: String,
    /// Stop when standard input ends.
    #[arg(long, hide = true)]
    part: bool,
}

pub(super) async fn run(folder: &Path, arguments: EnclaveArgs) -> Result<ExitCode> {
    let EnclaveArgs { policy, socket, debug, rng_current, clocksource, part } = arguments;
    boot::harden()?;
    boot::silence_panics();
    let state = StateDir::open(folder)?;
    let policy = fs_err::read(policy.unwrap_or_else(|| state.policy()))?;
    let socket = socket.unwrap_or_else(|| state.socket());
    let config = EnclaveConfig {
        state_dir: state.path().to_owned(),
        socket: socket.clone(),
        executable: std::env::current_exe().context("this executable cannot be found")?,
        debug,
        host: SimulatedHost {
            rng_current: format!("{rng_current}\n"),
            clocksource: format!("{clocksource}\n"),
        },
    };
    let launched = launch(config, &policy).await?;
    println!(
        "{}",
        serde_json::json!({
            "event": "ready",
            "enclave": format!("unix:{}", socket.display()),
            "module_id": launched.nsm.module_id(),
            "pcrs": locked_pcrs(&launched.nsm),
        })
    );
    service::serve(launched.enclave, launched.listener, shutdown_requested(part)).await;
    Ok(ExitCode::SUCCESS)
}

/// The registers that documents list and that are not zero.
fn locked_pcrs(nsm: &SimulatedNsm) -> BTreeMap<u16, String> {
    (0..MAX_PCRS)
        .filter_map(|index| match nsm.process(Request::DescribePCR { index }) {
            Response::DescribePCR { lock: true, data } if data.iter().any(|byte| *byte != 0) => {
                Some((index, hex::encode(data)))
            }
            _ => None,
        })
        .collect()
}
