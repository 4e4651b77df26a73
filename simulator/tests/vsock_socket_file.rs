//! Who owns the socket file: one living enclave at a time, whatever the dead ones left.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};

use adyton_simulator::vsock::{HybridListener, VsockError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

async fn serves(base: &std::path::Path) -> bool {
    let Ok(mut stream) = UnixStream::connect(base).await else {
        return false;
    };
    stream.write_all(b"CONNECT 5000\n").await.unwrap();
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).await.is_ok() && &answer == b"OK "
}

#[tokio::test]
async fn refuses_a_second_enclave_on_one_socket() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let first = HybridListener::bind(&base).unwrap();
    let _listener = first.listen(5000).unwrap();

    let refused = HybridListener::bind(&base).unwrap_err();
    assert!(matches!(&refused, VsockError::InUse { path } if *path == base));
    assert!(refused.to_string().contains("another enclave"));
    assert!(serves(&base).await, "the first one is not disturbed");

    // Once the cause is gone, a retry succeeds.
    drop(first);
    let again = HybridListener::bind(&base).unwrap();
    let _listener = again.listen(5000).unwrap();
    assert!(serves(&base).await);
}

#[tokio::test]
async fn refuses_a_socket_served_by_something_that_knows_no_lock() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let firecracker = std::os::unix::net::UnixListener::bind(&base).unwrap();
    let refused = HybridListener::bind(&base).unwrap_err();
    assert!(matches!(refused, VsockError::InUse { .. }));
    assert!(base.exists());

    drop(firecracker);
    assert!(base.exists(), "a plain listener leaves its file");
    let hybrid = HybridListener::bind(&base).unwrap();
    let _listener = hybrid.listen(5000).unwrap();
    assert!(serves(&base).await);
}

/// A child that does not outlive its test, whatever happens there.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "a helper process: binds the socket named by the environment and waits to be killed"]
async fn in_a_process_of_its_own() {
    let base = std::env::var_os("ADYTON_TEST_SOCKET").unwrap();
    let _hybrid = HybridListener::bind(base.as_ref()).unwrap();
    println!("bound");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn replaces_the_socket_of_a_killed_process() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "in_a_process_of_its_own", "--nocapture"])
        .env("ADYTON_TEST_SOCKET", &base)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut process = Guard(child);
    let mut output = std::io::BufReader::new(process.0.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("bound") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert_ne!(read, 0, "the process ended before it bound");
    }

    let refused = HybridListener::bind(&base).unwrap_err();
    assert!(matches!(refused, VsockError::InUse { .. }));

    drop(process);
    assert!(base.exists(), "a killed process leaves its file");
    let hybrid = HybridListener::bind(&base).unwrap();
    let _listener = hybrid.listen(5000).unwrap();
    assert!(serves(&base).await);
}

#[tokio::test]
async fn leaves_a_file_that_is_no_socket_alone() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    std::fs::write(&base, "precious").unwrap();
    let refused = HybridListener::bind(&base).unwrap_err();
    assert!(matches!(&refused, VsockError::NotASocket { path } if *path == base));
    assert_eq!(std::fs::read_to_string(&base).unwrap(), "precious");

    let link = folder.path().join("link.sock");
    std::os::unix::fs::symlink(&base, &link).unwrap();
    let refused = HybridListener::bind(&link).unwrap_err();
    assert!(matches!(refused, VsockError::NotASocket { .. }));
}

#[tokio::test]
async fn follows_no_link_in_place_of_the_lock() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    std::os::unix::fs::symlink("/dev/null", folder.path().join("v.sock.lock")).unwrap();
    let refused = HybridListener::bind(&base).unwrap_err();
    assert!(matches!(refused, VsockError::Io { .. }));
}

#[tokio::test]
async fn is_open_to_its_owner_only_and_gone_after_use() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let hybrid = HybridListener::bind(&base).unwrap();
    let mode = std::fs::metadata(&base).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(hybrid);
    assert!(!base.exists());
}

#[tokio::test]
async fn removes_only_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("v.sock");
    let hybrid = HybridListener::bind(&base).unwrap();
    std::fs::remove_file(&base).unwrap();
    std::fs::write(&base, "somebody else's").unwrap();
    drop(hybrid);
    assert_eq!(std::fs::read_to_string(&base).unwrap(), "somebody else's");
}

#[tokio::test]
async fn names_the_path_that_is_too_long_or_missing() {
    let folder = tempfile::tempdir().unwrap();
    for base in [folder.path().join("s".repeat(120)), folder.path().join("absent/v.sock")] {
        let refused = HybridListener::bind(&base).unwrap_err();
        assert!(matches!(refused, VsockError::Io { .. }));
        assert!(refused.to_string().contains(folder.path().to_str().unwrap()));
    }
}
