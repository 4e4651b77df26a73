//! Receipts of real jobs, checked by somebody who has nothing but files.

use std::path::Path;
use std::process::{Output, Stdio};

use adyton_tests::process::simulator;
use adyton_tests::world::World;
use serde_json::Value;
use tokio::process::Command;

const JOB: &str = "version = 1\ninput = \"raw\"\nto = \"parent\"\n\n[[step]]\ndigest = \"sha-256\"\n";
const CLAIMS: [&str; 6] = ["--tenant", "acme", "--object", "a", "--version", "1"];

/// The command on another machine: in a folder with the files alone, without settings.
async fn elsewhere(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(simulator());
    command.env_clear().arg("parent").args(["receipt", "verify", "out.receipt"]).args(arguments);
    command.current_dir(folder).stdin(Stdio::null()).output().await.expect("adyton runs")
}

fn said(output: &Output) -> Value {
    serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"))
}

/// Runs the job in the world and returns a folder with what a third party gets.
async fn done(world: &World, form: &str, output: &str) {
    let folder = world.folder();
    std::fs::write(folder.join("job.toml"), JOB).expect("written");
    std::fs::write(folder.join("data"), format!("data for {output}")).expect("written");
    let encrypt = ["encrypt", "data", "-o", "data.enc", "--force", "--purpose", "payments"];
    let encrypted = world.run_adyton(&[&encrypt[..], &CLAIMS].concat()).await;
    assert!(encrypted.status.success(), "{encrypted:?}");
    let run = [&["run", "job.toml", "data.enc", "-o", output, form][..], &CLAIMS].concat();
    let ran = world.run_adyton(&run).await;
    assert!(ran.status.success(), "{ran:?}");
}

// V-11, S-12
#[tokio::test]
async fn a_receipt_is_checked_elsewhere_with_a_root_and_the_images_measurements() {
    let world = World::start().await;
    done(&world, "--sealed", "out").await;
    let shelf = tempfile::tempdir().expect("a folder");
    let keep =
        |from: &Path, name: &str| assert!(std::fs::copy(from, shelf.path().join(name)).is_ok(), "{name}");
    for name in ["out", "out.receipt", "data.enc", "job.toml"] {
        keep(&world.folder().join(name), name);
    }
    keep(&world.info.root, "root.pem");
    keep(&world.info.policy, "policy.toml");
    let pcrs: serde_json::Map<_, _> =
        [0, 1, 2].map(|n| (format!("PCR{n}"), world.info.pcrs[&n].clone().into())).into_iter().collect();
    let measured = serde_json::json!({ "Measurements": pcrs }).to_string();
    std::fs::write(shelf.path().join("measured.json"), &measured).expect("written");
    let trust = ["--root", "root.pem", "--pcrs", "measured.json", "--json"];
    let all = ["--policy", "policy.toml", "--input", "data.enc", "--output", "out", "--job", "job.toml"];
    let whole = [&trust[..], &all].concat();

    let checked = elsewhere(shelf.path(), &whole).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let text: Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    for what in ["image", "policy", "job", "input", "output"] {
        assert_eq!(text["compared"][what], true, "{what}");
    }

    // One byte more in any of the files.
    for (file, what) in [
        ("policy.toml", "pcr_mismatch"),
        ("data.enc", "receipt_mismatch"),
        ("out", "receipt_mismatch"),
        ("out.receipt", "receipt_malformed"),
    ] {
        let path = shelf.path().join(file);
        let before = std::fs::read(&path).expect("a file");
        std::fs::write(&path, [&before[..], b"\n"].concat()).expect("written");
        let refused = elsewhere(shelf.path(), &whole).await;
        assert_eq!((refused.status.code(), said(&refused)["code"].as_str()), (Some(1), Some(what)), "{file}");
        std::fs::write(&path, before).expect("written");
    }
    // Measurements of another image.
    let other = measured.replace(&world.info.pcrs[&2], &"11".repeat(48));
    std::fs::write(shelf.path().join("measured.json"), other).expect("written");
    let refused = elsewhere(shelf.path(), &trust).await;
    assert_eq!((refused.status.code(), said(&refused)["code"].as_str()), (Some(1), Some("pcr_mismatch")));
    world.stop().await;
}

#[tokio::test]
async fn the_receipt_of_one_job_is_none_of_another() {
    let world = World::start().await;
    for (form, output) in [("--sealed", "one"), ("--plain-request", "two")] {
        done(&world, form, output).await;
    }
    let check = |receipt: &'static str, output: &'static str| {
        let world = &world;
        async move { world.run_adyton(&["receipt", "verify", receipt, "--output", output, "--json"]).await }
    };
    for (receipt, output, exit) in [
        ("one.receipt", "one", 0),
        ("two.receipt", "two", 0),
        ("one.receipt", "two", 1),
        ("two.receipt", "one", 1),
    ] {
        let checked = check(receipt, output).await;
        assert_eq!(checked.status.code(), Some(exit), "{receipt} {output}: {checked:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_result_that_cannot_be_stored_leaves_the_older_receipt() {
    let world = World::start().await;
    done(&world, "--sealed", "out").await;
    let folder = world.folder();
    let before = std::fs::read(folder.join("out.receipt")).expect("a receipt");
    // One file under two names, and the same name spelt in two ways.
    for receipt in ["./out", "state/../out"] {
        let run =
            [&["run", "job.toml", "data.enc", "-o", "out", "--force", "--receipt", receipt][..], &CLAIMS];
        let refused = world.run_adyton(&run.concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{receipt}: {refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--receipt names the output"));
    }
    assert_eq!(std::fs::read(folder.join("out.receipt")).expect("a receipt"), before);
    world.stop().await;
}
