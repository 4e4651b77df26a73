//! The command line of `adyton`.
//!
//! Every command ends in an [`Exit`] and says what it did: for people, or with `--json` as one object
//! in one line on standard output (on standard error if the output of a job goes to standard output).

mod serve;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::exit::{EXIT_CODES, Exit, Failure};

/// Sends jobs on encrypted data to a Nitro enclave, and carries what the enclave needs.
#[derive(Debug, Parser)]
#[command(name = "adyton", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Says what happened as one JSON object in one line.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the parent's daemon: the way out to KMS, and credentials.
    Serve(serve::Serve),
}

/// Runs a command line, whose first item is the program's name, to its end.
pub async fn run_cli<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|m| Cli::from_arg_matches(&m));
    let Cli { global, command } = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` are such errors, too, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let done = match command {
        Command::Serve(serve) => serve.run(&global).await,
    };
    match done {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            report(&failure, &global);
            failure.exit.into()
        }
    }
}

fn report(failure: &Failure, global: &Global) {
    if global.json {
        println!("{}", failure.to_json());
    } else {
        eprintln!("{failure}");
    }
}
