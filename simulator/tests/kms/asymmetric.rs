//! RSA encryption, signatures and public keys: known to another library, and refused in AWS's words.

use crate::harness::{Kms, refusal, refused};
use crate::openssl::Openssl;
use aws_lc_rs::digest::{Algorithm, SHA256, SHA384, SHA512, digest};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::decrypt::{DecryptError, DecryptOutput};
use aws_sdk_kms::operation::sign::{SignError, SignOutput};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    DryRunModifierType, EncryptionAlgorithmSpec, KeySpec, KeyUsageType, MessageType, SigningAlgorithmSpec,
};
use serde_json::json;

/// Every spec that signs, but for the larger RSA keys, which differ in nothing but time.
const SIGNING: [&str; 6] = [
    "RSA_2048",
    "ECC_NIST_P256",
    "ECC_NIST_P384",
    "ECC_NIST_P521",
    "ECC_SECG_P256K1",
    "ECC_NIST_EDWARDS25519",
];

struct Scene {
    kms: Kms,
    client: Client,
}

impl Scene {
    async fn new() -> Self {
        let kms = Kms::start().await;
        let client = kms.administrator();
        Self { kms, client }
    }

    async fn key(&self, spec: &str, usage: KeyUsageType) -> String {
        let made = self.client.create_key().key_spec(KeySpec::from(spec)).key_usage(usage);
        made.send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    async fn public_key(&self, key: &str) -> Vec<u8> {
        let answer = self.client.get_public_key().key_id(key).send().await.unwrap();
        answer.public_key.unwrap().into_inner()
    }

    async fn sign(
        &self,
        key: &str,
        algorithm: &str,
        kind: Option<MessageType>,
        message: &[u8],
    ) -> Result<SignOutput, SdkError<SignError>> {
        let call = self.client.sign().key_id(key).message(Blob::new(message)).set_message_type(kind);
        call.signing_algorithm(SigningAlgorithmSpec::from(algorithm)).send().await
    }

    async fn decrypt(
        &self,
        key: Option<&str>,
        algorithm: Option<EncryptionAlgorithmSpec>,
        blob: &[u8],
    ) -> Result<DecryptOutput, SdkError<DecryptError>> {
        let call = self.client.decrypt().ciphertext_blob(Blob::new(blob)).set_key_id(key.map(Into::into));
        call.set_encryption_algorithm(algorithm).send().await
    }
}

fn hash(algorithm: &str) -> &'static Algorithm {
    match &algorithm[algorithm.len() - 3..] {
        "256" => &SHA256,
        "384" => &SHA384,
        _ => &SHA512,
    }
}

fn invalid_signature() -> (String, Option<String>) {
    ("KMSInvalidSignatureException".into(), None)
}

#[tokio::test]
async fn every_signature_holds_here_and_in_openssl() {
    let scene = Scene::new().await;
    for spec in SIGNING {
        let key = scene.key(spec, KeyUsageType::SignVerify).await;
        let answer = scene.client.get_public_key().key_id(&key).send().await.unwrap();
        assert_eq!(answer.key_id(), Some(key.as_str()));
        assert_eq!(answer.key_spec().unwrap().as_str(), spec);
        assert_eq!(answer.key_usage(), Some(&KeyUsageType::SignVerify));
        assert!(answer.encryption_algorithms.is_none() && answer.key_agreement_algorithms.is_none());
        let public = answer.public_key.unwrap().into_inner();
        for algorithm in answer.signing_algorithms.unwrap() {
            let algorithm = algorithm.as_str();
            if algorithm == "ED25519_PH_SHA_512" {
                continue;
            }
            let message = [0x5a; 4096];
            let signed = scene.sign(&key, algorithm, None, &message).await.unwrap();
            assert_eq!(signed.key_id(), Some(key.as_str()));
            assert_eq!(signed.signing_algorithm().unwrap().as_str(), algorithm);
            let signature = signed.signature.unwrap();
            if let Some(openssl) = Openssl::new() {
                openssl.verifies(algorithm, &public, &message, signature.as_ref()).unwrap();
                openssl.verifies(algorithm, &public, b"other", signature.as_ref()).unwrap_err();
            }
            let verify = |message: &[u8]| {
                let call = scene.client.verify().key_id(&key).message(Blob::new(message));
                call.signature(signature.clone()).signing_algorithm(SigningAlgorithmSpec::from(algorithm))
            };
            let verified = verify(&message).send().await.unwrap();
            assert!(verified.signature_valid());
            assert_eq!(verified.key_id(), Some(key.as_str()));
            assert_eq!(refusal(verify(b"other").send().await), invalid_signature());
            assert_eq!(
                refusal(verify(&message).signature(Blob::new([1; 64])).send().await),
                invalid_signature()
            );
        }
    }
}

