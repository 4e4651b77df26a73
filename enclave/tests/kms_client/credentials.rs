//! Credentials: where they come from, and what happens when they end.

use std::sync::atomic::Ordering;

use adyton_enclave::kms::KeyError;
use adyton_shared::ErrorCode;

use crate::support::{Act, HOUR_MS, NOW_MS, World, ask, credentials, header};

fn granted(world: &World) -> usize {
    world.granted.load(Ordering::Relaxed)
}

fn used(world: &World) -> Vec<String> {
    let seen = world.seen.lock().unwrap();
    let id = |head: &str| {
        let authorization = header(head, "authorization").unwrap();
        authorization.split_once("Credential=").unwrap().1.split_once('/').unwrap().0.to_owned()
    };
    seen.iter().map(|seen| id(&seen.head)).collect()
}

#[tokio::test]
async fn a_parent_without_credentials_is_named_and_asked_again_next_time() {
    let world = World::new([]);
    world.grants.lock().unwrap().push_back(None);
    let service = world.service();
    let error = ask(&service, b"wrapped").await.unwrap_err();
    assert_eq!(error, KeyError::CredentialsUnavailable);
    assert_eq!(error.code(), ErrorCode::CredentialsUnavailable);
    assert_eq!(world.connections(), 0);
    ask(&service, b"wrapped").await.unwrap();
}

#[tokio::test]
async fn expired_and_unusable_credentials_are_as_good_as_none() {
    for bad in [
        credentials("ASIAOLD", Some(NOW_MS)),
        credentials("", None),
        credentials("line\r\nbreak", None),
        credentials(&"A".repeat(129), None),
    ] {
        let world = World::new([]);
        world.grants.lock().unwrap().push_back(Some(bad));
        assert_eq!(ask(&world.service(), b"wrapped").await.unwrap_err(), KeyError::CredentialsUnavailable);
    }
}

#[tokio::test]
async fn they_are_kept_and_renewed_before_they_expire() {
    let world = World::new([]);
    world.grants.lock().unwrap().extend([
        Some(credentials("ASIAFIRST", Some(NOW_MS + HOUR_MS))),
        Some(credentials("ASIASECOND", Some(NOW_MS + 2 * HOUR_MS))),
    ]);
    let service = world.service();
    ask(&service, b"a").await.unwrap();
    world.at(NOW_MS + 54 * 60_000);
    ask(&service, b"b").await.unwrap();
    assert_eq!(granted(&world), 1);
    world.at(NOW_MS + 55 * 60_000);
    ask(&service, b"c").await.unwrap();
    assert_eq!(granted(&world), 2);
    assert_eq!(used(&world), ["ASIAFIRST", "ASIAFIRST", "ASIASECOND"]);
}

#[tokio::test]
async fn old_ones_serve_on_while_the_parent_has_no_new_ones() {
    let world = World::new([]);
    let first = Some(credentials("ASIAFIRST", Some(NOW_MS + HOUR_MS)));
    world.grants.lock().unwrap().extend([first, None, None]);
    let service = world.service();
    ask(&service, b"a").await.unwrap();
    world.at(NOW_MS + 58 * 60_000);
    ask(&service, b"b").await.unwrap();
    ask(&service, b"c").await.unwrap();
    assert_eq!(granted(&world), 2, "the parent is not pestered");
    world.at(NOW_MS + HOUR_MS);
    assert_eq!(ask(&service, b"d").await.unwrap_err(), KeyError::CredentialsUnavailable);
    assert_eq!(used(&world), ["ASIAFIRST"; 3]);
}

#[tokio::test]
async fn credentials_that_kms_refuses_are_replaced_once() {
    for name in ["ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"] {
        let world = World::new([Act::error(400, name)]);
        world.grants.lock().unwrap().push_back(Some(credentials("ASIAREFUSED", None)));
        ask(&world.service(), b"wrapped").await.unwrap();
        assert_eq!(used(&world), ["ASIAREFUSED", "ASIADEFAULT"], "{name}");
    }
}

#[tokio::test]
async fn credentials_refused_twice_are_an_error_of_their_own() {
    let world =
        World::new([Act::error(400, "ExpiredTokenException"), Act::error(403, "ExpiredTokenException")]);
    let service = world.service();
    let error = ask(&service, b"wrapped").await.unwrap_err();
    assert_eq!(error, KeyError::CredentialsRejected);
    assert_eq!(error.code(), ErrorCode::CredentialsRejected);
    assert_eq!((world.calls(), granted(&world)), (2, 2));
    ask(&service, b"wrapped").await.unwrap();
    assert_eq!(granted(&world), 3, "the refused ones were not kept");
}

#[tokio::test]
async fn many_who_need_them_ask_the_parent_once() {
    let world = World::new([]);
    let service = world.service();
    let asks = (0..20_u8).map(|blob| {
        let service = service.clone();
        tokio::spawn(async move { ask(&service, &[blob]).await.map(drop) })
    });
    for done in asks.collect::<Vec<_>>() {
        done.await.unwrap().unwrap();
    }
    assert_eq!((world.calls(), granted(&world)), (20, 1));
}
