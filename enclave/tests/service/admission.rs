//! Admission: each reason for which a request is refused, by its own code.

use adyton_enclave::admit::Admitted;
use adyton_shared::ErrorCode;
use adyton_shared::cbor;
use adyton_shared::cose;
use adyton_shared::id::{EnclaveId, JobId};
use adyton_shared::job::{DigestAlgorithm, FieldPath, Input, Job, Keyed, Mask, Rename, Step};
use adyton_shared::message::Refusal;
use adyton_shared::request::Request;
use serde_cbor::Value;

use crate::world::{Running, World, digest, job, key, select};

const DOMAIN: &[u8] = b"adyton request 1";

async fn verdict(running: &Running, request: &Request) -> ErrorCode {
    running.submit(request.sign(&key(1)).unwrap()).await.code
}

/// What an admitted request with an empty payload ends in.
const ADMITTED: ErrorCode = ErrorCode::HeaderMalformed;

// K-10
#[tokio::test(start_paused = true)]
async fn a_request_that_is_none_is_malformed() {
    let running = World::new().serve().await;
    let good = running.request(digest());
    let signed = good.sign(&key(1)).unwrap();
    let by_hand = |content: Vec<u8>| cose::sign(DOMAIN, content, &key(1), None).unwrap();
    let edited = |edit: &dyn Fn(&mut Request)| {
        let mut request = running.request(digest());
        edit(&mut request);
        by_hand(cbor::encode(&request).unwrap())
    };
    let Value::Map(mut fields) = serde_cbor::value::to_value(&good).unwrap() else { panic!("a map") };
    fields.insert(Value::Text("region".into()), Value::Text("us-east-1".into()));
    let unknown_field = by_hand(serde_cbor::to_vec(&fields).unwrap());
    fields.remove(&Value::Text("region".into()));
    fields.insert(Value::Text("job".into()), Value::Text("digest".into()));
    let other_job = by_hand(serde_cbor::to_vec(&fields).unwrap());
    let content = cbor::encode(&good).unwrap();
    let attested = cose::sign(DOMAIN, content.clone(), &key(1), Some(b"document".to_vec())).unwrap();
    let cases = [
        ("nothing", Vec::new()),
        ("no CBOR", vec![0xff; 40]),
        ("half of it", signed[..signed.len() / 2].to_vec()),
        ("without its tag", signed[1..].to_vec()),
        ("a byte too many", [&signed[..], &[0]].concat()),
        ("content with a byte too many", by_hand([&content[..], &[0]].concat())),
        ("an attestation document attached", attested),
        ("an unknown field", unknown_field),
        ("a job of another type", other_job),
        ("version 0", edited(&|it| it.version = 0)),
        ("version 2", edited(&|it| it.version = 2)),
        ("too many claims", edited(&|it| it.claims.extend((0..40).map(|n| (n.to_string(), String::new()))))),
        ("a claim too long", edited(&|it| drop(it.claims.insert("x".into(), "y".repeat(1025))))),
    ];
    for (name, signed) in cases {
        assert_eq!(running.submit(signed).await, ErrorCode::RequestMalformed.into(), "{name}");
    }
    assert_eq!(running.submit(signed).await.code, ADMITTED);
}

