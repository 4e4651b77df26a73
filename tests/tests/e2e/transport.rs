//! The transport: bounds, deadlines, and messages that are none.

use std::sync::Arc;
use std::time::Duration;

use adyton_parent::client::{ClientError, Conversation};
use adyton_shared::ErrorCode;
use adyton_shared::frame::{Deadlines, FrameReader, FrameWriter, Kind};
use adyton_shared::id::{EnclaveId, Nonce};
use adyton_shared::message::{self, FromEnclave, ToEnclave};
use adyton_tests::client::{Requester, code, digest_job};
use adyton_tests::hostile::{HostileParent, Wallet};
use adyton_tests::message::Recipe;
use adyton_tests::process::PATIENCE;
use adyton_tests::world::World;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const DEADLINES: Deadlines = Deadlines { idle: PATIENCE, frame: PATIENCE };
/// As in the enclave's `service.rs`.
const MAX_CONVERSATIONS: usize = 256;

/// What the enclave says next: a refusal's code, or that it hung up.
async fn refusal(stream: impl AsyncRead + Unpin) -> Option<ErrorCode> {
    let mut bytes = Vec::new();
    FrameReader::new(stream, DEADLINES).next(&mut bytes).await.ok()?;
    match message::decode(&bytes) {
        Ok(FromEnclave::Refused(refusal)) => Some(refusal.code),
        other => panic!("no refusal: {other:?}"),
    }
}

async fn refused_bytes(requester: &Requester, bytes: &[u8]) -> Option<ErrorCode> {
    let mut stream = requester.dial().await;
    stream.write_all(bytes).await.expect("sent");
    refusal(stream).await
}

async fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    FrameWriter::new(&mut bytes, DEADLINES).send(kind, payload).await.expect("a frame");
    bytes
}

// S-9, S-10
#[tokio::test]
async fn frames_and_messages_that_are_none_are_refused_by_name() {
    let world = World::start().await;
    let requester = world.requester();
    let attest = ToEnclave::Attest { nonce: Nonce::try_from(vec![1; 32]).expect("a nonce") };
    let attest = message::encode(&attest).expect("encoded");
    let good = frame(Kind::Control, &attest).await;
    let mut corrupt = good.clone();
    corrupt[10] ^= 1;
    let mut other_version = attest.clone();
    other_version[1] = 2;
    let mut trailing = attest.clone();
    trailing.push(0);
    let cases = [
        ("a data frame of 4 GiB", vec![2, 0xff, 0xff, 0xff, 0xff], ErrorCode::FrameTooLarge),
        ("a control frame over its limit", vec![1, 0, 2, 0, 0], ErrorCode::FrameTooLarge),
        ("an end with content", vec![3, 0, 0, 0, 1], ErrorCode::FrameTooLarge),
        ("an unknown kind", vec![9, 0, 0, 0, 0, 0, 0, 0, 0], ErrorCode::MalformedMessage),
        ("a flipped bit", corrupt, ErrorCode::CorruptFrame),
        ("a control frame of length 0", frame(Kind::Control, &[]).await, ErrorCode::MalformedMessage),
        ("no CBOR", frame(Kind::Control, b"\xff\xff").await, ErrorCode::MalformedMessage),
        ("a byte too many", frame(Kind::Control, &trailing).await, ErrorCode::MalformedMessage),
        ("another version", frame(Kind::Control, &other_version).await, ErrorCode::UnsupportedVersion),
        ("data before a job", frame(Kind::Data, b"data").await, ErrorCode::UnexpectedMessage),
        ("the end before a job", frame(Kind::End, &[]).await, ErrorCode::UnexpectedMessage),
    ];
    for (name, bytes, expected) in cases {
        assert_eq!(refused_bytes(&requester, &bytes).await, Some(expected), "{name}");
    }
    assert!(requester.challenge().await.is_ok(), "the next client is served");
    world.stop().await;
}

