//! `adyton-sim kms user`: who has access keys at the local KMS, and which identity policies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::kms::open;
use crate::kms::{IdentityPolicyRecord, KmsServer, User};
use crate::state::StateDir;

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Makes an access key, and attaches identity policies to its user.
    #[command(after_help = "EXAMPLES:
  adyton-sim kms user add alice --policy alice.json
  adyton-sim kms user add auditor --account 444455556666 --tag team=audit
  adyton-sim kms user add root-of-all --administrator")]
    Add(AddArgs),
    /// Lists access keys and the names of identity policies.
    List,
    /// Removes an access key; its user's policies stay while the user has others.
    Remove {
        /// The access key id, AKIA….
        access_key_id: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The user's name, or the ARN of a user, role session or root.
    name: String,
    /// The user's account.
    #[arg(long, default_value = "111122223333", value_parser = account)]
    account: String,
    /// An identity policy to attach under the file's name; may be given more than once.
    #[arg(long = "policy", value_name = "FILE")]
    policies: Vec<PathBuf>,
    /// A tag of the user, for aws:PrincipalTag; may be given more than once.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// Attach a policy that allows everything.
    #[arg(long)]
    administrator: bool,
}

pub(super) fn run(folder: &Path, command: UserCommand, json: bool) -> Result<ExitCode> {
    let state = StateDir::open(folder)?;
    let server = open(&state, false)
        .context("is the local KMS running? stop it, or start it with --iam and PUT policies")?;
    match command {
        UserCommand::Add(arguments) => add(&server, arguments, json),
        UserCommand::List => list(&server, json),
        UserCommand::Remove { access_key_id } => remove(&server, &access_key_id),
    }
}

fn add(server: &KmsServer, arguments: AddArgs, as_json: bool) -> Result<ExitCode> {
    let AddArgs { name, account, policies, tags, administrator } = arguments;
    let arn = if name.starts_with("arn:") { name } else { format!("arn:aws:iam::{account}:user/{name}") };
    let user = User { tags: tags.into_iter().collect(), ..User::generate(arn, administrator)? };
    let mut attached = Vec::new();
    for path in policies {
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        let document = fs_err::read_to_string(&path)?;
        let policy =
            IdentityPolicyRecord { principal: holder(&user.principal_arn), name: name.clone(), document };
        server.put_identity_policy(&policy).with_context(|| path.display().to_string())?;
        attached.push(name);
    }
    server.add_user(&user)?;
    let (id, secret) = (&user.access_key_id, user.secret_access_key.as_str());
    if as_json {
        let made = json!({
            "Arn": user.principal_arn, "AccessKeyId": id, "SecretAccessKey": secret, "Policies": attached,
        });
        println!("{made}");
    } else {
        println!("# {}\naws_access_key_id = {id}\naws_secret_access_key = {secret}", user.principal_arn);
    }
    Ok(ExitCode::SUCCESS)
}

fn list(server: &KmsServer, as_json: bool) -> Result<ExitCode> {
    let mut users = Vec::new();
    for user in server.users()? {
        let policies = server.identity_policies(&holder(&user.principal_arn))?;
        let mut names: Vec<_> = policies.into_iter().map(|policy| policy.name).collect();
        if user.administrator {
            names.push("AdministratorAccess".to_owned());
        }
        users.push((user, names));
    }
    if as_json {
        let users: Vec<Value> = users
            .iter()
            .map(|(user, names)| {
                json!({
                    "Arn": user.principal_arn, "AccessKeyId": user.access_key_id, "Policies": names,
                    "Tags": user.tags,
                })
            })
            .collect();
        println!("{}", json!({ "Users": users }));
        return Ok(ExitCode::SUCCESS);
    }
    for (user, names) in users {
        println!("{}  {}  {}", user.access_key_id, user.principal_arn, names.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(server: &KmsServer, access_key_id: &str) -> Result<ExitCode> {
    let users = server.users()?;
    let Some(user) = users.iter().find(|user| user.access_key_id == access_key_id) else {
        bail!("there is no access key {access_key_id}; `adyton-sim kms user list` shows all");
    };
    server.remove_user(access_key_id)?;
    let holds =
        |other: &&User| other.access_key_id != access_key_id && other.principal_arn == user.principal_arn;
    if !users.iter().any(|other| holds(&other)) {
        let holder = holder(&user.principal_arn);
        for policy in server.identity_policies(&holder)? {
            server.remove_identity_policy(&holder, &policy.name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whom policies are attached to: the role for a session, else the user itself.
fn holder(arn: &str) -> String {
    let principal = adyton_verifier::key_policy::Principal::parse(arn);
    principal.map_or_else(|_| arn.to_owned(), |principal| principal.identity_arn().to_owned())
}

pub(super) fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("an account has twelve digits".to_owned())
}

pub(super) fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
