//! `adyton-sim kms explain`: the answer that a bare `AccessDeniedException` does not give.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::kms::{Which, find_call};
use crate::state::StateDir;

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton-sim kms explain last
  adyton-sim kms explain last-refused --json
  adyton-sim kms explain 8a51b3c0-0000-4000-8000-000000000001

The request id is in the x-amzn-RequestId of the answer and in the audit log. The KMS may be running.

EXIT CODES:
  0 explained    1 there is no such call    2 usage    5 failure")]
pub(super) struct ExplainArgs {
    /// A request id; or `last`, or `last-refused` for the last call that ended in an error.
    call: String,
}

pub(super) fn run(folder: &Path, arguments: &ExplainArgs, json: bool) -> Result<ExitCode> {
    let state = StateDir::open(folder)?;
    let which = match arguments.call.as_str() {
        "last" => Which::Last,
        "last-refused" => Which::LastRefused,
        id => Which::Request(id.to_owned()),
    };
    match find_call(&state.kms(), &which)? {
        Some(call) if json => println!("{}", serde_json::to_string(&call)?),
        Some(call) => print!("{call}"),
        None => {
            eprintln!(
                "error: there is no such call\n hint: old calls are forgotten; `last` explains the youngest"
            );
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
