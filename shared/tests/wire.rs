//! The wire of version 1, byte for byte: an old peer must be able to read it for ever.
//!
//! Expected bytes are put together here by hand from RFC 8949 and docs/protocol.md, never by the
//! code that they test. A new message gets a line in its table; a line that is there never changes.

use std::collections::BTreeMap;
use std::fmt::Debug;

use adyton_shared::cbor;
use adyton_shared::context::EncryptionContext;
use adyton_shared::id::{EnclaveId, JobId, PolicyDigest, RequesterKey, RequesterName, Sha256Digest};
use adyton_shared::job::{
    Aggregate, Destination, DigestAlgorithm, FieldPath, Input, Job, Keyed, Mask, Quantile, Quantiles, Rename,
    Step,
};
use adyton_shared::message::{
    self, Credentials, Done, FromEnclave, FromParent, KeyAnswer, KeyQuestion, MessageError, Refusal,
    ResultKey, SealedRequest, ToEnclave, ToParent,
};
use adyton_shared::receipt::{Receipt, UnverifiedReceipt};
use adyton_shared::request::{Request, UnverifiedRequest};
use adyton_shared::statement::{Purpose, Statement, release_digest};
use adyton_shared::{ErrorCode, KeyArn};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;

// What RFC 8949 §3 says, as far as the protocol uses it.

fn head(major: u8, value: u64) -> Vec<u8> {
    let major = major << 5;
    match value {
        0..=23 => vec![major | u8::try_from(value).unwrap()],
        24..=0xff => vec![major | 0x18, u8::try_from(value).unwrap()],
        0x100..=0xffff => [vec![major | 0x19], u16::try_from(value).unwrap().to_be_bytes().to_vec()].concat(),
        0x1_0000..=0xffff_ffff => {
            [vec![major | 0x1a], u32::try_from(value).unwrap().to_be_bytes().to_vec()].concat()
        }
        _ => [vec![major | 0x1b], value.to_be_bytes().to_vec()].concat(),
    }
}

fn uint(value: u64) -> Vec<u8> {
    head(0, value)
}

fn bytes(content: &[u8]) -> Vec<u8> {
    [head(2, content.len() as u64), content.to_vec()].concat()
}

fn text(content: &str) -> Vec<u8> {
    [head(3, content.len() as u64), content.as_bytes().to_vec()].concat()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len() as u64), items.concat()].concat()
}

/// In the order as written.
fn map(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let pairs_bytes = pairs.iter().flat_map(|(key, value)| [text(key), value.clone()]);
    [head(5, pairs.len() as u64), pairs_bytes.collect::<Vec<_>>().concat()].concat()
}

fn null() -> Vec<u8> {
    vec![0xf6]
}

fn version_1(name: &str, content: Vec<u8>) -> Vec<u8> {
    array(&[uint(1), map(&[(name, content)])])
}

fn golden<M: Serialize + DeserializeOwned + PartialEq + Debug>(message: &M, expected: &[u8]) {
    assert_eq!(hex::encode(message::encode(message).unwrap()), hex::encode(expected), "{message:?}");
    assert_eq!(message::decode::<M>(expected).as_ref(), Ok(message));
}

#[test]
fn what_the_parent_says_to_the_enclave() {
    let nonce = vec![7; 16];
    golden(
        &ToEnclave::Attest { nonce: nonce.clone().try_into().unwrap() },
        &version_1("attest", map(&[("nonce", bytes(&nonce))])),
    );
    // As docs/protocol.md §3 prints it.
    let printed = [b"\x82\x01\xa1\x66attest\xa1\x65nonce\x50".as_slice(), &[7; 16]].concat();
    assert_eq!(version_1("attest", map(&[("nonce", bytes(&nonce))])), printed);
    golden(
        &ToEnclave::Job { request: ByteBuf::from(vec![1; 300]) },
        &version_1("job", map(&[("request", bytes(&[1; 300]))])),
    );
    let sealed = SealedRequest { encapsulated: [2; 32], sealed: ByteBuf::from(vec![3; 1024]) };
    let fields = [("encapsulated", bytes(&[2; 32])), ("sealed", bytes(&[3; 1024]))];
    golden(&ToEnclave::SealedJob(sealed), &version_1("sealed_job", map(&fields)));
}

