//! The audit log: one line a call, CloudTrail's names, none of the secrets.

use crate::harness::{Kms, REGION, refusal};
use aws_sdk_kms::primitives::Blob;
use serde_json::{Value, json};

#[tokio::test]
async fn a_call_leaves_one_line_under_cloudtrails_names() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let sealed = client.encrypt().key_id(&key).plaintext(Blob::new("canary-plaintext"));
    let sealed = sealed.encryption_context("tenant", "a").send().await.unwrap();
    client.describe_key().key_id(&key).send().await.unwrap();
    let wrong = client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await;
    assert_eq!(refusal(wrong).0, "InvalidCiphertextException");

    let lines = kms.audit();
    let names: Vec<&Value> = lines.iter().map(|line| &line["eventName"]).collect();
    assert_eq!(names, ["CreateKey", "Encrypt", "DescribeKey", "Decrypt"]);
    let encrypt = &lines[1];
    assert_eq!(encrypt["eventSource"], "kms.amazonaws.com");
    assert_eq!(encrypt["awsRegion"], REGION);
    assert_eq!(encrypt["sourceIPAddress"], "127.0.0.1");
    assert_eq!(encrypt["userIdentity"]["arn"], "arn:aws:iam::111122223333:user/administrator");
    assert_eq!(encrypt["userIdentity"]["type"], "IAMUser");
    assert_eq!(encrypt["requestParameters"], json!({"keyId": key, "encryptionContext": {"tenant": "a"}}));
    assert_eq!(
        encrypt["resources"],
        json!([{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": key}])
    );
    assert_eq!(encrypt["errorCode"], Value::Null);
    assert_eq!((&lines[0]["readOnly"], &encrypt["readOnly"]), (&json!(false), &json!(true)));
    assert_eq!(lines[3]["errorCode"], "InvalidCiphertextException");
    assert_eq!(lines[3]["resources"][0]["ARN"], key);
}

#[tokio::test]
async fn refusals_are_recorded_with_their_reason() {
    let kms = Kms::start().await;
    let alice = kms.stranger("arn:aws:sts::111122223333:assumed-role/enclave/session");
    let (_, text) = refusal(alice.list_keys().send().await);
    let line = kms.audit().pop().unwrap();
    assert_eq!(line["errorCode"], "AccessDenied");
    assert_eq!(line["errorMessage"], text.unwrap());
    assert_eq!(line["userIdentity"]["type"], "AssumedRole");

    // Nobody is named on the word of a signature that is wrong.
    let user = kms.server.first_administrator().unwrap();
    let forger = adyton_simulator::kms::User { secret_access_key: "wrong".to_owned().into(), ..user };
    assert_eq!(refusal(kms.client(&forger).list_keys().send().await).0, "InvalidSignatureException");
    let line = kms.audit().pop().unwrap();
    assert_eq!(line["userIdentity"], json!({"type": "Unknown"}));
    assert_eq!(line["errorCode"], "InvalidSignatureException");
}
