//! Custom key stores over the wire, with `SoftHSM` for the cluster.
//!
//! A PKCS#11 library has one state and one configuration in a process, so each of these tests makes a
//! token and then runs itself again as a process of its own, with `SOFTHSM2_CONF` in its environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adyton_simulator::kms::{KmsServer, Transport, User};
use aws_sdk_kms::Client;
use aws_sdk_kms::operation::describe_custom_key_stores::DescribeCustomKeyStoresOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{
    AlgorithmSpec, ConnectionErrorCodeType, ConnectionStateType, CustomKeyStoreType,
    CustomKeyStoresListEntry, DataKeyPairSpec, DataKeySpec, GrantOperation, KeyMetadata, KeySpec, KeyState,
    KeyUsageType, OriginType, WrappingKeySpec,
};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;

use crate::harness::{
    ACCOUNT, EnclaveKey, Kms, REGION, attest, attested_policy, client_of, config, recipient, refusal, refused,
};
use crate::persistence::{administrator_of, spawn_server};
use crate::recipient::opened;

const PASSWORD: &str = "kms-user-password";
const CLUSTER: &str = "cluster-1a23b4cdefg";
const RELATED: &str = "cluster-2a23b4cdefg";
const UNRELATED: &str = "cluster-3a23b4cdefg";
/// Says to a test that it is the process with the token.
const FOLDER: &str = "ADYTON_TEST_HSM_FOLDER";
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
];

fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Runs `body` in a process of its own that has a fresh token.
fn with_token<T: Future<Output = ()>>(test: &str, body: impl FnOnce(Token) -> T) {
    let Some(module) = module() else {
        assert!(std::env::var_os("CI").is_none(), "CI needs SoftHSM (Debian package softhsm2)");
        println!("skipped: no SoftHSM (Debian package softhsm2)");
        return;
    };
    if let Some(folder) = std::env::var_os(FOLDER) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(body(Token { folder: folder.into(), module }));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::create_dir(&tokens).unwrap();
    let conf = folder.path().join("softhsm2.conf");
    std::fs::write(&conf, format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.display()))
        .unwrap();
    let made = Command::new("softhsm2-util")
        .args([
            "--init-token",
            "--free",
            "--label",
            "adyton",
            "--so-pin",
            "security-officer",
            "--pin",
            PASSWORD,
        ])
        .env("SOFTHSM2_CONF", &conf)
        .output()
        .expect("softhsm2-util is beside its library");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("custom_key_store::{test}"), "--nocapture"])
        .env("SOFTHSM2_CONF", &conf)
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

/// A token and the files that lead to it.
struct Token {
    folder: PathBuf,
    module: PathBuf,
}

impl Token {
    fn directory(&self) -> PathBuf {
        self.folder.join("tokens")
    }

    /// Writes `hsm.toml`: the token, a related cluster without one, and an unrelated one.
    fn configure(&self, kms: &Path) {
        std::fs::create_dir_all(kms).unwrap();
        let module = self.module.display();
        let clusters =
            [(CLUSTER, "adyton", "a.pem"), (RELATED, "copy", "a.pem"), (UNRELATED, "other", "b.pem")];
        let text: Vec<String> = clusters
            .iter()
            .map(|(cluster, token, anchor)| {
                format!(
                    "[[cluster]]\nid = \"{cluster}\"\nmodule = \"{module}\"\ntoken = \"{token}\"\ntrust_anchor = \"{anchor}\"\n"
                )
            })
            .collect();
        for name in ["a.pem", "b.pem"] {
            let path = kms.join(name);
            if !path.exists() {
                std::fs::write(path, rcgen::generate_simple_self_signed(Vec::new()).unwrap().cert.pem())
                    .unwrap();
            }
        }
        std::fs::write(kms.join("hsm.toml"), text.concat()).unwrap();
    }

    async fn kms(&self) -> Kms {
        let folder = tempfile::tempdir().unwrap();
        self.configure(&folder.path().join("kms"));
        let config = config(folder.path());
        Kms::serve(folder, config, Transport::Tls).await
    }