#[test]
fn what_the_enclave_says_to_the_parent() {
    golden(
        &FromEnclave::Document { document: ByteBuf::from(vec![9; 4000]) },
        &version_1("document", map(&[("document", bytes(&[9; 4000]))])),
    );
    // The key of a result cannot be made outside; this is how it comes.
    let done = version_1("done", map(&[("key", bytes(&[5; 32])), ("receipt", bytes(b"receipt"))]));
    let read: FromEnclave = message::decode(&done).unwrap();
    assert!(matches!(&read, FromEnclave::Done(Done { receipt, .. }) if receipt == b"receipt"));
    assert_eq!(message::encode(&read).unwrap(), done);
    for length in [0, 31, 33] {
        let other = version_1("done", map(&[("key", bytes(&vec![5; length])), ("receipt", bytes(b""))]));
        assert!(message::decode::<FromEnclave>(&other).is_err(), "a key of {length} bytes");
    }

    golden(
        &FromEnclave::SealedDone { sealed: ByteBuf::from(vec![4; 500]) },
        &version_1("sealed_done", map(&[("sealed", bytes(&[4; 500]))])),
    );

    let refused = |code: u64, record, step, retry_after| {
        let fields =
            [("code", uint(code)), ("record", record), ("step", step), ("retry_after_ms", retry_after)];
        version_1("refused", map(&fields))
    };
    golden(&FromEnclave::Refused(ErrorCode::Busy.into()), &refused(106, null(), null(), null()));
    let whole = Refusal {
        code: ErrorCode::FieldType,
        record: Some(u64::MAX),
        step: Some(2),
        retry_after_ms: Some(2000),
    };
    golden(&FromEnclave::Refused(whole), &refused(503, uint(u64::MAX), uint(2), uint(2000)));
    assert!(message::decode::<FromEnclave>(&refused(1, null(), null(), null())).is_err(), "no such code");
}

#[test]
fn every_code_is_sent_as_its_number() {
    for code in ErrorCode::ALL {
        let sent = version_1(
            "refused",
            map(&[
                ("code", uint(u64::from(code.number()))),
                ("record", null()),
                ("step", null()),
                ("retry_after_ms", null()),
            ]),
        );
        golden(&FromEnclave::Refused((*code).into()), &sent);
    }
}

#[test]
fn what_is_said_on_the_port_of_credentials() {
    golden(&ToParent::Want {}, &version_1("want", map(&[])));
    let unavailable = version_1("unavailable", map(&[]));
    assert_eq!(message::encode(&FromParent::Unavailable {}).unwrap(), unavailable);
    assert!(matches!(message::decode(&unavailable), Ok(FromParent::Unavailable {})));
    for (token, expires) in [(Some("token"), Some(1_780_272_000_000)), (None, None)] {
        let credentials = Credentials {
            access_key_id: "ASIA".into(),
            secret_access_key: "secret".into(),
            session_token: token.map(str::to_owned),
            expires_unix_ms: expires,
        };
        let expected = version_1(
            "credentials",
            map(&[
                ("access_key_id", text("ASIA")),
                ("secret_access_key", text("secret")),
                ("session_token", token.map_or_else(null, text)),
                ("expires_unix_ms", expires.map_or_else(null, uint)),
            ]),
        );
        assert_eq!(message::encode(&FromParent::Credentials(credentials)).unwrap(), expected);
        let Ok(FromParent::Credentials(read)) = message::decode(&expected) else { panic!("credentials") };
        assert_eq!((read.session_token.as_deref(), read.expires_unix_ms), (token, expires));
        assert_eq!((&*read.access_key_id, &*read.secret_access_key), ("ASIA", "secret"));
    }
}

