//! The measured program of a Nitro enclave.
//!
//! Reads the policy that was measured with it, opens the real device and socket, and serves. It
//! takes one optional argument, the policy's path, and knows nothing else of the world.

use std::process::ExitCode;
use std::sync::Arc;

use adyton_enclave::boot::{self, Platform};
use adyton_enclave::device::{KernelFiles, NsmDevice, VsockDial, VsockListen};
use adyton_enclave::event::StderrEvents;
use adyton_enclave::service;
use adyton_shared::message::JOB_PORT;

/// Where the image has its policy.
const POLICY_PATH: &str = "/etc/adyton/policy.toml";

fn main() -> ExitCode {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| POLICY_PATH.into());
    match start(path.as_ref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn start(policy_path: &std::path::Path) -> Result<(), Box<dyn std::error::Error>> {
    boot::harden()?;
    boot::silence_panics();
    let policy = std::fs::read(policy_path)
        .map_err(|error| format!("the policy {} cannot be read: {error}", policy_path.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let platform = Platform {
            nsm: Arc::new(NsmDevice::open()?),
            dial: Arc::new(VsockDial),
            kernel: Arc::new(KernelFiles),
            events: Arc::new(StderrEvents::default()),
        };
        let listener = VsockListen::bind(JOB_PORT)?;
        let enclave = boot::boot(platform, &policy).await?;
        service::serve(enclave, listener, std::future::pending()).await;
        Ok(())
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
