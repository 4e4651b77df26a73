//! Keys that are kept: when KMS is asked, and when not.

use std::sync::Arc;
use std::time::Duration;

use adyton_enclave::kms::CacheLimits;
use adyton_shared::ErrorCode;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{Act, NOW_MS, World, ask, expected, limits};

const LONG: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_kept_key_needs_no_call_until_its_age() {
    let world = World::new([]);
    let service = world.service();
    for later in [0, 1, 299_999] {
        world.at(NOW_MS + later);
        assert_eq!(ask(&service, b"wrapped").await.unwrap().key().expose(), expected(b"wrapped"));
        assert_eq!(world.calls(), 1);
    }
    world.at(NOW_MS + 300_000);
    ask(&service, b"wrapped").await.unwrap();
    assert_eq!(world.calls(), 2);
}

#[tokio::test]
async fn messages_and_bytes_use_a_release_up() {
    let world = World::new([]);
    let service = world.service_with(CacheLimits { messages: 2, bytes: 100, ..limits() }, LONG);
    for _ in 0..4 {
        ask(&service, b"wrapped").await.unwrap();
    }
    assert_eq!(world.calls(), 2, "two messages each");
    ask(&service, b"other").await.unwrap().charge(100);
    ask(&service, b"other").await.unwrap();
    assert_eq!(world.calls(), 4, "the first used up the bytes");
}

#[tokio::test]
async fn the_oldest_key_makes_room() {
    let world = World::new([]);
    let service = world.service_with(CacheLimits { entries: 2, ..limits() }, LONG);
    for blob in [b"a", b"b", b"c", b"c", b"b"] {
        ask(&service, blob).await.unwrap();
    }
    assert_eq!(world.calls(), 3);
    ask(&service, b"a").await.unwrap();
    assert_eq!(world.calls(), 4);
}

#[tokio::test]
async fn with_no_cache_every_message_asks() {
    for cache in [
        CacheLimits { age: Duration::ZERO, ..limits() },
        CacheLimits { entries: 0, ..limits() },
        CacheLimits { messages: 1, ..limits() },
    ] {
        let world = World::new([]);
        let service = world.service_with(cache, LONG);
        for _ in 0..3 {
            ask(&service, b"wrapped").await.unwrap();
        }
        assert_eq!(world.calls(), 3);
    }
}

#[tokio::test]
async fn fifty_concurrent_misses_make_one_call() {
    let gate = Arc::new(Notify::new());
    let world = World::new([Act::After(Arc::clone(&gate))]);
    let service = world.service();
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let service = Arc::clone(&service);
        tasks.spawn(async move { ask(&service, b"wrapped").await.unwrap().key().expose().to_vec() });
    }
    world.asked(1).await;
    gate.notify_one();
    while let Some(key) = tasks.join_next().await {
        assert_eq!(key.unwrap(), expected(b"wrapped"));
    }
    assert_eq!((world.calls(), world.granted.load(std::sync::atomic::Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn waiters_beyond_the_message_limit_make_further_calls() {
    let gate = Arc::new(Notify::new());
    let world = World::new([Act::After(Arc::clone(&gate))]);
    let service = world.service_with(CacheLimits { messages: 20, ..limits() }, LONG);
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        let service = Arc::clone(&service);
        tasks.spawn(async move { ask(&service, b"wrapped").await.unwrap().key().expose().to_vec() });
    }
    world.asked(1).await;
    gate.notify_one();
    while let Some(key) = tasks.join_next().await {
        assert_eq!(key.unwrap(), expected(b"wrapped"));
    }
    assert_eq!(world.calls(), 3);
}

#[tokio::test]
async fn a_leader_that_is_cancelled_strands_nobody() {
    let gate = Arc::new(Notify::new());
    let world = World::new([Act::After(Arc::clone(&gate))]);
    let service = world.service();
    let leader = tokio::spawn({
        let service = Arc::clone(&service);
        async move { drop(ask(&service, b"wrapped").await) }
    });
    world.asked(1).await;
    let follower = ask(&service, b"wrapped");
    let mut follower = std::pin::pin!(follower);
    // The follower has joined once it has been polled.
    assert!(tokio::time::timeout(Duration::ZERO, follower.as_mut()).await.is_err());
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    gate.notify_one();
    assert_eq!(follower.await.unwrap().key().expose(), expected(b"wrapped"));
    assert_eq!(world.calls(), 1);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_ends_and_the_next_asks_anew() {
    let world = World::new([Act::Silent]);
    let service = world.service();
    let only = tokio::spawn({
        let service = Arc::clone(&service);
        async move { drop(ask(&service, b"wrapped").await) }
    });
    world.asked(1).await;
    only.abort();
    assert!(only.await.unwrap_err().is_cancelled());
    ask(&service, b"wrapped").await.unwrap();
    assert_eq!(world.calls(), 2);
}

#[tokio::test]
async fn a_failure_is_shared_by_those_who_waited_and_then_forgotten() {
    let world = World::new([Act::error(400, "AccessDeniedException")]);
    let service = world.service();
    let (one, two) = tokio::join!(ask(&service, b"wrapped"), ask(&service, b"wrapped"));
    assert_eq!(one.unwrap_err().code(), ErrorCode::KmsAccessDenied);
    assert_eq!(two.unwrap_err().code(), ErrorCode::KmsAccessDenied);
    assert_eq!(world.calls(), 1);
    ask(&service, b"wrapped").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_keys_at_once_come_back_each_to_its_own() {
    let world = World::new((0..40).map(|i| if i % 5 == 0 { Act::Close } else { Act::Honest }));
    let service = world.service();
    let mut tasks = JoinSet::new();
    for blob in 0..200_u8 {
        let service = Arc::clone(&service);
        tasks.spawn(async move {
            let blob = [blob % 40];
            assert_eq!(ask(&service, &blob).await.unwrap().key().expose(), expected(&blob));
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(world.connections() <= 16 + 8 + 40, "{}", world.connections());
}
