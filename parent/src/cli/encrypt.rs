//! `adyton encrypt`: an AWS Encryption SDK message, made on the requester's side.

use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use adyton_shared::context::Subject;
use adyton_shared::envelope::{Draft, EncryptedDataKey, KMS_PROVIDER, Suite};
use adyton_shared::limits::{DEFAULT_MESSAGE_FRAME_BYTES, MAX_MESSAGE_FRAME_BYTES};
use adyton_shared::{DataKey, EncryptionContext, KeyArn};
use aws_sdk_kms::types::DataKeySpec;
use clap::{Args, ValueEnum};
use zeroize::Zeroizing;

use super::config::ClientConfig;
use super::failure::{bad_file, failed_with, usage};
use super::kms_failure::kms_failure;
use super::output::Target;
use super::run::parse_pair;
use crate::exit::{Exit, Failure};
use crate::kms::{EndpointError, KmsEndpoint, client};

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton encrypt customers.ndjson -o customers.enc --key arn:aws:kms:eu-west-1:111122223333:key/8a51… \\
    --tenant acme --object customers --purpose payments --version 7
  tar c data | adyton encrypt - -o data.enc --tenant acme --object data --purpose payments --version 1

The data key comes from KMS GenerateDataKey under the whole encryption context. Any AWS Encryption SDK can
make such messages too; the pairs tenant, object, purpose and version are what the enclave's policy looks at.")]
pub(super) struct EncryptArgs {
    /// What to encrypt, or - for standard input.
    input: PathBuf,
    /// Where the message goes, or - for standard output.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The KMS key's full ARN.
    #[arg(long, value_name = "ARN")]
    key: Option<KeyArn>,
    /// Whose data it is.
    #[arg(long)]
    tenant: String,
    /// Which object of the tenant.
    #[arg(long)]
    object: String,
    /// What it may be used for.
    #[arg(long)]
    purpose: String,
    /// Rises with each new version of the object.
    #[arg(long)]
    version: u64,
    /// Another pair of the encryption context.
    #[arg(long = "context", value_name = "KEY=VALUE", value_parser = parse_pair)]
    context: Vec<(String, String)>,
    /// Algorithm suite: 0578 is signed, 0478 is not and streams without waiting for a signature.
    #[arg(long, value_enum, default_value_t = SuiteName::Signed)]
    suite: SuiteName,
    /// Bytes in a frame.
    #[arg(long, value_name = "BYTES", default_value_t = DEFAULT_MESSAGE_FRAME_BYTES)]
    frame_length: u32,
    /// Another KMS endpoint than AWS's.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Certificates to trust for the endpoint.
    #[arg(long, value_name = "PEM")]
    ca_bundle: Option<PathBuf>,
    /// Overwrite the output.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SuiteName {
    /// AES-256-GCM, key commitment, ECDSA P-384.
    #[value(name = "0578")]
    Signed,
    /// AES-256-GCM, key commitment.
    #[value(name = "0478")]
    Unsigned,
}

pub(super) async fn run(arguments: EncryptArgs, config: ClientConfig, json: bool) -> Result<Exit, Failure> {
    let frames = 1..=u32::try_from(MAX_MESSAGE_FRAME_BYTES).unwrap_or(u32::MAX);
    if !frames.contains(&arguments.frame_length) {
        return Err(usage(
            format!("--frame-length {} is not between 1 and {}", arguments.frame_length, frames.end()),
            "the enclave buffers one frame; 65536 is good",
        ));
    }
    let key = arguments
        .key
        .clone()
        .or_else(|| config.kms.key.clone())
        .ok_or_else(|| usage("no KMS key is given", "write --key with the full ARN"))?;
    let target = Target::check(arguments.output.clone(), arguments.force)?;
    let mut input = open(&arguments.input)?;
    let suite = match arguments.suite {
        SuiteName::Signed => Suite::from_id(0x0578),
        SuiteName::Unsigned => Suite::from_id(0x0478),
    };
    let unusable = |error: &dyn std::error::Error| usage(error.to_string(), "change the encryption context");
    let suite = suite.ok_or_else(|| usage("unknown suite", "write 0578 or 0478"))?;
    let draft = Draft::new(suite, context(&arguments).map_err(|error| unusable(&error))?)
        .map_err(|error| unusable(&error))?;
    let (data_key, wrapped) = data_key(&arguments, &config, &key, draft.context()).await?;
    let edk = EncryptedDataKey {
        provider: KMS_PROVIDER,
        information: key.as_str().as_bytes(),
        ciphertext: &wrapped,
    };
    let (mut sealer, header) =
        draft.seal_with(&data_key, &[edk], arguments.frame_length).map_err(|error| unusable(&error))?;

    let failed = |error: io::Error| bad_file(&error, "the output");
    let mut pending = target.open().map_err(failed)?;
    pending.write_all(&header).map_err(failed)?;
    let mut plaintext = Zeroizing::new(vec![0; sealer.frame_length()]);
    let mut out = Vec::new();
    let (mut read, mut written) = (0_u64, header.len() as u64);
    let last = loop {
        let filled = fill(&mut input, &mut plaintext)
            .map_err(|error| bad_file(&error, &arguments.input.display().to_string()))?;
        read += filled as u64;
        if filled < plaintext.len() {
            break filled;
        }
        out.clear();
        sealer.seal_frame(&plaintext, &mut out).map_err(|error| unusable(&error))?;
        pending.write_all(&out).map_err(failed)?;
        written += out.len() as u64;
    };
    out.clear();
    sealer.finish(&plaintext[..last], &mut out).map_err(|error| unusable(&error))?;
    pending.write_all(&out).map_err(failed)?;
    written += out.len() as u64;
    pending.commit(&target).map_err(failed)?;
    if json && !matches!(target, Target::Stdout) {
        let suite = format!("{:04x}", suite.id());
        println!(
            "{}",
            serde_json::json!({ "key": key, "suite": suite, "plaintext_bytes": read, "message_bytes": written })
        );
    }
    Ok(Exit::Ok)
}

