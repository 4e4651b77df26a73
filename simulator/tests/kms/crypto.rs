//! Encryption, decryption, re-encryption and data keys: what opens, what does not, and in which words.

use crate::harness::{Kms, refusal};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::SdkError;
use aws_sdk_kms::operation::decrypt::{DecryptError, DecryptOutput};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, EncapsulationAlgorithmSpec, EncryptionAlgorithmSpec};

struct Scene {
    kms: Kms,
    client: Client,
    key: String,
}

impl Scene {
    async fn new() -> Self {
        let kms = Kms::start().await;
        let client = kms.administrator();
        let key = Self::make_key(&client).await;
        Self { kms, client, key }
    }

    async fn make_key(client: &Client) -> String {
        client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap()
    }

    async fn encrypt(&self, plaintext: &[u8], context: &[(&str, &str)]) -> Vec<u8> {
        let mut call = self.client.encrypt().key_id(&self.key).plaintext(Blob::new(plaintext));
        for (key, value) in context {
            call = call.encryption_context(*key, *value);
        }
        call.send().await.unwrap().ciphertext_blob.unwrap().into_inner()
    }

    async fn decrypt(
        &self,
        blob: &[u8],
        context: &[(&str, &str)],
        key: Option<&str>,
    ) -> Result<DecryptOutput, SdkError<DecryptError>> {
        let mut call = self.client.decrypt().ciphertext_blob(Blob::new(blob)).set_key_id(key.map(Into::into));
        for (key, value) in context {
            call = call.encryption_context(*key, *value);
        }
        call.send().await
    }
}

fn unreadable() -> (String, Option<String>) {
    ("InvalidCiphertextException".into(), None)
}

#[tokio::test]
async fn opens_what_it_sealed_with_and_without_the_key_named() {
    let scene = Scene::new().await;
    for length in [1, 32, 4096] {
        let plaintext = vec![0xA5; length];
        let blob = scene.encrypt(&plaintext, &[("a", "1"), ("b", "2")]).await;
        for key in [None, Some(scene.key.as_str())] {
            let answer = scene.decrypt(&blob, &[("b", "2"), ("a", "1")], key).await.unwrap();
            assert_eq!(answer.plaintext().unwrap().as_ref(), plaintext);
            assert_eq!(answer.key_id(), Some(scene.key.as_str()));
            assert_eq!(answer.encryption_algorithm(), Some(&EncryptionAlgorithmSpec::SymmetricDefault));
            assert_eq!(answer.key_material_id().unwrap().len(), 64);
        }
    }
}

// K-4
#[tokio::test]
async fn a_blob_of_another_record_is_refused_without_a_word() {
    let scene = Scene::new().await;
    let own = [("tenant", "a"), ("object", "1")];
    let other = scene.encrypt(b"secret", &[("tenant", "a"), ("object", "2")]).await;
    assert_eq!(refusal(scene.decrypt(&other, &own, None).await), unreadable());
    for context in [
        &[][..],
        &[("tenant", "a")],
        &[("tenant", "a"), ("object", "2"), ("more", "x")],
        &[("tenant", "A"), ("object", "2")],
        &[("Tenant", "a"), ("object", "2")],
        &[("tenan", "ta"), ("object", "2")],
    ] {
        assert_eq!(refusal(scene.decrypt(&other, context, None).await), unreadable(), "{context:?}");
    }
}

#[tokio::test]
async fn damaged_blobs_are_refused_without_a_word() {
    let scene = Scene::new().await;
    let blob = scene.encrypt(&[7; 32], &[]).await;
    assert_eq!(blob.len(), 184);
    let key = Some(scene.key.as_str());
    for place in [0, 4, 5, 36, 37, 38, 54, 57, 58, 100, 120, 183] {
        let mut flipped = blob.clone();
        flipped[place] ^= 0x10;
        assert_eq!(refusal(scene.decrypt(&flipped, &[], None).await), unreadable(), "{place}");
        assert_eq!(refusal(scene.decrypt(&flipped, &[], key).await), unreadable(), "{place}");
    }
    for other in [&blob[..183], &[&blob[..], b"\0"].concat(), b"x", &[0; 6144]] {
        assert_eq!(refusal(scene.decrypt(other, &[], None).await), unreadable());
    }
    for too_long in [vec![], vec![0; 6145]] {
        let (code, text) = refusal(scene.decrypt(&too_long, &[], None).await);
        assert_eq!(code, "ValidationException");
        assert!(text.unwrap().starts_with("1 validation error detected: Value at 'ciphertextBlob' failed"));
    }
}

// K-9
#[tokio::test]
async fn a_blob_of_another_key_than_the_one_named_is_refused() {
    let scene = Scene::new().await;
    let other = Scene::make_key(&scene.client).await;
    let blob = scene.encrypt(b"x", &[]).await;
    let refused = refusal(scene.decrypt(&blob, &[], Some(&other)).await);
    assert_eq!(refused.0, "IncorrectKeyException");
    assert_eq!(
        refused.1.unwrap(),
        "The key ID in the request does not identify a CMK that can perform this operation."
    );
}

#[tokio::test]
async fn blobs_of_another_service_are_unreadable_here() {
    let (here, there) = (Scene::new().await, Scene::new().await);
    let blob = there.encrypt(b"x", &[]).await;
    assert_eq!(refusal(here.decrypt(&blob, &[], None).await), unreadable());
}

