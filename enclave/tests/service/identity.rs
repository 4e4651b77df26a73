//! The identity document and the clock over hours and days, in paused time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use adyton_enclave::event::Event;
use adyton_shared::ErrorCode;
use adyton_shared::frame::Kind;
use adyton_shared::request::Request;
use tokio::time::{Instant, sleep};

use crate::world::{Attests, Running, World, digest, key, message};

const RENEWAL: Duration = Duration::from_mins(5);
const MAX_AGE: Duration = Duration::from_mins(30);
const MOMENT: Duration = Duration::from_millis(10);
/// Released keys are kept, so that jobs need no document but the receipt's.
const CACHED: &str = "age_seconds = 100000";
/// An admitted request with an empty payload ends in it.
const ADMITTED: ErrorCode = ErrorCode::HeaderMalformed;

async fn serve_with_cache() -> Running {
    World::new().edited("age_seconds = 0", CACHED).serve().await
}

// T-7
#[tokio::test(start_paused = true)]
async fn the_document_is_renewed_every_five_minutes() {
    let running = serve_with_cache().await;
    running.run().await.unwrap();
    let mut last = Instant::now();
    // At start, for the challenge, for the first release; from here on only renewals.
    for renewal in 1..=50 {
        running.world.nsm.documents(3 + renewal).await;
        let since = last.elapsed();
        assert!(since + MOMENT >= RENEWAL && since < RENEWAL + MOMENT, "{since:?}");
        last = Instant::now();
        sleep(MOMENT).await;
        let done = running.run().await.unwrap();
        let age = running.world.nsm.now_ms() - done.document_ms;
        assert!(age < 1000, "renewal {renewal}: the receipt's document is {age} ms old");
    }
    assert_eq!(running.world.events.count(Event::IdentityNotRenewed), 0);
}

// T-7
#[tokio::test(start_paused = true)]
async fn no_receipt_goes_out_with_a_document_older_than_thirty_minutes() {
    let running = serve_with_cache().await;
    running.run().await.unwrap();
    let start = Instant::now();
    running.world.nsm.attests(Attests::Fails);
    sleep(MAX_AGE.saturating_sub(MOMENT)).await;
    assert!(running.run().await.is_ok(), "at {:?}", start.elapsed());
    assert_eq!(running.world.events.count(Event::IdentityNotRenewed), 5);
    sleep(2 * MOMENT).await;
    let refused = running.run().await.unwrap_err();
    assert_eq!(refused, ErrorCode::AttestationUnavailable.into(), "at {:?}", start.elapsed());
    for _ in 0..100 {
        sleep(RENEWAL).await;
        assert_eq!(running.run().await.unwrap_err().code, ErrorCode::AttestationUnavailable);
    }

    // The first renewal after the device is back mends it.
    running.world.nsm.attests(Attests::Well);
    assert_eq!(running.run().await.unwrap_err().code, ErrorCode::AttestationUnavailable);
    sleep(RENEWAL + MOMENT).await;
    let done = running.run().await.unwrap();
    assert!(running.world.nsm.now_ms() - done.document_ms < 300_000);
}

// T-7
#[tokio::test(start_paused = true)]
async fn a_document_that_becomes_too_old_while_a_job_runs_ends_it_without_a_key() {
    let running = serve_with_cache().await;
    running.run().await.unwrap();
    running.world.nsm.attests(Attests::Fails);
    let payload = message(&vec![7; 600_000]);
    let (request, mut talk) = (running.request(digest()), running.dial());
    talk.start(&request).await;
    let since = Instant::now();
    for part in payload.chunks(30_000) {
        talk.send(Kind::Data, part).await.unwrap();
        sleep(Duration::from_secs(100)).await;
    }
    assert!(since.elapsed() > MAX_AGE);
    talk.send(Kind::End, &[]).await.unwrap();
    assert_eq!(talk.finish(&request).await.unwrap_err().code, ErrorCode::AttestationUnavailable);
    assert!(talk.hangs_up().await);
}

