//! `adyton`: the command line of the parent and of requesters.

use std::process::ExitCode;

fn main() -> ExitCode {
    adyton_parent::cli::run(std::env::args_os())
}