#[tokio::test]
async fn a_digest_is_signed_as_it_is_and_has_to_have_its_length() {
    let scene = Scene::new().await;
    for spec in SIGNING {
        let key = scene.key(spec, KeyUsageType::SignVerify).await;
        let answer = scene.client.get_public_key().key_id(&key).send().await.unwrap();
        let public = answer.public_key.unwrap().into_inner();
        for algorithm in answer.signing_algorithms.unwrap() {
            let algorithm = algorithm.as_str();
            let digest_of = Some(MessageType::Digest);
            if algorithm == "ED25519_SHA_512" {
                let refused_type = scene.sign(&key, algorithm, digest_of, &[1; 64]).await;
                let text = "Message type DIGEST is incompatible with algorithm ED25519_SHA_512.";
                assert_eq!(refusal(refused_type), refused("ValidationException", text));
                continue;
            }
            let hashed = digest(hash(algorithm), b"message");
            let signed = scene.sign(&key, algorithm, digest_of.clone(), hashed.as_ref()).await.unwrap();
            let signature = signed.signature.unwrap();
            if algorithm != "ED25519_PH_SHA_512"
                && let Some(openssl) = Openssl::new()
            {
                openssl.verifies(algorithm, &public, b"message", signature.as_ref()).unwrap();
            }
            let verify = |kind: MessageType, message: &[u8]| {
                let call = scene.client.verify().key_id(&key).message(Blob::new(message)).message_type(kind);
                call.signature(signature.clone()).signing_algorithm(SigningAlgorithmSpec::from(algorithm))
            };
            assert!(verify(MessageType::Digest, hashed.as_ref()).send().await.unwrap().signature_valid());
            let raw = verify(MessageType::Raw, b"message").send().await;
            if algorithm == "ED25519_PH_SHA_512" {
                let text = "Message type RAW is incompatible with algorithm ED25519_PH_SHA_512.";
                assert_eq!(refusal(raw), refused("ValidationException", text));
            } else {
                assert!(raw.unwrap().signature_valid());
            }
            let text = format!("Digest is invalid length for algorithm {algorithm}.");
            for wrong in [&hashed.as_ref()[1..], &[hashed.as_ref(), &[0]].concat()] {
                let signed = scene.sign(&key, algorithm, digest_of.clone(), wrong).await;
                assert_eq!(refusal(signed), refused("ValidationException", &text));
                let verified = verify(MessageType::Digest, wrong).send().await;
                assert_eq!(refusal(verified), refused("ValidationException", &text));
            }
            let text = format!("Message type EXTERNAL_MU is incompatible with algorithm {algorithm}.");
            let external = scene.sign(&key, algorithm, Some(MessageType::ExternalMu), hashed.as_ref()).await;
            assert_eq!(refusal(external), refused("ValidationException", &text));
        }
    }
}