// T-7
#[tokio::test(start_paused = true)]
async fn a_document_without_sense_is_not_taken_for_a_renewal() {
    let running = serve_with_cache().await;
    running.run().await.unwrap();
    for broken in [Attests::WithoutSense, Attests::Panics] {
        running.world.nsm.attests(broken);
        sleep(RENEWAL + MOMENT).await;
        assert!(running.run().await.is_ok(), "{broken:?}: the last good one serves");
    }
    assert_eq!(running.world.events.count(Event::IdentityNotRenewed), 2);
}

/// What becomes of a request that was signed now and expires in so many seconds by the NSM's clock.
async fn verdict(running: &Running, issued: u64, expires: u64) -> ErrorCode {
    let request = Request { issued, expires, ..running.request(digest()) };
    running.submit(request.sign(&key(1)).unwrap()).await.code
}

// C-3, C-4
#[tokio::test(start_paused = true)]
async fn the_clock_follows_the_device_forwards_and_says_by_how_much() {
    let running = serve_with_cache().await;
    running.world.nsm.ahead_ms.store(10_000, Ordering::Relaxed);
    let now = running.world.nsm.now_ms() / 1000;
    assert_eq!(verdict(&running, now, now + 1).await, ADMITTED, "expired by the device, not yet here");
    sleep(RENEWAL + MOMENT).await;
    assert_eq!(running.world.events.count(Event::ClockCorrected(10_000)), 1);
    let now = running.world.nsm.now_ms() / 1000;
    assert_eq!(verdict(&running, now - 10, now).await, ErrorCode::RequestExpired);
    assert_eq!(verdict(&running, now, now + 1).await, ADMITTED);

    // Up to a second is the time that the device takes.
    running.world.nsm.ahead_ms.store(11_000, Ordering::Relaxed);
    sleep(RENEWAL + MOMENT).await;
    let corrections = |event: &Event| matches!(event, Event::ClockCorrected(_) | Event::ClockWentBack(_));
    assert_eq!(running.world.events.all().iter().filter(|event| corrections(event)).count(), 1);
    running.world.nsm.ahead_ms.store(12_001, Ordering::Relaxed);
    sleep(RENEWAL + MOMENT).await;
    assert_eq!(running.world.events.count(Event::ClockCorrected(1001)), 1);
}

// C-3, C-4
#[tokio::test(start_paused = true)]
async fn the_clock_does_not_follow_the_device_back_and_says_so() {
    let running = serve_with_cache().await;
    let now = running.world.nsm.now_ms() / 1000;
    sleep(RENEWAL.saturating_sub(MOMENT)).await;
    running.world.nsm.ahead_ms.store(-3_600_000, Ordering::Relaxed);
    sleep(2 * MOMENT).await;
    assert_eq!(running.world.events.count(Event::ClockWentBack(3_600_000)), 1);
    assert_eq!(verdict(&running, now, now + 60).await, ErrorCode::RequestExpired, "it stays expired");
    assert_eq!(verdict(&running, now, now + 360).await, ADMITTED);

    // Each renewal finds it again, until the device has caught up.
    sleep(RENEWAL).await;
    assert_eq!(running.world.events.count(Event::ClockWentBack(3_600_000)), 2);
    running.world.nsm.ahead_ms.store(0, Ordering::Relaxed);
    sleep(RENEWAL).await;
    let corrections = running.world.events.all();
    assert_eq!(corrections.len(), 5, "{corrections:?}");
}

// C-2
#[tokio::test(start_paused = true)]
async fn no_time_but_the_devices_counts() {
    let running = World::new().serve().await;
    let now = running.world.nsm.now_ms() / 1000;
    for day in [86_400, 2 * 86_400] {
        assert_eq!(verdict(&running, now - day, now - day + 60).await, ErrorCode::RequestExpired);
        assert_eq!(verdict(&running, now + day, now + day + 60).await, ErrorCode::RequestLifetime);
    }
    let receipt = running.run().await.unwrap().receipt;
    assert_eq!(receipt.started / 1000, now);
}
