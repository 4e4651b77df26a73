//! Named keys: made without being seen, handed out by the parent, opened only as the policy says.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;

use adyton_shared::id::KeyName;
use adyton_shared::job::{Input, Job, Keyed, Step};
use adyton_shared::limits::MAX_WRAPPED_KEY_BYTES;
use adyton_shared::{ErrorCode, KeyArn};
use adyton_tests::client::{code, job, path};
use adyton_tests::hostile::{HostileParent, KeyCupboard, Wallet};
use adyton_tests::message::Recipe;
use adyton_tests::world::{NAMED_KEY, World};
use aws_sdk_kms::types::DataKeySpec;

const RECORDS: &[u8] = b"{\"id\":1,\"email\":\"a@example.com\"}\n{\"id\":2,\"email\":\"a@example.com\"}\n";

/// The world's policy, and a rule that lets tokens of e-mail addresses out.
pub(crate) fn with_tokens(policy: String) -> String {
    policy
        + "\n[[release]]\nrequester = \"billing\"\nto = \"parent\"\n\
           fields = [\"id\", { path = \"email\", as = \"token\" }]\n"
}

pub(crate) fn token_job(key: &str) -> Job {
    let key: KeyName = key.parse().expect("a name");
    let token = Keyed { fields: vec![path("email")], key };
    job(Input::Ndjson, vec![Step::Select(vec![path("id"), path("email")]), Step::Token(token)])
}

/// A wrapped key that nobody has seen.
pub(crate) async fn wrapped(
    world: &World,
    key: &KeyArn,
    context: &[(&str, &str)],
    spec: DataKeySpec,
) -> Vec<u8> {
    let context: HashMap<_, _> = context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let owner = world.kms("owner").await;
    let made = owner
        .generate_data_key_without_plaintext()
        .key_id(key.as_str())
        .key_spec(spec)
        .set_encryption_context(Some(context))
        .send()
        .await
        .expect("a wrapped key");
    made.ciphertext_blob().expect("a blob").as_ref().to_vec()
}

// K-7, K-14: whatever the parent hands out in place of the key is refused by name.
#[tokio::test]
async fn a_named_key_that_is_swapped_stale_foreign_or_damaged_is_refused() {
    let world = World::start().await;
    let enclave = world.enclave(with_tokens).await;
    let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet);
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &enclave.key, RECORDS).await;
    let run = || requester.run("a", token_job("token"), &message.bytes);

    let good = wrapped(&world, &enclave.key, &NAMED_KEY, DataKeySpec::Aes256).await;
    parent.cupboard(KeyCupboard::Blob(good.clone()));
    let first = run().await.expect("done").output;
    assert_eq!(run().await.expect("done").output, first, "tokens are the same each time");
    let text = String::from_utf8(first.clone()).expect("text");
    assert!(!text.contains("example.com") && text.lines().count() == 2, "{text}");
    let another = wrapped(&world, &enclave.key, &NAMED_KEY, DataKeySpec::Aes256).await;
    parent.cupboard(KeyCupboard::Blob(another));
    assert_ne!(run().await.expect("done").output, first, "another key makes other tokens");

    let stale = [("purpose", "payments-token"), ("version", "0")];
    let foreign = [("purpose", "other"), ("version", "1")];
    let mut flipped = good.clone();
    *flipped.last_mut().expect("bytes") ^= 1;
    for (what, blob) in [
        ("an older version", wrapped(&world, &enclave.key, &stale, DataKeySpec::Aes256).await),
        ("another purpose's key", wrapped(&world, &enclave.key, &foreign, DataKeySpec::Aes256).await),
        ("another KMS key's", wrapped(&world, &world.key(), &NAMED_KEY, DataKeySpec::Aes256).await),
        ("a payload's data key", message.wrapped.clone()),
        ("a key of 16 bytes", wrapped(&world, &enclave.key, &NAMED_KEY, DataKeySpec::Aes128).await),
        ("a truncated key", good[..good.len() - 1].to_vec()),
        ("a flipped bit", flipped),
        ("nothing", Vec::new()),
        ("noise", vec![7; 184]),
        ("far too much", vec![7; MAX_WRAPPED_KEY_BYTES + 1]),
    ] {
        parent.cupboard(KeyCupboard::Blob(blob));
        assert_eq!(code(run().await), ErrorCode::NamedKeyRejected, "{what}");
    }
    for cupboard in [KeyCupboard::Missing, KeyCupboard::Close, KeyCupboard::Garbage, KeyCupboard::Silent] {
        parent.cupboard(cupboard.clone());
        assert_eq!(code(run().await), ErrorCode::NamedKeyUnavailable, "{cupboard:?}");
    }

    // the message of a job that failed in the unlock stage is as good as before.
    parent.cupboard(KeyCupboard::Blob(good));
    assert_eq!(run().await.expect("done").output, first);
    let calls = parent.connections();
    let unknown = requester.run("a", token_job("unknown"), &message.bytes).await;
    assert_eq!(code(unknown), ErrorCode::KeyUnknown);
    assert_eq!(parent.connections(), calls, "KMS never heard of it");
    world.stop().await;
}

#[tokio::test]
async fn a_key_is_made_unseen_and_handed_out_from_its_folder() {
    let world = World::start().await;
    let enclave = world.enclave(with_tokens).await;
    let policy = enclave.policy.to_str().expect("a path");
    let folder = world.folder().join("keys");
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("token.key");
    let output = file.to_str().expect("a path");

    let made = world.run_adyton(&["key", "new", "token", "--policy", policy, "-o", output]).await;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(said.contains("adyton serve --keys"), "{said}");
    let permissions = std::fs::metadata(&file).expect("the file").permissions();
    assert_eq!(permissions.mode() & 0o777, 0o600);
    let first = std::fs::read(&file).expect("the file");
    let event = world.audit().into_iter().rev().find(|line| line["eventName"] != "Decrypt").expect("a call");
    assert_eq!(event["eventName"], "GenerateDataKeyWithoutPlaintext");

    let again = world.run_adyton(&["key", "new", "token", "--policy", policy, "-o", output]).await;
    assert_eq!(again.status.code(), Some(5), "{}", String::from_utf8_lossy(&again.stderr));
    assert_eq!(std::fs::read(&file).expect("the file"), first, "nothing was overwritten");
    let unknown = world.run_adyton(&["key", "new", "other", "--policy", policy, "-o", output]).await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("it has token"));

    let keys = [OsStr::new("--keys"), folder.as_os_str()];
    let parent = world.parent_with(&enclave.socket, &keys).await;
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, RECORDS).await;
    let tokens = requester.run("a", token_job("token"), &message.bytes).await.expect("done").output;
    std::fs::remove_file(&file).expect("removed");
    let missing = requester.run("a", token_job("token"), &message.bytes).await;
    assert_eq!(code(missing), ErrorCode::NamedKeyUnavailable);

    let forced =
        world.run_adyton(&["key", "new", "token", "--policy", policy, "-o", output, "--force"]).await;
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
    let others = requester.run("a", token_job("token"), &message.bytes).await.expect("done").output;
    assert_ne!(others, tokens);
    parent.stop().await;

    // A parent that serves no keys at all.
    let parent = world.parent(&enclave.socket).await;
    let refused = requester.run("a", token_job("token"), &message.bytes).await;
    assert_eq!(code(refused), ErrorCode::NamedKeyUnavailable);
    parent.stop().await;
    world.stop().await;
}
