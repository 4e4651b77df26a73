//! `adyton-sim`: a Nitro enclave and its surroundings on an ordinary Linux host.

use std::process::ExitCode;

fn main() -> ExitCode {
    adyton_simulator::cli::run()
}
