//! The way to KMS: TLS that ends inside, and connections that break.

use std::sync::atomic::Ordering;
use std::time::Duration;

use adyton_enclave::kms::KeyError;
use adyton_shared::ErrorCode;

use crate::support::{Act, HOST, NOW_MS, World, ask, authority, expected, limits, response};

const DAY_MS: u64 = 24 * 3_600_000;

async fn rejected(world: &std::sync::Arc<World>) {
    let error = ask(&world.service(), b"wrapped").await.unwrap_err();
    assert_eq!(error, KeyError::TlsRejected);
    assert_eq!(error.code(), ErrorCode::KmsTlsRejected);
    assert_eq!((world.calls(), world.connections()), (0, 1), "nothing was sent, and once is enough");
}

// K-16
#[tokio::test]
async fn a_relay_with_its_own_authority_is_refused() {
    let world = World::new([]);
    world.serve_as(authority(HOST).1);
    rejected(&world).await;
}

// K-16
#[tokio::test]
async fn a_certificate_for_another_host_is_refused() {
    for host in ["kms.eu-west-2.amazonaws.com", "amazonaws.com", "*.amazonaws.com", "localhost"] {
        let (roots, acceptor) = authority(host);
        let mut world = World::new([]);
        std::sync::Arc::get_mut(&mut world).unwrap().roots = roots;
        world.serve_as(acceptor);
        rejected(&world).await;
    }
}

// K-16, C-2
#[tokio::test]
async fn certificates_are_judged_by_the_enclaves_time() {
    for now_ms in [NOW_MS - 40 * DAY_MS, NOW_MS + 40 * DAY_MS] {
        let world = World::new([]);
        world.at(now_ms);
        rejected(&world).await;
    }
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let world = World::new([]);
    let service = world.service();
    for blob in 0..20_u8 {
        assert_eq!(ask(&service, &[blob]).await.unwrap().key().expose(), expected(&[blob]));
    }
    assert_eq!((world.calls(), world.connections()), (20, 1));
}

#[tokio::test]
async fn an_error_answer_does_not_cost_the_connection() {
    let world =
        World::new([Act::error(400, "AccessDeniedException"), Act::error(400, "ThrottlingException")]);
    let service = world.service();
    ask(&service, b"a").await.unwrap_err();
    ask(&service, b"b").await.unwrap();
    assert_eq!((world.calls(), world.connections()), (3, 1));
}

#[tokio::test]
async fn a_kept_connection_that_broke_is_replaced_without_waiting() {
    let world = World::new([Act::Honest, Act::Close]);
    let service = world.service();
    ask(&service, b"a").await.unwrap();
    ask(&service, b"b").await.unwrap();
    assert_eq!((world.calls(), world.connections()), (3, 2));
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_noticed_before_it_is_used() {
    for head in ["", "Connection: close\r\n"] {
        let close = format!("HTTP/1.1 400 X\r\n{head}Content-Length: 0\r\n\r\n").into_bytes();
        let world = World::new([Act::Bytes(close)]);
        let service = world.service();
        ask(&service, b"a").await.unwrap_err();
        ask(&service, b"b").await.unwrap();
        assert_eq!((world.calls(), world.connections()), (2, 2));
    }
}

#[tokio::test]
async fn a_connection_that_breaks_in_mid_answer_is_tried_again() {
    let whole = response(200, &"x".repeat(100));
    for cut in [1, 20, whole.len() - 100, whole.len() - 1] {
        let world = World::new([Act::Bytes(whole[..cut].to_vec())]);
        let lease = ask(&world.service(), b"wrapped").await.unwrap();
        assert_eq!(lease.key().expose(), expected(b"wrapped"));
        assert_eq!(world.calls(), 2, "cut at {cut}");
    }
}

#[tokio::test]
async fn a_proxy_that_comes_back_is_used_again() {
    let world = World::new([]);
    world.refuse_connections.store(3, Ordering::Relaxed);
    ask(&world.service(), b"wrapped").await.unwrap();
    assert_eq!(world.connections(), 4);
}

#[tokio::test]
async fn no_proxy_at_all_is_unavailability() {
    let world = World::new([]);
    world.refuse_connections.store(usize::MAX, Ordering::Relaxed);
    let service = world.service_with(limits(), Duration::from_millis(300));
    let error = ask(&service, b"wrapped").await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::KmsUnavailable);
    assert_eq!(world.calls(), 0);
}
