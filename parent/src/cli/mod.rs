//! The command line of `adyton`.

mod attest;
pub mod config;
mod encrypt;
mod failure;
mod job_file;
mod key;
mod kms_failure;
mod measurements;
mod output;
mod policy;
mod policy_lint;
mod policy_text;
mod receipt;
mod requester;
mod run;
mod serve;
mod step_line;
mod trust;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::{EXIT_CODES, Exit, Failure};
use config::ClientConfig;
use failure::{bad_file, failed_with};

const EXAMPLES: &str = "\
EXAMPLES:
  adyton requester new --name billing -o billing.key
  adyton encrypt data.ndjson -o data.enc --tenant acme --object data --purpose payments --version 7
  adyton attest
  adyton run job.toml data.enc -o result.ndjson --tenant acme --object data --version 7
  adyton receipt verify result.ndjson.receipt --input data.enc --output result.ndjson

SETTINGS:
  Flags win over the settings file: --config FILE, else $ADYTON_CONFIG, else ./adyton.toml.";

/// Sends jobs to an Adyton enclave, and carries its traffic without reading it.
#[derive(Debug, Parser)]
#[command(name = "adyton", version, after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
    /// Settings file.
    #[arg(long, global = true, env = "ADYTON_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes and shows requesters' keys.
    #[command(subcommand)]
    Requester(requester::RequesterCommand),
    /// Encrypts a file for the enclave, as an AWS Encryption SDK message.
    Encrypt(encrypt::EncryptArgs),
    /// Makes named keys for the policy's [keys.*].
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Sends a job and stores its result.
    Run(run::RunArgs),
    /// Challenges an enclave, or judges a kept document.
    Attest(attest::AttestArgs),
    /// Checks receipts.
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Explains policies, writes the KMS key policies that belong to them, and judges key policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Runs the parent's daemon: egress proxy, credentials, wrapped named keys.
    Serve(serve::Serve),
}

/// Runs the command line with these arguments, the program's name first.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    start_log();
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let json = cli.json;
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) if json => {
            eprintln!("{}", failure.to_json());
            failure.exit.into()
        }
        Err(failure) => {
            eprintln!("{failure}");
            failure.exit.into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let Cli { json, config, command } = cli;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| bad_file(&error, "the runtime"))?;
    let done = runtime.block_on(async {
        match command {
            Command::Requester(command) => requester::run(command, json),
            Command::Encrypt(arguments) => encrypt::run(arguments, ClientConfig::find(config)?, json).await,
            Command::Key(command) => key::run(command, ClientConfig::find(config)?, json).await,
            Command::Run(arguments) => {
                interruptible(run::run(arguments, ClientConfig::find(config)?, json)).await
            }
            Command::Attest(arguments) => {
                interruptible(attest::run(arguments, || ClientConfig::find(config), json)).await
            }
            Command::Receipt(command) => receipt::run(command, config, json),
            Command::Policy(command) => policy::run(command, json),
            Command::Serve(arguments) => {
                arguments.run(json).await?;
                Ok(Exit::Ok)
            }
        }
    });
    // A task that blocks on standard input must not keep a finished program.
    runtime.shutdown_background();
    done
}

/// Drops the command on SIGINT and SIGTERM, and with it everything that has no name yet.
async fn interruptible(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        };
    };
    tokio::select! {
        done = command => return done,
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
    Err(failed_with(Exit::Interrupted, "interrupted", "nothing was left behind; run the command again"))
}

/// The log goes to standard error; `ADYTON_LOG` says how much of it. What the SDK notes about sources of
/// credentials that fail holds their answers as they came, so it is never logged.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ADYTON_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    let filter =
        ["aws_config=off", "aws_runtime=off", "aws_smithy_runtime=off", "aws_smithy_http_client=off"]
            .into_iter()
            .filter_map(|directive| directive.parse().ok())
            .fold(filter, tracing_subscriber::EnvFilter::add_directive);
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
