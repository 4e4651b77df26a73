//! Why a call was allowed or refused, as the recorded decisions tell.

use std::process::Command;

use aws_sdk_kms::operation::RequestId as _;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{GrantConstraints, GrantOperation};
use base64::Engine as _;
use serde_json::{Value, json};

use crate::harness::{EnclaveKey, Kms, attest, attested_policy, recipient, refusal};
use adyton_simulator::kms::{CallRecord, Unmet, Which, find_call};

const ALICE: &str = "arn:aws:iam::111122223333:user/alice";

fn find(kms: &Kms, which: &Which) -> Option<CallRecord> {
    find_call(&kms.folder.path().join("kms"), which).unwrap()
}

fn last(kms: &Kms) -> CallRecord {
    find(kms, &Which::Last).unwrap()
}

// K-2, K-20
#[tokio::test]
async fn a_refused_recipient_is_explained_with_both_measurements() {
    let kms = Kms::start().await;
    let administrator = kms.administrator();
    let policy = attested_policy(ALICE, 1);
    let key =
        administrator.create_key().policy(policy).send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let sealed = administrator.encrypt().key_id(&key).plaintext(Blob::new("secret!")).send().await.unwrap();
    let enclave = EnclaveKey::new();
    let document = attest(&kms.nsm(9), Some(&enclave.spki), None);
    let alice = kms.stranger(ALICE);
    let call = alice.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).recipient(recipient(document));
    let answer = call.send().await;
    let id = answer.as_ref().unwrap_err().request_id().unwrap().to_owned();
    let (code, message) = refusal(answer);

    let record = find(&kms, &Which::Request(id.clone())).unwrap();
    assert_eq!(record, last(&kms));
    assert_eq!((record.operation.as_str(), record.caller.as_deref()), ("Decrypt", Some(ALICE)));
    assert_eq!((record.error_code, record.error_message), (Some(code), message));
    let [judgement] = record.judgements.as_slice() else { panic!("{:?}", record.judgements) };
    assert_eq!(
        (judgement.action.as_str(), judgement.resource.as_deref()),
        ("kms:Decrypt", Some(key.as_str()))
    );
    assert!(!judgement.allowed);
    let unmet = judgement.traces[1].condition.clone().unwrap();
    let expected = Unmet {
        operator: "StringEqualsIgnoreCase".into(),
        key: "kms:RecipientAttestation:ImageSha384".into(),
        wanted: vec![hex::encode([1; 48])],
        actual: vec![hex::encode([9; 48])],
    };
    assert_eq!(unmet, expected);
    assert_eq!(judgement.traces[1].sid.as_deref(), Some("enclave"));

    // The same on the command line, for people and for scripts, while the KMS runs.
    let explained = explain(&kms, &[&id]);
    let (ours, theirs) = (hex::encode([1; 48]), hex::encode([9; 48]));
    let expected = format!(
        "Decrypt by {ALICE} in eu-west-1, request {id}\n\
         ended in AccessDeniedException: User: {ALICE} is not authorized to perform: kms:Decrypt on resource: {key} \
         because no resource-based policy allows the kms:Decrypt action\n\n\
         kms:Decrypt on {key}\n  \
         refused because no resource-based policy allows the kms:Decrypt action\n  \
         key policy, statement 0 (administer) (allow): does not apply: it names other actions\n  \
         key policy, statement 1 (enclave) (allow): does not apply: StringEqualsIgnoreCase \
         kms:RecipientAttestation:ImageSha384 wants {ours}, the request has {theirs}\n"
    );
    // The root's statement names the account; what it does not name first is the action.
    assert_eq!(explained, (0, expected));
    let (status, text) = explain(&kms, &["last-refused", "--json"]);
    let said: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &said["request_id"]), (0, &id.into()));
    assert_eq!(explain(&kms, &["no-such-call"]), (1, String::new()));
}

fn explain(kms: &Kms, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adyton-sim"));
    command.arg("--state").arg(kms.folder.path()).args(["kms", "explain"]).args(arguments);
    let output = command.output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test]
