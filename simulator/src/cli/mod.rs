//! The command line of `adyton-sim`.

mod demo;
mod enclave;
mod kms;
mod kms_explain;
mod kms_role;
mod kms_state;
mod kms_user;
mod nsm;
mod status;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::state::StateDir;

pub(crate) use kms::open as open_kms;

/// A Nitro enclave and its surroundings on an ordinary Linux host.
///
/// For trying things out, for tests and for rehearsals. Nothing here protects anything.
#[derive(Debug, Parser)]
#[command(
    name = "adyton-sim",
    version,
    after_help = "EXAMPLES:
  adyton-sim demo                    everything once, in a few seconds
  adyton-sim up                      leave it running; says what to type next
  adyton-sim status                  what runs
  
EXIT CODES:
  0 success   1 something is not running or was refused   2 usage   5 failure"
)]
struct Cli {
    /// The folder that keeps keys and state.
    #[arg(long, global = true, env = "ADYTON_SIM_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows the whole way of a job, and three refusals.
    Demo(demo::DemoArgs),
    /// Starts local KMS, enclave and parent, and leaves them running until Ctrl-C.
    Up(up::UpArgs),
    /// Says what runs in the state folder.
    Status,
    /// The simulated Nitro Secure Module.
    #[command(subcommand)]
    Nsm(nsm::NsmCommand),
    /// Runs the local KMS alone, makes its users, explains what it decided.
    Kms(kms::KmsArgs),
    /// Runs one simulated enclave alone.
    Enclave(enclave::EnclaveArgs),
    /// The `adyton` command, built in.
    #[command(disable_help_flag = true)]
    Parent {
        /// What to pass on.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
        arguments: Vec<OsString>,
    },
}

/// Runs the command line.
pub fn run() -> ExitCode {
    let Cli { state, json, command } = Cli::parse();
    let command = match command {
        Command::Parent { arguments } => {
            return adyton_parent::cli::run(std::iter::once("adyton".into()).chain(arguments));
        }
        other => other,
    };
    start_log();
    let folder = state.unwrap_or_else(StateDir::default_path);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), json),
    };
    let done = runtime.block_on(async {
        match command {
            Command::Demo(arguments) => demo::run(arguments, json).await,
            Command::Up(arguments) => up::run(&folder, arguments, json).await,
            Command::Status => status::run(&folder, json),
            Command::Nsm(command) => nsm::run(&folder, command, json),
            Command::Kms(arguments) => kms::run(&folder, arguments, json).await,
            Command::Enclave(arguments) => enclave::run(&folder, arguments).await,
            Command::Parent { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // A task that blocks on standard input must not keep a finished program.
    runtime.shutdown_background();
    done.unwrap_or_else(|error| failed(&error, json))
}

fn failed(error: &anyhow::Error, json: bool) -> ExitCode {
    if json {
        eprintln!("{}", serde_json::json!({ "error": format!("{error:#}") }));
    } else {
        eprintln!("error: {error:#}");
    }
    ExitCode::from(5)
}

/// What the simulated parts have to say goes to standard error; `ADYTON_LOG` says how much of it.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ADYTON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
