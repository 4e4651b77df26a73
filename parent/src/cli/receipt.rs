//! `adyton receipt`: checks receipts, on any machine, years later.
//!
//! A judgement depends on the file and the command line alone: settings count only if they are named.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use adyton_shared::id::Sha256Digest;
use adyton_verifier::attestation::{Pcr, UnixMillis};
use aws_lc_rs::digest::{Context, SHA256};
use clap::Subcommand;

use super::config::ClientConfig;
use super::failure::bad_file;
use super::job_file;
use super::trust::{Trust, TrustArgs};
use crate::client::{Claims, VerifiedReceipt, verify_receipt};
use crate::exit::{Exit, Failure};

/// Longest file that is read as a receipt, in bytes: a receipt and its document are some kilobytes.
const MAX_RECEIPT_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// Verifies a receipt offline, at the time of the document in it.
    #[command(after_help = "EXAMPLE:
  adyton receipt verify result.receipt --policy policy.toml --pcrs measurements.json --input data.enc --output result

Nothing is needed but the file, AWS's root, which is built in, and the measurements that are expected. The
settings file is read only if --config or $ADYTON_CONFIG names it.

EXIT CODES:
  0 accepted    1 refused, and why    2 usage    5 a file cannot be read")]
    Verify {
        /// The receipt.
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
        /// The encrypted payload, to be compared.
        #[arg(long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// The result, to be compared.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The job file, to be compared.
        #[arg(long, value_name = "FILE")]
        job: Option<PathBuf>,
    },
}

pub(super) fn run(command: ReceiptCommand, settings: Option<PathBuf>, json: bool) -> Result<Exit, Failure> {
    let ReceiptCommand::Verify { file, trust, input, output, job } = command;
    let mut settings =
        settings.map_or_else(|| Ok(ClientConfig::default()), |path| ClientConfig::find(Some(path)))?;
    settings.root.get_or_insert_with(|| "aws".to_owned());
    let trust = trust.resolve(&settings)?;
    let claims = Claims {
        policy: trust.policy,
        job_digest: job.as_deref().map(job_digest).transpose()?,
        input: input.as_deref().map(digest).transpose()?,
        output: output.as_deref().map(digest).transpose()?,
        ..Claims::default()
    };
    let verified = verify_receipt(&read(&file)?, &trust.anchor, &trust.expectations, &claims)?;
    let verdict = Verdict::of(&verified, &trust, &claims);
    if json {
        let mut text = describe_json(&verified);
        text["compared"] = serde_json::json!({
            "image": !trust.any_image, "policy": claims.policy.is_some(), "job": claims.job_digest.is_some(),
            "input": claims.input.is_some(), "output": claims.output.is_some(),
        });
        text["proves"] = verdict.proves.into();
        text["does_not_prove"] = verdict.does_not_prove.into();
        println!("{text}");
    } else {
        println!("accepted: the enclave signed this receipt, and its document verifies at its own time");
        describe(&verified);
        for (title, lines) in
            [("it proves that", verdict.proves), ("it does not prove", verdict.does_not_prove)]
        {
            println!("\n{title}");
            for line in lines {
                println!("- {line}");
            }
        }
    }
    Ok(Exit::Ok)
}

/// What an accepted receipt says, in sentences.
struct Verdict {
    proves: Vec<String>,
    does_not_prove: Vec<String>,
}