#[tokio::test]
async fn data_keys_have_the_length_asked_for_and_open_later() {
    let scene = Scene::new().await;
    let call = || scene.client.generate_data_key().key_id(&scene.key).encryption_context("a", "1");
    for (call, length) in [
        (call().key_spec(DataKeySpec::Aes256), 32),
        (call().key_spec(DataKeySpec::Aes128), 16),
        (call().number_of_bytes(64), 64),
        (call().number_of_bytes(1024), 1024),
    ] {
        let made = call.send().await.unwrap();
        let plaintext = made.plaintext.unwrap().into_inner();
        assert_eq!(plaintext.len(), length);
        assert_eq!(made.key_id.as_deref(), Some(scene.key.as_str()));
        let blob = made.ciphertext_blob.unwrap().into_inner();
        let opened = scene.decrypt(&blob, &[("a", "1")], None).await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), plaintext);
    }
    let hidden = scene.client.generate_data_key_without_plaintext().key_id(&scene.key);
    let hidden = hidden.key_spec(DataKeySpec::Aes256).send().await.unwrap();
    assert!(hidden.key_material_id().is_some());
    let blob = hidden.ciphertext_blob.unwrap().into_inner();
    assert_eq!(scene.decrypt(&blob, &[], None).await.unwrap().plaintext().unwrap().as_ref().len(), 32);
}

#[tokio::test]
async fn requests_outside_the_limits_are_refused_in_aws_words() {
    let scene = Scene::new().await;
    let data_key = || scene.client.generate_data_key().key_id(&scene.key);
    for call in [data_key(), data_key().key_spec(DataKeySpec::Aes256).number_of_bytes(32)] {
        assert_eq!(
            refusal(call.send().await).1.unwrap(),
            "Please specify either number of bytes or key spec."
        );
    }
    assert_eq!(
        refusal(data_key().number_of_bytes(1025).send().await).1.unwrap(),
        "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have \
         value less than or equal to 1024"
    );
    let encrypt =
        |bytes: usize| scene.client.encrypt().key_id(&scene.key).plaintext(Blob::new(vec![1; bytes])).send();
    assert_eq!(
        refusal(encrypt(4097).await).1.unwrap(),
        "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less \
         than or equal to 4096"
    );
    assert_eq!(refusal(encrypt(0).await).0, "ValidationException");
    let rsa = scene.client.encrypt().key_id(&scene.key).plaintext(Blob::new("x"));
    let rsa = rsa.encryption_algorithm(EncryptionAlgorithmSpec::RsaesOaepSha256);
    let refused = refusal(rsa.send().await);
    assert_eq!(refused.0, "InvalidKeyUsageException");
    assert_eq!(
        refused.1.unwrap(),
        "Algorithm RSAES_OAEP_SHA_256 is incompatible with key spec SYMMETRIC_DEFAULT."
    );
    let random = scene.client.generate_random();
    assert_eq!(refusal(random.clone().send().await).1.unwrap(), "NumberOfBytes is required.");
    assert_eq!(refusal(random.clone().number_of_bytes(1025).send().await).0, "ValidationException");
    assert_eq!(random.number_of_bytes(1024).send().await.unwrap().plaintext.unwrap().as_ref().len(), 1024);
}

#[tokio::test]
async fn a_dry_run_never_succeeds() {
    let scene = Scene::new().await;
    let expected = (
        "DryRunOperationException".to_owned(),
        Some("The request would have succeeded, but the DryRun option is set.".to_owned()),
    );
    let blob = Blob::new(scene.encrypt(b"x", &[]).await);
    let decrypt = scene.client.decrypt().ciphertext_blob(blob).dry_run(true).send().await;
    assert_eq!(refusal(decrypt), expected);
    let encrypt =
        scene.client.encrypt().key_id(&scene.key).plaintext(Blob::new("x")).dry_run(true).send().await;
    assert_eq!(refusal(encrypt), expected);
    let data_key =
        scene.client.generate_data_key().key_id(&scene.key).number_of_bytes(8).dry_run(true).send().await;
    assert_eq!(refusal(data_key), expected);
}

#[tokio::test]
async fn re_encryption_moves_a_blob_to_another_key_and_context() {
    let scene = Scene::new().await;
    let other = Scene::make_key(&scene.client).await;
    let blob = scene.encrypt(b"secret", &[("a", "1")]).await;
    let call = |context: &str| {
        scene
            .client
            .re_encrypt()
            .ciphertext_blob(Blob::new(blob.clone()))
            .source_encryption_context("a", context)
            .destination_key_id(&other)
            .destination_encryption_context("b", "2")
    };
    let moved = call("1").send().await.unwrap();
    assert_eq!(moved.source_key_id(), Some(scene.key.as_str()));
    assert_eq!(moved.key_id(), Some(other.as_str()));
    assert_ne!(moved.source_key_material_id(), moved.destination_key_material_id());
    let moved = moved.ciphertext_blob.unwrap().into_inner();
    let opened = scene.decrypt(&moved, &[("b", "2")], Some(&other)).await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
    assert_eq!(refusal(call("2").send().await), unreadable());
    assert_eq!(refusal(call("1").source_key_id(&other).send().await).0, "IncorrectKeyException");
    assert_eq!(refusal(call("1").dry_run(true).send().await).0, "DryRunOperationException");
}

#[tokio::test]
async fn operations_that_are_not_here_say_so() {
    let scene = Scene::new().await;
    let call = scene.client.encapsulate().key_id(&scene.key);
    let refused = refusal(call.encapsulation_algorithm(EncapsulationAlgorithmSpec::MlKem).send().await);
    assert_eq!(refused.0, "UnsupportedOperationException");
    assert_eq!(refused.1.unwrap(), "Encapsulate is not available in the local KMS yet.");
    drop(scene.kms);
}
