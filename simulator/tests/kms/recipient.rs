//! Key release to attested enclaves: what the local KMS gives to whom, and what it refuses.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::harness::{
    EnclaveKey, Kms, attest, attested_policy, measured, opened_by_openssl, recipient, refusal,
};
use adyton_enclave::cms::{CmsError, EnvelopedData};
use adyton_shared::id::PolicyDigest;
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{EncryptionContext, KeyArn};
use adyton_simulator::kms::{CmsForm, Faults, KeyEncryption};
use adyton_simulator::nsm::{NsmConfig, SimulatedNsm};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rsa::KeySize;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::KeyEncryptionMechanism::RsaesOaepSha256;
use aws_sdk_kms::types::{DataKeySpec, RecipientInfo};

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

    fn denied(&self) -> (String, Option<String>) {
        let text = format!(
            "User: {ENCLAVE_ROLE} is not authorized to perform: kms:Decrypt on resource: {} because no resource-based \
             policy allows the kms:Decrypt action",
            self.key
        );
        ("AccessDeniedException".into(), Some(text))
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

// K-1
#[tokio::test]
async fn a_data_key_and_random_bytes_are_sealed_too() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let nsm = scene.kms.nsm(IMAGE);
    let document = || recipient(attest(&nsm, Some(&enclave.spki), None));
    let made = scene.role.generate_data_key().key_id(&scene.key).key_spec(DataKeySpec::Aes256);
    let made = made.encryption_context("tenant", "a").recipient(document()).send().await.unwrap();
    assert!(made.plaintext().is_none());
    assert!(made.key_material_id().is_none());
    assert_eq!(made.ciphertext_blob().unwrap().as_ref().len(), 184);
    let key = opened(&enclave, made.ciphertext_for_recipient().unwrap().as_ref());
    assert_eq!(key.len(), 32);

    // The wrapped one is the same key.
    let again =
        scene.role.decrypt().ciphertext_blob(made.ciphertext_blob.unwrap()).encryption_context("tenant", "a");
    let again = again.recipient(document()).send().await.unwrap();
    assert_eq!(opened(&enclave, again.ciphertext_for_recipient().unwrap().as_ref()), key);

    let random = scene.kms.administrator().generate_random().number_of_bytes(12).recipient(document());
    let random = random.send().await.unwrap();
    assert!(random.plaintext().is_none());
    let envelope = random.ciphertext_for_recipient().unwrap().as_ref();
    assert_eq!(envelope.len(), 461);
    assert_eq!(opened(&enclave, envelope).len(), 12);
}

#[tokio::test]
async fn every_encoding_is_opened_by_the_enclave_and_by_openssl() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let nsm = scene.kms.nsm(IMAGE);
    let forms =
        [CmsForm::Constructed, CmsForm::Primitive, CmsForm::Chunks(16), CmsForm::Chunks(7), CmsForm::Der];
    for form in forms {
        scene.kms.server.set_faults(Faults { cms_form: Some(form), ..Faults::default() });
        let answer = scene.decrypt(Some(attest(&nsm, Some(&enclave.spki), None))).await.unwrap();
        let envelope = answer.ciphertext_for_recipient.unwrap().into_inner();
        assert_eq!(opened(&enclave, &envelope), [7; 32], "{form:?}");
        if let Some(opened) = opened_by_openssl(&enclave, &envelope) {
            assert_eq!(opened, [7; 32], "{form:?}");
        }
    }
}

// K-11
#[tokio::test]
async fn a_key_encrypted_with_sha_1_is_not_in_a_form_that_the_enclave_reads() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    scene.kms.server.set_faults(Faults { key_encryption: KeyEncryption::OaepSha1, ..Faults::default() });
    let answer = scene.decrypt(Some(attest(&scene.kms.nsm(IMAGE), Some(&enclave.spki), None))).await.unwrap();
    let envelope = answer.ciphertext_for_recipient.unwrap().into_inner();
    assert!(matches!(EnvelopedData::parse(&envelope), Err(CmsError::Malformed(_))));
    if let Some(opened) = opened_by_openssl(&enclave, &envelope) {
        assert_eq!(opened, [7; 32]);
    }
}

#[tokio::test]
async fn larger_recipient_keys_are_taken_and_smaller_ones_are_not() {
    let scene = Scene::new().await;
    let nsm = scene.kms.nsm(IMAGE);
    for size in [KeySize::Rsa3072, KeySize::Rsa4096] {
        let enclave = EnclaveKey::of(size);
        let answer = scene.decrypt(Some(attest(&nsm, Some(&enclave.spki), None))).await.unwrap();
        if let Some(opened) = opened_by_openssl(&enclave, answer.ciphertext_for_recipient().unwrap().as_ref())
        {
            assert_eq!(opened, [7; 32]);
        }
    }
    for not_a_key in [&b"public key"[..], &[0x30, 0x00], &EnclaveKey::new().pkcs8()[..64]] {
        let refused = refusal(scene.decrypt(Some(attest(&nsm, Some(not_a_key), None))).await);
        assert_eq!(
            refused,
            refused_document("its public_key is not an RSA key of 2048, 3072 or 4096 bits in DER")
        );
    }
}

