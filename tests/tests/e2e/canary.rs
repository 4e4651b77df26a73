//! A known plaintext and a known data key, looked for wherever the parent can look.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use adyton_shared::ErrorCode;
use adyton_shared::job::Input;
use adyton_tests::client::{Requester, code, digest_job, mask_job};
use adyton_tests::hostile::{HostileParent, Recorded, Seen, Wallet};
use adyton_tests::message::{Message, Recipe};
use adyton_tests::world::World;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Stands in fields that are masked or dropped, and in records that are refused.
const CANARY: &str = "canary-7f3c9a51-never-outside";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_and_data_keys_are_nowhere_outside_of_the_enclave() {
    let world = World::start().await;
    let owner = world.kms("owner").await;
    let enclave = world.enclave(|policy| policy).await;
    let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let hostile = HostileParent::start(&enclave.socket, world.info.kms_port, wallet);
    let seen: Seen = Arc::new(Mutex::new(Vec::new()));
    let mut secrets = vec![("the canary", CANARY.as_bytes().to_vec())];

    // Through the honest parent, whose memory can be read, and through the hostile one, who records.
    for (requester, key) in
        [(world.requester(), world.key()), (world.requester_at(&enclave.socket), enclave.key.clone())]
    {
        let id = requester.enclave().await;
        for (records, input, expected) in cases() {
            let message = Recipe::of("a").seal(&owner, &key, &records).await;
            remember(&mut secrets, &message);
            let job = if input == Input::Raw { digest_job() } else { mask_job(input) };
            let stream = Recorded::new(requester.dial().await, Arc::clone(&seen));
            let sent = requester.send(id, "a", job, &message.bytes[..], stream).await;
            match expected {
                None => {
                    let output = sent.expect("a job is done").output;
                    assert!(!contains(&output, CANARY.as_bytes()), "in a result");
                }
                Some(expected) => assert_eq!(code(sent), expected),
            }
        }
        broken_messages(&requester, &owner, &key, &seen, &mut secrets).await;
    }

    let mut places = vec![
        ("what the carrier of jobs saw".to_owned(), seen.lock().expect("no panic").clone()),
        ("what the egress saw".to_owned(), hostile.seen()),
    ];
    files(world.folder(), &mut places);
    assert!(places.iter().any(|(name, _)| name.ends_with("audit.ndjson")), "the audit log was read");
    assert!(places.iter().any(|(name, _)| name.ends_with("parent.log")), "the parent's log was read");
    for (place, bytes) in &places {
        for (secret, value) in &secrets {
            assert!(!contains(bytes, value), "{secret} is in {place}");
        }
    }
    let control = b"AKIA";
    let mut found_control = false;
    memory(world.pid("parent"), |bytes| {
        found_control |= contains(bytes, control);
        for (secret, value) in &secrets {
            assert!(!contains(bytes, value), "{secret} is in the parent's memory");
        }
    });
    assert!(found_control, "the parent's memory was read: its access key is in it");
    world.stop().await;
}

/// Records, their format, and how the job ends.
fn cases() -> Vec<(Vec<u8>, Input, Option<ErrorCode>)> {
    let good = format!("{{\"id\":\"1\",\"name\":\"{CANARY}\",\"email\":\"{CANARY}\"}}\n").into_bytes();
    let after_good = |bad: String| [&good[..], bad.as_bytes()].concat();
    let long = CANARY.repeat((5 << 20) / CANARY.len());
    vec![
        (good.clone(), Input::Raw, None),
        (good.clone(), Input::Ndjson, None),
        (good[..good.len() - 1].to_vec(), Input::Json, None),
        (format!("id,name,email\n1,{CANARY},{CANARY}\n").into_bytes(), Input::Csv, None),
        (after_good(format!("{CANARY}\n")), Input::Ndjson, Some(ErrorCode::RecordMalformed)),
        (
            [&after_good(format!("{{\"id\":\"{CANARY}"))[..], b"\xff\"}\n"].concat(),
            Input::Ndjson,
            Some(ErrorCode::RecordMalformed),
        ),
        (
            after_good(format!("{{\"id\":\"1\",\"email\":{{\"{CANARY}\":1}}}}\n")),
            Input::Ndjson,
            Some(ErrorCode::FieldType),
        ),
        (after_good(format!("{{\"id\":\"{long}\"}}\n")), Input::Ndjson, Some(ErrorCode::RecordTooLarge)),
        (
            format!("id,email\n1,{CANARY}\n{CANARY}\n").into_bytes(),
            Input::Csv,
            Some(ErrorCode::RecordMalformed),
        ),
        (format!("id,{CANARY}\n1,2\n").into_bytes(), Input::Csv, Some(ErrorCode::FieldMissing)),
    ]
}

async fn broken_messages(
    requester: &Requester,
    owner: &aws_sdk_kms::Client,
    key: &adyton_shared::KeyArn,
    seen: &Seen,
    secrets: &mut Vec<(&'static str, Vec<u8>)>,
) {
    let records = format!("{{\"id\":\"1\",\"email\":\"{CANARY}\"}}\n").repeat(5000);
    let signed = Recipe { signed: true, ..Recipe::of("a") };
    let message = signed.seal(owner, key, records.as_bytes()).await;
    remember(secrets, &message);
    let mut flipped = message.bytes.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let half = message.bytes[..message.bytes.len() / 2].to_vec();
    let id = requester.enclave().await;
    // Most of the result has been computed, and sealed, when the end turns out to be wrong.
    for (bytes, expected) in [(flipped, ErrorCode::PayloadSignature), (half, ErrorCode::PayloadTruncated)] {
        let stream = Recorded::new(requester.dial().await, Arc::clone(seen));
        let sent = requester.send(id, "a", mask_job(Input::Ndjson), &bytes[..], stream).await;
        assert_eq!(code(sent), expected);
    }
}

fn remember(secrets: &mut Vec<(&'static str, Vec<u8>)>, message: &Message) {
    secrets.push(("a data key", message.data_key.clone()));
    secrets.push(("a data key in hexadecimal", hex::encode(&message.data_key).into_bytes()));
    secrets.push(("a data key in base64", STANDARD.encode(&message.data_key).into_bytes()));
}

fn contains(bytes: &[u8], value: &[u8]) -> bool {
    let Some((first, rest)) = value.split_first() else { return true };
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| byte == first) {
        from += at + 1;
        if bytes[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

fn files(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            files(&entry.path(), places);
        } else if kind.is_file() {
            places.push((entry.path().display().to_string(), std::fs::read(entry.path()).expect("read")));
        }
    }
}

/// Shows every readable region of a process's memory.
fn memory(pid: u32, mut look: impl FnMut(&[u8])) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the parent's map");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the parent's memory");
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (address(start), address(end));
        // Page by page: not every page of a region is there.
        let mut region = Vec::new();
        let mut page = [0; 4096];
        for at in (start..end).step_by(page.len()) {
            if memory.read_exact_at(&mut page, at).is_ok() {
                region.extend_from_slice(&page);
            }
        }
        look(&region);
    }
}
