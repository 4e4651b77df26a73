//! `adyton key`: named keys, made by KMS and wrapped before anybody could see them.

use std::io::Write as _;
use std::path::PathBuf;

use adyton_shared::id::KeyName;
use adyton_shared::policy::{NamedKey, Policy, Source};
use aws_sdk_kms::types::DataKeySpec;
use clap::Subcommand;

use super::config::ClientConfig;
use super::encrypt::kms_client;
use super::failure::{bad_file, failed_with, usage};
use super::kms_failure::kms_failure;
use super::output::Target;
use crate::exit::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Makes a named key: KMS draws 32 bytes and hands them out wrapped only.
    #[command(after_help = "EXAMPLE:
  adyton key new token --policy policy.toml -o /etc/adyton/keys/token.key

The key is wrapped under the KMS key and the context of [keys.token] in the policy, so it opens nowhere but in
an enclave of that policy. Put the file into the folder that `adyton serve --keys` names. A new key under the
same name makes new tokens: raise a version in its context, and keep the old file while the old policy runs.")]
    New {
        /// The key's name in the policy.
        name: KeyName,
        /// The policy that says where it lives and what it is bound to.
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// Where the wrapped key goes. Without it: the name of its source, here.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Another KMS endpoint than AWS's.
        #[arg(long, value_name = "URL")]
        endpoint_url: Option<String>,
        /// Certificates to trust for the endpoint.
        #[arg(long, value_name = "PEM")]
        ca_bundle: Option<PathBuf>,
        /// Overwrite the output. What the old key made cannot be made again.
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(command: KeyCommand, config: ClientConfig, json: bool) -> Result<Exit, Failure> {
    let KeyCommand::New { name, policy, output, endpoint_url, ca_bundle, force } = command;
    let named = named_key(&policy, &name)?;
    let Source::File(file_name) = &named.source;
    let output = output.unwrap_or_else(|| PathBuf::from(file_name));
    let target = Target::check(output.clone(), force)?;
    let client = kms_client(&config, &named.key, endpoint_url, ca_bundle).await?;
    let pairs = named.context.pairs().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let answer = client
        .generate_data_key_without_plaintext()
        .key_id(named.key.as_str())
        .key_spec(DataKeySpec::Aes256)
        .set_encryption_context(Some(pairs))
        .send()
        .await
        .map_err(|error| kms_failure(&error))?;
    let wrapped = match (answer.ciphertext_blob(), answer.key_id()) {
        (Some(blob), Some(id)) if id == named.key.as_str() && !blob.as_ref().is_empty() => blob.as_ref(),
        _ => {
            let message = "KMS's answer is for another key or incomplete";
            return Err(failed_with(Exit::Aws, message, "check the endpoint"));
        }
    };
    let failed = |error: std::io::Error| bad_file(&error, "the output");
    let mut pending = target.open().map_err(failed)?;
    pending.write_all(wrapped).map_err(failed)?;
    pending.commit(&target).map_err(failed)?;
    if json {
        if !matches!(target, Target::Stdout) {
            let context: serde_json::Map<_, _> =
                named.context.pairs().map(|(key, value)| (key.to_owned(), value.into())).collect();
            println!(
                "{}",
                serde_json::json!({ "name": name, "key": named.key, "source": named.source, "context": context, "file": output })
            );
        }
    } else {
        eprintln!("made {name}, wrapped under {}", named.key);
        eprintln!(
            "put {} as {file_name} into the folder that `adyton serve --keys` names, and keep a copy",
            output.display()
        );
    }
    Ok(Exit::Ok)
}

fn named_key(path: &std::path::Path, name: &KeyName) -> Result<NamedKey, Failure> {
    let shown = format!("the policy {}", path.display());
    let file = std::fs::read(path).map_err(|error| bad_file(&error, &shown))?;
    let policy = Policy::parse(&file)
        .map_err(|error| usage(format!("{shown}: {error}"), "docs/policy.md describes the file"))?;
    let names: Vec<_> = policy.keys.keys().map(ToString::to_string).collect();
    policy.keys.get(name).cloned().ok_or_else(|| {
        let hint = if names.is_empty() {
            format!("add [keys.{name}] with source and context, see docs/policy.md")
        } else {
            format!("it has {}", names.join(", "))
        };
        usage(format!("{shown} has no key named {name}"), hint)
    })
}