#[tokio::test]
async fn keys_sign_only_what_they_are_for() {
    let scene = Scene::new().await;
    let p256 = scene.key("ECC_NIST_P256", KeyUsageType::SignVerify).await;
    let refused_algorithm = scene.sign(&p256, "ECDSA_SHA_384", None, b"x").await;
    let text = "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256.";
    assert_eq!(refusal(refused_algorithm), refused("InvalidKeyUsageException", text));

    let symmetric = scene.client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let text = format!("{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for Sign.");
    let refused_usage = scene.sign(&symmetric, "ECDSA_SHA_256", None, b"x").await;
    assert_eq!(refusal(refused_usage), refused("InvalidKeyUsageException", &text));
    let call = scene.client.verify().key_id(&symmetric).message(Blob::new("x")).signature(Blob::new("x"));
    let text = format!("{symmetric} key usage is ENCRYPT_DECRYPT which is not valid for Verify.");
    assert_eq!(
        refusal(call.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).send().await),
        refused("InvalidKeyUsageException", &text)
    );
    let call = scene.client.encrypt().key_id(&p256).plaintext(Blob::new("x"));
    let text = format!("{p256} key usage is SIGN_VERIFY which is not valid for Encrypt.");
    assert_eq!(refusal(call.send().await), refused("InvalidKeyUsageException", &text));
    let text = format!("{p256} key usage is SIGN_VERIFY which is not valid for Decrypt.");
    assert_eq!(
        refusal(scene.decrypt(Some(&p256), None, b"x").await),
        refused("InvalidKeyUsageException", &text)
    );
    let call = scene.client.generate_data_key().key_id(&p256).number_of_bytes(8);
    let text = format!("{p256} key usage is SIGN_VERIFY which is not valid for GenerateDataKey.");
    assert_eq!(refusal(call.send().await), refused("InvalidKeyUsageException", &text));

    let too_long = scene.sign(&p256, "ECDSA_SHA_256", None, &[0; 4097]).await;
    let text = "1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length \
                less than or equal to 4096";
    assert_eq!(refusal(too_long), refused("ValidationException", text));
    let none = scene.client.sign().key_id(&p256).message(Blob::new("x")).send().await;
    let text = "1 validation error detected: Value null at 'signingAlgorithm' failed to satisfy constraint: Member \
                must not be null";
    assert_eq!(refusal(none), refused("ValidationException", text));

    scene.client.disable_key().key_id(&p256).send().await.unwrap();
    let text = format!("{p256} is disabled.");
    assert_eq!(
        refusal(scene.sign(&p256, "ECDSA_SHA_384", None, b"x").await),
        refused("DisabledException", &text)
    );
    let public = scene.client.get_public_key().key_id(&p256).send().await;
    assert_eq!(refusal(public), refused("DisabledException", &text));
}

#[tokio::test]
async fn a_dry_run_signs_and_verifies_nothing() {
    let scene = Scene::new().await;
    let key = scene.key("ECC_NIST_P256", KeyUsageType::SignVerify).await;
    let expected = refused(
        "DryRunOperationException",
        "The request would have succeeded, but the DryRun option is set.",
    );
    let call = scene.client.sign().key_id(&key).message(Blob::new("x")).dry_run(true);
    let call = call.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256);
    assert_eq!(refusal(call.send().await), expected);
    let call = scene.client.verify().key_id(&key).message(Blob::new("x")).signature(Blob::new("x"));
    let call = call.signing_algorithm(SigningAlgorithmSpec::EcdsaSha256).dry_run(true);
    assert_eq!(refusal(call.send().await), expected);
}

#[tokio::test]
async fn rsa_keys_open_what_openssl_encrypts_and_what_they_encrypt_themselves() {
    let scene = Scene::new().await;
    let key = scene.key("RSA_2048", KeyUsageType::EncryptDecrypt).await;
    let answer = scene.client.get_public_key().key_id(&key).send().await.unwrap();
    let names: Vec<_> = answer.encryption_algorithms().iter().map(EncryptionAlgorithmSpec::as_str).collect();
    assert_eq!(names, ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]);
    assert!(answer.signing_algorithms.is_none());
    let public = answer.public_key.unwrap().into_inner();
    assert_eq!(public.len(), 294);
    for (algorithm, hash, longest) in [
        (EncryptionAlgorithmSpec::RsaesOaepSha1, "sha1", 214),
        (EncryptionAlgorithmSpec::RsaesOaepSha256, "sha256", 190),
    ] {
        let plaintext = vec![0xA5; longest];
        let encrypt = |plaintext: &[u8]| {
            let call = scene.client.encrypt().key_id(&key).plaintext(Blob::new(plaintext));
            call.encryption_algorithm(algorithm.clone())
        };
        let sealed = encrypt(&plaintext).send().await.unwrap();
        assert_eq!(sealed.encryption_algorithm(), Some(&algorithm));
        assert_eq!(sealed.key_id(), Some(key.as_str()));
        let sealed = sealed.ciphertext_blob.unwrap().into_inner();
        assert_eq!(sealed.len(), 256);
        let opened = scene.decrypt(Some(&key), Some(algorithm.clone()), &sealed).await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
        assert_eq!(opened.encryption_algorithm(), Some(&algorithm));
        assert!(opened.key_material_id().is_none());
        if let Some(openssl) = Openssl::new() {
            let (spki, plain) = (openssl.file("spki", &public), openssl.file("plain", b"by openssl"));
            let hash = format!("rsa_oaep_md:{hash}");
            let arguments = ["pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", &spki, "-in"];
            let options = [&plain, "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", &hash];
            let sealed = openssl.run(&[&arguments[..], &options].concat()).unwrap();
            let opened = scene.decrypt(Some(&key), Some(algorithm.clone()), &sealed).await.unwrap();
            assert_eq!(opened.plaintext().unwrap().as_ref(), b"by openssl");
        }
        let text = format!(
            "Algorithm {} and key spec RSA_2048 cannot encrypt data larger than {longest} bytes.",
            algorithm.as_str()
        );
        assert_eq!(
            refusal(encrypt(&vec![1; longest + 1]).send().await),
            refused("ValidationException", &text)
        );
        let bound = encrypt(b"x").encryption_context("a", "1").send().await;
        let text = "Encryption context is not supported for asymmetric keys.";
        assert_eq!(refusal(bound), refused("ValidationException", text));
    }
}

