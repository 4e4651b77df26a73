//! `adyton`: carries what an enclave needs, and sends it jobs.

use std::process::ExitCode;

fn main() -> ExitCode {
    adyton_parent::cli::run(std::env::args_os())
}
