//! Bad input ends in one code, and the next job succeeds.

use adyton_shared::ErrorCode;
use adyton_shared::job::{Input, Job, Step};
use adyton_tests::client::{code, digest_job, job, mask_job, path};
use adyton_tests::message::{Message, Recipe, layout, replace};
use adyton_tests::world::World;

/// Three frames.
fn plaintext() -> Vec<u8> {
    (0..10_000_u32).map(|n| u8::try_from(n % 251).expect("a byte")).collect()
}

fn flipped(message: &Message, at: usize) -> Vec<u8> {
    let mut bytes = message.bytes.clone();
    bytes[at] ^= 1;
    bytes
}

#[tokio::test]
async fn messages_that_were_cut_flipped_joined_or_reordered_are_refused_by_name() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let unsigned = Recipe::of("a").seal(&owner, &world.key(), &plaintext()).await;
    let signed = Recipe { signed: true, ..Recipe::of("a") };
    let signed = signed.seal(&owner, &world.key(), &plaintext()).await;
    let other = Recipe { signed: true, ..Recipe::of("a") }.seal(&owner, &world.key(), &plaintext()).await;
    let (head, length) = (unsigned.header_length, unsigned.bytes.len());
    // Sequence number, IV, content, tag.
    let frame = 4 + 12 + 4096 + 16;
    let body = unsigned.body();
    let with = |body: &[&[u8]]| [&unsigned.bytes[..head], &body.concat()].concat();
    let (first, second, rest) = (&body[..frame], &body[frame..2 * frame], &body[2 * frame..]);
    let footer = signed.bytes.len() - 20;
    let own_footer = &signed.bytes[last_frame_end(&signed)..];
    let foreign_footer = &other.bytes[last_frame_end(&other)..];
    let cases = [
        ("nothing", Vec::new(), ErrorCode::HeaderMalformed),
        ("half a header", unsigned.bytes[..head / 2].to_vec(), ErrorCode::HeaderMalformed),
        ("no body", unsigned.bytes[..head].to_vec(), ErrorCode::PayloadTruncated),
        ("half a frame", unsigned.bytes[..head + 100].to_vec(), ErrorCode::PayloadTruncated),
        ("no last frame", with(&[first, second]), ErrorCode::PayloadTruncated),
        ("a byte too few", unsigned.bytes[..length - 1].to_vec(), ErrorCode::PayloadTruncated),
        ("no footer", signed.bytes[..last_frame_end(&signed)].to_vec(), ErrorCode::PayloadTruncated),
        ("half a footer", signed.bytes[..footer].to_vec(), ErrorCode::PayloadTruncated),
        ("a flipped version", flipped(&unsigned, 0), ErrorCode::HeaderMalformed),
        ("a flipped message id", flipped(&unsigned, 10), ErrorCode::PayloadTampered),
        ("a flipped commitment", flipped(&unsigned, head - 20), ErrorCode::PayloadTampered),
        ("a flipped header tag", flipped(&unsigned, head - 1), ErrorCode::PayloadTampered),
        ("a flipped frame", flipped(&unsigned, head + 500), ErrorCode::PayloadTampered),
        ("a flipped last tag", flipped(&unsigned, length - 1), ErrorCode::PayloadTampered),
        ("a flipped signature", flipped(&signed, footer), ErrorCode::PayloadSignature),
        (
            "the signature of another message",
            [&signed.bytes[..signed.bytes.len() - own_footer.len()], foreign_footer].concat(),
            ErrorCode::PayloadSignature,
        ),
        ("two messages", [&unsigned.bytes[..], &unsigned.bytes].concat(), ErrorCode::PayloadTrailing),
        ("a byte too many", [&unsigned.bytes[..], b"\0"].concat(), ErrorCode::PayloadTrailing),
        ("frames out of order", with(&[second, first, rest]), ErrorCode::PayloadMalformed),
        ("a frame twice", with(&[first, first, second, rest]), ErrorCode::PayloadMalformed),
        ("a frame left out", with(&[first, rest]), ErrorCode::PayloadMalformed),
        ("no message at all", b"{\"id\":1}\n".repeat(100), ErrorCode::HeaderMalformed),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(code(requester.run("a", digest_job(), &bytes).await), expected, "{name}");
    }
    for good in [&unsigned, &signed] {
        assert!(requester.run("a", digest_job(), &good.bytes).await.is_ok());
    }
    world.stop().await;
}

