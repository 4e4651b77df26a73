//! Data key pairs: the private half in plaintext, sealed under a key, sealed to an enclave.

use crate::harness::{EnclaveKey, Kms, attest, opened_by_openssl, recipient, refusal, refused};
use crate::openssl::Openssl;
use adyton_simulator::kms::CmsForm;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeyPairSpec, KeySpec, KeyUsageType};
use serde_json::json;

const SPECS: [&str; 6] = [
    "RSA_2048",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "ECC_SECG_P256K1",
    "ECC_NIST_EDWARDS25519",
];

async fn key(kms: &Kms) -> String {
    let made = kms.administrator().create_key().send().await.unwrap();
    made.key_metadata.unwrap().arn.unwrap()
}

/// The public half that openssl finds in a private key.
fn public_half(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let openssl = Openssl::new()?;
    let file = openssl.file("key", pkcs8);
    let arguments = ["pkey", "-inform", "DER", "-in", &file, "-pubout", "-outform", "DER"];
    Some(openssl.run(&arguments).unwrap())
}

#[tokio::test]
async fn the_halves_belong_together_and_the_sealed_one_opens() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = key(&kms).await;
    for spec in SPECS {
        let call = client.generate_data_key_pair().key_id(&key).encryption_context("a", "1");
        let made = call.key_pair_spec(DataKeyPairSpec::from(spec)).send().await.unwrap();
        assert_eq!(made.key_id(), Some(key.as_str()));
        assert_eq!(made.key_pair_spec().unwrap().as_str(), spec);
        assert!(made.key_material_id().is_some());
        assert!(made.ciphertext_for_recipient().is_none());
        let private = made.private_key_plaintext.unwrap().into_inner();
        if let Some(public) = public_half(&private) {
            assert_eq!(public, made.public_key.unwrap().into_inner(), "{spec}");
        }
        let call = client.decrypt().ciphertext_blob(made.private_key_ciphertext_blob.unwrap());
        let opened = call.clone().encryption_context("a", "1").send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), private);
        assert_eq!(refusal(call.send().await), ("InvalidCiphertextException".into(), None));
    }
}

#[tokio::test]
async fn without_plaintext_there_is_none() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = key(&kms).await;
    let call = client.generate_data_key_pair_without_plaintext().key_id(&key);
    let made = call.key_pair_spec(DataKeyPairSpec::EccNistP384).send().await.unwrap();
    assert!(made.key_material_id().is_some());
    let opened = client.decrypt().ciphertext_blob(made.private_key_ciphertext_blob.unwrap());
    let opened = opened.send().await.unwrap();
    if let Some(public) = public_half(opened.plaintext().unwrap().as_ref()) {
        assert_eq!(public, made.public_key.unwrap().into_inner());
    }
}

// K-1
#[tokio::test]
async fn an_enclave_gets_the_private_half_in_every_form_that_kms_writes() {
    for form in [CmsForm::Constructed, CmsForm::Primitive, CmsForm::Chunks(100), CmsForm::Der] {
        let kms = Kms::start_with(|config| config.cms_form = form).await;
        let client = kms.administrator();
        let key = key(&kms).await;
        let enclave = EnclaveKey::new();
        let document = attest(&kms.nsm(7), Some(&enclave.spki), None);
        let call = client.generate_data_key_pair().key_id(&key).recipient(recipient(document));
        let made = call.key_pair_spec(DataKeyPairSpec::EccNistP256).send().await.unwrap();
        assert!(made.private_key_plaintext().is_none());
        assert!(made.key_material_id().is_none());
        let envelope = made.ciphertext_for_recipient.unwrap().into_inner();
        if let Some(private) = opened_by_openssl(&enclave, &envelope) {
            assert_eq!(public_half(&private).unwrap(), made.public_key.unwrap().into_inner());
        }
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = key(&kms).await;
    let call = client.generate_data_key_pair();
    let none = call.clone().key_id(&key).send().await;
    let text = "1 validation error detected: Value null at 'keyPairSpec' failed to satisfy constraint: Member must not \
                be null";
    assert_eq!(refusal(none), refused("ValidationException", text));
    let call = call.key_pair_spec(DataKeyPairSpec::Sm2);
    let text = "KeySpec SM2 is not available in the local KMS.";
    assert_eq!(
        refusal(call.clone().key_id(&key).send().await),
        refused("UnsupportedOperationException", text)
    );
    let call = call.key_pair_spec(DataKeyPairSpec::EccNistP256);
    let dry = "The request would have succeeded, but the DryRun option is set.";
    assert_eq!(
        refusal(call.clone().key_id(&key).dry_run(true).send().await),
        refused("DryRunOperationException", dry)
    );
    let rsa = client.create_key().key_spec(KeySpec::Rsa2048).key_usage(KeyUsageType::EncryptDecrypt);
    let rsa = rsa.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let text = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    assert_eq!(refusal(call.clone().key_id(&rsa).send().await), refused("InvalidKeyUsageException", text));
    let p256 = client.create_key().key_spec(KeySpec::EccNistP256).key_usage(KeyUsageType::SignVerify);
    let p256 = p256.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let text = format!("{p256} key usage is SIGN_VERIFY which is not valid for GenerateDataKeyPair.");
    assert_eq!(refusal(call.clone().key_id(&p256).send().await), refused("InvalidKeyUsageException", &text));
    let bad = call.key_id(&key).recipient(recipient(b"garbage".to_vec())).send().await;
    assert_eq!(refusal(bad).0, "ValidationException");
}

#[tokio::test]
async fn policies_see_spec_context_and_enclave() {
    let kms = Kms::start().await;
    let who = "arn:aws:iam::111122223333:user/maker";
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*",
         "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": who}, "Action": "kms:GenerateDataKeyPair", "Resource": "*",
         "Condition": {"StringEquals": {
             "kms:DataKeyPairSpec": "ECC_NIST_P256",
             "kms:EncryptionContext:tenant": "a",
             "kms:EncryptionAlgorithm": "SYMMETRIC_DEFAULT",
             "kms:RecipientAttestation:ImageSha384": hex::encode([7; 48]),
         }}},
    ]});
    let made = kms.administrator().create_key().policy(policy.to_string()).send().await.unwrap();
    let key = made.key_metadata.unwrap().arn.unwrap();
    let client = kms.stranger(who);
    let enclave = EnclaveKey::new();
    let call = |spec: DataKeyPairSpec, tenant: &str, pcr0: Option<u8>| {
        let document = pcr0.map(|pcr0| recipient(attest(&kms.nsm(pcr0), Some(&enclave.spki), None)));
        let call = client.generate_data_key_pair().key_id(&key).key_pair_spec(spec);
        call.encryption_context("tenant", tenant).set_recipient(document).send()
    };
    call(DataKeyPairSpec::EccNistP256, "a", Some(7)).await.unwrap();
    for (spec, tenant, pcr0) in [
        (DataKeyPairSpec::EccNistP384, "a", Some(7)),
        (DataKeyPairSpec::EccNistP256, "b", Some(7)),
        (DataKeyPairSpec::EccNistP256, "a", Some(8)),
        (DataKeyPairSpec::EccNistP256, "a", None),
    ] {
        assert_eq!(refusal(call(spec, tenant, pcr0).await).0, "AccessDeniedException");
    }
    // The caller may do nothing else with it.
    let other = client.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await;
    assert_eq!(refusal(other).0, "AccessDeniedException");
}
