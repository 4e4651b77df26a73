//! Results for somebody else: the parent stores them and cannot read them.

use adyton_shared::envelope::{KMS_PROVIDER, Parsed, Step as Frame, UnverifiedHeader};
use adyton_shared::id::Sha256Digest;
use adyton_shared::job::{Destination, Input, Job};
use adyton_shared::{DataKey, EncryptionContext, ErrorCode, KeyArn};
use adyton_tests::client::{code, job, mask_job};
use adyton_tests::hostile::{HostileParent, KeyCupboard, Wallet};
use adyton_tests::message::Recipe;
use adyton_tests::world::{ENCLAVE_USER, NAMED_KEY, World};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::DataKeySpec;
use serde_json::{Value, json};

use crate::named_keys::{token_job, with_tokens, wrapped};

/// A recipient of the age test vectors.
pub(crate) const AGE: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";
const CANARY: &str = "canary-2b81-for-one-reader-only";

fn records() -> Vec<u8> {
    let line = format!("{{\"id\":\"{CANARY}\",\"email\":\"a@example.com\"}}\n");
    line.repeat(5000).into_bytes()
}

fn to(job: Job, destination: &str) -> Job {
    Job { to: destination.parse().expect("a destination"), ..job }
}

/// A key of another account, under this policy.
async fn partner_key(world: &World, policy: String) -> KeyArn {
    let made = world.kms("partner").await.create_key().policy(policy).send().await.expect("a key");
    KeyArn::parse(made.key_metadata().and_then(|key| key.arn()).expect("an ARN")).expect("a full ARN")
}

/// Gives data keys to the image with these measurements, attested, and opens for its owner.
fn partner_policy(pcrs: &Value) -> String {
    let allow = |principal: &str, action: &str| json!({ "Effect": "Allow", "Principal": { "AWS": principal }, "Action": action, "Resource": "*" });
    let owner = allow("arn:aws:iam::444455556666:root", "kms:*");
    let mut enclave = allow(ENCLAVE_USER, "kms:GenerateDataKey");
    enclave["Condition"] =
        json!({ "StringEqualsIgnoreCase": { "kms:RecipientAttestation:PCR0": pcrs["0"] } });
    json!({ "Version": "2012-10-17", "Statement": [owner, enclave] }).to_string()
}

/// Has the partner's key trust this image.
async fn trust(world: &World, key: &KeyArn, pcrs: &Value) {
    let (partner, policy) = (world.kms("partner").await, partner_policy(pcrs));
    let put = partner.put_key_policy().key_id(key.as_str()).policy(policy).send().await;
    put.expect("the partner trusts the image");
}

/// An image that nobody has: a key must exist before the policy that names it is measured.
fn nobody() -> Value {
    json!({ "0": "11".repeat(48) })
}