#[tokio::test]
async fn rsa_ciphertexts_open_only_with_their_key_and_algorithm_named() {
    let scene = Scene::new().await;
    let key = scene.key("RSA_2048", KeyUsageType::EncryptDecrypt).await;
    let other = scene.key("RSA_2048", KeyUsageType::EncryptDecrypt).await;
    let call = scene.client.encrypt().key_id(&key).plaintext(Blob::new("secret"));
    let call = call.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256);
    let sealed = call.send().await.unwrap().ciphertext_blob.unwrap().into_inner();
    let (sha1, sha256) = (EncryptionAlgorithmSpec::RsaesOaepSha1, EncryptionAlgorithmSpec::RsaesOaepSha256);
    let unreadable = ("InvalidCiphertextException".to_owned(), None);

    assert_eq!(refusal(scene.decrypt(None, Some(sha256.clone()), &sealed).await), unreadable);
    assert_eq!(refusal(scene.decrypt(Some(&key), Some(sha1), &sealed).await), unreadable);
    assert_eq!(refusal(scene.decrypt(Some(&other), Some(sha256.clone()), &sealed).await), unreadable);
    for damaged in [&sealed[..255], &[&sealed[..], &[0]].concat(), b"x", &[0xff; 256]] {
        assert_eq!(refusal(scene.decrypt(Some(&key), Some(sha256.clone()), damaged).await), unreadable);
    }
    let text = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    assert_eq!(
        refusal(scene.decrypt(Some(&key), None, &sealed).await),
        refused("InvalidKeyUsageException", text)
    );
    let call = scene.client.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await;
    assert_eq!(refusal(call), refused("InvalidKeyUsageException", text));
    let call = scene.client.generate_data_key().key_id(&key).number_of_bytes(8).send().await;
    assert_eq!(refusal(call), refused("InvalidKeyUsageException", text));
}

#[tokio::test]
async fn re_encryption_leads_from_rsa_to_a_symmetric_key_and_back() {
    let scene = Scene::new().await;
    let rsa = scene.key("RSA_2048", KeyUsageType::EncryptDecrypt).await;
    let symmetric = scene.client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let sha256 = || EncryptionAlgorithmSpec::RsaesOaepSha256;
    let call = scene.client.encrypt().key_id(&rsa).plaintext(Blob::new("secret"));
    let sealed = call.encryption_algorithm(sha256()).send().await.unwrap().ciphertext_blob.unwrap();

    let call = scene.client.re_encrypt().ciphertext_blob(sealed).source_key_id(&rsa);
    let call = call.source_encryption_algorithm(sha256()).destination_key_id(&symmetric);
    let moved = call.destination_encryption_context("a", "1").send().await.unwrap();
    assert_eq!(moved.source_key_id(), Some(rsa.as_str()));
    assert_eq!(moved.source_encryption_algorithm(), Some(&sha256()));
    assert_eq!(moved.destination_encryption_algorithm(), Some(&EncryptionAlgorithmSpec::SymmetricDefault));
    assert!(moved.source_key_material_id().is_none());
    assert!(moved.destination_key_material_id().is_some());

    let call = scene.client.re_encrypt().ciphertext_blob(moved.ciphertext_blob.unwrap());
    let call = call.source_encryption_context("a", "1").destination_key_id(&rsa);
    let back = call.clone().destination_encryption_algorithm(sha256()).send().await.unwrap();
    assert!(back.source_key_material_id().is_some());
    assert!(back.destination_key_material_id().is_none());
    let back = back.ciphertext_blob.unwrap().into_inner();
    let opened = scene.decrypt(Some(&rsa), Some(sha256()), &back).await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
    let text = "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.";
    assert_eq!(refusal(call.send().await), refused("InvalidKeyUsageException", text));
}