    /// A session of the test's own.
    fn session(&self) -> Session {
        let library = Pkcs11::new(&self.module).unwrap();
        let _already = library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
        let slot = library
            .get_slots_with_initialized_token()
            .unwrap()
            .into_iter()
            .find(|slot| library.get_token_info(*slot).unwrap().label() == "adyton")
            .unwrap();
        let session = library.open_rw_session(slot).unwrap();
        let _already = session.login(UserType::User, Some(&AuthPin::from(PASSWORD.to_owned())));
        session
    }

    /// The labels of the keys in the HSM.
    fn labels(&self) -> Vec<String> {
        let session = self.session();
        let keys = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY)]).unwrap();
        let mut labels: Vec<String> = keys
            .into_iter()
            .map(|key| match &session.get_attributes(key, &[AttributeType::Label]).unwrap()[..] {
                [Attribute::Label(label)] => String::from_utf8(label.clone()).unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        labels.sort();
        labels
    }
}

fn anchor(kms: &Kms, name: &str) -> String {
    std::fs::read_to_string(kms.folder.path().join("kms").join(name)).unwrap()
}

async fn make_store(kms: &Kms, password: &str) -> String {
    let made = kms
        .administrator()
        .create_custom_key_store()
        .custom_key_store_name("store")
        .cloud_hsm_cluster_id(CLUSTER)
        .trust_anchor_certificate(anchor(kms, "a.pem"))
        .key_store_password(password)
        .send()
        .await
        .unwrap();
    made.custom_key_store_id.unwrap()
}

/// A store that is connected.
async fn connected(kms: &Kms) -> String {
    let id = make_store(kms, PASSWORD).await;
    kms.administrator().connect_custom_key_store().custom_key_store_id(&id).send().await.unwrap();
    assert_eq!(entry(kms, &id).await.connection_state, Some(ConnectionStateType::Connected));
    id
}

async fn entry(kms: &Kms, id: &str) -> CustomKeyStoresListEntry {
    let described = kms.administrator().describe_custom_key_stores().custom_key_store_id(id).send().await;
    one(described.unwrap())
}

fn one(described: DescribeCustomKeyStoresOutput) -> CustomKeyStoresListEntry {
    assert!(!described.truncated);
    let [entry] = <[_; 1]>::try_from(described.custom_key_stores.unwrap()).unwrap();
    entry
}

async fn make_key(client: &Client, store: &str) -> KeyMetadata {
    let made = client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(store).send().await;
    made.unwrap().key_metadata.unwrap()
}

async fn encrypt(client: &Client, key: &str, plaintext: &[u8]) -> Blob {
    let sealed = client.encrypt().key_id(key).plaintext(Blob::new(plaintext)).send().await.unwrap();
    sealed.ciphertext_blob.unwrap()
}

async fn describe(client: &Client, key: &str) -> KeyMetadata {
    client.describe_key().key_id(key).send().await.unwrap().key_metadata.unwrap()
}

fn invalid_state(store: &str, state: &str) -> (String, Option<String>) {
    let text = format!(
        "The request was rejected because of the ConnectionState of the custom key store {store}: {state}."
    );
    refused("CustomKeyStoreInvalidStateException", &text)
}

