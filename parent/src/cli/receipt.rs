//! `adyton receipt`: checks receipts, on any machine, years later.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use adyton_shared::id::Sha256Digest;
use adyton_verifier::attestation::UnixMillis;
use aws_lc_rs::digest::{Context, SHA256};
use clap::Subcommand;

use super::config::ClientConfig;
use super::failure::bad_file;
use super::trust::TrustArgs;
use crate::client::{Claims, VerifiedReceipt, verify_receipt};
use crate::exit::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum ReceiptCommand {
    /// Verifies a receipt offline, at the time of the document in it.
    #[command(after_help = "EXAMPLE:
  adyton receipt verify result.receipt --root aws --pcr 0=… --pcr 1=… --pcr 2=… --input data.enc --output result

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
    },
}

pub(super) fn run(command: ReceiptCommand, config: &ClientConfig, json: bool) -> Result<Exit, Failure> {
    let ReceiptCommand::Verify { file, trust, input, output } = command;
    let trust = trust.resolve(config)?;
    let bytes = std::fs::read(&file).map_err(|error| bad_file(&error, &file.display().to_string()))?;
    let claims = Claims {
        input: input.as_deref().map(digest).transpose()?,
        output: output.as_deref().map(digest).transpose()?,
        ..Claims::default()
    };
    let verified = verify_receipt(&bytes, &trust.anchor, &trust.expectations, &claims)?;
    if json {
        println!("{}", describe_json(&verified));
    } else {
        println!("accepted: the enclave signed this receipt, and its document verifies at its own time");
        describe(&verified);
        for (what, given) in [("input", claims.input.is_some()), ("output", claims.output.is_some())] {
            println!("{what}: {}", if given { "the file is the one in the receipt" } else { "not compared" });
        }
    }
    Ok(Exit::Ok)
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