#[tokio::test(start_paused = true)]
async fn only_requesters_of_the_policy_and_only_their_own_signatures_count() {
    let running = World::new().serve().await;
    let mut stranger = running.request(digest());
    stranger.requester = "stranger".parse().unwrap();
    assert_eq!(verdict(&running, &stranger).await, ErrorCode::RequesterUnknown);

    let request = running.request(digest());
    let by_another = request.sign(&key(2)).unwrap();
    assert_eq!(running.submit(by_another).await.code, ErrorCode::RequestSignature);
    let content = cbor::encode(&request).unwrap();
    let as_receipt = cose::sign(b"adyton receipt 1", content, &key(1), None).unwrap();
    assert_eq!(running.submit(as_receipt).await.code, ErrorCode::RequestSignature);
    let mut damaged = request.sign(&key(1)).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(running.submit(damaged).await.code, ErrorCode::RequestSignature);

    assert_eq!(verdict(&running, &request).await, ADMITTED, "its id has not been used up");
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_request_has_exact_edges() {
    let running = World::new().serve().await;
    let now = running.request(digest()).issued;
    let cases = [
        (now, now + 1, ADMITTED),
        (now, now, ErrorCode::RequestExpired),
        (now - 900, now, ErrorCode::RequestExpired),
        (now - 899, now + 1, ADMITTED),
        (0, 900, ErrorCode::RequestExpired),
        (now, now + 900, ADMITTED),
        (now, now + 901, ErrorCode::RequestLifetime),
        (now + 60, now + 70, ADMITTED),
        (now + 61, now + 70, ErrorCode::RequestLifetime),
        (now + 60, now + 960, ADMITTED),
        (now, now - 1, ErrorCode::RequestLifetime),
        (0, u64::MAX, ErrorCode::RequestLifetime),
        (u64::MAX, u64::MAX, ErrorCode::RequestLifetime),
        (u64::MAX, 0, ErrorCode::RequestLifetime),
    ];
    for (issued, expires, expected) in cases {
        let request = Request { issued, expires, ..running.request(digest()) };
        assert_eq!(verdict(&running, &request).await, expected, "{issued} to {expires}, now {now}");
    }
}

// K-14
#[tokio::test(start_paused = true)]
async fn an_id_is_served_once_while_its_request_lives() {
    let running = World::new().serve().await;
    let request = running.request(digest());
    assert_eq!(verdict(&running, &request).await, ADMITTED);
    assert_eq!(verdict(&running, &request).await, ErrorCode::RequestReplayed);
    let other =
        Request { id: request.id, job: job(Input::Csv, vec![select(&["id"])]), ..running.request(digest()) };
    assert_eq!(verdict(&running, &other).await, ErrorCode::RequestReplayed, "the id counts, not the rest");
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    assert_eq!(verdict(&running, &request).await, ErrorCode::RequestExpired);
}

// S-7
#[tokio::test(start_paused = true)]
async fn a_request_for_another_enclave_is_refused_and_not_used_up() {
    let (one, two) = (World::new().serve().await, World::new().serve().await);
    assert_ne!(one.id, two.id);
    let request = one.request(digest());
    assert_eq!(verdict(&two, &request).await, ErrorCode::WrongEnclave);
    let nobody = Request { enclave: EnclaveId::new([0; 32]), ..one.request(digest()) };
    assert_eq!(verdict(&one, &nobody).await, ErrorCode::WrongEnclave);
    assert_eq!(verdict(&one, &request).await, ADMITTED);
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn mask(field: &str, keep_last: u8) -> Step {
    Step::Mask(Mask { fields: vec![path(field)], keep_last })
}

#[tokio::test(start_paused = true)]
async fn a_job_that_contradicts_itself_is_refused_with_the_number_of_its_step() {
    let running = World::new().serve().await;
    let drop = |field: &str| Step::Drop(vec![path(field)]);
    let hash = || Step::Digest(DigestAlgorithm::Sha256);
    let rename = |from: &str, to: &str| Step::Rename(Rename { from: path(from), to: path(to) });
    let many = |count| (0..count).map(|n| path(&format!("f{n}"))).collect::<Vec<_>>();
    let ndjson = |steps| job(Input::Ndjson, steps);
    let cases: Vec<(Job, Option<u16>)> = vec![
        (ndjson(vec![drop("id"), select(&["id"])]), Some(2)),
        (ndjson(vec![select(&["id"]), select(&["pan"])]), Some(2)),
        (ndjson(vec![select(&["id"]), mask("pan", 4)]), Some(2)),
        (ndjson(vec![select(&["id", "id.a"])]), Some(1)),
        (ndjson(vec![select(&["id"]), hash()]), Some(2)),
        (ndjson(vec![hash(), select(&["id"])]), Some(2)),
        (ndjson(vec![select(&["id"]), Step::Drop(Vec::new())]), Some(2)),
        (ndjson(vec![Step::Select(many(257))]), Some(1)),
        (job(Input::Raw, vec![select(&["id"])]), Some(1)),
        (ndjson(vec![select(&["id"]), rename("id", "id.a")]), Some(2)),
        (ndjson(vec![select(&["id", "pan"]), rename("id", "pan")]), Some(2)),
        (ndjson(vec![select(&["id"]); 65]), None),
        (Job { version: 2, ..digest() }, None),
    ];
    for (job, step) in cases {
        let text = format!("{job:?}");
        let refused = running.submit(running.request(job).sign(&key(1)).unwrap()).await;
        assert_eq!(refused, Refusal { step, ..ErrorCode::JobInvalid.into() }, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_single_release_rule_lets_out_is_refused() {
    let running = World::new().serve().await;
    let of_auditor = |job| Request { requester: "auditor".parse().unwrap(), ..running.request(job) };
    let digest_of_auditor = of_auditor(digest()).sign(&key(2)).unwrap();
    assert_eq!(running.submit(digest_of_auditor).await, ErrorCode::ReleaseNoRule.into());
    let fields_of_billing = of_auditor(job(Input::Ndjson, vec![select(&["id"]), mask("id", 0)]));
    assert_eq!(running.submit(fields_of_billing.sign(&key(2)).unwrap()).await.code, ADMITTED);

    let ndjson = |steps| running.request(job(Input::Ndjson, steps));
    let rename = Step::Rename(Rename { from: path("name"), to: path("id") });
    let token = Step::Token(Keyed { fields: vec![path("id")], key: "nobody".parse().unwrap() });
    let cases = [
        (Vec::new(), ErrorCode::ReleaseFieldRefused),
        (vec![Step::Drop(vec![path("pan")])], ErrorCode::ReleaseFieldRefused),
        (vec![rename, select(&["id"])], ErrorCode::ReleaseFieldRefused),
        (vec![select(&["id"]), token], ErrorCode::KeyUnknown),
        (vec![select(&["name"])], ErrorCode::ReleaseFieldRefused),
        (vec![select(&["id", "name"])], ErrorCode::ReleaseFieldRefused),
        (vec![select(&["pan"])], ErrorCode::ReleaseFieldRefused),
        (vec![select(&["pan"]), mask("pan", 5)], ErrorCode::ReleaseFieldRefused),
        (vec![mask("pan.a", 0), select(&["pan"])], ErrorCode::ReleaseFieldRefused),
        (vec![select(&["pan"]), mask("pan", 4)], ADMITTED),
        (vec![mask("pan", 0), select(&["id", "pan"])], ADMITTED),
    ];
    for (steps, expected) in cases {
        let text = format!("{steps:?}");
        assert_eq!(verdict(&running, &ndjson(steps)).await, expected, "{text}");
    }
    let stranger = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa".parse().unwrap();
    let elsewhere = running.request(Job { to: stranger, ..digest() });
    assert_eq!(verdict(&running, &elsewhere).await, ErrorCode::ReleaseNoRule);
}

// K-5
#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_claim_what_must_be_signed_is_refused_before_its_payload() {
    let running = World::new().serve().await;
    for claim in ["tenant", "object"] {
        let mut request = running.request(digest());
        request.claims.remove(claim);
        assert_eq!(verdict(&running, &request).await, ErrorCode::ClaimMismatch, "{claim}");
        request.claims.insert(claim.into(), "acme".into());
        assert_eq!(verdict(&running, &request).await, ADMITTED, "and its id has not been used up");
    }
    assert_eq!(running.world.parent.calls.load(std::sync::atomic::Ordering::Relaxed), 0, "KMS heard nothing");
}

// K-14
#[tokio::test(start_paused = true)]
async fn when_no_more_ids_can_be_remembered_requests_are_refused_until_some_expire() {
    const REMEMBERED: u32 = 65_536;
    let running = World::new().serve().await;
    let numbered = |number: u32| {
        let mut id = [0xEE; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Request { id: JobId::new(id), ..running.request(digest()) }
    };
    for number in 0..REMEMBERED {
        let signed = numbered(number).sign(&key(1)).unwrap();
        assert!(Admitted::admit(&running.enclave, &signed).await.is_ok(), "{number}");
    }
    let one_more = numbered(REMEMBERED);
    assert_eq!(verdict(&running, &one_more).await, ErrorCode::ReplayMemoryFull);
    assert_eq!(
        verdict(&running, &numbered(0)).await,
        ErrorCode::RequestReplayed,
        "none was forgotten for it"
    );
    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    assert_eq!(verdict(&running, &numbered(REMEMBERED)).await, ADMITTED);
}
