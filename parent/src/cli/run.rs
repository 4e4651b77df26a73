//! `adyton run`: one job, from a file to a file.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use adyton_shared::id::RequesterName;
use adyton_shared::message::JOB_PORT;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::AsyncRead;

use super::attest::address;
use super::config::ClientConfig;
use super::failure::{bad_file, failed_with, no_enclave, usage};
use super::output::{Committed, Target};
use super::trust::TrustArgs;
use super::{job_file, receipt, requester};
use crate::address::EnclaveAddress;
use crate::client::{
    Claims, Conversation, Order, SealedResult, Upload, challenge, seal_request, sign_request, verify_receipt,
};
use crate::dial::dial;
use crate::exit::{Exit, Failure};
use crate::printable;

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton run mask.toml customers.enc -o customers.masked --tenant acme --object customers --version 7
  cat customers.enc | adyton run digest.toml - -o - --tenant acme --object customers
  adyton run --check mask.toml

The enclave is challenged and its measurements are compared before anything is sent. The request is
sealed to the key in its document, and the answer to this command, so that job, claims and receipt stay
from who carries them. The result appears under its name only after the receipt has been verified; an
interrupted run leaves nothing.

EXIT CODES:
  see `adyton --help`")]
pub(super) struct RunArgs {
    /// The job: a .toml, .yaml or .json file.
    job: PathBuf,
    /// The encrypted payload, or - for standard input.
    #[arg(required_unless_present = "check")]
    input: Option<PathBuf>,
    /// Where the result goes, or - for standard output.
    #[arg(short, long, value_name = "FILE", required_unless_present = "check")]
    output: Option<PathBuf>,
    /// Explain the job and send nothing.
    #[arg(long)]
    check: bool,
    /// Overwrite output and receipt.
    #[arg(long)]
    force: bool,
    /// The tenant that the payload must belong to.
    #[arg(long)]
    tenant: Option<String>,
    /// The object that the payload must be.
    #[arg(long)]
    object: Option<String>,
    /// The version that the payload must have at least.
    #[arg(long)]
    version: Option<u64>,
    /// Another pair that the payload's encryption context must have.
    #[arg(long = "claim", value_name = "KEY=VALUE", value_parser = parse_pair)]
    claims: Vec<(String, String)>,
    /// The requester's name in the policy.
    #[arg(long = "as", value_name = "NAME")]
    requester: Option<RequesterName>,
    /// The requester's key.
    #[arg(long, value_name = "FILE")]
    requester_key: Option<PathBuf>,
    /// The enclave: vsock:CID or unix:PATH.
    #[arg(long, env = "ADYTON_ENCLAVE")]
    enclave: Option<EnclaveAddress>,
    #[command(flatten)]
    trust: TrustArgs,
    #[command(flatten)]
    form: FormArgs,
    /// Where the receipt goes; OUTPUT.receipt if not given and the output is a file.
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// How the request goes out.
#[derive(Debug, Args)]
struct FormArgs {
    /// Seal the request to the enclave. This is the default.
    #[arg(long, conflicts_with = "plain_request")]
    sealed: bool,
    /// Send the request in the open: whoever carries it reads job, claims and receipt. For debugging.
    #[arg(long)]
    plain_request: bool,
}

pub(super) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}': write KEY=VALUE")),
    }
}

pub(super) async fn run(arguments: RunArgs, config: ClientConfig, json: bool) -> Result<Exit, Failure> {
    let job = job_file::read(&arguments.job)?;
    if arguments.check {
        let lines = job_file::explain(&job);
        if json {
            println!("{}", serde_json::json!({ "job": job, "explained": lines }));
        } else {
            for line in lines {
                println!("{}", printable::line(&line));
            }
        }
        return Ok(Exit::Ok);
    }
    let RunArgs { input, output, force, requester, requester_key, enclave, trust, receipt, .. } = &arguments;
    let (Some(input), Some(output)) = (input, output) else {
        return Err(usage("INPUT and --output are needed", "see `adyton run --help`"));
    };
    let target = Target::check(output.clone(), *force)?;
    let receipt_target = receipt_target(receipt.clone(), &target, *force)?;
    let (name, key) = who(requester.clone(), requester_key.clone(), &config)?;
    let trust = trust.clone().resolve(&config)?;
    if trust.any_image && !arguments.form.plain_request {
        return Err(failed_with(
            Exit::Refused,
            "with --any-image the request would be sealed to whoever answers",
            "give the expected measurements with --pcr, or send the request in the open with --plain-request",
        )
        .code("no_expectations"));
    }
    let claimed = claims(&arguments)?;
    let (payload, length) = open(input).await?;
    let address = address(enclave.clone(), &config)?;

    let mut conversation =
        Conversation::new(dial(&address, JOB_PORT).await.map_err(|error| no_enclave(&address, &error))?);
    let enclave = challenge(&mut conversation, &trust.anchor, &trust.expectations).await?;
    let (request, signed) = sign_request(enclave.id, &name, &key, claimed, job)?;
    let order = if arguments.form.plain_request {
        Order::from(signed)
    } else {
        seal_request(&enclave, &request, &signed)?
    };
    let bar = progress(length, json);
    let mut tell = |sent| bar.set_position(sent);
    let upload = Upload { payload, hash: true, progress: &mut tell };
    let sent = conversation.job(order, upload, SealedResult::in_folder(&target.folder())).await;
    bar.finish_and_clear();
    let sent = sent?;

    let failed = |error: std::io::Error| bad_file(&error, "the output");
    let mut pending = target.open().map_err(failed)?;
    let result = sent.result.open(&sent.done.key, request.id, &mut pending)?;
    let claims = Claims {
        enclave: Some(enclave.id),
        job: Some(request.id),
        requester: Some(name),
        policy: trust.policy,
        job_digest: request.job.digest().ok(),
        input: sent.input_digest.map(|digest| (digest, sent.input_bytes)),
        output: Some(result),
    };
    let verified = verify_receipt(&sent.done.receipt, &trust.anchor, &trust.expectations, &claims)?;
    // The receipt first: a result that can be seen has its receipt beside it.
    let written =
        receipt_target.as_ref().map(|target| write_receipt(target, &sent.done.receipt)).transpose()?;
    pending.commit(&target).map_err(|error| {
        // A receipt without its result would be taken for that of another.
        if let Some(Err(error)) = written.map(Committed::undo) {
            tracing::warn!(%error, "the receipt could not be taken back");
        }
        failed(error)
    })?;
    report(&verified, &target, json);
    Ok(Exit::Ok)
}

