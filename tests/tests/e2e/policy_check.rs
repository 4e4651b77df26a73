//! The ceremony: a policy is checked, its key policy installed, and KMS holds everybody to it.

use std::path::Path;

use adyton_shared::ErrorCode;
use adyton_shared::KeyArn;
use adyton_simulator::nsm::{NsmConfig, SimulatedNsm, parent_pcr};
use adyton_tests::client::{code, digest_job};
use adyton_tests::hostile::{HostileParent, Wallet};
use adyton_tests::message::{Message, Recipe};
use adyton_tests::world::{ENCLAVE_USER, OWNER, World};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeySize, PrivateDecryptingKey};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use aws_sdk_kms::Client;
use aws_sdk_kms::error::ProvideErrorMetadata as _;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{KeyEncryptionMechanism, RecipientInfo};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

const ROOT: &str = "arn:aws:iam::111122223333:root";
/// The role of the parent instance, as PCR3 measures it.
const INSTANCE_ROLE: &str = "arn:aws:iam::111122223333:role/parent-instance";

/// Checks a policy, and has the key obey the key policy that comes out.
async fn ceremony(world: &World, key: &KeyArn, policy: &Path, pcrs: &Value, more: &[&str]) -> Value {
    let folder = world.folder();
    std::fs::write(folder.join("measured.json"), json!({ "Measurements": pcrs }).to_string())
        .expect("written");
    let policy = policy.to_str().expect("a path");
    let arguments = [
        &[
            "policy",
            "check",
            policy,
            "--json",
            "--pcrs",
            "measured.json",
            "--key-policy",
            "key.json",
            "--force",
        ],
        &["--enclave-role", ENCLAVE_USER, "--data-owner", OWNER, "--administrator", ROOT][..],
        more,
    ];
    let checked = world.run_adyton(&arguments.concat()).await;
    assert!(checked.status.success(), "{checked:?}");
    let written = std::fs::read_to_string(folder.join("key.json")).expect("a key policy");
    let admin = world.kms("default").await;
    admin.put_key_policy().key_id(key.as_str()).policy(written).send().await.expect("KMS takes it");
    serde_json::from_slice(&checked.stdout).expect("JSON")
}

/// The measurements of the image alone, as a build prints them.
fn image(pcrs: &Value) -> Value {
    json!({ "HashAlgorithm": "Sha384 { ... }", "PCR0": pcrs["0"], "PCR1": pcrs["1"], "PCR2": pcrs["2"] })
}

// K-2, K-3, T-5
#[tokio::test]
async fn kms_releases_keys_to_the_checked_policy_and_to_nothing_else() {
    let world = World::start().await;
    let key = world.create_key().await;
    let text = world.policy(&key);
    let (right, right_socket, policy) = world.launch(&text, &[], &[]).await.expect("an enclave");
    let said = ceremony(&world, &key, &policy, &image(&right.ready["pcrs"]), &[]).await;
    assert_eq!(said["pcr16"], right.ready["pcrs"]["16"], "what the enclave extended");
    let verified = world.requester_at(&right_socket).challenge().await.expect("genuine");
    assert_eq!(said["digest"], verified.policy.to_string());
    let codes: Vec<_> = said["warnings"].as_array().expect("warnings").iter().map(|w| &w["code"]).collect();
    assert_eq!(codes, ["custom_endpoint", "custom_roots"], "the local KMS is not AWS's");

    // The same program under a policy with one comment more.
    let (other, other_socket, _) = world.launch(&(text + "# more\n"), &[], &[]).await.expect("an enclave");
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &key, b"data").await;
    let wallet = || Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let parents = [&right_socket, &other_socket]
        .map(|socket| HostileParent::start(socket, world.info.kms_port, wallet()));
    let (right_one, other_one) = (world.requester_at(&right_socket), world.requester_at(&other_socket));
    assert!(right_one.run("a", digest_job(), &message.bytes).await.is_ok());
    let refused = other_one.run("a", digest_job(), &message.bytes).await;
    assert_eq!(code(refused), ErrorCode::KmsAccessDenied);

    // The policy's constants are conditions: under another purpose there is not even a data key.
    let denied = data_key(&owner, &key, "refunds").await;
    assert_eq!(denied.as_deref(), Some("AccessDeniedException"));
    assert_eq!(data_key(&owner, &key, "payments").await, None);
    drop(parents);
    right.stop().await;
    other.stop().await;
    world.stop().await;
}

/// How KMS refuses a data key for this purpose, if it does.
async fn data_key(owner: &Client, key: &KeyArn, purpose: &str) -> Option<String> {
    let pairs = [("tenant", "acme"), ("object", "a"), ("purpose", purpose), ("version", "1")];
    let pairs = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let made = owner
        .generate_data_key_without_plaintext()
        .key_id(key.as_str())
        .key_spec(aws_sdk_kms::types::DataKeySpec::Aes256)
        .set_encryption_context(Some(pairs))
        .send()
        .await;
    made.err().map(|error| error.code().unwrap_or("no code").to_owned())
}

