//! What an enclave demands of its surroundings before it takes keys, and what it forbids itself.

use std::io::BufRead as _;
use std::path::Path;
use std::process::{Command, Stdio};

use adyton_enclave::boot::BootError;
use adyton_simulator::enclave::{EnclaveConfig, LaunchError, launch};
use adyton_simulator::nsm::SimulatedHost;
use adyton_simulator::vsock::VsockError;

const POLICY: &str = r#"
version = 1
name = "launch"
[kms]
region = "eu-west-1"
keys = ["arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001"]
[context]
tenant = { signed = true }
object = { signed = true }
purpose = { equals = "launch" }
version = { minimum = 1 }
[[requester]]
name = "billing"
key = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
[[release]]
requester = "billing"
to = "parent"
digest = true
"#;

fn config(folder: &Path, host: SimulatedHost) -> EnclaveConfig {
    EnclaveConfig {
        state_dir: folder.join("state"),
        socket: folder.join("v.sock"),
        executable: std::env::current_exe().unwrap(),
        debug: false,
        host,
    }
}

async fn refusal(host: SimulatedHost, policy: &str) -> LaunchError {
    let folder = tempfile::tempdir().unwrap();
    match launch(config(folder.path(), host), policy.as_bytes()).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

// R-1
#[tokio::test]
async fn refuses_to_start_on_another_random_source() {
    for name in ["virtio_rng.0\n", "nsm-hwrng2\n", "none\n", "\n", ""] {
        let host = SimulatedHost { rng_current: name.to_owned(), ..SimulatedHost::default() };
        let error = refusal(host, POLICY).await;
        assert!(matches!(error, LaunchError::Boot(BootError::RandomSource)), "{name:?}: {error}");
    }
}

// C-1
#[tokio::test]
async fn refuses_to_start_on_another_clock() {
    for name in ["tsc\n", "hpet\n", ""] {
        let host = SimulatedHost { clocksource: name.to_owned(), ..SimulatedHost::default() };
        let error = refusal(host, POLICY).await;
        assert!(matches!(error, LaunchError::Boot(BootError::ClockSource)), "{name:?}: {error}");
    }
}

#[tokio::test]
async fn refuses_a_policy_that_cannot_be_meant() {
    for (policy, word) in [
        (POLICY.replace("digest = true", "digest = true\nfield = 1"), "field"),
        (POLICY.replace(":key/8a51b3c0-0000-4000-8000-000000000001", ":alias/a"), "alias"),
        (POLICY.split("[[release]]").next().unwrap().to_owned(), "[[release]]"),
    ] {
        let error = refusal(SimulatedHost::default(), &policy).await;
        let LaunchError::Boot(BootError::Policy(policy)) = error else { panic!("{error}") };
        assert!(policy.to_string().contains(word), "{policy}");
    }
}

#[tokio::test]
async fn a_second_enclave_on_one_socket_fails_and_leaves_the_first_alone() {
    let folder = tempfile::tempdir().unwrap();
    let first = launch(config(folder.path(), SimulatedHost::default()), POLICY.as_bytes()).await.unwrap();
    let second = launch(config(folder.path(), SimulatedHost::default()), POLICY.as_bytes()).await;
    assert!(matches!(second.map(|_| ()), Err(LaunchError::Vsock(VsockError::InUse { .. }))));
    assert!(folder.path().join("v.sock").exists());
    drop(first);
}

// X-4
#[test]
fn an_enclave_leaves_no_core_dump() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let mut enclave = Command::new(env!("CARGO_BIN_EXE_adyton-sim"))
        .args(["--state".as_ref(), folder.path().as_os_str()])
        .args(["enclave".as_ref(), "--part".as_ref(), "--policy".as_ref(), policy.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    std::io::BufReader::new(enclave.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.contains(r#""event":"ready""#), "{ready}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", enclave.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let figures: Vec<_> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(figures, ["0", "0"]);
    // It stops when its standard input ends.
    drop(enclave.stdin.take());
    assert!(enclave.wait().unwrap().success());
}