#[test]
fn a_store_is_made_connected_used_disconnected_and_deleted() {
    with_token("a_store_is_made_connected_used_disconnected_and_deleted", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = make_store(&kms, PASSWORD).await;
        assert!(store.starts_with("cks-") && store.len() == 21);
        let new = entry(&kms, &store).await;
        assert_eq!(new.custom_key_store_name(), Some("store"));
        assert_eq!(new.cloud_hsm_cluster_id(), Some(CLUSTER));
        assert_eq!(new.trust_anchor_certificate(), Some(anchor(&kms, "a.pem").as_str()));
        assert_eq!(new.connection_state, Some(ConnectionStateType::Disconnected));
        assert_eq!(new.connection_error_code, None);
        assert_eq!(new.custom_key_store_type, Some(CustomKeyStoreType::AwsCloudhsm));
        assert!(new.creation_date.is_some());
        let early =
            client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(&store).send().await;
        assert_eq!(refusal(early), invalid_state(&store, "DISCONNECTED"));
        let early = client.disconnect_custom_key_store().custom_key_store_id(&store).send().await;
        assert_eq!(refusal(early), invalid_state(&store, "DISCONNECTED"));
        let early = client.generate_random().number_of_bytes(8).custom_key_store_id(&store).send().await;
        assert_eq!(refusal(early), invalid_state(&store, "DISCONNECTED"));

        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let key = make_key(&client, &store).await;
        assert_eq!(key.origin, Some(OriginType::AwsCloudhsm));
        assert_eq!(key.custom_key_store_id(), Some(store.as_str()));
        assert_eq!(key.cloud_hsm_cluster_id(), Some(CLUSTER));
        assert_eq!(key.key_state, Some(KeyState::Enabled));
        assert_eq!(key.current_key_material_id(), None);
        assert_eq!(token.labels(), [key.arn().unwrap()]);
        works(&client, &key.key_id).await;
        let random = client.generate_random().number_of_bytes(32).custom_key_store_id(&store).send().await;
        assert_ne!(random.unwrap().plaintext.unwrap().as_ref(), [0; 32]);
        // Connecting what is connected is no error.
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        works(&client, &key.key_id).await;

        let sealed = encrypt(&client, &key.key_id, b"before").await;
        let early = client.delete_custom_key_store().custom_key_store_id(&store).send().await;
        assert_eq!(refusal(early), invalid_state(&store, "CONNECTED"));
        client.disconnect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let described = describe(&client, &key.key_id).await;
        assert_eq!((described.key_state, described.enabled), (Some(KeyState::Unavailable), false));
        let unavailable =
            refused("KMSInvalidStateException", &format!("{} is unavailable.", key.arn().unwrap()));
        let opened = client.decrypt().ciphertext_blob(sealed.clone()).send().await;
        assert_eq!(refusal(opened), unavailable);
        let made = client.generate_data_key().key_id(&key.key_id).key_spec(DataKeySpec::Aes256).send().await;
        assert_eq!(refusal(made), unavailable);
        let grant = client
            .create_grant()
            .key_id(&key.key_id)
            .grantee_principal(format!("arn:aws:iam::{ACCOUNT}:role/later"))
            .operations(GrantOperation::Decrypt);
        grant.send().await.unwrap();
        // A change of an unavailable key takes effect when it is available.
        client.disable_key().key_id(&key.key_id).send().await.unwrap();
        assert_eq!(describe(&client, &key.key_id).await.key_state, Some(KeyState::Unavailable));
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        assert_eq!(describe(&client, &key.key_id).await.key_state, Some(KeyState::Disabled));
        client.enable_key().key_id(&key.key_id).send().await.unwrap();
        let opened = client.decrypt().ciphertext_blob(sealed).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), b"before");

        client.disconnect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let early = client.delete_custom_key_store().custom_key_store_id(&store).send().await;
        assert_eq!(
            refusal(early),
            refused(
                "CustomKeyStoreHasCMKsException",
                "The request was rejected because the custom key store contains KMS keys."
            )
        );
        client.schedule_key_deletion().key_id(&key.key_id).pending_window_in_days(7).send().await.unwrap();
        assert_eq!(describe(&client, &key.key_id).await.key_state, Some(KeyState::PendingDeletion));

        // The waiting period ends while the store is disconnected; the next connection destroys the object.
        let folder = kms.stop().await;
        let later = SystemTime::now() + Duration::from_hours(7 * 24) + Duration::from_mins(1);
        let mut again = config(folder.path());
        again.clock = Arc::new(move || later);
        drop(KmsServer::open(again).unwrap());
        assert_eq!(token.labels().len(), 1);
        let again = config(folder.path());
        let kms = Kms::serve(folder, again, Transport::Tls).await;
        let client = kms.administrator();
        assert_eq!(refusal(client.describe_key().key_id(&key.key_id).send().await).0, "NotFoundException");
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        assert_eq!(token.labels(), Vec::<String>::new());
        client.disconnect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        client.delete_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let gone = client.describe_custom_key_stores().custom_key_store_id(&store).send().await;
        assert_eq!(refusal(gone).0, "CustomKeyStoreNotFoundException");
        assert!(client.describe_custom_key_stores().send().await.unwrap().custom_key_stores().is_empty());
    });
}

