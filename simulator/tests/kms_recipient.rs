//! Key release to attested enclaves: what the local KMS gives to whom, and what it refuses.

mod kms;

use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use kms::{EnclaveKey, Kms, attest, attested_policy, opened_by_openssl, recipient};

const ENCLAVE_ROLE: &str = "arn:aws:sts::111122223333:assumed-role/enclave/i-0123456789abcdef0";
const IMAGE: u8 = 0x1a;

/// A key for the image, a blob under it, and a client with the parent's role.
struct Scene {
    kms: Kms,
    key: String,
    blob: Vec<u8>,
    role: Client,
}

impl Scene {
    async fn new() -> Self {
        let kms = Kms::start().await;
        let administrator = kms.administrator();
        let policy = attested_policy("arn:aws:iam::111122223333:role/enclave", IMAGE);
        let created = administrator.create_key().policy(policy).send().await.unwrap();
        let key = created.key_metadata().unwrap().arn().unwrap().to_owned();
        let encrypted = administrator.encrypt().key_id(&key).plaintext(Blob::new([7; 32]));
        let encrypted = encrypted.encryption_context("tenant", "a").send().await.unwrap();
        let blob = encrypted.ciphertext_blob.unwrap().into_inner();
        let role = kms.stranger(ENCLAVE_ROLE);
        Self { kms, key, blob, role }
    }

    async fn decrypt(
        &self,
        document: Option<Vec<u8>>,
    ) -> Result<
        aws_sdk_kms::operation::decrypt::DecryptOutput,
        aws_sdk_kms::error::SdkError<aws_sdk_kms::operation::decrypt::DecryptError>,
    > {
        self.role
            .decrypt()
            .key_id(&self.key)
            .ciphertext_blob(Blob::new(self.blob.clone()))
            .encryption_context("tenant", "a")
            .set_recipient(document.map(recipient))
            .send()
            .await
    }
}

// K-1
#[tokio::test]
async fn an_enclave_with_the_right_measurement_gets_the_key_sealed_to_it() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let document = attest(&scene.kms.nsm(IMAGE), Some(&enclave.spki), None);
    let answer = scene.decrypt(Some(document)).await.unwrap();
    assert!(answer.plaintext().is_none());
    assert!(answer.key_material_id().is_none());
    assert_eq!(answer.key_id(), Some(scene.key.as_str()));
    let envelope = answer.ciphertext_for_recipient.unwrap().into_inner();
    assert_eq!(envelope.len(), 493);
    if let Some(opened) = opened_by_openssl(&enclave, &envelope) {
        assert_eq!(opened, [7; 32]);
    }
}