fn write_receipt(target: &Target, receipt: &[u8]) -> Result<Committed, Failure> {
    let failed = |error: std::io::Error| bad_file(&error, "the receipt");
    let mut file = target.open().map_err(failed)?;
    file.write_all(receipt).and_then(|()| file.commit_undoably(target)).map_err(failed)
}

fn report(verified: &crate::client::VerifiedReceipt, target: &Target, json: bool) {
    if json {
        let text = receipt::describe_json(verified);
        // Standard output may be the result itself.
        if matches!(target, Target::Stdout) {
            eprintln!("{text}");
        } else {
            println!("{text}");
        }
    } else if std::io::stderr().is_terminal() {
        eprintln!(
            "done: {} records in, {} out, {} bytes; the receipt verifies",
            verified.receipt.records_in,
            receipt::records(verified.receipt.records_out),
            verified.receipt.output_bytes
        );
    }
}

fn receipt_target(flag: Option<PathBuf>, target: &Target, force: bool) -> Result<Option<Target>, Failure> {
    let path = match (flag, target) {
        (Some(path), _) => path,
        (None, Target::File { path, .. }) => {
            let mut name = path.as_os_str().to_owned();
            name.push(".receipt");
            name.into()
        }
        (None, Target::Stdout | Target::Special { .. }) => return Ok(None),
    };
    let receipt = Target::check(path, force)?;
    if receipt.is_same_place(target) {
        return Err(usage("--receipt names the output", "give the receipt a name of its own"));
    }
    Ok(Some(receipt))
}

fn who(
    name: Option<RequesterName>,
    key: Option<PathBuf>,
    config: &ClientConfig,
) -> Result<(RequesterName, aws_lc_rs::signature::Ed25519KeyPair), Failure> {
    let settings = config.requester.as_ref();
    let name = name.or_else(|| settings.map(|requester| requester.name.clone()));
    let path = key.or_else(|| settings.map(|requester| requester.key.clone()));
    let (Some(name), Some(path)) = (name, path) else {
        let hint = "write --as NAME --requester-key FILE; `adyton requester new` makes a key";
        return Err(usage("no requester is given", hint));
    };
    let key = requester::read_key(&path)?;
    Ok((name, key))
}

/// What the payload must say, each once: of two values for one pair either could have been meant.
fn claims(arguments: &RunArgs) -> Result<BTreeMap<String, String>, Failure> {
    let RunArgs { tenant, object, version, claims, .. } = arguments;
    let named =
        [("tenant", tenant.clone()), ("object", object.clone()), ("version", version.map(|v| v.to_string()))];
    let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    let mut all = BTreeMap::new();
    for (key, value) in named.chain(claims.iter().cloned()) {
        if all.contains_key(&key) {
            return Err(usage(format!("the claim {key} is given twice"), "give each once"));
        }
        all.insert(key, value);
    }
    Ok(all)
}

/// The input and, if it has one, its length.
async fn open(path: &Path) -> Result<(Box<dyn AsyncRead + Unpin + Send>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(tokio::io::stdin()), None));
    }
    let failed = |error: std::io::Error| bad_file(&error, &format!("the input {}", path.display()));
    let mut file = tokio::fs::File::open(path).await.map_err(failed)?;
    let metadata = file.metadata().await.map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    file.set_max_buf_size(1024 * 1024);
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn progress(length: Option<u64>, json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let known = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
    let unknown = "{spinner} {bytes} {binary_bytes_per_sec}";
    let (bar, template) = match length {
        Some(length) => (ProgressBar::new(length), known),
        None => (ProgressBar::new_spinner(), unknown),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