// K-12
#[tokio::test]
async fn credentials_of_a_second_role_and_instances_of_another_role_get_no_key() {
    let world = World::start().await;
    let key = world.create_key().await;
    let text = world.policy(&key);
    let path = world.folder().join("pinned.toml");
    std::fs::write(&path, &text).expect("written");
    let measured =
        adyton_simulator::nsm::measure(adyton_tests::process::simulator(), &path).expect("measured");
    let hexadecimal: serde_json::Map<_, _> =
        measured.iter().map(|(index, value)| (format!("PCR{index}"), hex::encode(value).into())).collect();
    let role = format!("3={}", hex::encode(parent_pcr(INSTANCE_ROLE)));
    ceremony(&world, &key, &path, &hexadecimal.into(), &["--pcr", &role]).await;

    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &key, b"data").await;
    let enclave = world.kms("enclave").await;
    let on = |role: Option<&str>| {
        let mut pcrs = measured.clone();
        if let Some(role) = role {
            pcrs.insert(3, parent_pcr(role));
        }
        document(&world, pcrs, text.as_bytes())
    };
    let (right, elsewhere, nowhere) =
        (on(Some(INSTANCE_ROLE)), on(Some("arn:aws:iam::111122223333:role/other")), on(None));
    assert_eq!(decrypt(&enclave, &key, &message, &right).await, None, "the role, its instance, the image");
    let denied = Some("AccessDeniedException".to_owned());
    // The image on an instance of another role.
    assert_eq!(decrypt(&enclave, &key, &message, &elsewhere).await, denied);
    assert_eq!(decrypt(&enclave, &key, &message, &nowhere).await, denied);
    // The right document in the hands of other roles: who encrypts, and who administers.
    assert_eq!(decrypt(&owner, &key, &message, &right).await, denied);
    assert_eq!(decrypt(&world.kms("default").await, &key, &message, &right).await, denied);

    // The whole enclave with credentials of a second role.
    let (process, socket, _) = world.launch(&text, &[], &[]).await.expect("an enclave");
    let pcrs = image(&process.ready["pcrs"]);
    ceremony(&world, &key, &path, &pcrs, &[]).await;
    let second = Wallet::Profile(world.info.credentials_file.clone(), "owner");
    let parent = HostileParent::start(&socket, world.info.kms_port, second);
    let requester = world.requester_at(&socket);
    let refused = requester.run("a", digest_job(), &message.bytes).await;
    assert_eq!(code(refused), ErrorCode::KmsAccessDenied);
    parent.wallet(Wallet::Profile(world.info.credentials_file.clone(), "enclave"));
    process.stop().await;
    world.stop().await;
}

/// A document of an enclave with these registers that runs under this policy, and the key in it.
fn document(world: &World, pcrs: std::collections::BTreeMap<u16, [u8; 48]>, policy: &[u8]) -> Vec<u8> {
    let nsm = SimulatedNsm::open(NsmConfig::new(world.state.path(), pcrs)).expect("the device");
    let digest = adyton_shared::id::PolicyDigest::of(policy);
    let extend = Request::ExtendPCR { index: 16, data: digest.as_bytes().to_vec() };
    assert!(matches!(nsm.process(extend), Response::ExtendPCR { .. }));
    assert!(matches!(nsm.process(Request::LockPCR { index: 16 }), Response::LockPCR));
    let recipient = PrivateDecryptingKey::generate(KeySize::Rsa2048).expect("a key");
    let public: PublicKeyX509Der<'_> = recipient.public_key().as_der().expect("its encoding");
    let request = Request::Attestation {
        user_data: None,
        nonce: None,
        public_key: Some(ByteBuf::from(public.as_ref().to_vec())),
    };
    match nsm.process(request) {
        Response::Attestation { document } => document,
        other => panic!("no document: {other:?}"),
    }
}

/// How KMS refuses to open a message's data key for a document, if it does.
async fn decrypt(caller: &Client, key: &KeyArn, message: &Message, document: &[u8]) -> Option<String> {
    let recipient = RecipientInfo::builder()
        .attestation_document(Blob::new(document))
        .key_encryption_algorithm(KeyEncryptionMechanism::RsaesOaepSha256)
        .build();
    let pairs = message.context.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let opened = caller
        .decrypt()
        .key_id(key.as_str())
        .ciphertext_blob(Blob::new(message.wrapped.clone()))
        .set_encryption_context(Some(pairs))
        .recipient(recipient)
        .send()
        .await;
    opened.err().map(|error| error.code().unwrap_or("no code").to_owned())
}
