//! `adyton attest`: who answers, and what a kept document proves.

use std::path::PathBuf;

use adyton_shared::message::JOB_PORT;
use adyton_verifier::attestation::{AttestationError, Document, UnixMillis, Verified, verify};
use clap::{Args, Subcommand};

use super::config::ClientConfig;
use super::failure::{bad_file, no_enclave, usage};
use super::output::Target;
use super::trust::TrustArgs;
use crate::address::EnclaveAddress;
use crate::client::{Conversation, challenge};
use crate::dial::dial;
use crate::exit::{Exit, Failure};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "EXAMPLES:
  adyton attest --enclave vsock:16 --root aws --pcr 0=… --pcr 1=… --pcr 2=…
  adyton attest -o enclave.cbor
  adyton attest verify enclave.cbor --root aws --at 2026-01-03T20:41:08Z --any-image"
)]
pub(super) struct AttestArgs {
    #[command(subcommand)]
    command: Option<AttestCommand>,
    /// The enclave: vsock:CID or unix:PATH.
    #[arg(long, env = "ADYTON_ENCLAVE")]
    enclave: Option<EnclaveAddress>,
    #[command(flatten)]
    trust: TrustArgs,
    /// Keep the document.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Subcommand)]
enum AttestCommand {
    /// Judges a document offline.
    #[command(after_help = "EXAMPLE:
  adyton attest verify document.cbor --root aws --at 2026-01-03T20:41:08Z --pcr 0=4b8d… --pcr 1=… --pcr 2=…

EXIT CODES:
  0 accepted    1 refused, and why    2 usage")]
    Verify {
        /// The document, as the NSM made it.
        file: PathBuf,
        #[command(flatten)]
        trust: TrustArgs,
        /// The time to judge at, in RFC 3339; certificates of documents live three hours.
        #[arg(long, value_name = "RFC3339")]
        at: String,
        /// The nonce that must be in it, in hexadecimal.
        #[arg(long, value_name = "HEX")]
        nonce: Option<String>,
    },
}

pub(super) async fn run(
    arguments: AttestArgs,
    config: impl FnOnce() -> Result<ClientConfig, Failure>,
    json: bool,
) -> Result<Exit, Failure> {
    let AttestArgs { command, enclave, trust, output, force } = arguments;
    if let Some(AttestCommand::Verify { file, trust, at, nonce }) = command {
        // Offline judgement depends on nothing that lies around.
        let trust = trust.resolve(&ClientConfig::default())?;
        return judge(&file, trust, &at, nonce.as_deref(), json);
    }
    let config = config()?;
    let trust = trust.resolve(&config)?;
    let target = output.map(|path| Target::check(path, force)).transpose()?;
    let address = address(enclave, &config)?;
    let mut conversation =
        Conversation::new(dial(&address, JOB_PORT).await.map_err(|error| no_enclave(&address, &error))?);
    let enclave = challenge(&mut conversation, &trust.anchor, &trust.expectations).await?;
    if let Some(target) = target {
        let mut pending = target.open().map_err(|error| bad_file(&error, "the output"))?;
        std::io::Write::write_all(&mut pending, &enclave.bytes)
            .and_then(|()| pending.commit(&target))
            .map_err(|error| bad_file(&error, "the output"))?;
    }
    if json {
        let text = serde_json::json!({
            "verdict": "accepted", "enclave": enclave.id.to_string(), "policy": enclave.policy.to_string(),
            "document": enclave.document,
        });
        println!("{text}");
    } else {
        println!("accepted: an enclave of the expected image answers at {address}");
        println!("enclave  {}", enclave.id);
        println!("policy   {}", enclave.policy);
        describe(&enclave.document);
    }
    Ok(Exit::Ok)
}

/// The enclave's address from flag, environment or settings.
pub(super) fn address(
    flag: Option<EnclaveAddress>,
    config: &ClientConfig,
) -> Result<EnclaveAddress, Failure> {
    flag.or_else(|| config.enclave.clone())
        .ok_or_else(|| usage("no enclave is given", "write --enclave vsock:16 or --enclave unix:PATH"))
}

fn judge(
    file: &PathBuf,
    trust: super::trust::Trust,
    at: &str,
    nonce: Option<&str>,
    json: bool,
) -> Result<Exit, Failure> {
    let at = UnixMillis::from_rfc3339(at)
        .ok_or_else(|| usage(format!("--at {at} is not a time"), "write it like 2026-01-03T20:41:08Z"))?;
    let mut expectations = trust.expectations;
    if let Some(nonce) = nonce {
        let hint = "it is 16 to 512 bytes in hexadecimal";
        let bytes = hex::decode(nonce).map_err(|error| usage(format!("--nonce: {error}"), hint))?;
        expectations = expectations.nonce(&bytes).map_err(|error| usage(error.to_string(), hint))?;
    }
    let bytes = std::fs::read(file).map_err(|error| bad_file(&error, &file.display().to_string()))?;
    match verify(&bytes, &trust.anchor, at, &expectations) {
        Ok(document) => {
            if json {
                println!("{}", serde_json::json!({ "verdict": "accepted", "document": document }));
            } else {
                println!("accepted");
                describe(&document);
            }
            Ok(Exit::Ok)
        }
        Err(error) => {
            refuse(&error, json);
            Ok(Exit::Refused)
        }
    }
}

fn refuse(error: &AttestationError, json: bool) {
    if json {
        let text =
            serde_json::json!({ "verdict": "refused", "code": error.code(), "reason": error.to_string() });
        println!("{text}");
    } else {
        println!("refused ({}): {error}", error.code());
    }
}

fn describe(document: &Verified<Document>) {
    println!("module   {}", document.module_id);
    println!("made     {}", document.timestamp);
    for (index, pcr) in &document.pcrs {
        if !pcr.is_zero() {
            println!("PCR{index:<5} {}", hex::encode(pcr.as_bytes()));
        }
    }
}
