//! `adyton policy`: what a policy allows, before anybody is bound by it, and the key policy for it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use adyton_shared::policy::{ContextRule, Policy};
use adyton_verifier::key_policy::{Measurement, RecipientOnly};
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::{bad_file, failed_with, usage};
use super::measurements::{POLICY_PCR, Pcrs, add, add_named, parse_pcr, policy_register};
use super::output::Target;
use super::policy_lint::{self, LintArgs};
use super::policy_text::{explain, title, weak_measurements, weaknesses};
use crate::exit::{Exit, Failure};
use crate::printable;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Explains a policy in sentences, warns of what is weak, and prints its digest and PCR16.
    #[command(after_help = "EXAMPLES:
  adyton policy check policy.toml
  adyton policy check policy.toml --deny-warnings
  adyton policy check policy.toml --pcrs measurements.json --key-policy key-policy.json \\
    --enclave-role arn:aws:iam::111122223333:role/enclave --data-owner arn:aws:iam::111122223333:role/owner \\
    --administrator arn:aws:iam::111122223333:role/security

EXIT CODES:
  0 it is a policy    1 it is refused, or has warnings that --deny-warnings denies    2 usage    5 a file")]
    Check(CheckArgs),
    /// Judges a KMS key policy: does it release keys to one enclave image and nobody else?
    #[command(after_help = "EXAMPLES:
  adyton policy lint key-policy.json
  adyton policy lint key-policy.json --role arn:aws:iam::111122223333:role/enclave --deny-warnings
  aws kms get-key-policy --key-id KEY --query Policy --output text | adyton policy lint -

Each finding names the requirement (K-2, K-3, K-17, V-5 to V-8), the statement and what to do.

EXIT CODES:
  0 no errors    1 errors, or warnings that --deny-warnings denies, or no key policy    2 usage    5 a file")]
    Lint(LintArgs),
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// The policy file.
    file: PathBuf,
    /// End with 1 if there is a warning.
    #[arg(long)]
    deny_warnings: bool,
    /// A measurement of the image, such as 0=4b8d…; give PCR0, PCR1 and PCR2 together.
    #[arg(long = "pcr", value_name = "N=HEX", value_parser = parse_pcr)]
    pcrs: Vec<(u8, [u8; 48])>,
    /// Measurements from a file that `nitro-cli build-enclave` printed, or N=HEX.
    #[arg(long = "pcrs", value_name = "FILE|N=HEX")]
    named_pcrs: Vec<String>,
    /// Write the KMS key policy that releases keys to this image under this policy alone.
    #[arg(long, value_name = "FILE", requires_all = ["enclave_role", "data_owners", "administrator"])]
    key_policy: Option<PathBuf>,
    /// Overwrite the key policy.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    principals: PrincipalArgs,
}

/// Who may do what with the key.
#[derive(Debug, Args)]
struct PrincipalArgs {
    /// The role whose credentials the enclave uses.
    #[arg(long, value_name = "ARN", requires = "key_policy")]
    enclave_role: Option<String>,
    /// Who encrypts; may be given more than once.
    #[arg(long = "data-owner", value_name = "ARN", requires = "key_policy")]
    data_owners: Vec<String>,
    /// Who may change the key and its policy, and decrypts nothing.
    #[arg(long, value_name = "ARN", requires = "key_policy")]
    administrator: Option<String>,
    /// The VPC endpoint through which alone data is opened.
    #[arg(long, value_name = "vpce-…", requires = "key_policy")]
    vpc_endpoint: Option<String>,
}

pub(super) fn run(command: PolicyCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Check(arguments) => check(arguments, json),
        PolicyCommand::Lint(arguments) => policy_lint::run(arguments, json),
    }
}

