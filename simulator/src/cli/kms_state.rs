//! `adyton-sim kms export`, `import` and `audit`: the state of the local KMS as files.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::kms::{AuditVerdict, FixtureKey, export_state, import_state, verify_audit};
use crate::state::StateDir;

#[derive(Debug, Args)]
pub(super) struct FixtureArgs {
    /// The file with the state.
    file: PathBuf,
    /// The key that opens the secrets in it; `export` makes it if it is not there.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Says whether the hash chain of an audit log is whole, and where it breaks.
    #[command(after_help = "EXAMPLES:
  adyton-sim kms audit verify
  adyton-sim kms audit verify copy-of-audit.ndjson
  jq -c 'select(.errorCode)' ~/.local/state/adyton-sim/kms/audit.ndjson

WHAT IT TELLS
  Changed, removed, inserted, repeated and reordered lines; with the sealed head beside the file (in the
  state folder) also lines cut off at the end and a chain made anew.
WHAT IT DOES NOT
  A log and a head that were put back together to an earlier state; what somebody with the root key
  wrote; without the head, anything at the end.

EXIT CODES:
  0 whole    1 broken    5 a file")]
    Verify {
        /// The log; the one in the state folder if not given.
        file: Option<PathBuf>,
    },
}

pub(super) fn export(folder: &Path, arguments: &FixtureArgs, as_json: bool) -> Result<ExitCode> {
    let FixtureArgs { file, key_file } = arguments;
    let state = StateDir::open(folder)?;
    let key = if key_file.try_exists()? { FixtureKey::read(key_file)? } else { FixtureKey::make(key_file)? };
    export_state(&state.kms(), file, &key).context("is the local KMS running? stop it first")?;
    Ok(done(as_json, file, "written; its secrets open with the key file, which must not lie beside it"))
}

pub(super) fn import(folder: &Path, arguments: &FixtureArgs, as_json: bool) -> Result<ExitCode> {
    let FixtureArgs { file, key_file } = arguments;
    let state = StateDir::open(folder)?;
    import_state(&state.kms(), file, &FixtureKey::read(key_file)?)?;
    Ok(done(as_json, file, "imported"))
}

fn done(as_json: bool, file: &Path, text: &str) -> ExitCode {
    if as_json {
        println!("{}", json!({ "file": file }));
    } else {
        println!("{}: {text}", file.display());
    }
    ExitCode::SUCCESS
}

pub(super) fn audit(folder: &Path, command: AuditCommand, as_json: bool) -> Result<ExitCode> {
    let AuditCommand::Verify { file } = command;
    let file = match file {
        Some(file) => file,
        None => StateDir::open(folder)?.kms().join("audit.ndjson"),
    };
    let verdict = verify_audit(&file).with_context(|| file.display().to_string())?;
    let whole = verdict.is_whole();
    let AuditVerdict { lines, breaks, notes, .. } = verdict;
    if as_json {
        println!("{}", json!({ "whole": whole, "lines": lines, "breaks": breaks, "notes": notes }));
    } else {
        for text in &breaks {
            println!("broken: {text}");
        }
        for text in &notes {
            println!("  note: {text}");
        }
        println!("{lines} lines; the chain is {}", if whole { "whole" } else { "broken" });
    }
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
