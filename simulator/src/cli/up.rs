//! `adyton-sim up`: everything running, until Ctrl-C.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use crate::process::shutdown_requested;
use crate::world::{Info, World, WorldOptions};

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton-sim up                      state under ~/.local/state/adyton-sim
  adyton-sim --state ./sim up        state in a folder of its own
  adyton-sim --json up | jq .        one line of JSON when ready, for programs

Data encrypted yesterday opens today, as long as the state folder is kept. Edit policy.toml in it and
start again: the enclave is measured anew, and the KMS key's policy follows.")]
pub(super) struct UpArgs {
    /// The local KMS's TCP port on 127.0.0.1; the last one or any, if not given.
    #[arg(long, default_value_t = 0)]
    kms_port: u16,
    /// Let `POST /_adyton/faults` on the local KMS switch misbehaviour on.
    #[arg(long)]
    faults: bool,
}

pub(super) async fn run(folder: &Path, arguments: UpArgs, json: bool) -> Result<ExitCode> {
    let UpArgs { kms_port, faults } = arguments;
    let mut since = Instant::now();
    let options = WorldOptions { kms_port, faults };
    let mut world = World::up(folder, options, |step| {
        if !json {
            println!("  {:>7.2} s  {step}", since.elapsed().as_secs_f64());
        }
        since = Instant::now();
    })
    .await?;
    if json {
        println!("{}", serde_json::to_string(&world.info)?);
    } else {
        print_next(&world.info);
    }
    let ended = tokio::select! {
        () = shutdown_requested(false) => Ok(()),
        ended = world.watch() => ended,
    };
    world.down().await;
    ended?;
    if !json {
        println!("stopped; the state is kept");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_next(info: &Info) {
    let config = info.client_config.display();
    if info.key_policy_changed {
        println!("\nThe measurements are new, so the KMS key's policy was changed to demand them.");
    }
    println!(
        "\nIt runs. In another terminal:

  export ADYTON_CONFIG={config}
  adyton attest                                   # who answers, verified
  adyton encrypt data.ndjson -o data.enc --tenant acme --object data --purpose payments --version 1
  adyton run job.toml data.enc -o result.ndjson --tenant acme --object data --version 1

AWS clients reach the local KMS at {} with
  AWS_CA_BUNDLE={} AWS_SHARED_CREDENTIALS_FILE={} AWS_REGION={}

What may leave is in {}. Ctrl-C stops everything; the state stays.",
        info.kms_endpoint,
        info.kms_ca.display(),
        info.credentials_file.display(),
        info.region,
        info.policy.display(),
    );
}