impl Verdict {
    fn of(verified: &VerifiedReceipt, trust: &Trust, claims: &Claims) -> Self {
        let VerifiedReceipt { receipt, document, .. } = verified;
        let enclave = if trust.any_image {
            "some Nitro enclave, of an image that nobody compared,"
        } else {
            "an enclave with the expected measurements"
        };
        let is =
            |given: bool| if given { "which is the given file" } else { "which was compared with nothing" };
        let mut proves = vec![
            format!(
                "{enclave} ran a job for {}, who signed the request, with the definition {}, {}",
                receipt.requester,
                receipt.job_digest,
                is(claims.job_digest.is_some())
            ),
            format!("it ran under the policy {}, {}", receipt.policy, is(claims.policy.is_some())),
            format!(
                "the input was the message {} of {} bytes, {}; its data key was released by {}",
                receipt.input_digest,
                receipt.input_bytes,
                is(claims.input.is_some()),
                receipt.key
            ),
            format!(
                "the result for {} was {} of {} bytes, {}",
                receipt.to,
                receipt.output_digest,
                receipt.output_bytes,
                is(claims.output.is_some())
            ),
            format!(
                "the enclave was attested at {} and signed at {} by the time of the Nitro hypervisor",
                document.timestamp,
                UnixMillis(receipt.finished)
            ),
        ];
        let mut does_not_prove = vec![
            "that the data were true, complete or recent before they were encrypted".to_owned(),
            "that no other job ran on the same input, or that this one ran only once".to_owned(),
            "that the result was delivered, kept or used, or that nobody else has a copy of it".to_owned(),
            "a time more exact than the hypervisor's clock".to_owned(),
            "that the image and the policy do what their authors say: who expects a measurement has read what it \
             measures"
                .to_owned(),
        ];
        if trust.any_image {
            proves.remove(1);
            does_not_prove.insert(
                0,
                "anything about the program: without expected measurements whoever runs an enclave can sign this"
                    .to_owned(),
            );
        }
        if document.pcrs.get(&0).is_some_and(Pcr::is_zero) {
            does_not_prove.insert(0, "anything at all: the enclave ran in debug mode".to_owned());
        }
        Self { proves, does_not_prove }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| bad_file(&error, &path.display().to_string());
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(MAX_RECEIPT_FILE_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

fn job_digest(path: &Path) -> Result<Sha256Digest, Failure> {
    let job = job_file::read(path)?;
    job.digest().map_err(|error| Failure::of(Exit::Usage, &error))
}

fn digest(path: &Path) -> Result<(Sha256Digest, u64), Failure> {
    let failed = |error: io::Error| bad_file(&error, &path.display().to_string());
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut total) = (Context::new(&SHA256), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok((Sha256Digest::from_digest(&hash.finish()), total)),
            count => {
                hash.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}
/// A receipt as people read it.
pub(super) fn describe(verified: &VerifiedReceipt) {
    let VerifiedReceipt { receipt, enclave, document } = verified;
    println!("job        {} for {} (to {})", receipt.job, receipt.requester, receipt.to);
    println!("job digest {}", receipt.job_digest);
    println!(
        "input      {} ({} bytes, {} records)",
        receipt.input_digest, receipt.input_bytes, receipt.records_in
    );
    println!(
        "output     {} ({} bytes, {})",
        receipt.output_digest,
        receipt.output_bytes,
        records(receipt.records_out)
    );
    println!("key        {}", receipt.key);
    println!("policy     {}", receipt.policy);
    println!("finished   {}", UnixMillis(receipt.finished));
    println!("enclave    {enclave}");
    println!("module     {}", document.module_id);
}

/// A number of records, unless padding keeps it secret.
pub(super) fn records(count: Option<u64>) -> String {
    count.map_or_else(|| "padded".to_owned(), |count| format!("{count} records"))
}

/// A receipt as programs read it.
pub(super) fn describe_json(verified: &VerifiedReceipt) -> serde_json::Value {
    let VerifiedReceipt { receipt, enclave, document } = verified;
    serde_json::json!({
        "verdict": "accepted",
        "job": receipt.job.to_string(),
        "requester": receipt.requester,
        "to": receipt.to.to_string(),
        "job_digest": receipt.job_digest.to_string(),
        "input": { "sha256": receipt.input_digest.to_string(), "bytes": receipt.input_bytes, "records": receipt.records_in },
        "output": { "sha256": receipt.output_digest.to_string(), "bytes": receipt.output_bytes, "records": receipt.records_out },
        "key": receipt.key,
        "policy": receipt.policy.to_string(),
        "started": UnixMillis(receipt.started),
        "finished": UnixMillis(receipt.finished),
        "enclave": enclave.to_string(),
        "document": document,
    })
}