// S-3
#[tokio::test]
async fn who_sends_a_byte_a_second_or_half_a_handshake_is_cut_off() {
    let world = World::start().await;
    let requester = world.requester();
    let (read, mut write) = tokio::io::split(requester.dial().await);
    let slowly = async {
        // The pace of the attack, not a wait for something.
        for byte in [1, 0, 0, 0, 32].into_iter().chain([0; 60]) {
            if write.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let half_open = async {
        let mut stream = UnixStream::connect(world.state.socket()).await.expect("connected");
        stream.write_all(b"CONNECT 50").await.expect("sent");
        let mut sink = [0];
        timeout(PATIENCE, stream.read(&mut sink)).await.expect("it is cut off").unwrap_or_default()
    };
    let cut_off = async {
        tokio::select! {
            code = refusal(read) => code,
            () = slowly => None,
        }
    };
    let (code, read) = tokio::join!(cut_off, half_open);
    assert_eq!(code, Some(ErrorCode::DeadlineExceeded));
    assert_eq!(read, 0);
    world.stop().await;
}

// S-2, S-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_have_an_exact_bound_and_silent_ones_block_nobody_below_it() {
    const BEYOND: usize = 40;
    let world = World::start().await;
    let requester = Arc::new(world.requester());
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let id = requester.enclave().await;

    let mut silent = Vec::new();
    for _ in 0..MAX_CONVERSATIONS - 10 {
        silent.push(requester.dial().await);
    }
    // S-2: as many slow clients do not block one more.
    let done = requester.send(id, "a", digest_job(), &message.bytes[..], requester.dial().await).await;
    done.expect("a job beside silent clients");

    // S-6: beyond the bound clients are told so, at once.
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut waiting = JoinSet::new();
    for _ in 0..10 + BEYOND {
        let (stream, tell) = (requester.dial().await, tell.clone());
        waiting.spawn(async move { tell.send(refusal(stream).await) });
    }
    // The job's own place may not be free again when the first of them arrives.
    let mut refused = 0;
    while refused < BEYOND {
        let code = timeout(PATIENCE, told.recv()).await.expect("an answer").expect("a client");
        assert_eq!(code, Some(ErrorCode::Busy));
        refused += 1;
    }
    drop(silent);
    waiting.shutdown().await;

    // And the enclave recovers.
    loop {
        match requester.challenge().await {
            Ok(_) => break,
            Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::Busy => {}
            Err(ClientError::Frame(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    let done = requester.send(id, "a", digest_job(), &message.bytes[..], requester.dial().await).await;
    done.expect("a job afterwards");
    world.stop().await;
}

// S-4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_at_once_are_exactly_as_many_as_the_policy_says() {
    const JOBS: usize = 3;
    const MORE: usize = 2;
    let world = World::start().await;
    let enclave = world.enclave(|policy| policy.replace("jobs = 16", "jobs = 3")).await;
    let wallet = Wallet::Profile(world.info.credentials_file.clone(), "enclave");
    let parent = HostileParent::start(&enclave.socket, world.info.kms_port, wallet);
    let requester = Arc::new(world.requester_at(&enclave.socket));
    let message = Recipe::of("a").seal(&world.kms("owner").await, &enclave.key, b"data").await;
    let id = requester.enclave().await;

    // All of them stop in the middle of their payload.
    let (mut running, mut payloads) = (JoinSet::new(), Vec::new());
    for _ in 0..JOBS + MORE {
        let (payload, mut rest) = tokio::io::simplex(message.bytes.len());
        rest.write_all(&message.bytes[..20]).await.expect("sent");
        payloads.push(rest);
        let requester = Arc::clone(&requester);
        running.spawn(async move {
            let stream = requester.dial().await;
            requester.send(id, "a", digest_job(), payload, stream).await
        });
    }
    for _ in 0..MORE {
        let ended = timeout(PATIENCE, running.join_next()).await.expect("one is refused");
        let refused = ended.expect("a job").expect("no panic");
        match refused {
            Err(ClientError::Refused(refusal)) => {
                assert_eq!(refusal.code, ErrorCode::Busy);
                assert!(refusal.retry_after_ms.is_some());
            }
            other => panic!("not refused: {other:?}"),
        }
    }
    for mut rest in payloads {
        rest.write_all(&message.bytes[20..]).await.expect("sent");
        rest.shutdown().await.expect("ended");
    }
    let mut done = 0;
    while let Some(ended) = running.join_next().await {
        ended.expect("no panic").expect("a job within the bound is done");
        done += 1;
    }
    assert_eq!(done, JOBS);

    // Stress: many more than the bound, all short, all served in their turn.
    let mut many = JoinSet::new();
    for _ in 0..60 {
        let (requester, bytes) = (Arc::clone(&requester), message.bytes.clone());
        many.spawn(async move {
            let stream = requester.dial().await;
            requester.send(id, "a", digest_job(), &bytes[..], stream).await
        });
    }
    for ended in many.join_all().await {
        ended.expect("a job is done");
    }
    drop(parent);
    world.stop().await;
}

// S-7
#[tokio::test]
async fn a_request_for_another_enclave_is_refused_wherever_it_is_delivered() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let (process, socket, _) = world.launch(&policy, &[], &[]).await.expect("the same image again");
    let parent = world.parent(&socket).await;
    let (own, other) = (world.requester(), world.requester_at(&socket));
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let id = own.enclave().await;
    let (request, signed) = own.sign(id, "a", digest_job());
    let misled = other.carry(&request, signed.clone(), &message.bytes[..], other.dial().await).await;
    assert_eq!(code(misled), ErrorCode::WrongEnclave);
    let nobody = own.send(EnclaveId::new([0; 32]), "a", digest_job(), &message.bytes[..], own.dial().await);
    assert_eq!(code(nobody.await), ErrorCode::WrongEnclave);
    // Being misled has not used the request up.
    own.carry(&request, signed, &message.bytes[..], own.dial().await).await.expect("delivered rightly");
    parent.stop().await;
    process.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn requests_that_the_parent_made_or_changed_are_refused_by_name() {
    let world = World::start().await;
    let requester = world.requester();
    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), b"data").await;
    let id = requester.enclave().await;
    let (request, signed) = requester.sign(id, "a", digest_job());
    let mut forged = signed.clone();
    *forged.last_mut().expect("a signature") ^= 1;
    let sent = requester.carry(&request, forged, &message.bytes[..], requester.dial().await).await;
    assert_eq!(code(sent), ErrorCode::RequestSignature);
    let sent = requester.carry(&request, signed[..60].to_vec(), &message.bytes[..], requester.dial().await);
    assert_eq!(code(sent.await), ErrorCode::RequestMalformed);

    let altered = |change: &dyn Fn(&mut adyton_shared::request::Request)| {
        let (mut request, _) = requester.sign(id, "a", digest_job());
        change(&mut request);
        let signed = request.sign(&requester.key).expect("signed");
        (request, signed)
    };
    let cases: [(_, ErrorCode); 5] = [
        (altered(&|it| it.requester = "stranger".parse().expect("a name")), ErrorCode::RequesterUnknown),
        (altered(&|it| it.expires = it.issued.saturating_sub(1)), ErrorCode::RequestLifetime),
        (
            altered(&|it| {
                it.issued -= 1000;
                it.expires = it.issued + 10;
            }),
            ErrorCode::RequestExpired,
        ),
        (
            altered(&|it| {
                it.issued += 1000;
                it.expires += 1000;
            }),
            ErrorCode::RequestLifetime,
        ),
        (altered(&|it| it.expires = it.issued + 1000), ErrorCode::RequestLifetime),
    ];
    for ((request, signed), expected) in cases {
        let sent = requester.carry(&request, signed, &message.bytes[..], requester.dial().await).await;
        assert_eq!(code(sent), expected);
    }
    world.stop().await;
}

#[tokio::test]
async fn one_conversation_serves_one_message_after_the_other() {
    let world = World::start().await;
    let requester = world.requester();
    let mut conversation = Conversation::new(requester.dial().await);
    for byte in 1..4 {
        let nonce = Nonce::try_from(vec![byte; 32]).expect("a nonce");
        conversation.attest(nonce).await.expect("a document");
    }
    world.stop().await;
}