#[tokio::test]
async fn another_measurement_a_debug_enclave_and_no_enclave_are_denied() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let other = attest(&scene.kms.nsm(IMAGE + 1), Some(&enclave.spki), None);
    assert_eq!(refusal(scene.decrypt(Some(other)).await), scene.denied());

    let config = NsmConfig { debug: true, ..NsmConfig::new(scene.kms.folder.path(), measured(IMAGE)) };
    let debug = attest(&SimulatedNsm::open(config).unwrap(), Some(&enclave.spki), None);
    assert_eq!(refusal(scene.decrypt(Some(debug)).await), scene.denied());

    assert_eq!(refusal(scene.decrypt(None).await), scene.denied());
}

#[tokio::test]
async fn an_expired_or_foreign_document_is_an_error_and_never_answered_in_plaintext() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    // Documents live for three hours.
    let yesterday = SystemTime::now() - Duration::from_hours(5);
    let config = NsmConfig {
        clock: Arc::new(move || yesterday),
        ..NsmConfig::new(scene.kms.folder.path(), measured(IMAGE))
    };
    let expired = attest(&SimulatedNsm::open(config).unwrap(), Some(&enclave.spki), None);

    let elsewhere = tempfile::tempdir().unwrap();
    let foreign = SimulatedNsm::open(NsmConfig::new(elsewhere.path(), measured(IMAGE))).unwrap();
    let foreign = attest(&foreign, Some(&enclave.spki), None);

    let genuine = attest(&scene.kms.nsm(IMAGE), Some(&enclave.spki), None);
    let mut forged = genuine.clone();
    *forged.last_mut().unwrap() ^= 1;
    let truncated = genuine[..genuine.len() - 1].to_vec();

    for document in [expired, foreign, forged, truncated, b"garbage".to_vec(), vec![0x80; 20_000]] {
        let (code, text) = refusal(scene.decrypt(Some(document)).await);
        assert_eq!(code, "ValidationException");
        let text = text.unwrap();
        assert!(text.starts_with("The attestation document in Recipient was refused: "), "{text}");
    }
}

#[tokio::test]
async fn a_document_without_a_key_is_refused() {
    let scene = Scene::new().await;
    let document = attest(&scene.kms.nsm(IMAGE), None, None);
    let refused = refusal(scene.decrypt(Some(document)).await);
    assert_eq!(refused, refused_document("it has no public_key to encrypt to"));
}

#[tokio::test]
async fn a_recipient_with_a_part_missing_is_refused() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let document = attest(&scene.kms.nsm(IMAGE), Some(&enclave.spki), None);
    let request = || {
        let blob = Blob::new(scene.blob.clone());
        scene.role.decrypt().key_id(&scene.key).ciphertext_blob(blob).encryption_context("tenant", "a")
    };
    let no_algorithm = RecipientInfo::builder().attestation_document(Blob::new(document)).build();
    let refused = refusal(request().recipient(no_algorithm).send().await);
    assert_eq!(refused.1.unwrap(), "KeyEncryptionAlgorithm is required in Recipient.");
    let no_document = RecipientInfo::builder().key_encryption_algorithm(RsaesOaepSha256).build();
    let refused = refusal(request().recipient(no_document).send().await);
    assert_eq!(refused.1.unwrap(), "AttestationDocument is required in Recipient.");
    let refused = refusal(request().recipient(RecipientInfo::builder().build()).send().await);
    assert_eq!(refused.0, "ValidationException");
}

// K-13
#[tokio::test]
async fn the_audit_log_says_whether_a_document_was_made_for_its_request() {
    let scene = Scene::new().await;
    let enclave = EnclaveKey::new();
    let nsm = scene.kms.nsm(IMAGE);
    let key = KeyArn::parse(&scene.key).unwrap();
    let context = EncryptionContext::from_pairs([("tenant", "a")]).unwrap();
    let statement = |blob: &[u8]| {
        let subject = *release_digest("Decrypt", &key, blob, &context).as_bytes();
        Statement { purpose: Purpose::Release, subject, policy: PolicyDigest::new([9; 48]) }.to_bytes()
    };
    for (user_data, expected) in [
        (Some(statement(&scene.blob)), serde_json::json!(true)),
        (Some(statement(b"another blob")), serde_json::json!(false)),
        (Some(b"not a statement".to_vec()), serde_json::Value::Null),
        (None, serde_json::Value::Null),
    ] {
        let document = attest(&nsm, Some(&enclave.spki), user_data.as_deref());
        scene.decrypt(Some(document)).await.unwrap();
        let line = scene.kms.audit().pop().unwrap();
        let recorded = &line["additionalEventData"]["recipient"];
        assert_eq!(recorded["documentMatchesRequest"], expected);
        assert_eq!(recorded["attestationDocumentModuleId"], nsm.module_id());
        assert_eq!(recorded["attestationDocumentEnclaveImageDigest"], hex::encode([IMAGE; 48]));
        assert_eq!(recorded["attestationDocumentEnclavePCR3"], hex::encode([4; 48]));
        assert_eq!(line["requestParameters"]["recipient"]["keyEncryptionAlgorithm"], "RSAES_OAEP_SHA_256");
    }
}

fn refused_document(why: &str) -> (String, Option<String>) {
    let text = format!("The attestation document in Recipient was refused: {why}");
    ("ValidationException".into(), Some(text))
}

/// What the enclave's own reader finds in an envelope.
pub(crate) fn opened(enclave: &EnclaveKey, envelope: &[u8]) -> Vec<u8> {
    let mut identifier = [0; 32];
    identifier.copy_from_slice(digest(&SHA256, &enclave.spki).as_ref());
    let envelope = EnvelopedData::parse(envelope).unwrap();
    envelope.open(&identifier, |wrapped| Some(enclave.unwrap(wrapped).into())).unwrap().to_vec()
}