/// Encrypts, decrypts, makes data keys and re-encrypts.
async fn works(client: &Client, key: &str) {
    let ordinary = client.create_key().send().await.unwrap().key_metadata.unwrap().key_id;
    let sealed = client.encrypt().key_id(key).plaintext(Blob::new("secret")).encryption_context("a", "b");
    let sealed = sealed.send().await.unwrap().ciphertext_blob.unwrap();
    let opened =
        client.decrypt().ciphertext_blob(sealed.clone()).encryption_context("a", "b").send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
    let other = client.decrypt().ciphertext_blob(sealed.clone()).encryption_context("a", "c").send().await;
    assert_eq!(refusal(other), ("InvalidCiphertextException".into(), None));
    let made = client.generate_data_key().key_id(key).key_spec(DataKeySpec::Aes256).send().await.unwrap();
    let opened = client.decrypt().key_id(key).set_ciphertext_blob(made.ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.plaintext, made.plaintext);
    let moved = client
        .re_encrypt()
        .ciphertext_blob(sealed)
        .source_encryption_context("a", "b")
        .destination_key_id(&ordinary)
        .send()
        .await
        .unwrap();
    let back =
        client.re_encrypt().set_ciphertext_blob(moved.ciphertext_blob).destination_key_id(key).send().await;
    let opened = client.decrypt().set_ciphertext_blob(back.unwrap().ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"secret");
}

// K-1
#[test]
fn an_enclave_opens_blobs_and_gets_data_keys_of_an_hsm_key() {
    with_token("an_enclave_opens_blobs_and_gets_data_keys_of_an_hsm_key", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = connected(&kms).await;
        let policy = attested_policy(&format!("arn:aws:iam::{ACCOUNT}:role/enclave"), 0x1a);
        let made =
            client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(&store).policy(policy);
        let key = made.send().await.unwrap().key_metadata.unwrap().arn.unwrap();
        let sealed = encrypt(&client, &key, b"for the enclave").await;
        let role = kms.stranger(&format!("arn:aws:sts::{ACCOUNT}:assumed-role/enclave/i-1"));
        let enclave = EnclaveKey::new();
        let document = attest(&kms.nsm(0x1a), Some(&enclave.spki), None);
        let decrypt = |blob: Blob, document: &[u8]| {
            role.decrypt().ciphertext_blob(blob).recipient(recipient(document.to_vec())).send()
        };
        let answer = decrypt(sealed.clone(), &document).await.unwrap();
        assert_eq!(answer.plaintext(), None);
        assert_eq!(opened(&enclave, answer.ciphertext_for_recipient().unwrap().as_ref()), b"for the enclave");
        let made = role.generate_data_key().key_id(&key).key_spec(DataKeySpec::Aes256);
        let made = made.recipient(recipient(document.clone())).send().await.unwrap();
        assert_eq!(made.plaintext(), None);
        let answer = decrypt(made.ciphertext_blob.unwrap(), &document).await.unwrap();
        assert_eq!(
            opened(&enclave, answer.ciphertext_for_recipient().unwrap().as_ref()),
            opened(&enclave, made.ciphertext_for_recipient.unwrap().as_ref())
        );
        let other = attest(&kms.nsm(0x2b), Some(&enclave.spki), None);
        assert_eq!(refusal(decrypt(sealed, &other).await).0, "AccessDeniedException");
    });
}

#[test]
fn the_material_cannot_leave_the_hsm() {
    with_token("the_material_cannot_leave_the_hsm", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = connected(&kms).await;
        let key = make_key(&client, &store).await;
        let session = token.session();
        let label = Attribute::Label(key.arn().unwrap().as_bytes().to_vec());
        let [object] = session.find_objects(&[label]).unwrap()[..] else { panic!("one object for a key") };
        let kinds = [
            AttributeType::Token,
            AttributeType::Private,
            AttributeType::Sensitive,
            AttributeType::AlwaysSensitive,
            AttributeType::Extractable,
            AttributeType::NeverExtractable,
            AttributeType::Local,
            AttributeType::Wrap,
            AttributeType::Unwrap,
        ];
        let attributes = session.get_attributes(object, &kinds).unwrap();
        let expected = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::AlwaysSensitive(true),
            Attribute::Extractable(false),
            Attribute::NeverExtractable(true),
            Attribute::Local(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
        ];
        assert_eq!(attributes, expected);
        assert!(
            !session
                .get_attributes(object, &[AttributeType::Value])
                .unwrap()
                .iter()
                .any(|attribute| matches!(attribute, Attribute::Value(_)))
        );
    });
}