/// Where the footer of a signed message begins: its length is in its first two bytes.
fn last_frame_end(message: &Message) -> usize {
    let bytes = &message.bytes;
    // An ECDSA P-384 signature in DER has 102 to 104 bytes.
    (100..106)
        .map(|length| bytes.len() - 2 - length)
        .find(|at| usize::from(u16::from_be_bytes([bytes[*at], bytes[at + 1]])) == bytes.len() - 2 - at)
        .expect("a footer")
}

#[tokio::test]
async fn headers_beyond_every_measure_are_refused_by_name() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let good = Recipe::of("a").seal(&owner, &world.key(), b"data").await;
    let at = layout(&good.bytes);

    // A context of 64 KiB: right in every pair that the policy looks at, and not what the key is bound to.
    let filler = Recipe {
        pairs: (0..65).map(|n| (format!("x{n:02}"), "y".repeat(if n == 64 { 700 } else { 990 }))).collect(),
        ..Recipe::of("a")
    };
    let context = filler.context().serialize_canonical();
    assert!((63 << 10..1 << 16).contains(&context.len()), "{}", context.len());
    let mut long = good.bytes[..at.context].to_vec();
    long.extend(u16::try_from(context.len()).expect("it fits").to_be_bytes());
    long.extend(&context);
    long.extend(&good.bytes[at.keys..]);

    let put = |at: usize, new: &[u8]| {
        let mut bytes = good.bytes.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let mut many_keys = put(at.keys, &[0xff, 0xff]);
    many_keys.extend(vec![0; 400_000]);
    let cases = [
        ("64 KiB of context", long, ErrorCode::WrappedKeyRejected),
        ("a context that leads past the end", put(at.context, &[0xff, 0xff]), ErrorCode::HeaderMalformed),
        ("65,535 encrypted data keys", many_keys, ErrorCode::HeaderTooLarge),
        ("no encrypted data key", put(at.keys, &[0, 0]), ErrorCode::HeaderMalformed),
        ("frames of 0 bytes", put(at.frame_length, &[0; 4]), ErrorCode::HeaderMalformed),
        ("frames of 4 GiB", put(at.frame_length, &[0xff; 4]), ErrorCode::PayloadTampered),
        ("an unknown suite", put(1, &[0x12, 0x34]), ErrorCode::SuiteRefused),
        // AES-256-GCM with a signature, without commitment: it has another header, version 1.
        ("a suite of version 1", put(1, &[0x03, 0x78]), ErrorCode::HeaderMalformed),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(code(requester.run("a", digest_job(), &bytes).await), expected, "{name}");
    }
    assert!(requester.run("a", digest_job(), &good.bytes).await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn a_context_that_is_not_the_policys_or_the_claims_is_refused_before_kms_is_asked() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let good = Recipe::of("a").seal(&owner, &world.key(), b"data").await;
    let decrypts = || world.audit().iter().filter(|line| line["eventName"] == "Decrypt").count();
    let cases = [
        ("another purpose", replace(&good.bytes, b"payments", b"payrolls"), ErrorCode::ContextRefused),
        ("another tenant", replace(&good.bytes, b"acme", b"acne"), ErrorCode::ClaimMismatch),
        (
            "a version that is no number",
            replace(&good.bytes, b"version\0\x011", b"version\0\x01x"),
            ErrorCode::ContextRefused,
        ),
        (
            "a version below the floor",
            replace(&good.bytes, b"version\0\x011", b"version\0\x010"),
            ErrorCode::VersionTooOld,
        ),
        ("no purpose", replace(&good.bytes, b"purpose", b"purpisa"), ErrorCode::ContextRefused),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(code(requester.run("a", digest_job(), &bytes).await), expected, "{name}");
    }
    assert_eq!(decrypts(), 0);
    assert!(requester.run("a", digest_job(), &good.bytes).await.is_ok());
    assert_eq!(decrypts(), 1);
    world.stop().await;
}

#[tokio::test]
async fn records_that_are_not_of_the_declared_format_are_refused_by_name() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let good = b"{\"id\":\"1\",\"email\":\"a@example.com\"}\n";
    let after_good = |bad: &[u8]| [&good[..], bad, b"\n"].concat();
    let long = format!("{{\"id\":\"{}\",\"email\":\"x\"}}", "z".repeat(5 << 20));
    let deep = format!("{{\"id\":{}1{},\"email\":\"x\"}}", "[".repeat(10_000), "]".repeat(10_000));
    let ndjson = [
        ("not UTF-8", after_good(b"{\"id\":\"\xff\xfe\",\"email\":\"x\"}"), ErrorCode::RecordMalformed),
        ("not JSON", after_good(b"id=1, email=x"), ErrorCode::RecordMalformed),
        ("no object", after_good(b"[1,2]"), ErrorCode::RecordMalformed),
        ("cut short", after_good(b"{\"id\":\"1\",\"em"), ErrorCode::RecordMalformed),
        ("5 MiB long", after_good(long.as_bytes()), ErrorCode::RecordTooLarge),
        ("10,000 deep", after_good(deep.as_bytes()), ErrorCode::RecordTooDeep),
        ("an object to mask", after_good(b"{\"id\":\"1\",\"email\":{\"a\":1}}"), ErrorCode::FieldType),
    ];
    let csv = [
        ("a short row", b"id,email\n1,a@example.com\n2\n".to_vec(), ErrorCode::RecordMalformed),
        ("a long row", b"id,email\n1,a@example.com,3\n".to_vec(), ErrorCode::RecordMalformed),
        ("an open quote", b"id,email\n1,\"a@example.com\n".to_vec(), ErrorCode::RecordMalformed),
        ("no such column", b"id,mail\n1,a@example.com\n".to_vec(), ErrorCode::FieldMissing),
    ];
    let all = ndjson
        .into_iter()
        .map(|case| (Input::Ndjson, case))
        .chain(csv.into_iter().map(|case| (Input::Csv, case)));
    for (input, (name, records, expected)) in all {
        let message = Recipe { frame_length: 65536, ..Recipe::of("a") };
        let message = message.seal(&owner, &world.key(), &records).await;
        let refused = requester.run("a", mask_job(input), &message.bytes).await;
        assert_eq!(code(refused), expected, "{input:?}, {name}");
    }
    let message = Recipe::of("a").seal(&owner, &world.key(), good).await;
    let done = requester.run("a", mask_job(Input::Ndjson), &message.bytes).await.expect("a good job");
    assert_eq!(done.output, b"{\"id\":\"1\",\"email\":\"*************\"}\n");
    assert_eq!((done.receipt.receipt.records_in, done.receipt.receipt.records_out), (1, Some(1)));
    world.stop().await;
}

