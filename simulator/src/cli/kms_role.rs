//! `adyton-sim kms role`: roles that the local STS gives sessions of.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use super::kms::open;
use super::kms_user::{account, tag};
use crate::kms::{IdentityPolicyRecord, KmsServer, Role};
use crate::state::StateDir;

#[derive(Debug, Subcommand)]
pub(super) enum RoleCommand {
    /// Makes a role, or replaces the one of that name.
    #[command(after_help = "EXAMPLES:
  adyton-sim kms role add reader --trust trust.json --policy read-keys.json
  adyton-sim kms role add enclave --account 444455556666 --trust trust.json --max-session 43200

The trust policy says who may assume the role, as in IAM:
  {\"Version\": \"2012-10-17\", \"Statement\": [{\"Effect\": \"Allow\", \"Action\": \"sts:AssumeRole\",
   \"Principal\": {\"AWS\": \"arn:aws:iam::111122223333:user/alice\"}}]}
Session tags need sts:TagSession besides. A statement that names an account leaves it to the identity
policies there.")]
    Add(AddArgs),
    /// Lists roles.
    List,
    /// Removes a role; its sessions end with it.
    Remove {
        /// The role's ARN.
        arn: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The role's name, with a path before it if it has one, or its ARN.
    name: String,
    /// The role's account.
    #[arg(long, default_value = "111122223333", value_parser = account)]
    account: String,
    /// The trust policy.
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// An identity policy to attach under the file's name; may be given more than once.
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// A tag of the role, for aws:PrincipalTag; may be given more than once.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Longest session, in seconds, from 3600 to 43200.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    max_session: u32,
    /// Attach a policy that allows everything.
    #[arg(long)]
    administrator: bool,
}

pub(super) fn run(folder: &Path, command: RoleCommand, json: bool) -> Result<ExitCode> {
    let state = StateDir::open(folder)?;
    let server = open(&state, false).context("is the local KMS running? stop it first")?;
    match command {
        RoleCommand::Add(arguments) => add(&server, arguments, json),
        RoleCommand::List => list(&server, json),
        RoleCommand::Remove { arn } => {
            let removed = server.remove_role(&arn)?;
            if json {
                println!("{}", json!({ "Removed": removed }));
            } else {
                println!("{}", if removed { "removed" } else { "there is no such role" });
            }
            Ok(if removed { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
    }
}

fn add(server: &KmsServer, arguments: AddArgs, as_json: bool) -> Result<ExitCode> {
    let AddArgs { name, account, trust, policies, tags, max_session, administrator } = arguments;
    let arn = if name.starts_with("arn:") { name } else { format!("arn:aws:iam::{account}:role/{name}") };
    let trust = fs_err::read_to_string(&trust)?;
    let role = Role {
        administrator,
        max_session_seconds: max_session,
        tags: tags.into_iter().collect(),
        ..Role::new(arn, trust)?
    };
    role.check()?;
    for path in policies {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let document = fs_err::read_to_string(&path)?;
        let policy = IdentityPolicyRecord { principal: role.arn.clone(), name, document };
        server.put_identity_policy(&policy).with_context(|| path.display().to_string())?;
    }
    server.add_role(&role)?;
    if as_json {
        println!("{}", json!({ "Arn": role.arn, "MaxSessionDuration": role.max_session_seconds }));
    } else {
        println!("{}", role.arn);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(server: &KmsServer, as_json: bool) -> Result<ExitCode> {
    for role in server.roles()? {
        let policies = server.identity_policies(&role.arn)?.into_iter().map(|policy| policy.name);
        let policies: Vec<String> = policies.collect();
        if as_json {
            println!(
                "{}",
                json!({
                    "Arn": role.arn,
                    "MaxSessionDuration": role.max_session_seconds,
                    "Administrator": role.administrator,
                    "Policies": policies,
                })
            );
        } else {
            println!("{}  {}", role.arn, policies.join(", "));
        }
    }
    Ok(ExitCode::SUCCESS)
}
