//! Misbehaviour on demand, and throttling, as a client sees them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::harness::{EnclaveKey, Kms, attest, recipient, refusal};
use adyton_simulator::kms::{Faults, KmsServer};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;

const THROTTLED: &str =
    "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";

async fn with_key(kms: &Kms) -> (Client, String) {
    let client = kms.administrator();
    let key = client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    (client, key)
}

// K-1
#[tokio::test]
async fn can_answer_in_plaintext_despite_a_recipient() {
    let kms = Kms::start().await;
    let (client, key) = with_key(&kms).await;
    let document = attest(&kms.nsm(1), Some(&EnclaveKey::new().spki), None);
    kms.server.set_faults(Faults { plaintext_despite_recipient: true, ..Faults::default() });
    let made = client.generate_data_key().key_id(key).number_of_bytes(32).recipient(recipient(document));
    let made = made.send().await.unwrap();
    assert!(made.plaintext().is_some());
    assert!(made.ciphertext_for_recipient().is_none());
}

// K-9, K-11
#[tokio::test]
async fn can_name_another_key_and_algorithm() {
    let kms = Kms::start().await;
    let (client, key) = with_key(&kms).await;
    let other = key.replace("111122223333", "444455556666");
    kms.server.set_faults(Faults {
        key_id: Some(other.clone()),
        encryption_algorithm: Some("RSAES_OAEP_SHA_1".into()),
        operations: vec!["Decrypt".into()],
        ..Faults::default()
    });
    let sealed = client.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.unwrap();
    assert_eq!(sealed.key_id(), Some(key.as_str()));
    let opened = client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.key_id(), Some(other.as_str()));
    assert_eq!(opened.encryption_algorithm().unwrap().as_str(), "RSAES_OAEP_SHA_1");
}

#[tokio::test]
async fn can_throttle_fail_drop_and_talk_nonsense_for_some_calls() {
    let kms = Kms::start().await;
    let (client, key) = with_key(&kms).await;
    let describe = || client.describe_key().key_id(&key).send();
    kms.server.set_faults(Faults { throttle_next: 2, ..Faults::default() });
    for _ in 0..2 {
        assert_eq!(refusal(describe().await), ("ThrottlingException".into(), Some(THROTTLED.into())));
    }
    describe().await.unwrap();

    kms.server.set_faults(Faults { fail_next: 1, ..Faults::default() });
    let failed = describe().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert_eq!(failed.as_service_error().unwrap().meta().code(), Some("KMSInternalException"));

    kms.server.set_faults(Faults { drop_next: 1, ..Faults::default() });
    assert!(matches!(describe().await.unwrap_err(), SdkError::DispatchFailure(_)));

    kms.server.set_faults(Faults { garbage_next: 1, ..Faults::default() });
    let nonsense = describe().await.unwrap_err();
    assert_eq!(nonsense.raw_response().unwrap().status().as_u16(), 200);
    assert_eq!(nonsense.code(), None);
    describe().await.unwrap();
}

#[tokio::test]
async fn can_throttle_until_a_time() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let kms = Kms::start_with(move |config| config.clock = Arc::new(move || *clock.lock().unwrap())).await;
    let (client, key) = with_key(&kms).await;
    let until = *now.lock().unwrap() + Duration::from_secs(10);
    let until = u64::try_from(until.duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    kms.server.set_faults(Faults { throttle_until_unix_ms: until, ..Faults::default() });
    assert_eq!(refusal(client.describe_key().key_id(&key).send().await).0, "ThrottlingException");
    *now.lock().unwrap() += Duration::from_secs(10);
    client.describe_key().key_id(&key).send().await.unwrap();
}

fn schedule(server: &KmsServer, rules: &[&str]) {
    let schedule = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    server.set_faults(Faults { schedule, ..Faults::default() });
}

