//! What the length of a padded result tells: its size class, and nothing else.

use adyton_shared::ErrorCode;
use adyton_shared::job::{Input, Job};
use adyton_tests::client::{code, mask_job};
use adyton_tests::hostile::{Recorded, Seen};
use adyton_tests::message::Recipe;
use adyton_tests::world::World;

use crate::sealed_destinations::AGE;

/// Records with ids of this length together.
fn records(count: usize, bytes: usize) -> Vec<u8> {
    let each = bytes / count;
    let record = |n| {
        let id = "x".repeat(if n == 0 { each + bytes % count } else { each });
        format!("{{\"id\":\"{id}\",\"email\":\"a@example.com\"}}\n")
    };
    (0..count).map(record).collect::<String>().into_bytes()
}

/// Lengths of the data frames that the enclave sent.
fn data_frames(mut seen: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = seen {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        if *kind == 2 {
            lengths.push(length);
        }
        seen = &rest[length + 4..];
    }
    lengths
}

//
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_one_size_class_leave_in_equal_frames() {
    let world = World::start().await;
    let rule = |pad: &str| {
        format!(
            "\n[[release]]\nrequester = \"billing\"\nto = \"{AGE}\"\nfields = [\"id\", \"email\"]\n{pad}\n"
        )
    };
    let padded = world.enclave(|policy| policy + &rule("pad = true")).await;
    let plain = world.enclave(|policy| policy + &rule("")).await;
    let owner = world.kms("owner").await;
    let job = || Job { to: AGE.parse().expect("a recipient"), ..mask_job(Input::Ndjson) };
    let mut lengths = Vec::new();
    for (enclave, pads) in [(&padded, true), (&plain, false)] {
        let parent = world.parent(&enclave.socket).await;
        let requester = world.requester_at(&enclave.socket);
        let id = requester.enclave().await;
        // Two in the smallest class, two in one of the larger, one beyond it. Records differ in number, too.
        for (count, bytes) in [(1, 10), (20, 2000), (10, 500_000), (30, 504_000), (10, 540_000)] {
            let message = Recipe::of("a").seal(&owner, &enclave.key, &records(count, bytes)).await;
            let seen = Seen::default();
            let stream = Recorded::answers(requester.dial().await, seen.clone());
            let done = requester.send(id, "a", job(), &message.bytes[..], stream).await.expect("done");
            let receipt = &done.receipt.receipt;
            assert_eq!(receipt.output_bytes, done.output.len() as u64);
            assert_eq!(receipt.records_out, (!pads).then_some(count as u64), "the receipt tells no number");
            lengths.push(data_frames(&seen.lock().expect("no panic")));
        }
        parent.stop().await;
    }
    let [tiny, small, large, larger, beyond, unpadded @ ..] = &lengths[..] else { panic!("ten results") };
    assert_eq!(tiny, small);
    assert_eq!(large, larger);
    assert_ne!(larger, beyond);
    assert!(large.len() > 2 && large[..large.len() - 1].iter().all(|length| *length == large[0]));
    let different: std::collections::HashSet<_> = unpadded.iter().collect();
    assert_eq!(different.len(), unpadded.len(), "without padding every length tells");
    world.stop().await;
}

// The limit is on what leaves: padding and the file's own bytes count.
#[tokio::test]
async fn a_padded_result_over_the_limit_is_refused_whole() {
    let world = World::start().await;
    let rule = format!(
        "\n[[release]]\nrequester = \"billing\"\nto = \"{AGE}\"\nfields = [\"id\", \"email\"]\npad = true\n"
    );
    let limited = |limit: &str| {
        let limits = format!("[limits]\nresult = \"{limit}\"\n");
        let rule = rule.clone();
        move |policy: String| policy.replace("[limits]\n", &limits) + &rule
    };
    let owner = world.kms("owner").await;
    let job = || Job { to: AGE.parse().expect("a recipient"), ..mask_job(Input::Ndjson) };
    for (limit, fits) in [("4 KiB", false), ("5 KiB", true)] {
        let enclave = world.enclave(limited(limit)).await;
        let parent = world.parent(&enclave.socket).await;
        let message = Recipe::of("a").seal(&owner, &enclave.key, &records(1, 10)).await;
        let done = world.requester_at(&enclave.socket).run("a", job(), &message.bytes).await;
        if fits {
            assert!(done.is_ok(), "{limit}: {done:?}");
        } else {
            assert_eq!(code(done), ErrorCode::ResultTooLarge, "{limit}");
        }
        parent.stop().await;
    }
    world.stop().await;
}
