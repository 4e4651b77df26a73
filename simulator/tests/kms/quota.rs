//! Request quotas, as a client sees them.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::harness::{Kms, REGION, refusal, refused};
use adyton_simulator::kms::{KmsConfig, KmsError, KmsServer, Quota, Quotas, User};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;

const THROTTLED: &str =
    "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";

fn throttled() -> (String, Option<String>) {
    refused("ThrottlingException", THROTTLED)
}

/// A clock that only the test moves.
fn held_clock(config: &mut KmsConfig) -> Arc<Mutex<SystemTime>> {
    let now = Arc::new(Mutex::new(SystemTime::now()));
    let clock = Arc::clone(&now);
    config.clock = Arc::new(move || *clock.lock().unwrap());
    now
}

async fn with_quotas(text: &str) -> Kms {
    let quotas = Quotas::parse(text).unwrap();
    Kms::start_with(move |config| {
        held_clock(config);
        config.quotas = Some(quotas);
    })
    .await
}

async fn new_key(client: &Client) -> String {
    client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
}

async fn encrypt(client: &Client, key: &str) -> Result<(), (String, Option<String>)> {
    let done = client.encrypt().key_id(key).plaintext(Blob::new("x")).send().await;
    if done.is_ok() { Ok(()) } else { Err(refusal(done)) }
}

#[tokio::test]
async fn an_account_over_its_quota_is_throttled_until_time_passes() {
    let mut now = None;
    let kms = Kms::start_with(|config| {
        now = Some(held_clock(config));
        config.quota = Quota { per_second: 1, burst: 2 };
    })
    .await;
    let now = now.unwrap();
    let client = kms.administrator();
    let key = new_key(&client).await;
    let encrypt = || client.encrypt().key_id(&key).plaintext(Blob::new("x")).send();
    encrypt().await.unwrap();
    encrypt().await.unwrap();
    assert_eq!(refusal(encrypt().await), throttled());
    // Another group has another bucket.
    client.describe_key().key_id(&key).send().await.unwrap();
    *now.lock().unwrap() += Duration::from_secs(1);
    encrypt().await.unwrap();
    assert_eq!(refusal(encrypt().await).0, "ThrottlingException");
}

#[tokio::test]
async fn groups_are_independent_and_dry_runs_and_failures_count() {
    let kms = with_quotas("symmetric = 3\nDescribeKey = 1\nCreateKey = 2").await;
    let client = kms.administrator();
    let key = new_key(&client).await;
    new_key(&client).await;
    assert_eq!(refusal(client.create_key().send().await), throttled());
    client.describe_key().key_id(&key).send().await.unwrap();
    assert_eq!(refusal(client.describe_key().key_id(&key).send().await), throttled());

    encrypt(&client, &key).await.unwrap();
    let dry = client.encrypt().key_id(&key).plaintext(Blob::new("x")).dry_run(true).send().await;
    assert_eq!(refusal(dry).0, "DryRunOperationException");
    // Not even the key is known here.
    let garbage = client.decrypt().ciphertext_blob(Blob::new("x")).send().await;
    assert_eq!(refusal(garbage).0, "InvalidCiphertextException");
    assert_eq!(encrypt(&client, &key).await.unwrap_err(), throttled());
    assert_eq!(refusal(client.generate_random().number_of_bytes(8).send().await), throttled());
    client.list_keys().send().await.unwrap();
}

#[tokio::test]
async fn each_account_and_region_has_its_own_and_the_caller_is_charged() {
    let kms = with_quotas("symmetric = 1").await;
    let client = kms.administrator();
    let key = new_key(&client).await;
    let partner = User::generate("arn:aws:iam::444455556666:user/partner", true).unwrap();
    kms.server.add_user(&partner).unwrap();
    let theirs = kms.client(&partner);
    // Refused by the policy, and charged to the account that asked.
    assert_eq!(encrypt(&theirs, &key).await.unwrap_err().0, "AccessDeniedException");
    assert_eq!(encrypt(&theirs, &key).await.unwrap_err(), throttled());
    encrypt(&client, &key).await.unwrap();
    assert_eq!(encrypt(&client, &key).await.unwrap_err(), throttled());

    let user = kms.server.first_administrator().unwrap();
    let elsewhere = kms.client_in(&user, "us-east-1");
    let key = new_key(&elsewhere).await;
    encrypt(&elsewhere, &key).await.unwrap();
    assert_eq!(encrypt(&elsewhere, &key).await.unwrap_err(), throttled());
}

#[tokio::test]
async fn the_state_folder_may_hold_the_figures_and_wrong_ones_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::harness::config(folder.path());
    std::fs::create_dir_all(&config.state_dir).unwrap();
    let file = config.state_dir.join("quota.toml");
    std::fs::write(&file, "CreateKey = 0.5").unwrap();
    let kms = Kms::serve(folder, config.clone(), adyton_simulator::kms::Transport::Tls).await;
    let client = kms.client_in(&kms.server.first_administrator().unwrap(), REGION);
    new_key(&client).await;
    assert_eq!(refusal(client.create_key().send().await), throttled());
    let _folder = kms.stop().await;

    std::fs::write(&file, "CreateKeys = 1").unwrap();
    match KmsServer::open(config).unwrap_err() {
        KmsError::Quota { path, source } => {
            assert_eq!(path, file);
            assert!(source.to_string().starts_with("\"CreateKeys\" is no group"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn aws_figures_are_there_when_asked_for() {
    assert_ne!(Quotas::aws(), Quotas::relaxed());
    assert_eq!(Quotas::parse("base = \"aws\"").unwrap(), Quotas::aws());
    assert_eq!(Quotas::parse("").unwrap(), Quotas::default());
    assert_eq!(Quotas::parse("base = \"aws\"\nCreateKey = 5").unwrap(), Quotas::aws());
}