fn check(arguments: CheckArgs, json: bool) -> Result<Exit, Failure> {
    let CheckArgs { file, deny_warnings, pcrs, named_pcrs, key_policy, force, principals } = arguments;
    let bytes =
        std::fs::read(&file).map_err(|error| bad_file(&error, &format!("the policy {}", file.display())))?;
    let policy = Policy::parse(&bytes).map_err(|error| {
        failed_with(
            Exit::Refused,
            format!("the policy {}: {error}", file.display()),
            "docs/policy.md has every field; an enclave with this file does not start",
        )
        .code("policy_refused")
    })?;
    let register = policy_register(policy.digest);
    let mut given = Pcrs::new();
    pcrs.into_iter().try_for_each(|(index, value)| add(&mut given, index, value))?;
    named_pcrs.iter().try_for_each(|named| add_named(&mut given, named))?;
    if given.get(&POLICY_PCR).is_some_and(|value| *value != register) {
        let hint = "these measurements are of an image with another policy";
        return Err(usage(format!("PCR{POLICY_PCR} is not that of this policy"), hint));
    }
    let mut warnings = weaknesses(&policy);
    warnings.extend(weak_measurements(&given));
    let denied = deny_warnings && !warnings.is_empty();
    if let Some(path) = key_policy.as_ref().filter(|_| !denied) {
        given.insert(POLICY_PCR, register);
        write_key_policy(path, force, &policy, &given, &principals)?;
    }
    let written = key_policy.filter(|_| !denied);
    if json {
        let warnings: Vec<_> =
            warnings.iter().map(|warning| json!({ "code": warning.code, "text": warning.text })).collect();
        let verdict = if denied { "refused" } else { "accepted" };
        println!(
            "{}",
            json!({
                "verdict": verdict, "name": policy.name, "digest": policy.digest.to_string(),
                "pcr16": hex::encode(register), "explained": explain(&policy), "warnings": warnings,
                "key_policy": written,
            })
        );
    } else {
        println!("{}", title(&printable::line(&policy.name), policy.digest, &register));
        for line in explain(&policy) {
            println!("- {}", printable::line(&line));
        }
        for warning in &warnings {
            println!("warning ({}): {}", warning.code, printable::line(&warning.text));
        }
        if let Some(path) = written {
            println!("\nkey policy written to {}", path.display());
        }
    }
    if denied {
        let message = format!("{} warnings, and --deny-warnings is given", warnings.len());
        return Err(failed_with(Exit::Refused, message, "mend the policy, or leave the flag out")
            .code("policy_warnings"));
    }
    Ok(Exit::Ok)
}

fn write_key_policy(
    path: &std::path::Path,
    force: bool,
    policy: &Policy,
    pcrs: &Pcrs,
    principals: &PrincipalArgs,
) -> Result<(), Failure> {
    let target = Target::check(path.to_owned(), force)?;
    let text = render(policy, pcrs, principals)?;
    let failed = |error: std::io::Error| bad_file(&error, "the key policy");
    let mut pending = target.open().map_err(failed)?;
    writeln!(pending, "{text}").and_then(|()| pending.commit(&target)).map_err(failed)
}

/// The key policy that belongs to a policy: its digest in PCR16, its constants in the context.
fn render(policy: &Policy, pcrs: &Pcrs, principals: &PrincipalArgs) -> Result<String, Failure> {
    let PrincipalArgs { enclave_role, data_owners, administrator, vpc_endpoint } = principals;
    let (Some(enclave_role), Some(administrator)) = (enclave_role, administrator) else {
        let hint = "write --enclave-role, --data-owner and --administrator";
        return Err(usage("a key policy names who may do what", hint));
    };
    let mut measured = BTreeMap::new();
    for (index, value) in pcrs {
        let value = Measurement::new(*value)
            .map_err(|error| usage(format!("PCR{index}: {error}"), "give the image's own measurements"))?;
        measured.insert(*index, value);
    }
    let data_owners: Vec<_> = data_owners.iter().map(String::as_str).collect();
    let required: Vec<_> = policy.context.iter().map(|(key, _)| key).collect();
    let fixed: Vec<_> = policy
        .context
        .iter()
        .filter_map(|(key, rule)| match rule {
            ContextRule::Equals(value) => Some((key, value.as_str())),
            ContextRule::Signed | ContextRule::Minimum(_) => None,
        })
        .collect();
    let named: Vec<Vec<_>> = policy.keys.values().map(|key| key.context.pairs().collect()).collect();
    RecipientOnly {
        enclave_role,
        data_owners: &data_owners,
        administrator,
        pcrs: &measured,
        vpc_endpoint: vpc_endpoint.as_deref(),
        required_context: &required,
        named_keys: &named,
        fixed_context: &fixed,
    }
    .render()
    .map_err(|error| usage(format!("no key policy is written: {error}"), "see `adyton policy check --help`"))
}