#[test]
fn what_is_said_on_the_port_of_named_keys() {
    let question =
        KeyQuestion::Wrapped { name: "token".parse().unwrap(), source: "file:token.key".parse().unwrap() };
    let fields = [("name", text("token")), ("source", text("file:token.key"))];
    golden(&question, &version_1("wrapped", map(&fields)));
    let answer = KeyAnswer::Wrapped { blob: ByteBuf::from(vec![1; 200]) };
    golden(&answer, &version_1("wrapped", map(&[("blob", bytes(&[1; 200]))])));
    golden(&KeyAnswer::Missing {}, &version_1("missing", map(&[])));
}

#[test]
fn a_message_of_another_version_is_told_from_one_that_is_malformed() {
    for version in (0..=255).filter(|version| *version != 1) {
        let expected = MessageError::Version(u8::try_from(version).unwrap());
        for content in [text("anything at all"), map(&[("want", map(&[]))])] {
            let other = array(&[uint(version), content]);
            assert_eq!(message::decode::<ToParent>(&other), Err(expected), "{version}");
        }
    }
    let good = version_1("want", map(&[]));
    let cases = [
        ("nothing", Vec::new()),
        ("an unknown message", version_1("stop", map(&[]))),
        ("an unknown field", version_1("want", map(&[("x", null())]))),
        ("two messages", array(&[uint(1), map(&[("want", map(&[])), ("want", map(&[]))])])),
        ("three items", array(&[uint(1), map(&[("want", map(&[]))]), null()])),
        ("one item", array(&[uint(1)])),
        ("no array", map(&[("want", map(&[]))])),
        ("a byte too many", [&good[..], &[0]].concat()),
        ("a byte too few", good[..good.len() - 1].to_vec()),
        ("a long form of 1", [&[0x82, 0x18, 0x01], &good[2..]].concat()),
        ("an endless array", [&[0x9f], &good[1..], &[0xff]].concat()),
        ("a tag", [&[0xc1], &good[..]].concat()),
    ];
    for (name, bytes) in cases {
        let read = message::decode::<ToParent>(&bytes);
        assert!(matches!(read, Err(MessageError::Malformed(_))), "{name}: {read:?}");
    }
}

fn path(text: &str) -> FieldPath {
    FieldPath::parse(text).unwrap()
}

fn job() -> Job {
    Job {
        version: 1,
        input: Input::Ndjson,
        steps: vec![
            Step::Select(vec![path("id"), path("card.pan")]),
            Step::Mask(Mask { fields: vec![path("card.pan")], keep_last: 4 }),
            Step::Drop(vec![path("\"a.b\"[].c")]),
            Step::Digest(DigestAlgorithm::Sha256),
        ],
        to: Destination::Parent,
    }
}

fn job_golden() -> Vec<u8> {
    let mask = map(&[("fields", array(&[text("card.pan")])), ("keep_last", uint(4))]);
    map(&[
        ("version", uint(1)),
        ("input", text("ndjson")),
        (
            "step",
            array(&[
                map(&[("select", array(&[text("id"), text("card.pan")]))]),
                map(&[("mask", mask)]),
                map(&[("drop", array(&[text("\"a.b\"[].c")]))]),
                map(&[("digest", text("sha-256"))]),
            ]),
        ),
        ("to", text("parent")),
    ])
}