#[tokio::test]
async fn jobs_that_make_no_sense_or_ask_for_too_much_are_refused_by_name() {
    let world = World::start().await;
    let (requester, owner) = (world.requester(), world.kms("owner").await);
    let message = Recipe::of("a").seal(&owner, &world.key(), b"{\"id\":\"1\"}\n").await;
    let select = |fields: &[&str]| Step::Select(fields.iter().map(|field| path(field)).collect());
    let ndjson = |steps| job(Input::Ndjson, steps);
    let cases: [(_, Job, ErrorCode); 6] = [
        ("no steps", ndjson(vec![]), ErrorCode::ReleaseFieldRefused),
        ("no select", ndjson(vec![Step::Drop(vec![path("name")])]), ErrorCode::ReleaseFieldRefused),
        (
            "a field that is gone",
            ndjson(vec![select(&["id"]), Step::Drop(vec![path("id")]), select(&["id"])]),
            ErrorCode::JobInvalid,
        ),
        ("records of raw bytes", job(Input::Raw, vec![select(&["id"])]), ErrorCode::JobInvalid),
        ("a field in no rule", ndjson(vec![select(&["id", "name"])]), ErrorCode::ReleaseFieldRefused),
        ("a field unmasked", ndjson(vec![select(&["id", "email"])]), ErrorCode::ReleaseFieldRefused),
    ];
    for (name, job, expected) in cases {
        assert_eq!(code(requester.run("a", job, &message.bytes).await), expected, "{name}");
    }
    world.stop().await;
}