#[test]
fn a_blob_of_one_hsm_key_does_not_open_under_another() {
    with_token("a_blob_of_one_hsm_key_does_not_open_under_another", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = connected(&kms).await;
        let (one, two) = (make_key(&client, &store).await.key_id, make_key(&client, &store).await.key_id);
        let sealed = encrypt(&client, &one, b"of one").await;
        let other = encrypt(&client, &two, b"of two").await;
        let wrong = client.decrypt().key_id(&two).ciphertext_blob(sealed.clone()).send().await;
        assert_eq!(refusal(wrong).0, "IncorrectKeyException");
        // The same with the name of the other's material in the header: bytes 5 to 36.
        let mut forged = sealed.as_ref().to_vec();
        forged[5..37].copy_from_slice(&other.as_ref()[5..37]);
        let wrong = client.decrypt().ciphertext_blob(Blob::new(forged)).send().await;
        assert_eq!(refusal(wrong), ("InvalidCiphertextException".into(), None));
        let mut flipped = sealed.as_ref().to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        let wrong = client.decrypt().ciphertext_blob(Blob::new(flipped)).send().await;
        assert_eq!(refusal(wrong), ("InvalidCiphertextException".into(), None));
        // Two encryptions never share their nonce.
        let again = encrypt(&client, &one, b"of one").await;
        assert_ne!(sealed.as_ref()[58..], again.as_ref()[58..]);
        let opened = client.decrypt().ciphertext_blob(sealed).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), b"of one");
    });
}

#[test]
fn a_wrong_password_fails_the_connection_until_it_is_updated() {
    with_token("a_wrong_password_fails_the_connection_until_it_is_updated", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = make_store(&kms, "not-the-password").await;
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let failed = entry(&kms, &store).await;
        assert_eq!(failed.connection_state, Some(ConnectionStateType::Failed));
        assert_eq!(failed.connection_error_code, Some(ConnectionErrorCodeType::InvalidCredentials));
        let again = client.connect_custom_key_store().custom_key_store_id(&store).send().await;
        assert_eq!(refusal(again), invalid_state(&store, "FAILED"));
        let update = || client.update_custom_key_store().custom_key_store_id(&store);
        let early = update().key_store_password(PASSWORD).send().await;
        assert_eq!(refusal(early), invalid_state(&store, "FAILED"));
        client.disconnect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        assert_eq!(entry(&kms, &store).await.connection_error_code, None);
        update().key_store_password(PASSWORD).send().await.unwrap();
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        assert_eq!(entry(&kms, &store).await.connection_state, Some(ConnectionStateType::Connected));
        works(&client, &make_key(&client, &store).await.key_id).await;

        // Neither password is anywhere in what is written down.
        let folder = kms.stop().await;
        for file in std::fs::read_dir(folder.path().join("kms")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            for password in ["not-the-password", PASSWORD] {
                assert!(!bytes.windows(password.len()).any(|window| window == password.as_bytes()));
            }
        }
    });
}

#[test]
fn a_token_that_goes_away_is_found_again_without_a_restart() {
    with_token("a_token_that_goes_away_is_found_again_without_a_restart", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = connected(&kms).await;
        let key = make_key(&client, &store).await;
        let sealed = encrypt(&client, &key.key_id, b"before").await;

        let away = token.folder.join("away");
        std::fs::rename(token.directory(), &away).unwrap();
        std::fs::create_dir(token.directory()).unwrap();
        let text =
            format!("{} is unavailable: its AWS CloudHSM cluster does not answer.", key.arn().unwrap());
        let gone = refused("KMSInvalidStateException", &text);
        let opened = client.decrypt().ciphertext_blob(sealed.clone()).send().await;
        assert_eq!(refusal(opened), gone);
        assert_eq!(
            refusal(client.encrypt().key_id(&key.key_id).plaintext(Blob::new("x")).send().await),
            gone
        );
        let made = client.generate_data_key().key_id(&key.key_id).key_spec(DataKeySpec::Aes256).send().await;
        assert_eq!(refusal(made), gone);
        let made =
            client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(&store).send().await;
        assert_eq!(refusal(made).0, "CloudHsmClusterInvalidConfigurationException");
        // Nothing was disconnected: the key is enabled, and its store still says connected.
        assert_eq!(describe(&client, &key.key_id).await.key_state, Some(KeyState::Enabled));
        assert_eq!(entry(&kms, &store).await.connection_state, Some(ConnectionStateType::Connected));
        eventually(|| async {
            let connected = client.connect_custom_key_store().custom_key_store_id(&store).send().await;
            connected
                .is_err_and(|error| error.into_service_error().is_cloud_hsm_cluster_not_active_exception())
        })
        .await;

        std::fs::remove_dir_all(token.directory()).unwrap();
        std::fs::rename(&away, token.directory()).unwrap();
        eventually(|| async { client.decrypt().ciphertext_blob(sealed.clone()).send().await.is_ok() }).await;
        works(&client, &key.key_id).await;
        works(&client, &make_key(&client, &store).await.key_id).await;
        // What was asked for while the token was away has left nothing behind.
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        assert_eq!(token.labels().len(), 2);
    });
}