#[tokio::test]
async fn a_dry_run_may_leave_the_ciphertext_out() {
    let scene = Scene::new().await;
    let symmetric = scene.client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let dry = refused(
        "DryRunOperationException",
        "The request would have succeeded, but the DryRun option is set.",
    );
    let ignore = DryRunModifierType::IgnoreCiphertext;
    let decrypt = || scene.client.decrypt().dry_run(true).dry_run_modifiers(ignore.clone());
    assert_eq!(refusal(decrypt().key_id(&symmetric).send().await), dry);
    let garbage = decrypt().key_id(&symmetric).ciphertext_blob(Blob::new("garbage"));
    assert_eq!(refusal(garbage.clone().send().await), dry);
    // Without the modifier the ciphertext counts.
    let call = garbage.set_dry_run_modifiers(None);
    assert_eq!(refusal(call.send().await).0, "InvalidCiphertextException");
    let text = "A key is required if the ciphertext is to be ignored.";
    assert_eq!(refusal(decrypt().send().await), refused("ValidationException", text));
    let text = "1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must \
                not be null";
    let call = decrypt().dry_run(false).key_id(&symmetric).send().await;
    assert_eq!(refusal(call), refused("ValidationException", text));

    let call = scene.client.re_encrypt().dry_run(true).dry_run_modifiers(ignore.clone());
    let call = call.source_key_id(&symmetric).destination_key_id(&symmetric);
    assert_eq!(refusal(call.send().await), dry);
}

#[tokio::test]
async fn keys_without_a_public_half_say_so() {
    let scene = Scene::new().await;
    let symmetric = scene.client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let text = format!("{symmetric} key spec is SYMMETRIC_DEFAULT which is not valid for GetPublicKey.");
    let refused_key = scene.client.get_public_key().key_id(&symmetric).send().await;
    assert_eq!(refusal(refused_key), refused("UnsupportedOperationException", &text));
    let mac = scene.key("HMAC_256", KeyUsageType::GenerateVerifyMac).await;
    assert_eq!(
        refusal(scene.client.get_public_key().key_id(&mac).send().await).0,
        "UnsupportedOperationException"
    );
}

#[tokio::test]
async fn the_private_half_survives_a_restart() {
    let scene = Scene::new().await;
    let key = scene.key("ECC_NIST_EDWARDS25519", KeyUsageType::SignVerify).await;
    let public = scene.public_key(&key).await;
    let before = scene.sign(&key, "ED25519_SHA_512", None, b"message").await.unwrap().signature;
    let kms = scene.kms.restart().await;
    let scene = Scene { client: kms.administrator(), kms };
    assert_eq!(scene.public_key(&key).await, public);
    let after = scene.sign(&key, "ED25519_SHA_512", None, b"message").await.unwrap().signature;
    assert_eq!(before, after);
}

#[tokio::test]
async fn policies_see_algorithm_and_message_type() {
    let scene = Scene::new().await;
    let who = "arn:aws:iam::111122223333:user/signer";
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*",
         "Resource": "*"},
        {"Effect": "Allow", "Principal": {"AWS": who}, "Action": ["kms:Sign", "kms:Decrypt"], "Resource": "*",
         "Condition": {"StringEquals": {"kms:SigningAlgorithm": "RSASSA_PSS_SHA_256", "kms:MessageType": "DIGEST"}}},
    ]});
    let made = scene.client.create_key().key_spec(KeySpec::Rsa2048).key_usage(KeyUsageType::SignVerify);
    let made = made.policy(policy.to_string()).send().await.unwrap();
    let key = made.key_metadata.unwrap().arn.unwrap();
    let signer = scene.kms.stranger(who);
    let sign = |algorithm: SigningAlgorithmSpec, kind: Option<MessageType>| {
        let call = signer.sign().key_id(&key).message(Blob::new([1; 32])).signing_algorithm(algorithm);
        call.set_message_type(kind).send()
    };
    sign(SigningAlgorithmSpec::RsassaPssSha256, Some(MessageType::Digest)).await.unwrap();
    for (algorithm, kind) in [
        (SigningAlgorithmSpec::RsassaPssSha256, None),
        (SigningAlgorithmSpec::RsassaPkcs1V15Sha256, Some(MessageType::Digest)),
    ] {
        assert_eq!(refusal(sign(algorithm, kind).await).0, "AccessDeniedException");
    }
}
