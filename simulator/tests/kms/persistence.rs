//! What the local KMS keeps: through a restart, through a kill in the middle of writing.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{ACCOUNT, Kms, client_of, config, refusal};
use adyton_simulator::kms::{KmsError, KmsServer, Transport, User};
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::Tag;
use tokio::net::TcpListener;
use tokio::sync::mpsc::UnboundedSender;

/// Names the state folder to the child process of these tests.
const CHILD: &str = "ADYTON_TEST_KMS_FOLDER";

#[tokio::test]
async fn keys_aliases_policies_and_users_survive_a_restart() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = client.create_key().description("kept").send().await.unwrap().key_metadata.unwrap().key_id;
    client.create_alias().alias_name("alias/kept").target_key_id(&key).send().await.unwrap();
    let alice = User::generate("arn:aws:iam::111122223333:user/alice", true).unwrap();
    kms.server.add_user(&alice).unwrap();
    let sealed = client.encrypt().key_id(&key).plaintext(Blob::new("yesterday")).send().await.unwrap();
    let (authority, first) = (kms.server.ca_pem().to_owned(), kms.server.first_administrator().unwrap());

    let kms = kms.restart().await;
    assert_eq!(kms.server.ca_pem(), authority);
    assert_eq!(kms.server.first_administrator().unwrap().secret_access_key, first.secret_access_key);
    let client = kms.client(&alice);
    let described = client.describe_key().key_id("alias/kept").send().await.unwrap().key_metadata.unwrap();
    assert_eq!(described.description.as_deref(), Some("kept"));
    let opened = client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.plaintext().unwrap().as_ref(), b"yesterday");

    assert!(kms.server.remove_user(&alice.access_key_id).unwrap());
    assert!(!kms.server.remove_user(&alice.access_key_id).unwrap());
    assert_eq!(refusal(client.list_keys().send().await).0, "UnrecognizedClientException");
}

#[tokio::test]
async fn what_was_answered_survives_a_kill_in_the_middle_of_writing() {
    let folder = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    // Several kills, so that some fall into a write.
    for round in 0..4 {
        let (mut child, port) = spawn_server(folder.path());
        let authority = folder.path().join("kms/ca.pem");
        let administrator = administrator_of(folder.path());
        let client = client_of(&std::fs::read(authority).unwrap(), &administrator, port);
        for n in 0..5 {
            let made = client.create_key().send().await.unwrap().key_metadata.unwrap();
            let alias = format!("alias/r{round}-{n}");
            client.create_alias().alias_name(&alias).target_key_id(&made.key_id).send().await.unwrap();
            let sealed =
                client.encrypt().key_id(&made.key_id).plaintext(Blob::new(alias.as_bytes())).send().await;
            promised.push((alias, made.key_id, sealed.unwrap().ciphertext_blob.unwrap()));
        }
        // These are under way when the process dies; nobody is promised anything.
        let under_way: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.create_key().send().await.is_ok() })
            })
            .collect();
        tokio::task::yield_now().await;
        child.kill().unwrap();
        child.wait().unwrap();
        for call in under_way {
            call.await.unwrap();
        }
    }
    let config = config(folder.path());
    let kms = Kms::serve(folder, config, Transport::Tls).await;
    let client = kms.administrator();
    for (alias, id, sealed) in promised {
        let described = client.describe_key().key_id(&alias).send().await.unwrap().key_metadata.unwrap();
        assert_eq!(described.key_id, id);
        let opened = client.decrypt().ciphertext_blob(sealed).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), alias.as_bytes());
    }
    // Every line of the log is whole.
    assert!(kms.audit().len() >= 60);
}

/// What one worker was promised, and so has to be found.
#[derive(Default)]
struct Promised {
    name: String,
    key: Option<String>,
    alias: bool,
    policy: Option<String>,
    tags: usize,
    rotations: usize,
    described: bool,
    sealed: Vec<Blob>,
}