#[tokio::test]
async fn a_schedule_follows_the_services_clock_and_counts_calls() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let kms = Kms::start_with(move |config| config.clock = Arc::new(move || *clock.lock().unwrap())).await;
    let (client, key) = with_key(&kms).await;
    let describe = || client.describe_key().key_id(&key).send();
    schedule(
        &kms.server,
        &[
            "throttle,from=2s,until=4s,operations=DescribeKey",
            "error=KeyUnavailableException,from=10s,every=2",
        ],
    );
    describe().await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(2);
    assert_eq!(refusal(describe().await), ("ThrottlingException".into(), Some(THROTTLED.into())));
    client.list_keys().send().await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(2);
    describe().await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(6);
    describe().await.unwrap();
    let failed = describe().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert_eq!(
        (failed.code(), failed.message()),
        (
            Some("KeyUnavailableException"),
            Some(
                "The request was rejected because the specified KMS key was not available. You can retry the request."
            )
        )
    );
    schedule(&kms.server, &["error=DependencyTimeoutException,times=1"]);
    assert_eq!(
        refusal(describe().await),
        (
            "DependencyTimeoutException".into(),
            Some(
                "The system timed out while trying to fulfill the request. You can retry the request.".into()
            )
        )
    );
    describe().await.unwrap();
}

#[tokio::test]
async fn a_call_can_be_carried_out_and_its_answer_lost() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    schedule(&kms.server, &["drop-after,operations=CreateKey,times=1"]);
    assert!(matches!(client.create_key().send().await.unwrap_err(), SdkError::DispatchFailure(_)));
    assert_eq!(client.list_keys().send().await.unwrap().keys().len(), 1);
    schedule(&kms.server, &["drop,operations=CreateKey,times=1"]);
    assert!(matches!(client.create_key().send().await.unwrap_err(), SdkError::DispatchFailure(_)));
    assert_eq!(client.list_keys().send().await.unwrap().keys().len(), 1);
}

#[tokio::test]
async fn a_new_policy_is_seen_late_by_reads_and_by_decisions() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let kms = Kms::start_with(move |config| config.clock = Arc::new(move || *clock.lock().unwrap())).await;
    let (client, key) = with_key(&kms).await;
    let alice = "arn:aws:iam::111122223333:user/alice";
    let theirs = kms.stranger(alice);
    let describe = || theirs.describe_key().key_id(&key).send();
    let policy = || async { client.get_key_policy().key_id(&key).send().await.unwrap().policy.unwrap() };
    let old = policy().await;
    let new = serde_json::json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": alice}, "Action": "kms:DescribeKey", "Resource": "*"},
    ]})
    .to_string();
    schedule(&kms.server, &["stale=5s,operations=PutKeyPolicy"]);
    client.put_key_policy().key_id(&key).policy(&new).send().await.unwrap();
    *now.lock().unwrap() += Duration::from_millis(4999);
    assert_eq!(policy().await, old);
    assert_eq!(refusal(describe().await).0, "AccessDeniedException");
    *now.lock().unwrap() += Duration::from_millis(1);
    assert_eq!(policy().await, new);
    describe().await.unwrap();
}

#[tokio::test]
async fn a_revoked_grant_is_still_seen_for_a_while() {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    let kms = Kms::start_with(move |config| config.clock = Arc::new(move || *clock.lock().unwrap())).await;
    let (client, key) = with_key(&kms).await;
    let alice = "arn:aws:iam::111122223333:user/alice";
    let theirs = kms.stranger(alice);
    let describe = || theirs.describe_key().key_id(&key).send();
    let grant = client.create_grant().key_id(&key).grantee_principal(alice);
    let grant = grant.operations(aws_sdk_kms::types::GrantOperation::DescribeKey).send().await.unwrap();
    describe().await.unwrap();
    schedule(&kms.server, &["stale=5s"]);
    client.revoke_grant().key_id(&key).grant_id(grant.grant_id().unwrap()).send().await.unwrap();
    describe().await.unwrap();
    assert_eq!(client.list_grants().key_id(&key).send().await.unwrap().grants().len(), 1);
    *now.lock().unwrap() += Duration::from_secs(5);
    assert_eq!(refusal(describe().await).0, "AccessDeniedException");
    assert!(client.list_grants().key_id(&key).send().await.unwrap().grants().is_empty());
}
