//! Shared secrets.

use crate::harness::{EnclaveKey, Kms, attest, opened_by_openssl, recipient, refusal, refused};
use aws_lc_rs::agreement::{self, Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyAgreementAlgorithmSpec, KeySpec, KeyUsageType, OriginType};
use serde_json::json;

async fn key(client: &Client, spec: &str, usage: KeyUsageType) -> String {
    let made = client.create_key().key_spec(KeySpec::from(spec)).key_usage(usage);
    made.send().await.unwrap().key_metadata.unwrap().arn.unwrap()
}

fn spki(key: &PrivateKey) -> Blob {
    let der: PublicKeyX509Der = key.compute_public_key().unwrap().as_der().unwrap();
    Blob::new(der.as_ref())
}

fn agreed(own: &PrivateKey, curve: &'static Algorithm, peer: &[u8]) -> Vec<u8> {
    agreement::agree(own, UnparsedPublicKey::new(curve, peer), (), |secret| Ok(secret.to_vec())).unwrap()
}

#[tokio::test]
async fn both_sides_derive_the_same_secret() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    for (spec, curve, length) in [
        ("ECC_NIST_P256", &ECDH_P256, 32),
        ("ECC_NIST_P384", &ECDH_P384, 48),
        ("ECC_NIST_P521", &ECDH_P521, 66),
    ] {
        let (a, b) = (
            key(&client, spec, KeyUsageType::KeyAgreement).await,
            key(&client, spec, KeyUsageType::KeyAgreement).await,
        );
        let answer = client.get_public_key().key_id(&a).send().await.unwrap();
        assert_eq!(answer.key_agreement_algorithms(), [KeyAgreementAlgorithmSpec::Ecdh]);
        assert_eq!(answer.key_usage(), Some(&KeyUsageType::KeyAgreement));
        let public_a = answer.public_key.unwrap();
        let public_b = client.get_public_key().key_id(&b).send().await.unwrap().public_key.unwrap();
        let derive = |key: &str, peer: Blob| {
            let call = client.derive_shared_secret().key_id(key).public_key(peer);
            call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh).send()
        };
        let one = derive(&a, public_b).await.unwrap();
        assert_eq!(one.key_id(), Some(a.as_str()));
        assert_eq!(one.key_agreement_algorithm(), Some(&KeyAgreementAlgorithmSpec::Ecdh));
        assert_eq!(one.key_origin(), Some(&OriginType::AwsKms));
        assert!(one.ciphertext_for_recipient().is_none());
        assert_eq!(one.shared_secret().unwrap().as_ref().len(), length);
        let other = derive(&b, public_a.clone()).await.unwrap();
        assert_eq!(one.shared_secret, other.shared_secret);

        let outside = PrivateKey::generate(curve).unwrap();
        let inside = derive(&a, spki(&outside)).await.unwrap().shared_secret.unwrap();
        assert_eq!(inside.as_ref(), agreed(&outside, curve, public_a.as_ref()));
    }
}

#[tokio::test]
async fn peers_on_another_curve_and_other_keys_are_refused() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let own = key(&client, "ECC_NIST_P256", KeyUsageType::KeyAgreement).await;
    let call = client.derive_shared_secret().key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh);
    let p256 = PrivateKey::generate(&ECDH_P256).unwrap();
    let point = p256.compute_public_key().unwrap().as_ref().to_vec();
    let mut off_curve = spki(&p256).into_inner();
    *off_curve.last_mut().unwrap() ^= 1;
    let text = "PublicKey is not a valid DER-encoded public key for key spec ECC_NIST_P256.";
    for peer in [
        spki(&PrivateKey::generate(&ECDH_P384).unwrap()),
        Blob::new(point),
        Blob::new(off_curve),
        Blob::new(EnclaveKey::new().spki),
        Blob::new("garbage"),
    ] {
        let refused_peer = call.clone().key_id(&own).public_key(peer).send().await;
        assert_eq!(refusal(refused_peer), refused("ValidationException", text));
    }
    let signing = key(&client, "ECC_NIST_P256", KeyUsageType::SignVerify).await;
    let text = format!("{signing} key usage is SIGN_VERIFY which is not valid for DeriveSharedSecret.");
    let call = call.public_key(spki(&p256));
    assert_eq!(
        refusal(call.clone().key_id(&signing).send().await),
        refused("InvalidKeyUsageException", &text)
    );
    let dry = "The request would have succeeded, but the DryRun option is set.";
    assert_eq!(
        refusal(call.clone().key_id(&own).dry_run(true).send().await),
        refused("DryRunOperationException", dry)
    );
    let text = "1 validation error detected: Value null at 'keyAgreementAlgorithm' failed to satisfy constraint: \
                Member must not be null";
    let none = client.derive_shared_secret().key_id(&own).public_key(spki(&p256)).send().await;
    assert_eq!(refusal(none), refused("ValidationException", text));
}

// K-1
#[tokio::test]
async fn an_enclave_gets_the_secret_sealed_to_it_and_nobody_else_any() {
    let kms = Kms::start().await;
    let who = "arn:aws:iam::111122223333:user/peer";
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*",
         "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:DeriveSharedSecret", "Resource": "*",
         "Condition": {"StringEquals": {"kms:KeyAgreementAlgorithm": "ECDH"},
                       "StringEqualsIgnoreCase": {"kms:RecipientAttestation:PCR0": hex::encode([7; 48])}}},
    ]});
    let administrator = kms.administrator();
    let made = administrator.create_key().key_spec(KeySpec::EccNistP384).policy(policy.to_string());
    let made = made.key_usage(KeyUsageType::KeyAgreement).send().await.unwrap();
    let own = made.key_metadata.unwrap().arn.unwrap();
    let public = administrator.get_public_key().key_id(&own).send().await.unwrap().public_key.unwrap();
    let peer = PrivateKey::generate(&ECDH_P384).unwrap();
    let enclave = EnclaveKey::new();
    let client = kms.stranger(who);
    let derive = |pcr0: Option<u8>| {
        let document = pcr0.map(|pcr0| recipient(attest(&kms.nsm(pcr0), Some(&enclave.spki), None)));
        let call = client.derive_shared_secret().key_id(&own).public_key(spki(&peer));
        call.key_agreement_algorithm(KeyAgreementAlgorithmSpec::Ecdh).set_recipient(document).send()
    };
    let answer = derive(Some(7)).await.unwrap();
    assert!(answer.shared_secret().is_none());
    let envelope = answer.ciphertext_for_recipient.unwrap().into_inner();
    if let Some(opened) = opened_by_openssl(&enclave, &envelope) {
        assert_eq!(opened, agreed(&peer, &ECDH_P384, public.as_ref()));
    }
    for pcr0 in [Some(8), None] {
        assert_eq!(refusal(derive(pcr0).await).0, "AccessDeniedException");
    }
}