#[test]
fn a_job_and_its_digest() {
    assert_eq!(hex::encode(cbor::encode(&job()).unwrap()), hex::encode(job_golden()));
    assert_eq!(cbor::decode::<Job>(&job_golden()), Ok(job()));
    assert_eq!(job().digest(), Ok(Sha256Digest::of(&job_golden())));
    let keyed = || Keyed { fields: vec![path("id")], key: "k".parse().unwrap() };
    let keyed_golden = map(&[("fields", array(&[text("id")])), ("key", text("k"))]);
    let renamed = map(&[("from", text("a.b")), ("to", text("a.c"))]);
    let aggregate = Aggregate {
        by: vec![path("country")],
        count: true,
        sum: vec![path("a")],
        min: vec![path("b")],
        max: vec![path("c")],
        mean: vec![path("d")],
        distinct: vec![path("e")],
        quantiles: None,
    };
    let aggregated = map(&[
        ("by", array(&[text("country")])),
        ("count", vec![0xf5]),
        ("sum", array(&[text("a")])),
        ("min", array(&[text("b")])),
        ("max", array(&[text("c")])),
        ("mean", array(&[text("d")])),
        ("distinct", array(&[text("e")])),
    ]);
    let at = [0.5, 0.9, 0.000_001, 1.0].map(|at| Quantile::try_from(at).unwrap());
    let quantiles = Aggregate {
        quantiles: Some(Quantiles { fields: vec![path("a"), path("b.c")], at: at.to_vec() }),
        ..Aggregate::default()
    };
    // A quantile is the shortest float that has its value (RFC 8949 §4.2.2).
    let at = [
        vec![0xf9, 0x38, 0x00],
        [vec![0xfb], 0.9_f64.to_be_bytes().to_vec()].concat(),
        [vec![0xfb], 0.000_001_f64.to_be_bytes().to_vec()].concat(),
        vec![0xf9, 0x3c, 0x00],
    ];
    let quantiles_golden =
        map(&[("quantiles", map(&[("fields", array(&[text("a"), text("b.c")])), ("at", array(&at))]))]);
    for (step, expected) in [
        (Step::Filter("id == 1".into()), map(&[("filter", text("id == 1"))])),
        (Step::Aggregate(Box::new(aggregate)), map(&[("aggregate", aggregated)])),
        (Step::Aggregate(Box::new(quantiles)), map(&[("aggregate", quantiles_golden)])),
        (Step::Rename(Rename { from: path("a.b"), to: path("a.c") }), map(&[("rename", renamed)])),
        (Step::Token(keyed()), map(&[("token", keyed_golden.clone())])),
        (Step::Hash(keyed()), map(&[("hash", keyed_golden.clone())])),
    ] {
        assert_eq!(cbor::encode(&step).unwrap(), expected);
        assert_eq!(cbor::decode(&expected), Ok(step));
    }
    for (input, name) in
        [(Input::Raw, "raw"), (Input::Json, "json"), (Input::Ndjson, "ndjson"), (Input::Csv, "csv")]
    {
        let empty = Job { version: 1, input, steps: Vec::new(), to: Destination::Parent };
        let golden = map(&[("version", uint(1)), ("input", text(name)), ("to", text("parent"))]);
        assert_eq!(cbor::encode(&empty).unwrap(), golden);
    }
}

#[test]
fn every_destination_is_one_text() {
    for name in [
        "parent",
        "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa",
        "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001",
    ] {
        let to: Destination = name.parse().unwrap();
        assert_eq!(cbor::encode(&to).unwrap(), text(name));
        assert_eq!(cbor::decode(&text(name)), Ok(to));
    }
}

fn signer() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[5; 32]).unwrap()
}

fn public_key() -> [u8; 32] {
    signer().public_key().as_ref().try_into().unwrap()
}

/// A tagged `COSE_Sign1` by hand (RFC 9052 §4.2 and §4.4).
fn sign1(domain: &[u8], unprotected: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    let protected = b"\xa1\x01\x27";
    let to_sign = array(&[text("Signature1"), bytes(protected), bytes(domain), bytes(payload)]);
    let signature = signer().sign(&to_sign);
    let items = [bytes(protected), unprotected, bytes(payload), bytes(signature.as_ref())];
    [vec![0xd2], array(&items)].concat()
}

fn request() -> Request {
    let claim = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Request {
        version: 1,
        id: JobId::new([1; 16]),
        requester: "billing".parse().unwrap(),
        enclave: EnclaveId::new([2; 32]),
        issued: 1_780_272_000,
        expires: 1_780_272_060,
        claims: BTreeMap::from([claim("tenant", "acme"), claim("object", "customers")]),
        job: job(),
    }
}

fn request_golden() -> Vec<u8> {
    map(&[
        ("version", uint(1)),
        ("id", bytes(&[1; 16])),
        ("requester", text("billing")),
        ("enclave", bytes(&[2; 32])),
        ("issued", uint(1_780_272_000)),
        ("expires", uint(1_780_272_060)),
        ("claims", map(&[("object", text("customers")), ("tenant", text("acme"))])),
        ("job", job_golden()),
    ])
}

