//! `adyton-sim kms user`: users and their policies, made while no KMS runs.

use std::path::Path;
use std::process::{Command, Output};

use aws_sdk_kms::primitives::Blob;
use serde_json::{Value, json};

use crate::harness::{Kms, config, refusal};
use adyton_simulator::kms::{Transport, User};

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adyton-sim"));
    command.arg("--state").arg(folder).args(arguments).output().unwrap()
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn users_are_made_with_policies_and_tags_and_can_call() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("encrypt-only.json");
    let document = json!({"Version": "2012-10-17", "Statement": {
        "Effect": "Allow", "Action": ["kms:Encrypt", "kms:CreateKey", "kms:PutKeyPolicy"], "Resource": "*",
        "Condition": {"StringEquals": {"aws:PrincipalTag/team": "blue"}},
    }});
    std::fs::write(&policy, document.to_string()).unwrap();
    let policy = policy.to_str().unwrap();
    let add = |name: &str, more: &[&str]| {
        run(folder.path(), &[&["--json", "kms", "user", "add", name], more].concat())
    };
    let alice = said(&add("alice", &["--policy", policy, "--tag", "team=blue"]));
    assert_eq!(alice["Arn"], "arn:aws:iam::111122223333:user/alice");
    assert_eq!(alice["Policies"], json!(["encrypt-only"]));
    let boss = said(&add("boss", &["--account", "444455556666", "--administrator"]));
    let list = said(&run(folder.path(), &["--json", "kms", "user", "list"]));
    let listed = list["Users"].as_array().unwrap();
    let of = |arn: &Value| listed.iter().find(|user| user["Arn"] == *arn).unwrap();
    assert_eq!(of(&boss["Arn"])["Policies"], json!(["AdministratorAccess"]));
    assert_eq!(of(&alice["Arn"])["Tags"], json!({"team": "blue"}));
    assert!(list.to_string().find(alice["SecretAccessKey"].as_str().unwrap()).is_none());

    // For people: lines of a credentials file.
    let text = String::from_utf8(run(folder.path(), &["kms", "user", "add", "carol"]).stdout).unwrap();
    assert!(text.starts_with("# arn:aws:iam::111122223333:user/carol\naws_access_key_id = AKIA"), "{text}");
    // What IAM would refuse, and what is no user.
    std::fs::write(folder.path().join("bad.json"), "{}").unwrap();
    let bad = folder.path().join("bad.json");
    let refused = add("dave", &["--policy", bad.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(
        String::from_utf8_lossy(&refused.stderr)
            .contains("MalformedPolicyDocument: Syntax errors in policy.")
    );
    assert_eq!(add("erin", &["--account", "1"]).status.code(), Some(2));

    let id = boss["AccessKeyId"].as_str().unwrap();
    assert!(run(folder.path(), &["kms", "user", "remove", id]).status.success());
    assert_eq!(run(folder.path(), &["kms", "user", "remove", id]).status.code(), Some(5));

    let config = config(folder.path());
    let kms = Kms::serve(folder, config, Transport::Tls).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let user = User {
        access_key_id: text(&alice["AccessKeyId"]),
        secret_access_key: text(&alice["SecretAccessKey"]).into(),
        ..User::generate(text(&alice["Arn"]), false).unwrap()
    };
    let client = kms.client(&user);
    let key = client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    client.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.unwrap();
    assert_eq!(refusal(client.describe_key().key_id(&key).send().await).0, "AccessDeniedException");
    // The database belongs to the KMS that runs.
    let busy = run(kms.folder.path(), &["kms", "user", "list"]);
    assert_eq!(busy.status.code(), Some(5));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("is the local KMS running?"));
}

#[test]
fn the_kms_is_served_with_and_without_a_command() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["kms", "--help"][..], &["kms", "serve", "--help"]] {
        let help = String::from_utf8(run(folder.path(), arguments).stdout).unwrap();
        assert!(help.contains("--port") && help.contains("--faults") && help.contains("--iam"), "{help}");
    }
    let confused = run(folder.path(), &["kms", "--port", "0", "user", "list"]);
    assert_eq!(confused.status.code(), Some(2));
    // `--part` ends with standard input, which is empty here.
    for arguments in [&["kms", "--port", "0", "--part"][..], &["kms", "serve", "--port", "0", "--part"]] {
        let ready = said(&run(folder.path(), arguments));
        assert_eq!(ready["event"], "ready");
    }
}
