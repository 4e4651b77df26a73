//! `adyton policy lint`: whether a KMS key policy protects what it should.
//!
//! It reads JSON, asks nobody and changes nothing. The judgement is the verifier's.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use adyton_verifier::key_policy::{Finding, KeyPolicy, MAX_KEY_POLICY_BYTES, RuntimeRole, Severity};
use clap::Args;
use serde_json::{Value, json};

use super::failure::{bad_file, failed_with, usage};
use crate::exit::{Exit, Failure};
use crate::printable;

#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// The key policy, in JSON; - for standard input.
    file: PathBuf,
    /// The role whose credentials the enclave uses, if the policy's attested statements do not
    /// tell; may be given more than once.
    #[arg(long = "role", value_name = "ARN")]
    roles: Vec<String>,
    /// End with 1 if there is a warning.
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(arguments: LintArgs, json: bool) -> Result<Exit, Failure> {
    let LintArgs { file, roles, deny_warnings } = arguments;
    let roles = roles.iter().map(|role| runtime_role(role)).collect::<Result<Vec<_>, _>>()?;
    let policy = KeyPolicy::parse(&read(&file)?).map_err(|error| {
        failed_with(
            Exit::Refused,
            format!("{}: {error}", file.display()),
            "KMS would answer MalformedPolicyDocumentException; mend the document",
        )
        .code("key_policy_malformed")
    })?;
    let findings = policy.lint(&roles);
    let of = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
    let denied = errors > 0 || (deny_warnings && warnings > 0);
    if json {
        let verdict = if denied { "refused" } else { "accepted" };
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        println!(
            "{}",
            json!({
                "verdict": verdict, "errors": errors, "warnings": warnings, "findings": findings,
                "may_be_put_by": policy.may_be_put_by(),
            })
        );
    } else {
        for Finding { requirement, code, severity, statement, text, advice } in &findings {
            let place = statement.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
            println!(
                "{severity} {requirement} ({code}): {}\n  {advice}",
                printable::line(&format!("{place}{text}"))
            );
        }
        match policy.may_be_put_by().as_slice() {
            [] => println!("nobody may change this policy"),
            names => println!("who may change this policy, and so undo it: {}", names.join(", ")),
        }
        println!("{errors} errors, {warnings} warnings");
    }
    if denied {
        let message = format!("the key policy has {errors} errors and {warnings} warnings");
        return Err(failed_with(
            Exit::Refused,
            message,
            "`adyton policy check --key-policy` writes one without",
        )
        .code("key_policy_weak"));
    }
    Ok(Exit::Ok)
}

fn runtime_role(arn: &str) -> Result<RuntimeRole, Failure> {
    RuntimeRole::parse(arn)
        .map_err(|error| usage(format!("--role: {error}"), "write arn:aws:iam::ACCOUNT:role/NAME"))
}

/// No more than could be a policy: one byte above the limit is enough to refuse it.
fn read(path: &Path) -> Result<String, Failure> {
    let most = u64::try_from(MAX_KEY_POLICY_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text))
    };
    read.map_err(|error| bad_file(&error, &format!("the key policy {}", path.display())))?;
    Ok(text)
}

fn as_json(finding: &Finding) -> Value {
    let Finding { requirement, code, severity, statement, text, advice } = finding;
    json!({
        "requirement": requirement,
        "code": code,
        "severity": severity.to_string(),
        "statement": statement.as_ref().map(|id| json!({ "index": id.index, "sid": id.sid })),
        "text": text,
        "advice": advice,
    })
}