/// Asks until it is so. A library is started anew at most once a second.
async fn eventually<T: Future<Output = bool>>(mut so: impl FnMut() -> T) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !so().await {
        assert!(Instant::now() < deadline, "it did not come to that within a minute");
        tokio::task::yield_now().await;
    }
}

#[test]
fn stores_and_their_keys_survive_a_restart() {
    with_token("stores_and_their_keys_survive_a_restart", |token| async move {
        let kms = token.kms().await;
        let store = connected(&kms).await;
        let key = make_key(&kms.administrator(), &store).await;
        let sealed = encrypt(&kms.administrator(), &key.key_id, b"yesterday").await;
        let kms = kms.restart().await;
        let client = kms.administrator();
        assert_eq!(entry(&kms, &store).await.connection_state, Some(ConnectionStateType::Connected));
        let opened = client.decrypt().ciphertext_blob(sealed).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), b"yesterday");
        // A cluster that the configuration no longer has.
        client.disconnect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let folder = kms.stop().await;
        std::fs::remove_file(folder.path().join("kms/hsm.toml")).unwrap();
        let config = config(folder.path());
        let kms = Kms::serve(folder, config, Transport::Tls).await;
        let client = kms.administrator();
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let failed = entry(&kms, &store).await;
        assert_eq!(failed.connection_error_code, Some(ConnectionErrorCodeType::ClusterNotFound));
        assert_eq!(describe(&client, &key.key_id).await.key_state, Some(KeyState::Unavailable));
    });
}

#[test]
fn a_kill_while_keys_are_made_leaves_no_object_and_no_half_of_a_key() {
    with_token("a_kill_while_keys_are_made_leaves_no_object_and_no_half_of_a_key", |token| async move {
        let folder = tempfile::tempdir().unwrap();
        token.configure(&folder.path().join("kms"));
        let mut store = None;
        let mut promised = Vec::new();
        for _ in 0..3 {
            let (mut child, port) = spawn_server(folder.path());
            let authority = std::fs::read(folder.path().join("kms/ca.pem")).unwrap();
            let client = client_of(&authority, &administrator_of(folder.path()), port);
            if store.is_none() {
                let anchor = std::fs::read_to_string(folder.path().join("kms/a.pem")).unwrap();
                let made = client
                    .create_custom_key_store()
                    .custom_key_store_name("store")
                    .cloud_hsm_cluster_id(CLUSTER)
                    .trust_anchor_certificate(anchor)
                    .key_store_password(PASSWORD);
                store = made.send().await.unwrap().custom_key_store_id;
                let id = store.clone().unwrap();
                client.connect_custom_key_store().custom_key_store_id(id).send().await.unwrap();
            }
            let id = store.clone().unwrap();
            promised.push(make_key(&client, &id).await.arn.unwrap());
            // These are under way when the process dies; nobody is promised anything.
            let under_way: Vec<_> = (0..8)
                .map(|_| {
                    let (client, id) = (client.clone(), id.clone());
                    let made = client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(id);
                    tokio::spawn(async move { made.send().await.ok() })
                })
                .collect();
            tokio::task::yield_now().await;
            child.kill().unwrap();
            child.wait().unwrap();
            for made in under_way {
                promised.extend(made.await.unwrap().map(|made| made.key_metadata.unwrap().arn.unwrap()));
            }
        }
        let config = config(folder.path());
        let kms = Kms::serve(folder, config, Transport::Tls).await;
        let client = kms.administrator();
        client.connect_custom_key_store().custom_key_store_id(store.unwrap()).send().await.unwrap();
        let listed = client.list_keys().send().await.unwrap().keys.unwrap();
        let mut listed: Vec<String> = listed.into_iter().map(|key| key.key_arn.unwrap()).collect();
        listed.sort();
        assert_eq!(token.labels(), listed);
        for key in promised {
            assert!(listed.contains(&key));
        }
        for key in listed {
            encrypt(&client, &key, b"whole").await;
        }
    });
}

