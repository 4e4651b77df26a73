//! Message authentication codes.

use crate::harness::{Kms, refusal, refused};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeySpec, KeyUsageType, MacAlgorithmSpec};
use serde_json::json;

const KINDS: [(&str, &str, usize); 4] = [
    ("HMAC_224", "HMAC_SHA_224", 28),
    ("HMAC_256", "HMAC_SHA_256", 32),
    ("HMAC_384", "HMAC_SHA_384", 48),
    ("HMAC_512", "HMAC_SHA_512", 64),
];

async fn key(kms: &Kms, spec: &str, policy: Option<String>) -> String {
    let made = kms.administrator().create_key().key_spec(KeySpec::from(spec)).set_policy(policy);
    let made = made.key_usage(KeyUsageType::GenerateVerifyMac).send().await.unwrap();
    made.key_metadata.unwrap().arn.unwrap()
}

#[tokio::test]
async fn a_code_is_verified_under_its_key_and_algorithm_only() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    for (spec, algorithm, length) in KINDS {
        let (key, other) = (key(&kms, spec, None).await, key(&kms, spec, None).await);
        let algorithm = MacAlgorithmSpec::from(algorithm);
        let call = client.generate_mac().key_id(&key).message(Blob::new("message"));
        let made = call.clone().mac_algorithm(algorithm.clone()).send().await.unwrap();
        assert_eq!(made.key_id(), Some(key.as_str()));
        assert_eq!(made.mac_algorithm(), Some(&algorithm));
        let mac = made.mac.unwrap();
        assert_eq!(mac.as_ref().len(), length);
        let verify = |key: &str, message: &str, mac: Blob| {
            let call = client.verify_mac().key_id(key).message(Blob::new(message)).mac(mac);
            call.mac_algorithm(algorithm.clone())
        };
        let verified = verify(&key, "message", mac.clone()).send().await.unwrap();
        assert!(verified.mac_valid());
        assert_eq!(verified.key_id(), Some(key.as_str()));
        assert_eq!(verified.mac_algorithm(), Some(&algorithm));
        let invalid = ("KMSInvalidMacException".to_owned(), None);
        assert_eq!(refusal(verify(&key, "Message", mac.clone()).send().await), invalid);
        assert_eq!(refusal(verify(&other, "message", mac.clone()).send().await), invalid);
        let shorter = Blob::new(&mac.as_ref()[1..]);
        assert_eq!(refusal(verify(&key, "message", shorter).send().await), invalid);

        let dry = "The request would have succeeded, but the DryRun option is set.";
        let dry = refused("DryRunOperationException", dry);
        assert_eq!(refusal(verify(&key, "message", mac).dry_run(true).send().await), dry);
        assert_eq!(refusal(call.mac_algorithm(algorithm.clone()).dry_run(true).send().await), dry);
    }
}

#[tokio::test]
async fn other_keys_and_algorithms_are_refused() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = key(&kms, "HMAC_512", None).await;
    let call = client.generate_mac().message(Blob::new("x")).mac_algorithm(MacAlgorithmSpec::HmacSha256);
    let text = "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_512.";
    assert_eq!(refusal(call.clone().key_id(&key).send().await), refused("InvalidKeyUsageException", text));
    let symmetric = client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let text = format!("{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for GenerateMac.");
    assert_eq!(
        refusal(call.clone().key_id(&symmetric).send().await),
        refused("InvalidKeyUsageException", &text)
    );
    let verify = client.verify_mac().key_id(&symmetric).message(Blob::new("x")).mac(Blob::new("x"));
    let text = format!("{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for VerifyMac.");
    assert_eq!(
        refusal(verify.mac_algorithm(MacAlgorithmSpec::HmacSha256).send().await),
        refused("InvalidKeyUsageException", &text)
    );
    let unknown = call.clone().key_id(&key).mac_algorithm(MacAlgorithmSpec::from("HMAC_SHA_1"));
    let text = "1 validation error detected: Value 'HMAC_SHA_1' at 'macAlgorithm' failed to satisfy constraint: Member \
                must satisfy enum value set: [HMAC_SHA_384, HMAC_SHA_256, HMAC_SHA_224, HMAC_SHA_512]";
    assert_eq!(refusal(unknown.send().await), refused("ValidationException", text));
    for message in [vec![], vec![0; 4097]] {
        let call = call.clone().key_id(&key).message(Blob::new(message));
        assert_eq!(refusal(call.send().await).0, "ValidationException");
    }
}

#[tokio::test]
async fn policies_see_the_algorithm() {
    let kms = Kms::start().await;
    let who = "arn:aws:iam::111122223333:user/mac";
    let condition = |algorithm: &str| {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*",
             "Resource": "*"},
            {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:GenerateMac", "Resource": "*",
             "Condition": {"StringEquals": {"kms:MacAlgorithm": algorithm}}},
        ]});
        Some(policy.to_string())
    };
    let client = kms.stranger(who);
    let allowed = key(&kms, "HMAC_256", condition("HMAC_SHA_256")).await;
    let denied = key(&kms, "HMAC_256", condition("HMAC_SHA_512")).await;
    let call = client.generate_mac().message(Blob::new("x")).mac_algorithm(MacAlgorithmSpec::HmacSha256);
    call.clone().key_id(allowed).send().await.unwrap();
    assert_eq!(refusal(call.key_id(denied).send().await).0, "AccessDeniedException");
}