/// Writes one thing after the other until the service is gone; each answer is a promise.
async fn write_on(client: Client, name: String, answered: UnboundedSender<()>) -> Promised {
    let mut promised = Promised { name: name.clone(), ..Promised::default() };
    macro_rules! write {
        ($call:expr) => {{
            let Ok(answer) = $call.send().await else { return promised };
            let _ = answered.send(());
            answer
        }};
    }
    let key = write!(client.create_key().description(&name)).key_metadata.unwrap().key_id;
    promised.key = Some(key.clone());
    write!(client.create_alias().alias_name(format!("alias/{name}")).target_key_id(&key));
    promised.alias = true;
    let policy = policy_named(&name);
    write!(client.put_key_policy().key_id(&key).policy(&policy));
    promised.policy = Some(policy);
    for _ in 0..2 {
        let Ok(sealed) = client.encrypt().key_id(&key).plaintext(Blob::new(name.as_bytes())).send().await
        else {
            return promised;
        };
        promised.sealed.push(sealed.ciphertext_blob.unwrap());
        let tag = Tag::builder().tag_key(promised.tags.to_string()).tag_value(&name).build().unwrap();
        write!(client.tag_resource().key_id(&key).tags(tag));
        promised.tags += 1;
        write!(client.rotate_key_on_demand().key_id(&key));
        promised.rotations += 1;
    }
    write!(client.update_key_description().key_id(&key).description("done"));
    promised.described = true;
    promised
}

fn policy_named(name: &str) -> String {
    serde_json::json!({
        "Version": "2012-10-17",
        "Id": name,
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    })
    .to_string()
}

/// All that was promised is there; of what was under way, all or nothing.
async fn find(client: &Client, promised: Promised) {
    let Some(key) = promised.key else { return };
    let name = promised.name.as_str();
    let described = client.describe_key().key_id(&key).send().await.unwrap().key_metadata.unwrap();
    let wanted = if promised.described { &["done"][..] } else { &[name, "done"][..] };
    assert!(wanted.contains(&described.description().unwrap()), "{name}");
    let alias = client.describe_key().key_id(format!("alias/{name}")).send().await;
    match alias {
        Ok(alias) => assert_eq!(alias.key_metadata.unwrap().key_id, key),
        Err(error) => assert!(!promised.alias, "{name}: {error:?}"),
    }
    let policy = client.get_key_policy().key_id(&key).send().await.unwrap().policy.unwrap();
    if promised.policy.is_some() || !policy.contains("key-default-1") {
        assert_eq!(policy, policy_named(name));
    }
    let tags = client.list_resource_tags().key_id(&key).send().await.unwrap();
    assert!((promised.tags..=promised.tags + 1).contains(&tags.tags().len()), "{name}");
    let rotations = client.list_key_rotations().key_id(&key).send().await.unwrap();
    assert!((promised.rotations..=promised.rotations + 1).contains(&rotations.rotations().len()), "{name}");
    for sealed in promised.sealed {
        let opened = client.decrypt().ciphertext_blob(sealed).send().await.unwrap();
        assert_eq!(opened.plaintext().unwrap().as_ref(), name.as_bytes());
    }
    // What it can do now it can do with the newest material.
    let sealed = client.encrypt().key_id(&key).plaintext(Blob::new("x")).send().await.unwrap();
    let opened = client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await.unwrap();
    assert_eq!(opened.key_material_id, described.current_key_material_id);
}

#[tokio::test]
async fn kills_at_random_points_of_a_thousand_concurrent_writes_lose_nothing() {
    const ROUNDS: usize = 5;
    const WORKERS: usize = 25;
    const WRITES_EACH: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let mut promised = Vec::new();
    for round in 0..ROUNDS {
        let (mut child, port) = spawn_server(folder.path());
        let authority = std::fs::read(folder.path().join("kms/ca.pem")).unwrap();
        let client = client_of(&authority, &administrator_of(folder.path()), port);
        let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let name = format!("r{round}w{worker}");
                tokio::spawn(write_on(client.clone(), name, answered.clone()))
            })
            .collect();
        drop(answered);
        let mut random = [0];
        getrandom::fill(&mut random).unwrap();
        let last = usize::from(random[0]) % (WORKERS * WRITES_EACH);
        println!("round {round} is killed after {last} answers");
        for _ in 0..last {
            if answers.recv().await.is_none() {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        for worker in workers {
            promised.push(worker.await.unwrap());
        }
    }
    let config = config(folder.path());
    let kms = Kms::serve(folder, config, Transport::Tls).await;
    let client = kms.administrator();
    for one in promised {
        find(&client, one).await;
    }
    // No key is half there, not even those that nobody was told of.
    let listed = client.list_keys().limit(1000).send().await.unwrap();
    for key in listed.keys() {
        let id = key.key_id().unwrap();
        client.describe_key().key_id(id).send().await.unwrap();
        client.encrypt().key_id(id).plaintext(Blob::new("x")).send().await.unwrap();
    }
}