#[test]
fn a_request_and_its_signature() {
    let expected = sign1(b"adyton request 1", map(&[]), &request_golden());
    assert_eq!(hex::encode(request().sign(&signer()).unwrap()), hex::encode(&expected));
    let read = UnverifiedRequest::parse(&expected).unwrap();
    assert_eq!(read.verify(&RequesterKey::new(public_key())), Ok(request()));
}

fn receipt(records_out: Option<u64>) -> Receipt {
    Receipt {
        version: 1,
        job: JobId::new([1; 16]),
        requester: "billing".parse().unwrap(),
        job_digest: Sha256Digest::new([3; 32]),
        input_digest: Sha256Digest::new([4; 32]),
        input_bytes: 70_000,
        output_digest: Sha256Digest::new([5; 32]),
        output_bytes: 300,
        key: KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap(),
        to: Destination::Parent,
        policy: PolicyDigest::new([6; 48]),
        records_in: 1000,
        records_out,
        started: 1_780_272_000_000,
        finished: 1_780_272_000_250,
    }
}

fn receipt_golden(records_out: Option<u64>) -> Vec<u8> {
    map(&[
        ("version", uint(1)),
        ("job", bytes(&[1; 16])),
        ("requester", text("billing")),
        ("job_digest", bytes(&[3; 32])),
        ("input_digest", bytes(&[4; 32])),
        ("input_bytes", uint(70_000)),
        ("output_digest", bytes(&[5; 32])),
        ("output_bytes", uint(300)),
        ("key", text("arn:aws:kms:eu-west-1:111122223333:key/1")),
        ("to", text("parent")),
        ("policy", bytes(&[6; 48])),
        ("records_in", uint(1000)),
        ("records_out", records_out.map_or_else(null, uint)),
        ("started", uint(1_780_272_000_000)),
        ("finished", uint(1_780_272_000_250)),
    ])
}

#[test]
fn a_receipt_and_its_signature() {
    for records_out in [Some(999), None] {
        let document = map(&[("attestation", bytes(b"document"))]);
        let expected = sign1(b"adyton receipt 1", document, &receipt_golden(records_out));
        let signed = receipt(records_out).sign(&signer(), b"document".to_vec()).unwrap();
        assert_eq!(hex::encode(signed), hex::encode(&expected));
        let read = UnverifiedReceipt::parse(&expected).unwrap();
        assert_eq!(read.document(), b"document");
        assert_eq!(read.verify(&EnclaveId::new(public_key())), Ok(receipt(records_out)));
    }
}

// T-3
#[test]
fn a_statement_and_the_digest_of_a_release() {
    for (purpose, number) in [(Purpose::Identity, 1), (Purpose::Release, 2)] {
        let statement = Statement { purpose, subject: [8; 32], policy: PolicyDigest::new([9; 48]) };
        let expected = [&b"adyton attestation\0\x01"[..], &[number], &[8; 32], &[9; 48]].concat();
        assert_eq!(statement.to_bytes(), expected);
    }
    let key = "arn:aws:kms:eu-west-1:111122223333:key/1";
    let mut hashed = b"adyton kms request 1\0".to_vec();
    for part in [&b"Decrypt"[..], key.as_bytes(), b"blob", b"\0\x01\0\x01a\0\x01b"] {
        hashed.extend((part.len() as u64).to_be_bytes());
        hashed.extend(part);
    }
    let context = EncryptionContext::from_pairs([("a", "b")]).unwrap();
    let digest = release_digest("Decrypt", &KeyArn::parse(key).unwrap(), b"blob", &context);
    assert_eq!(digest, Sha256Digest::of(&hashed));
}