/// Opens a message as its recipient would, who may use the key.
async fn open(world: &World, key: &KeyArn, message: &[u8]) -> (EncryptionContext, Vec<u8>) {
    let Ok(Parsed::Complete { header, length }) = UnverifiedHeader::parse(message) else {
        panic!("a whole header")
    };
    let context = header.context().clone();
    let edk = header.encrypted_data_keys().next().expect("a data key");
    assert_eq!((edk.provider, edk.information), (KMS_PROVIDER, key.as_str().as_bytes()));
    let partner = world.kms("partner").await;
    let pairs = context.pairs().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    let opened = partner
        .decrypt()
        .key_id(key.as_str())
        .ciphertext_blob(Blob::new(edk.ciphertext))
        .set_encryption_context(Some(pairs))
        .send()
        .await
        .expect("the owner may open");
    let data_key = DataKey::copy_from(opened.plaintext().expect("a key").as_ref()).expect("a data key");
    let mut frames = header.verify(&data_key, &EncryptionContext::default()).expect("the header fits");
    let (mut rest, mut plaintext) = (message[length..].to_vec(), Vec::new());
    loop {
        match frames.next(&mut rest).expect("a frame") {
            Frame::Frame { consumed, plaintext: range } => {
                plaintext.extend_from_slice(&rest[range]);
                rest.drain(..consumed);
            }
            Frame::End { consumed } => {
                rest.drain(..consumed);
                assert!(rest.is_empty());
                return (context, plaintext);
            }
            Frame::Need(_) => panic!("the message is truncated"),
        }
    }
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

// K-15, X-1
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_opens_for_the_other_account_and_stays_bound_to_its_object() {
    let world = World::start().await;
    let key = partner_key(&world, partner_policy(&nobody())).await;
    let rule = format!("\n[[release]]\nrequester = \"billing\"\nto = \"{key}\"\n");
    let enclave = world.enclave(|policy| policy + &rule).await;
    let parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let rewrap = || to(job(Input::Raw, Vec::new()), key.as_str());

    let small = Recipe::of("a").seal(&owner, &enclave.key, b"data").await;
    let refused = requester.run("a", rewrap(), &small.bytes).await;
    assert_eq!(code(refused), ErrorCode::DestinationKeyDenied, "the partner's key demands another image");

    trust(&world, &key, &enclave.process.ready["pcrs"]).await;
    let lengths = [0, 1, 65_535, 65_536, 65_537, 131_072, 1_000_000];
    for (length, signed) in lengths.into_iter().flat_map(|length| [(length, false), (length, true)]) {
        let plaintext: Vec<u8> = (0..length).map(|n: u32| u8::try_from(n % 251).expect("small")).collect();
        let recipe = Recipe { signed, pairs: vec![("note".into(), "kept".into())], ..Recipe::of("a") };
        let message = recipe.seal(&owner, &enclave.key, &plaintext).await;
        let done = requester.run("a", rewrap(), &message.bytes).await.expect("done");
        let receipt = &done.receipt.receipt;
        assert_eq!(receipt.to, Destination::Kms(key.clone()));
        assert_eq!(receipt.output_digest, Sha256Digest::of(&done.output));
        assert_eq!(receipt.output_bytes, done.output.len() as u64);
        let (context, opened) = open(&world, &key, &done.output).await;
        assert_eq!(context, recipe.context(), "the input's own pairs, and no other message's signing key");
        assert!(opened == plaintext, "{length} bytes, signed: {signed}");
    }
    let made: Vec<_> =
        world.audit().into_iter().filter(|line| line["resources"][0]["ARN"] == key.as_str()).collect();
    let generated: Vec<_> = made.iter().filter(|line| line["eventName"] == "GenerateDataKey").collect();
    assert_eq!(generated.len(), 1 + 2 * lengths.len());
    assert!(generated.iter().all(|line| !line["additionalEventData"]["recipient"].is_null()), "all attested");
    parent.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_for_an_age_recipient_is_an_age_file_that_the_parent_cannot_read() {
    let world = World::start().await;
    let rule = format!(
        "\n[[release]]\nrequester = \"billing\"\nto = \"{AGE}\"\nfields = [\"id\", {{ path = \"email\", as = \"mask\" }}]\n"
    );
    let enclave = world.enclave(|policy| policy + &rule).await;
    let parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, &records()).await;
    let done = requester.run("a", to(mask_job(Input::Ndjson), AGE), &message.bytes).await.expect("done");
    assert!(done.output.starts_with(b"age-encryption.org/v1\n-> X25519 "));
    assert!(!contains(&done.output, CANARY) && !contains(&done.output, "\"id\""));
    assert_eq!(done.receipt.receipt.output_digest, Sha256Digest::of(&done.output));
    assert_eq!(done.receipt.receipt.records_out, Some(5000));
    // The same to the parent is another rule, and readable.
    let open = requester.run("a", mask_job(Input::Ndjson), &message.bytes).await.expect("done").output;
    assert!(contains(&open, CANARY));
    parent.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn only_the_recipients_that_a_rule_names_get_anything() {
    let world = World::start().await;
    // From the age test suite; a key of the right region that no rule names.
    let other = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef";
    let arn = "arn:aws:kms:eu-west-1:444455556666:key/8a51b3c0-0000-4000-8000-000000000001";
    let rule =
        format!("\n[[release]]\nrequester = \"billing\"\nto = \"{AGE}\"\nfields = [\"id\", \"email\"]\n");
    let enclave = world.enclave(|policy| policy + &rule).await;
    let parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, &records()).await;
    let before = world.audit().len();
    for destination in [other, arn] {
        let refused = requester.run("a", to(mask_job(Input::Ndjson), destination), &message.bytes).await;
        assert_eq!(code(refused), ErrorCode::ReleaseNoRule, "{destination}");
    }
    assert_eq!(world.audit().len(), before, "KMS never heard of them");

    // One hundred recipients, none, a malformed one: said before anything is sent.
    let file = world.folder().join("data.enc");
    std::fs::write(&file, &message.bytes).expect("written");
    let hundred = format!("[{}]", vec![format!("\"{AGE}\""); 100].join(", "));
    let mistyped = format!("\"{}\"", AGE.replacen("t7", "7t", 1));
    for (value, expected) in [
        (hundred.as_str(), "string"),
        ("\"\"", "not a destination"),
        (&mistyped, "checksum"),
        ("\"AGE-SECRET-KEY-1QQQQ\"", "secret"),
        ("\"alias/partner\"", "alias"),
    ] {
        let text = format!("version = 1\ninput = \"ndjson\"\nto = {value}\n[[step]]\nselect = [\"id\"]\n");
        std::fs::write(world.folder().join("job.toml"), text).expect("written");
        let claims = ["--tenant", "acme", "--object", "a"];
        let arguments = [&["run", "job.toml", "data.enc", "-o", "out"][..], &claims].concat();
        let refused = world.run_adyton(&arguments).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{value}: {said}");
        assert!(said.contains(expected), "{value}: {said}");
        assert!(!world.folder().join("out").exists());
    }
    parent.stop().await;
    world.stop().await;
}

// A failed job's file is noise: the recipient's too.
#[tokio::test]
async fn nothing_of_a_failed_job_reaches_its_recipient() {
    let world = World::start().await;
    let rule =
        format!("\n[[release]]\nrequester = \"billing\"\nto = \"{AGE}\"\nfields = [\"id\", \"email\"]\n");
    let enclave = world.enclave(|policy| policy + &rule).await;
    let parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let broken = [&records()[..], b"{\"id\":"].concat();
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, &broken).await;
    let seen = adyton_tests::hostile::Seen::default();
    let stream = adyton_tests::hostile::Recorded::answers(requester.dial().await, seen.clone());
    let id = requester.enclave().await;
    let sent = requester.send(id, "a", to(mask_job(Input::Ndjson), AGE), &message.bytes[..], stream).await;
    assert_eq!(code(sent), ErrorCode::RecordMalformed);
    let readable = contains(&seen.lock().expect("no panic"), "age-encryption.org");
    assert!(!readable, "not even the header can be read");
    parent.stop().await;
    world.stop().await;
}

