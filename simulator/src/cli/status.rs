//! `adyton-sim status`: what runs in a state folder.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use rustix::process::{Pid, test_kill_process};

use crate::state::StateDir;
use crate::world::Info;

pub(super) fn run(folder: &Path, json: bool) -> Result<ExitCode> {
    if !folder.join("lock").try_exists()? {
        return Ok(nothing(folder, json));
    }
    let state = StateDir::open(folder)?;
    if state.lock()?.is_some() {
        return Ok(nothing(folder, json));
    }
    // It holds the lock but may still be starting.
    let Some(info) =
        fs_err::read(state.up()).ok().and_then(|text| serde_json::from_slice::<Info>(&text).ok())
    else {
        println!("{}", if json { r#"{"running":false,"starting":true}"# } else { "starting" });
        return Ok(ExitCode::from(1));
    };
    let alive: Vec<(&str, u32, bool)> =
        info.pids.iter().map(|(part, pid)| (part.as_str(), *pid, is_alive(*pid))).collect();
    let all = alive.iter().all(|(_, _, alive)| *alive);
    if json {
        println!("{}", serde_json::json!({ "running": all, "info": info }));
    } else {
        for (part, pid, alive) in alive {
            println!("{part:<8} {} (process {pid})", if alive { "runs" } else { "has ended" });
        }
        println!("KMS      {}", info.kms_endpoint);
        println!("enclave  {}", info.enclave);
        println!("key      {}", info.key_arn);
        println!("policy   {}", info.policy.display());
        println!("settings {}", info.client_config.display());
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn nothing(folder: &Path, json: bool) -> ExitCode {
    if json {
        println!("{}", serde_json::json!({ "running": false }));
    } else {
        println!("nothing runs in {}; start it with `adyton-sim up`", folder.display());
    }
    ExitCode::from(1)
}

fn is_alive(pid: u32) -> bool {
    Pid::from_raw(pid.cast_signed()).is_some_and(|pid| test_kill_process(pid).is_ok())
}
