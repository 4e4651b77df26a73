//! Deadlines, to the second: the clock is paused, so waiting takes no time.

use std::time::Duration;

use adyton_shared::ErrorCode;
use adyton_shared::frame::Kind;
use adyton_shared::job::Input;
use adyton_shared::message::{FromEnclave, ToEnclave};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::world::{Talk, World, digest, job, message, select};

/// Before the next message, as docs/protocol.md §2 says.
const IDLE: Duration = Duration::from_secs(30);
/// For the rest of a frame.
const FRAME: Duration = Duration::from_secs(10);
/// Between the frames of a payload.
const PAYLOAD: Duration = Duration::from_mins(2);
const MOMENT: Duration = Duration::from_millis(10);

/// Waits for the refusal and says when it came.
async fn refused_after(talk: &mut Talk, since: Instant) -> (ErrorCode, Duration) {
    let code = talk.code().await;
    (code, since.elapsed())
}

#[track_caller]
fn assert_deadline((code, after): (ErrorCode, Duration), deadline: Duration) {
    assert_eq!(code, ErrorCode::DeadlineExceeded);
    assert!(after >= deadline && after < deadline + MOMENT, "{after:?} instead of {deadline:?}");
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_cut_off_after_thirty_seconds_and_not_before() {
    let running = World::new().serve().await;
    let mut talk = running.dial();
    for byte in 1..4 {
        sleep(IDLE.saturating_sub(MOMENT)).await;
        talk.say(&ToEnclave::Attest { nonce: vec![byte; 16].try_into().unwrap() }).await;
        assert!(matches!(talk.hear().await, FromEnclave::Document { .. }));
    }
    let since = Instant::now();
    assert_deadline(refused_after(&mut talk, since).await, IDLE);
    assert!(talk.hangs_up().await);
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_message_that_comes_byte_by_byte_has_ten_seconds() {
    let running = World::new().serve().await;
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    running.arrive(Ok(Box::new(far)));
    sleep(IDLE.saturating_sub(MOMENT)).await;
    let since = Instant::now();
    let (read, mut write) = tokio::io::split(&mut near);
    let slowly = async {
        for byte in [1, 0, 0, 0, 200].into_iter().chain([0; 60]) {
            write.write_all(&[byte]).await.unwrap();
            sleep(Duration::from_millis(300)).await;
        }
    };
    let mut bytes = Vec::new();
    let mut reader = adyton_shared::frame::FrameReader::new(read, crate::world::PATIENT);
    tokio::select! {
        read = reader.next(&mut bytes) => assert_eq!(read.unwrap(), Kind::Control),
        () = slowly => panic!("all of it was taken"),
    }
    let FromEnclave::Refused(refusal) = adyton_shared::message::decode(&bytes).unwrap() else {
        panic!("no refusal")
    };
    assert_deadline((refusal.code, since.elapsed()), FRAME);
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_payload_may_drip_for_longer_than_its_request_lives_but_not_stop() {
    let running = World::new().serve().await;
    let plaintext = vec![7; 600_000];
    let payload = message(&plaintext);
    let (request, mut talk) = (running.request(digest()), running.dial());
    talk.start(&request).await;
    for part in payload.chunks(50_000) {
        sleep(PAYLOAD.saturating_sub(MOMENT)).await;
        talk.send(Kind::Data, part).await.unwrap();
    }
    sleep(PAYLOAD.saturating_sub(MOMENT)).await;
    talk.send(Kind::End, &[]).await.unwrap();
    let done = talk.finish(&request).await.unwrap();
    let millis = done.receipt.finished - done.receipt.started;
    assert!(millis > 13 * 119_000, "{millis} ms, in which the request has expired and credentials too");

    // The next message of the same conversation has thirty seconds again.
    let since = Instant::now();
    assert_deadline(refused_after(&mut talk, since).await, IDLE);

    // Silence: at once, within the header, between frames of the message, before the end frame.
    for sent in [0, 20, 80_000, payload.len()] {
        let mut talk = running.dial();
        talk.start(&running.request(digest())).await;
        for part in payload[..sent].chunks(200_000) {
            talk.send(Kind::Data, part).await.unwrap();
        }
        let since = Instant::now();
        assert_deadline(refused_after(&mut talk, since).await, PAYLOAD);
        assert!(talk.hangs_up().await, "{sent} bytes");
    }
}

// S-3
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_its_result_gives_its_turn_up() {
    let running = World::new().edited("jobs = 4", "jobs = 1").serve().await;
    // Below a mebibyte: what hashes a longer payload on a thread of its own stops the paused clock.
    let records = message(&b"{\"id\":\"0123456789\"}\n".repeat(40_000));
    let mut deaf = running.dial();
    deaf.start(&running.request(job(Input::Ndjson, vec![select(&["id"])]))).await;
    let send = async {
        for part in records.chunks(200_000) {
            if deaf.send(Kind::Data, part).await.is_err() {
                return;
            }
        }
        panic!("all of it was taken although nothing of the result was");
    };
    let since = Instant::now();
    // The other job waits for its turn meanwhile, and that has a deadline of ten seconds too.
    let other = async {
        sleep(Duration::from_secs(1)).await;
        running.run().await
    };
    let ((), done) = tokio::join!(send, other);
    assert!(done.is_ok(), "{done:?}");
    assert!(since.elapsed() >= FRAME, "{:?}", since.elapsed());
}

// S-3
#[tokio::test(start_paused = true)]
async fn who_goes_on_sending_after_a_refusal_is_heard_for_two_seconds() {
    let running = World::new().serve().await;
    let mut talk = running.dial();
    let stranger = adyton_shared::request::Request {
        requester: "stranger".parse().unwrap(),
        ..running.request(digest())
    };
    talk.start(&stranger).await;
    let since = Instant::now();
    while talk.send(Kind::Data, &[0; 1000]).await.is_ok() {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(since.elapsed() <= Duration::from_millis(2200), "{:?}", since.elapsed());
    assert_eq!(talk.code().await, ErrorCode::RequesterUnknown, "the refusal is still there to read");
}

// S-4
#[tokio::test(start_paused = true)]
async fn a_job_waits_ten_seconds_for_its_turn_and_is_told_when_to_come_again() {
    let running = World::new().edited("jobs = 4", "jobs = 1").serve().await;
    let mut holder = running.dial();
    holder.start(&running.request(digest())).await;
    let since = Instant::now();
    let refused = running.run().await.unwrap_err();
    assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::Busy, Some(2000)));
    assert!(since.elapsed() >= Duration::from_secs(10) && since.elapsed() < Duration::from_secs(10) + MOMENT);
    drop(holder);
    assert!(running.run().await.is_ok());
}