fn paths() -> impl Strategy<Value = Vec<FieldPath>> {
    let name = prop_oneof!["[a-z]{0,6}", "\\PC{0,6}"];
    let path = prop::collection::vec((name, 0..3_usize), 1..4).prop_map(|segments| {
        let quoted = |(name, each): (String, usize)| {
            format!("\"{}\"{}", name.replace('\\', "\\\\").replace('"', "\\\""), "[]".repeat(each))
        };
        path(&segments.into_iter().map(quoted).collect::<Vec<_>>().join("."))
    });
    prop::collection::vec(path, 0..4)
}

fn jobs() -> impl Strategy<Value = Job> {
    let step = prop_oneof![
        paths().prop_map(Step::Select),
        paths().prop_map(Step::Drop),
        (paths(), any::<u8>()).prop_map(|(fields, keep_last)| Step::Mask(Mask { fields, keep_last })),
        Just(Step::Digest(DigestAlgorithm::Sha256)),
    ];
    let input = prop_oneof![Just(Input::Raw), Just(Input::Json), Just(Input::Ndjson), Just(Input::Csv)];
    (any::<u8>(), input, prop::collection::vec(step, 0..5)).prop_map(|(version, input, steps)| Job {
        version,
        input,
        steps,
        to: Destination::Parent,
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let name = "[a-z0-9._-]{1,64}".prop_map(|name| RequesterName::try_from(name).unwrap());
    let claims = prop::collection::btree_map("\\PC{0,20}", "\\PC{0,20}", 0..5);
    (any::<[u8; 16]>(), name, any::<[u8; 32]>(), any::<[u64; 2]>(), claims, jobs()).prop_map(
        |(id, requester, enclave, [issued, expires], claims, job)| Request {
            version: 1,
            id: JobId::new(id),
            requester,
            enclave: EnclaveId::new(enclave),
            issued,
            expires,
            claims,
            job,
        },
    )
}

fn receipts() -> impl Strategy<Value = Receipt> {
    (any::<[[u8; 32]; 3]>(), any::<[u8; 48]>(), any::<[u64; 5]>(), any::<Option<u64>>()).prop_map(
        |([job, input, output], policy, [input_bytes, output_bytes, records_in, started, finished], out)| {
            Receipt {
                job_digest: Sha256Digest::new(job),
                input_digest: Sha256Digest::new(input),
                input_bytes,
                output_digest: Sha256Digest::new(output),
                output_bytes,
                policy: PolicyDigest::new(policy),
                records_in,
                started,
                finished,
                ..receipt(out)
            }
        },
    )
}

fn to_enclave() -> impl Strategy<Value = ToEnclave> {
    let nonce = prop::collection::vec(any::<u8>(), 16..=512);
    prop_oneof![
        nonce.prop_map(|nonce| ToEnclave::Attest { nonce: nonce.try_into().unwrap() }),
        prop::collection::vec(any::<u8>(), 0..2000)
            .prop_map(|request| ToEnclave::Job { request: ByteBuf::from(request) }),
    ]
}

fn from_enclave() -> impl Strategy<Value = FromEnclave> {
    let refusal = (
        prop::sample::select(ErrorCode::ALL),
        any::<Option<u64>>(),
        any::<Option<u16>>(),
        any::<Option<u64>>(),
    );
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000)
            .prop_map(|document| FromEnclave::Document { document: ByteBuf::from(document) }),
        refusal.prop_map(|(code, record, step, retry_after_ms)| {
            FromEnclave::Refused(Refusal { code, record, step, retry_after_ms })
        }),
        (any::<[u8; 32]>(), prop::collection::vec(any::<u8>(), 0..2000)).prop_map(|(key, receipt)| {
            let key: ResultKey = cbor::decode(&bytes(&key)).unwrap();
            FromEnclave::Done(Done { key, receipt: ByteBuf::from(receipt) })
        }),
    ]
}

/// Whatever decodes has no other encoding, so nothing can be said in two ways.
fn decodes_to_itself_or_not_at_all<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(message) = message::decode::<M>(bytes) {
        assert_eq!(message::encode(&message).unwrap(), bytes);
    }
}