// K-18: what KMS's log shows of two jobs of one shape is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_of_one_shape_leave_one_trace_in_the_log_of_kms() {
    let world = World::start().await;
    let key = partner_key(&world, partner_policy(&nobody())).await;
    let rule = format!(
        "\n[[release]]\nrequester = \"billing\"\nto = \"{key}\"\nfields = [\"id\", {{ path = \"email\", as = \"token\" }}]\n"
    );
    let enclave = world.enclave(|policy| with_tokens(policy) + &rule).await;
    trust(&world, &key, &enclave.process.ready["pcrs"]).await;
    let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet);
    let blob = wrapped(&world, &enclave.key, &NAMED_KEY, DataKeySpec::Aes256).await;
    parent.cupboard(KeyCupboard::Blob(blob));
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let mut traces = Vec::new();
    for plaintext in
        ["{\"id\":1,\"email\":\"a@b.c\"}\n", "{\"id\":2,\"email\":\"x\"}\n{\"id\":3,\"email\":\"\"}\n"]
    {
        let message = Recipe::of("a").seal(&owner, &enclave.key, plaintext.as_bytes()).await;
        let before = world.audit().len();
        let done = requester.run("a", to(token_job("token"), key.as_str()), &message.bytes).await;
        done.expect("done");
        let mut trace = world.audit().split_off(before);
        for line in &mut trace {
            // What differs from one call to the next, whatever is asked.
            let own =
                ["eventTime", "eventID", "requestID", "sourceIPAddress", "sequence", "hash", "previousHash"];
            for part in own {
                line.as_object_mut().expect("an event").remove(part);
            }
        }
        traces.push(trace);
    }
    let names: Vec<_> = traces[0].iter().map(|line| line["eventName"].as_str().expect("a name")).collect();
    assert_eq!(names, ["Decrypt", "Decrypt", "GenerateDataKey"]);
    assert_eq!(traces[0], traces[1]);
    drop(parent);
    world.stop().await;
}