#[test]
fn an_object_that_this_service_never_noted_is_left_alone() {
    with_token("an_object_that_this_service_never_noted_is_left_alone", |token| async move {
        let kms = token.kms().await;
        let label = format!("arn:aws:kms:{REGION}:{ACCOUNT}:key/00000000-0000-4000-8000-000000000000");
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Token(true),
            Attribute::ValueLen(32.into()),
            Attribute::Id(vec![7; 32]),
            Attribute::Label(label.clone().into_bytes()),
        ];
        token.session().generate_key(&Mechanism::AesKeyGen, &template).unwrap();
        let store = connected(&kms).await;
        make_key(&kms.administrator(), &store).await;
        assert_eq!(token.labels().len(), 2);
        assert!(token.labels().contains(&label));
    });
}

#[test]
fn a_store_needs_a_cluster_its_certificate_and_a_name_of_its_own() {
    with_token("a_store_needs_a_cluster_its_certificate_and_a_name_of_its_own", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let (a, b) = (anchor(&kms, "a.pem"), anchor(&kms, "b.pem"));
        let create = |name: &str, cluster: &str, anchor: &str| {
            client
                .create_custom_key_store()
                .custom_key_store_name(name)
                .cloud_hsm_cluster_id(cluster)
                .trust_anchor_certificate(anchor)
                .key_store_password(PASSWORD)
                .send()
        };
        let unknown = create("s", "cluster-aaaaaaaaaaa", &a).await;
        assert_eq!(refusal(unknown).0, "CloudHsmClusterNotFoundException");
        assert_eq!(refusal(create("s", CLUSTER, &b).await).0, "IncorrectTrustAnchorException");
        assert_eq!(refusal(create("s", CLUSTER, "no certificate").await).0, "IncorrectTrustAnchorException");
        assert_eq!(refusal(create("s", UNRELATED, &b).await).0, "CloudHsmClusterNotActiveException");
        let missing = client.create_custom_key_store().custom_key_store_name("s").send().await;
        assert_eq!(refusal(missing).0, "ValidationException");
        let external = client
            .create_custom_key_store()
            .custom_key_store_name("s")
            .custom_key_store_type(CustomKeyStoreType::ExternalKeyStore);
        assert_eq!(refusal(external.send().await).0, "UnsupportedOperationException");
        let short = client
            .create_custom_key_store()
            .custom_key_store_name("s")
            .cloud_hsm_cluster_id("cluster-1")
            .key_store_password("short")
            .send()
            .await;
        let (code, said) = refusal(short);
        assert_eq!(code, "ValidationException");
        let said = said.unwrap();
        // The password is in no text.
        assert!(
            said.contains("Value at 'keyStorePassword' failed to satisfy constraint")
                && !said.contains("'short'")
        );

        let store = create("s", CLUSTER, &a).await.unwrap().custom_key_store_id.unwrap();
        // One cluster serves one store, and so do those made from its backups.
        assert_eq!(refusal(create("t", CLUSTER, &a).await).0, "CloudHsmClusterInUseException");
        assert_eq!(refusal(create("s", CLUSTER, &a).await).0, "CustomKeyStoreNameInUseException");
        let update = || client.update_custom_key_store().custom_key_store_id(&store);
        assert_eq!(
            refusal(update().cloud_hsm_cluster_id(UNRELATED).send().await).0,
            "CloudHsmClusterNotRelatedException"
        );
        let absent = update().cloud_hsm_cluster_id("cluster-aaaaaaaaaaa").send().await;
        assert_eq!(refusal(absent).0, "CloudHsmClusterNotFoundException");
        assert_eq!(
            refusal(update().cloud_hsm_cluster_id(RELATED).send().await).0,
            "CloudHsmClusterNotActiveException"
        );
        update().new_custom_key_store_name("renamed").send().await.unwrap();
        let described = client.describe_custom_key_stores().custom_key_store_name("renamed").send().await;
        assert_eq!(one(described.unwrap()).custom_key_store_id(), Some(store.as_str()));
        let old = client.describe_custom_key_stores().custom_key_store_name("s").send().await;
        assert_eq!(refusal(old).0, "CustomKeyStoreNotFoundException");
        let both = client.describe_custom_key_stores().custom_key_store_name("s").custom_key_store_id(&store);
        assert_eq!(refusal(both.send().await).0, "ValidationException");
        client.connect_custom_key_store().custom_key_store_id(&store).send().await.unwrap();
        let late = update().key_store_password(PASSWORD).send().await;
        assert_eq!(refusal(late), invalid_state(&store, "CONNECTED"));
        update().new_custom_key_store_name("connected").send().await.unwrap();

        let nobody = "cks-00000000000000000";
        let not_found = "CustomKeyStoreNotFoundException";
        let absent = client.connect_custom_key_store().custom_key_store_id(nobody).send().await;
        assert_eq!(refusal(absent).0, not_found);
        let absent = client.disconnect_custom_key_store().custom_key_store_id(nobody).send().await;
        assert_eq!(refusal(absent).0, not_found);
        let absent = client.delete_custom_key_store().custom_key_store_id(nobody).send().await;
        assert_eq!(refusal(absent).0, not_found);
        let absent =
            client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(nobody).send().await;
        assert_eq!(refusal(absent).0, not_found);
        let absent = client.generate_random().number_of_bytes(8).custom_key_store_id(nobody).send().await;
        assert_eq!(refusal(absent).0, not_found);
        // Another account sees nothing of it.
        let stranger = User::generate("arn:aws:iam::444455556666:user/administrator", true).unwrap();
        kms.server.add_user(&stranger).unwrap();
        let stranger = kms.client(&stranger);
        assert!(stranger.describe_custom_key_stores().send().await.unwrap().custom_key_stores().is_empty());
        let theirs = stranger.disconnect_custom_key_store().custom_key_store_id(&store).send().await;
        assert_eq!(refusal(theirs).0, not_found);
    });
}