/// Not a test by itself: the process that the tests above kill.
#[tokio::test]
async fn child_server() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let folder = Path::new(&folder);
    let server = KmsServer::open(config(folder)).unwrap();
    let user = server.first_administrator().unwrap();
    let credentials = [user.principal_arn.as_str(), &user.access_key_id, &user.secret_access_key].join("\n");
    std::fs::write(folder.join("credentials"), credentials).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("port {}", listener.local_addr().unwrap().port());
    server.serve(listener, Transport::Tls, std::future::pending()).await.unwrap();
}

pub(crate) fn spawn_server(folder: &Path) -> (Child, u16) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "persistence::child_server", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next().expect("the child says its port").unwrap();
        if let Some((_, port)) = line.split_once("port ") {
            break port.parse().unwrap();
        }
    };
    (child, port)
}

/// The administrator's credentials as the child wrote them down: the database belongs to the child.
pub(crate) fn administrator_of(folder: &Path) -> User {
    let credentials = std::fs::read_to_string(folder.join("credentials")).unwrap();
    let mut parts = credentials.split('\n').map(str::to_owned);
    let mut user = User::generate(parts.next().unwrap(), true).unwrap();
    user.access_key_id = parts.next().unwrap();
    user.secret_access_key = parts.next().unwrap().into();
    user
}

#[tokio::test]
async fn a_state_folder_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = KmsServer::open(config(folder.path())).unwrap();
    assert!(matches!(KmsServer::open(config(folder.path())), Err(KmsError::Database(_))));
    drop(first);
    KmsServer::open(config(folder.path())).unwrap();
}

#[tokio::test]
async fn secrets_lie_in_files_of_their_owner_and_only_sealed_in_the_database() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = client.create_key().send().await.unwrap().key_metadata.unwrap().key_id;
    let canary = b"a plaintext that is nowhere on the disk";
    client.encrypt().key_id(&key).plaintext(Blob::new(canary)).send().await.unwrap();
    let secret = kms.server.first_administrator().unwrap().secret_access_key;
    let encoded = base64_of(canary);
    let folder = kms.stop().await;
    let state = folder.path().join("kms");
    for name in ["root.key", "ca.key", "audit.ndjson"] {
        let mode = std::fs::metadata(state.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    for entry in std::fs::read_dir(&state).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for needle in [&canary[..], encoded.as_bytes(), secret.as_bytes()] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}

#[tokio::test]
async fn a_lost_or_exchanged_root_key_is_noticed_at_the_start() {
    let folder = Kms::start().await.stop().await;
    let root = folder.path().join("kms/root.key");
    let original = std::fs::read(&root).unwrap();
    std::fs::remove_file(&root).unwrap();
    assert!(matches!(KmsServer::open(config(folder.path())), Err(KmsError::State(_))));
    std::fs::write(&root, [7; 32]).unwrap();
    assert!(matches!(KmsServer::open(config(folder.path())), Err(KmsError::Sealed)));
    std::fs::write(&root, b"short").unwrap();
    assert!(matches!(KmsServer::open(config(folder.path())), Err(KmsError::State(_))));
    std::fs::write(&root, original).unwrap();
    KmsServer::open(config(folder.path())).unwrap();
}

#[tokio::test]
async fn a_damaged_authority_is_noticed_at_the_start() {
    let folder = Kms::start().await.stop().await;
    std::fs::write(folder.path().join("kms/ca.pem"), "not a certificate").unwrap();
    assert!(matches!(KmsServer::open(config(folder.path())), Err(KmsError::Authority { .. })));
}

#[test]
fn a_principal_or_account_that_cannot_be_is_refused() {
    assert!(matches!(User::generate("alice", false), Err(KmsError::Principal(_))));
    let folder = tempfile::tempdir().unwrap();
    let mut wrong = config(folder.path());
    wrong.account = "1111".into();
    assert!(matches!(KmsServer::open(wrong), Err(KmsError::Identity("account"))));
    let mut wrong = config(folder.path());
    wrong.region = "EU west".into();
    assert!(matches!(KmsServer::open(wrong), Err(KmsError::Identity("region"))));
}

#[test]
fn a_user_does_not_print_its_secret() {
    let user = User::generate("arn:aws:iam::111122223333:user/alice", false).unwrap();
    assert!(!format!("{user:?}").contains(user.secret_access_key.as_str()));
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