async fn what_allowed_a_call_is_named() {
    let kms = Kms::start().await;
    let administrator = kms.administrator();
    let key = administrator.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let made = last(&kms);
    assert_eq!(made.judgements[0].by.as_ref().unwrap().source, "identity policy AdministratorAccess");
    administrator.describe_key().key_id(&key).send().await.unwrap();
    let by = last(&kms).judgements[0].by.clone().unwrap();
    assert_eq!(
        by.to_string(),
        "identity policy AdministratorAccess, statement 0; statement 0 (Enable IAM User Permissions) of the key \
         policy leaves it to identity policies"
    );
    let alice = kms.stranger(ALICE);
    let grant = administrator.create_grant().key_id(&key).grantee_principal(ALICE);
    let bound = GrantConstraints::builder().encryption_context_subset("tenant", "a").build();
    let grant = grant.operations(GrantOperation::Encrypt).constraints(bound).send().await.unwrap();
    let encrypt = |tenant: &str| {
        alice.encrypt().key_id(&key).plaintext(Blob::new("x")).encryption_context("tenant", tenant).send()
    };
    encrypt("a").await.unwrap();
    let by = last(&kms).judgements[0].by.clone().unwrap();
    assert_eq!(by.to_string(), format!("grant {}", grant.grant_id().unwrap()));
    // And of a grant that does not help, the constraint.
    encrypt("b").await.unwrap_err();
    let traces = last(&kms).judgements[0].traces.clone();
    let trace = traces.iter().find(|trace| trace.source.starts_with("grant")).unwrap();
    assert_eq!(
        trace.text,
        "does not apply: EncryptionContextSubset wants a in kms:EncryptionContext:tenant, the request has b"
    );
}

#[tokio::test]
async fn a_deny_of_an_identity_policy_is_shown_to_apply() {
    let kms = Kms::start().await;
    let administrator = kms.administrator();
    let key = administrator.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let alice = kms.stranger(ALICE);
    let document = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
        {"Sid": "NotNow", "Effect": "Deny", "Action": "kms:Encrypt", "Resource": "*"},
    ]});
    let policy = adyton_simulator::kms::IdentityPolicyRecord {
        principal: ALICE.into(),
        name: "Mixed".into(),
        document: document.to_string(),
    };
    kms.server.put_identity_policy(&policy).unwrap();
    alice.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.unwrap_err();
    let judgement = &last(&kms).judgements[0];
    assert_eq!(judgement.refusal.as_deref(), Some("with an explicit deny in an identity-based policy"));
    let applying: Vec<_> = judgement
        .traces
        .iter()
        .filter(|trace| trace.applies && trace.effect == "Deny")
        .map(|trace| (trace.source.as_str(), trace.statement, trace.sid.as_deref()))
        .collect();
    assert_eq!(applying, [("identity policy Mixed", Some(1), Some("NotNow"))]);
}

#[tokio::test]
async fn secrets_are_in_no_record() {
    let kms = Kms::start().await;
    let administrator = kms.administrator();
    let key = administrator.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let plaintext = "a plaintext to be looked for";
    let sealed = administrator.encrypt().key_id(&key).plaintext(Blob::new(plaintext)).send().await.unwrap();
    administrator.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();
    let grant = administrator.create_grant().key_id(&key).grantee_principal(ALICE);
    let token = grant.operations(GrantOperation::Encrypt).send().await.unwrap().grant_token.unwrap();
    administrator.retire_grant().grant_token(&token).send().await.unwrap();
    let text = std::fs::read_to_string(kms.folder.path().join("kms/decisions.ndjson")).unwrap();
    let secret = kms.server.first_administrator().unwrap().secret_access_key;
    let encoded = base64::engine::general_purpose::STANDARD.encode(plaintext);
    for hidden in [plaintext, &encoded, &token, secret.as_str()] {
        assert!(!text.contains(hidden));
    }
    assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 5);
}