#[test]
fn keys_in_a_store_are_symmetric_and_neither_rotated_nor_imported() {
    with_token("keys_in_a_store_are_symmetric_and_neither_rotated_nor_imported", |token| async move {
        let kms = token.kms().await;
        let client = kms.administrator();
        let store = connected(&kms).await;
        let create = || client.create_key().origin(OriginType::AwsCloudhsm).custom_key_store_id(&store);
        let unsupported = "UnsupportedOperationException";
        let rsa = create().key_spec(KeySpec::Rsa2048).key_usage(KeyUsageType::SignVerify).send().await;
        assert_eq!(refusal(rsa).0, unsupported);
        let hmac =
            create().key_spec(KeySpec::Hmac256).key_usage(KeyUsageType::GenerateVerifyMac).send().await;
        assert_eq!(refusal(hmac).0, unsupported);
        assert_eq!(refusal(create().multi_region(true).send().await).0, unsupported);
        assert_eq!(refusal(create().origin(OriginType::ExternalKeyStore).send().await).0, unsupported);
        assert_eq!(refusal(create().origin(OriginType::AwsKms).send().await).0, "ValidationException");
        let lone = client.create_key().origin(OriginType::AwsCloudhsm).send().await;
        assert_eq!(refusal(lone).0, "ValidationException");
        let key = make_key(&client, &store).await;
        let pair =
            client.generate_data_key_pair().key_id(&key.key_id).key_pair_spec(DataKeyPairSpec::EccNistP256);
        assert_eq!(refusal(pair.send().await).0, unsupported);
        let rotation = client.enable_key_rotation().key_id(&key.key_id).send().await;
        assert_eq!(refusal(rotation).0, unsupported);
        let rotation = client.rotate_key_on_demand().key_id(&key.key_id).send().await;
        assert_eq!(refusal(rotation).0, unsupported);
        let import = client
            .get_parameters_for_import()
            .key_id(&key.key_id)
            .wrapping_algorithm(AlgorithmSpec::RsaesOaepSha256)
            .wrapping_key_spec(WrappingKeySpec::Rsa2048);
        assert_eq!(refusal(import.send().await).0, unsupported);
    });
}