/// Hands bytes to every decoder; none may panic.
fn decode_as_everything(bytes: &[u8]) {
    decodes_to_itself_or_not_at_all::<ToEnclave>(bytes);
    decodes_to_itself_or_not_at_all::<FromEnclave>(bytes);
    decodes_to_itself_or_not_at_all::<ToParent>(bytes);
    decodes_to_itself_or_not_at_all::<FromParent>(bytes);
    decodes_to_itself_or_not_at_all::<KeyQuestion>(bytes);
    decodes_to_itself_or_not_at_all::<KeyAnswer>(bytes);
    if let Ok(job) = cbor::decode::<Job>(bytes) {
        assert_eq!(cbor::encode(&job).unwrap(), bytes);
    }
    let _ = UnverifiedRequest::parse(bytes).map(|read| read.verify(&RequesterKey::new(public_key())));
    let _ = UnverifiedReceipt::parse(bytes).map(|read| read.verify(&EnclaveId::new(public_key())));
    let _ = Statement::parse(bytes);
}

/// A good encoding with some of its bytes changed, left out or doubled.
fn damaged(mut good: Vec<u8>, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    for (at, kind, byte) in damage {
        if good.is_empty() {
            return good;
        }
        let at = at.index(good.len());
        match kind % 3 {
            0 => good[at] = *byte,
            1 => drop(good.remove(at)),
            _ => good.insert(at, *byte),
        }
    }
    good
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn messages_come_back_as_they_were(to in to_enclave(), from in from_enclave()) {
        prop_assert_eq!(message::decode::<ToEnclave>(&message::encode(&to).unwrap()), Ok(to));
        prop_assert_eq!(message::decode::<FromEnclave>(&message::encode(&from).unwrap()), Ok(from));
    }

    #[test]
    fn requests_come_back_as_they_were(request in requests()) {
        let signed = request.sign(&signer()).unwrap();
        let read = UnverifiedRequest::parse(&signed).unwrap();
        prop_assert_eq!(read.requester_unverified(), &request.requester);
        prop_assert_eq!(read.verify(&RequesterKey::new(public_key())), Ok(request));
    }

    #[test]
    fn receipts_come_back_as_they_were(receipt in receipts(), document in prop::collection::vec(any::<u8>(), 0..500)) {
        let signed = receipt.sign(&signer(), document.clone()).unwrap();
        let read = UnverifiedReceipt::parse(&signed).unwrap();
        prop_assert_eq!(read.document(), &document[..]);
        prop_assert_eq!(read.verify(&EnclaveId::new(public_key())), Ok(receipt));
    }

    #[test]
    fn statements_come_back_as_they_were(subject in any::<[u8; 32]>(), policy in any::<[u8; 48]>(), release in any::<bool>()) {
        let purpose = if release { Purpose::Release } else { Purpose::Identity };
        let statement = Statement { purpose, subject, policy: PolicyDigest::new(policy) };
        prop_assert_eq!(Statement::parse(&statement.to_bytes()), Ok(statement));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_as_everything(&bytes);
        decode_as_everything(&[&[0x82, 0x01][..], &bytes].concat());
        decode_as_everything(&[&[0xd2, 0x84, 0x43, 0xa1, 0x01, 0x27, 0xa0][..], &bytes].concat());
    }

    #[test]
    fn no_damage_to_good_bytes_makes_a_decoder_panic_or_verifies(
        request in requests(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let good = request.sign(&signer()).unwrap();
        let message = message::encode(&ToEnclave::Job { request: ByteBuf::from(good.clone()) }).unwrap();
        decode_as_everything(&damaged(message, &damage));
        decode_as_everything(&damaged(cbor::encode(&request.job).unwrap(), &damage));
        let receipt = receipt(Some(1)).sign(&signer(), vec![1; 40]).unwrap();
        decode_as_everything(&damaged(receipt, &damage));
        let bad = damaged(good.clone(), &damage);
        decode_as_everything(&bad);
        if bad != good {
            let verified = UnverifiedRequest::parse(&bad).and_then(|it| it.verify(&RequesterKey::new(public_key())));
            prop_assert!(verified.is_err());
        }
    }
}
