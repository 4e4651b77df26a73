//! What an enclave refuses to start with, and what it never leaves on a disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use adyton_shared::job::Input;
use adyton_tests::client::mask_job;
use adyton_tests::message::Recipe;
use adyton_tests::world::World;

// R-1, C-1
#[tokio::test]
async fn refuses_to_start_on_another_random_source_or_clock() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let cases = [
        (["--rng-current", "tpm-rng-0"], "the kernel's random source is not nsm-hwrng"),
        (["--rng-current", "nsm-hwrng2"], "the kernel's random source is not nsm-hwrng"),
        (["--rng-current", ""], "the kernel's random source is not nsm-hwrng"),
        (["--clocksource", "tsc"], "the kernel's clock source is not kvm-clock"),
    ];
    for (flags, expected) in cases {
        let said = world.launch(&policy, &flags, &[]).await.expect_err("it does not start");
        assert!(said.contains(expected), "{flags:?}: {said}");
    }
    world.stop().await;
}

// K-9, T-4
#[tokio::test]
async fn refuses_to_start_under_a_policy_that_says_less_than_it_seems() {
    let world = World::start().await;
    let good = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let key = &world.info.key_arn;
    let alias = "arn:aws:kms:eu-west-1:111122223333:alias/payments";
    let cases = [
        (good.replace("name =", "nmae = \"x\"\nname ="), "unknown field `nmae`"),
        (good.replace(key, alias), "an alias is not a key"),
        (good.split("# The only ways out.").next().expect("a start").to_owned(), "nothing could ever leave"),
        (
            good.replace(
                "digest = true",
                "digest = true\n\n[[release]]\nrequester = \"billing\"\nto = \"parent\"\ndigest = true",
            ),
            "the same rule is listed before",
        ),
        (good.replace("version = { minimum = 1 }", ""), "version is missing"),
        (String::new(), "missing field"),
    ];
    for (policy, expected) in cases {
        let said = world.launch(&policy, &[], &[]).await.expect_err("it does not start");
        assert!(said.contains(expected), "{expected}: {said}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_second_of_two_enclaves_on_one_socket_leaves_the_first_alone() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let id = world.requester().enclave().await;
    let said = world.launch_on(&world.state.socket(), &policy, &[], &[]).await;
    let said = said.expect_err("it does not start");
    assert!(said.contains("another enclave already listens on"), "{said}");
    assert_eq!(world.requester().enclave().await, id, "the first still answers");
    world.stop().await;
}

//
#[tokio::test]
async fn dumps_no_core_and_writes_no_file_during_a_job() {
    let world = World::start().await;
    let policy = std::fs::read_to_string(&world.info.policy).expect("a policy");
    let scratch = world.folder().join("scratch");
    std::fs::create_dir(&scratch).expect("a folder");
    let environment = [("TMPDIR", OsString::from(&scratch))];
    let (process, socket, _) = world.launch(&policy, &[], &environment).await.expect("an enclave");
    let parent = world.parent(&socket).await;

    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.pid())).expect("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    let values: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"], "soft and hard limit");

    let message = Recipe::of("a").seal(&world.kms("owner").await, &world.key(), &records()).await;
    let before = files(world.folder());
    let done = world.requester_at(&socket).run("a", mask_job(Input::Ndjson), &message.bytes).await;
    done.expect("a job");
    assert_eq!(files(world.folder()), before);
    assert_eq!(files(&scratch), BTreeSet::new());
    parent.stop().await;
    process.stop().await;
    world.stop().await;
}

/// More than any buffer on the way holds.
fn records() -> Vec<u8> {
    b"{\"id\":\"1\",\"email\":\"someone@example.com\"}\n".repeat(50_000)
}

fn files(folder: &Path) -> BTreeSet<OsString> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().into_os_string());
        }
    }
    found
}
