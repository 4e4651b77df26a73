//! Conversations: what may be said when, and that no conversation harms another.

use std::io;
use std::sync::atomic::Ordering;

use adyton_enclave::event::Event;
use adyton_shared::ErrorCode;
use adyton_shared::frame::Kind;
use adyton_shared::id::Sha256Digest;
use adyton_shared::job::{Input, Mask, Step};
use adyton_shared::message::{self, FromEnclave, Refusal, ToEnclave};
use tokio::task::yield_now;

use crate::world::{Attests, Talk, World, digest, job, message, select};

/// As in the enclave's `service.rs`.
const MAX_CONVERSATIONS: usize = 256;

fn challenge(byte: u8) -> ToEnclave {
    ToEnclave::Attest { nonce: vec![byte; 16].try_into().unwrap() }
}

#[tokio::test(start_paused = true)]
async fn one_conversation_serves_challenges_and_jobs_one_after_the_other() {
    let running = World::new().serve().await;
    let mut talk = running.dial();
    for byte in 1..3 {
        talk.say(&challenge(byte)).await;
        assert!(matches!(talk.hear().await, FromEnclave::Document { .. }));
        let request = running.request(digest());
        let done = talk.run(&request, &message(b"data")).await.unwrap();
        assert_eq!(done.output, format!("{}\n", Sha256Digest::of(b"data")).into_bytes());
        assert_eq!((done.receipt.job, done.receipt.requester), (request.id, request.requester));
    }
    let mask = Step::Mask(Mask { fields: vec!["pan".to_owned().try_into().unwrap()], keep_last: 4 });
    let request = running.request(job(Input::Ndjson, vec![select(&["id", "pan"]), mask]));
    let payload = message(br#"{"id":1,"pan":"4111111111111111","name":"x"}"#);
    let done = talk.run(&request, &payload).await.unwrap();
    assert_eq!(done.output, b"{\"id\":1,\"pan\":\"************1111\"}\n");
    assert_eq!(running.world.events.all().iter().filter(|e| matches!(e, Event::JobDone { .. })).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_comes_out_of_turn_or_is_no_message_ends_the_conversation_by_name() {
    let running = World::new().serve().await;
    let attest = message::encode(&challenge(1)).unwrap();
    let mut other_version = attest.clone();
    other_version[1] = 2;
    let from_enclave = message::encode(&FromEnclave::Refused(ErrorCode::Busy.into())).unwrap();
    let cases = [
        ("data before a job", Kind::Data, b"data".to_vec(), ErrorCode::UnexpectedMessage),
        ("the end before a job", Kind::End, Vec::new(), ErrorCode::UnexpectedMessage),
        ("another version", Kind::Control, other_version, ErrorCode::UnsupportedVersion),
        ("another version of anything", Kind::Control, vec![0x82, 0x17, 0xff], ErrorCode::UnsupportedVersion),
        ("version 0", Kind::Control, vec![0x82, 0x00], ErrorCode::UnsupportedVersion),
        ("no content", Kind::Control, Vec::new(), ErrorCode::MalformedMessage),
        ("no CBOR", Kind::Control, vec![0xff; 9], ErrorCode::MalformedMessage),
        ("only a version", Kind::Control, vec![0x82, 0x01], ErrorCode::MalformedMessage),
        ("a byte too many", Kind::Control, [&attest[..], &[0]].concat(), ErrorCode::MalformedMessage),
        ("the enclave's own words", Kind::Control, from_enclave, ErrorCode::MalformedMessage),
    ];
    for (name, kind, payload, expected) in cases {
        let mut talk = running.dial();
        talk.send(kind, &payload).await.unwrap();
        assert_eq!(talk.refusal().await, expected.into(), "{name}");
        assert!(talk.hangs_up().await, "{name}");
        assert_eq!(running.world.events.all().last(), Some(&Event::Refused(expected)), "{name}");
    }
    assert!(running.run().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_message_in_the_middle_of_a_payload_ends_the_job() {
    let running = World::new().serve().await;
    let payload = message(&vec![7; 100_000]);
    // Before the header is complete, and after the first frame has been opened.
    for sent in [0, 20, 80_000] {
        let mut talk = running.dial();
        talk.start(&running.request(digest())).await;
        talk.send(Kind::Data, &payload[..sent]).await.unwrap();
        talk.say(&challenge(1)).await;
        assert_eq!(talk.code().await, ErrorCode::UnexpectedMessage, "after {sent} bytes");
        assert!(talk.hangs_up().await);
    }
    assert!(running.run().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_in_the_middle_of_its_payload_holds_nothing_up() {
    let running = World::new().edited("jobs = 4", "jobs = 1").serve().await;
    let payload = message(&vec![7; 100_000]);
    for sent in [0, 20, 80_000] {
        let mut talk = running.dial();
        talk.start(&running.request(digest())).await;
        talk.send(Kind::Data, &payload[..sent]).await.unwrap();
        drop(talk);
        assert!(running.run().await.is_ok(), "the only turn is free again");
    }
    assert_eq!(running.world.events.count(Event::Refused(ErrorCode::Cancelled)), 3);
}

#[tokio::test(start_paused = true)]
async fn a_panic_on_the_way_to_the_parent_is_one_refusal_and_harms_nobody() {
    // Without a cache the call runs within the conversation, with one in a task of its own.
    for age in ["age_seconds = 0", "age_seconds = 1"] {
        let running = World::new().edited("age_seconds = 0", age).serve().await;
        let mut bystander = running.dial();
        running.world.parent.panics.store(true, Ordering::Relaxed);
        let refused = running.run().await.unwrap_err();
        assert_eq!(refused, Refusal::from(ErrorCode::Internal), "{age}");
        running.world.parent.panics.store(false, Ordering::Relaxed);
        assert!(running.run().await.is_ok(), "{age}");
        bystander.say(&challenge(1)).await;
        assert!(matches!(bystander.hear().await, FromEnclave::Document { .. }), "{age}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_or_a_failure_of_the_device_is_one_refusal_and_harms_nobody() {
    for broken in [Attests::Panics, Attests::Fails] {
        let running = World::new().serve().await;
        running.world.nsm.attests(broken);
        let mut talk = running.dial();
        talk.say(&challenge(1)).await;
        assert_eq!(talk.refusal().await, ErrorCode::AttestationUnavailable.into(), "{broken:?}");
        let refused = running.run().await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::AttestationUnavailable, "{broken:?}");
        assert_eq!(running.world.parent.calls.load(Ordering::Relaxed), 0, "KMS heard nothing");
        running.world.nsm.attests(Attests::Well);
        assert!(running.run().await.is_ok(), "{broken:?}");
    }
}

/// Has the enclave's tasks run until it waits for something outside.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

// S-2, S-6
#[tokio::test(start_paused = true)]
async fn there_are_exactly_so_many_conversations_and_a_place_that_is_left_is_taken_again() {
    let running = World::new().serve().await;
    let mut open: Vec<Talk> = (0..MAX_CONVERSATIONS).map(|_| running.dial()).collect();
    for _ in 0..3 {
        let mut beyond = running.dial();
        assert_eq!(beyond.refusal().await, ErrorCode::Busy.into());
        assert!(beyond.hangs_up().await);
    }
    // The last within the bound is served; silent ones block nobody.
    let last = open.last_mut().unwrap();
    last.say(&challenge(1)).await;
    assert!(matches!(last.hear().await, FromEnclave::Document { .. }));
    drop(open.pop());
    settle().await;
    let done = running.run().await;
    assert!(done.is_ok(), "{done:?}");
    drop(open);
}

#[tokio::test(start_paused = true)]
async fn a_client_beyond_the_bound_that_reads_nothing_is_left_alone() {
    let running = World::new().serve().await;
    let open: Vec<Talk> = (0..MAX_CONVERSATIONS).map(|_| running.dial()).collect();
    let (deaf, far) = tokio::io::duplex(1);
    running.arrive(Ok(Box::new(far)));
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    drop((open, deaf));
    settle().await;
    assert!(running.run().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failing_listener_is_reported_and_tried_again() {
    let running = World::new().serve().await;
    for _ in 0..3 {
        running.arrive(Err(io::ErrorKind::ConnectionAborted.into()));
    }
    assert!(running.run().await.is_ok());
    assert_eq!(running.world.events.count(Event::AcceptFailed), 3);
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_every_conversation_and_releases_nothing() {
    let running = World::new().serve().await;
    let (mut idle, mut busy) = (running.dial(), running.dial());
    busy.start(&running.request(digest())).await;
    busy.send(Kind::Data, &message(&vec![7; 100_000])[..80_000]).await.unwrap();
    settle().await;
    running.stop.send(()).unwrap();
    running.service.await.unwrap();
    assert!(idle.hangs_up().await && busy.hangs_up().await);
    assert_eq!(running.world.events.all(), [Event::Listening, Event::Stopping]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_listening_is_a_shutdown() {
    let running = World::new().serve().await;
    let mut idle = running.dial();
    settle().await;
    drop(running.arrivals);
    running.service.await.unwrap();
    assert!(idle.hangs_up().await);
    assert_eq!(running.world.events.all(), [Event::Listening, Event::Stopping]);
}