fn context(arguments: &EncryptArgs) -> Result<EncryptionContext, adyton_shared::context::ContextError> {
    let EncryptArgs { tenant, object, purpose, version, context, .. } = arguments;
    let subject = Subject {
        tenant: tenant.clone(),
        object: object.clone(),
        purpose: purpose.clone(),
        version: *version,
    };
    context.iter().try_fold(EncryptionContext::of(&subject)?, |all, (key, value)| all.with(key, value))
}

/// A fresh data key from KMS: plaintext, and wrapped under the key with the whole context.
async fn data_key(
    arguments: &EncryptArgs,
    config: &ClientConfig,
    key: &KeyArn,
    context: &EncryptionContext,
) -> Result<(DataKey, Vec<u8>), Failure> {
    let client = kms_client(config, key, arguments.endpoint_url.clone(), arguments.ca_bundle.clone()).await?;
    let pairs = context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let answer = client
        .generate_data_key()
        .key_id(key.as_str())
        .key_spec(DataKeySpec::Aes256)
        .set_encryption_context(Some(pairs))
        .send()
        .await
        .map_err(|error| kms_failure(&error))?;
    // A key of another name would bind the data to somebody else.
    let plaintext = answer.plaintext().and_then(|blob| DataKey::copy_from(blob.as_ref()));
    match (plaintext, answer.ciphertext_blob(), answer.key_id()) {
        (Some(data_key), Some(wrapped), Some(id)) if id == key.as_str() => {
            Ok((data_key, wrapped.as_ref().to_vec()))
        }
        _ => {
            Err(failed_with(Exit::Aws, "KMS's answer is for another key or incomplete", "check the endpoint"))
        }
    }
}

/// The KMS of this key: as the flags say, else the settings, else AWS's.
pub(super) async fn kms_client(
    config: &ClientConfig,
    key: &KeyArn,
    url: Option<String>,
    ca: Option<PathBuf>,
) -> Result<aws_sdk_kms::Client, Failure> {
    let settings = config.kms.clone();
    let endpoint = KmsEndpoint {
        region: settings.region.or_else(|| Some(key.region().to_owned())),
        url: url.or(settings.endpoint_url),
        ca: ca.or(settings.ca_bundle),
        credentials: settings.credentials,
        profile: settings.profile,
    };
    client(endpoint).await.map_err(|error| unusable_endpoint(&error))
}

fn unusable_endpoint(error: &EndpointError) -> Failure {
    let (exit, hint) = match error {
        EndpointError::Io { .. } => (Exit::File, "check the path"),
        EndpointError::Certificates { .. } => {
            (Exit::File, "name a file of CERTIFICATE blocks, such as a local KMS's ca.pem")
        }
        _ => (Exit::Usage, "write https://HOST or https://HOST:PORT"),
    };
    Failure::of(exit, error).hint(hint)
}

fn open(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = std::fs::File::open(path)
        .map_err(|error| bad_file(&error, &format!("the input {}", path.display())))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let error = io::ErrorKind::IsADirectory.into();
        return Err(bad_file(&error, &format!("the input {}", path.display())));
    }
    Ok(Box::new(io::BufReader::with_capacity(1024 * 1024, file)))
}

/// Reads until the buffer is full or the input ends.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
