//! The `adyton` command against everything else.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Output, Stdio};

use adyton_tests::world::World;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;

const MASK: &str = "version = 1\ninput = \"ndjson\"\nto = \"parent\"\n\n[[step]]\nselect = [\"id\", \"email\"]\n\n[[step]]\nmask = { fields = [\"email\"] }\n";

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort_unstable();
    names
}

fn json(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(text)))
}

fn error(output: &Output) -> Value {
    json(&output.stderr)
}

async fn encrypt(world: &World, input: &str, output: &str) {
    let arguments = ["--object", "a", "--tenant", "acme", "--purpose", "payments", "--version", "1"];
    let encrypted = world.run_adyton(&[&["encrypt", input, "-o", output][..], &arguments].concat()).await;
    assert!(encrypted.status.success(), "{encrypted:?}");
}

const CLAIMS: [&str; 6] = ["--tenant", "acme", "--object", "a", "--version", "1"];

#[tokio::test]
async fn a_file_goes_the_whole_way_and_its_receipt_can_be_checked_afterwards() {
    let world = World::start().await;
    let folder = world.folder();
    std::fs::write(folder.join("data"), "{\"id\":\"1\",\"email\":\"a@b.example\",\"pan\":\"4111\"}\n")
        .expect("written");
    std::fs::write(folder.join("mask.toml"), MASK).expect("written");
    encrypt(&world, "data", "data.enc").await;
    let run = [&["run", "mask.toml", "data.enc", "-o", "out", "--json"][..], &CLAIMS].concat();
    let done = world.run_adyton(&run).await;
    assert!(done.status.success(), "{done:?}");
    assert_eq!(
        std::fs::read_to_string(folder.join("out")).expect("a result"),
        "{\"id\":\"1\",\"email\":\"***********\"}\n"
    );
    let check = ["receipt", "verify", "out.receipt", "--input", "data.enc", "--output", "out", "--json"];
    assert_eq!(world.run_adyton(&check).await.status.code(), Some(0));
    std::fs::write(folder.join("out"), "{\"id\":\"2\",\"email\":\"***********\"}\n").expect("written");
    assert_eq!(world.run_adyton(&check).await.status.code(), Some(1), "another result");

    // An output that exists is kept, and nothing is sent for it.
    let again = world.run_adyton(&run).await;
    assert_eq!(again.status.code(), Some(5));
    assert!(error(&again)["message"].as_str().is_some_and(|text| text.contains("exists")));

    // From standard input to standard output.
    let message = std::fs::read(folder.join("data.enc")).expect("a message");
    let piped = [&["run", "mask.toml", "-", "-o", "-"][..], &CLAIMS].concat();
    let mut child = world
        .adyton(&piped)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&message).await.expect("sent");
    drop(stdin);
    let piped = child.wait_with_output().await.expect("it ends");
    assert!(piped.status.success(), "{piped:?}");
    assert_eq!(piped.stdout, b"{\"id\":\"1\",\"email\":\"***********\"}\n");
    world.stop().await;
}

#[tokio::test]
async fn a_refused_job_leaves_nothing_and_says_the_code() {
    let world = World::start().await;
    let folder = world.folder().join("work");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("data"), "no JSON at all\n").expect("written");
    std::fs::write(folder.join("mask.toml"), MASK).expect("written");
    encrypt(&world, "work/data", "work/data.enc").await;
    let before = names(&folder);
    let run = [&["run", "work/mask.toml", "work/data.enc", "-o", "work/out", "--json"][..], &CLAIMS].concat();
    let refused = world.run_adyton(&run).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = error(&refused);
    assert_eq!((said["code"].as_str(), said["number"].as_u64()), (Some("record_malformed"), Some(500)));
    assert!(said["hint"].is_string());
    assert_eq!(names(&folder), before);
    world.stop().await;
}

// S-12
#[tokio::test]
async fn an_enclave_with_other_measurements_gets_nothing_and_no_enclave_has_an_exit_code_of_its_own() {
    let world = World::start().await;
    std::fs::write(world.folder().join("mask.toml"), MASK).expect("written");
    std::fs::write(world.folder().join("data"), "{\"id\":\"1\"}\n").expect("written");
    encrypt(&world, "data", "data.enc").await;
    let enclave = world.enclave(|policy| policy + "# another image\n").await;
    let other = format!("unix:{}", enclave.socket.display());
    let run =
        [&["run", "mask.toml", "data.enc", "-o", "out", "--json", "--enclave", &other][..], &CLAIMS].concat();
    let refused = world.run_adyton(&run).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(!world.folder().join("out").exists());
    let attested = world.run_adyton(&["attest", "--json", "--enclave", &other]).await;
    assert_eq!(attested.status.code(), Some(1));

    let nobody = format!("unix:{}", world.folder().join("nobody.sock").display());
    let run = [&["run", "mask.toml", "data.enc", "-o", "out", "--json", "--enclave", &nobody][..], &CLAIMS]
        .concat();
    let missing = world.run_adyton(&run).await;
    assert_eq!(missing.status.code(), Some(3));
    assert!(error(&missing)["message"].as_str().is_some_and(|text| text.contains("no enclave answers at")));
    world.stop().await;
}

#[tokio::test]
async fn a_run_that_is_killed_in_the_middle_leaves_nothing_behind() {
    let world = World::start().await;
    let folder = world.folder().join("work");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("mask.toml"), MASK).expect("written");
    let records = "{\"id\":\"1\",\"email\":\"someone@example.com\"}\n".repeat(300_000);
    std::fs::write(world.folder().join("data"), records).expect("written");
    encrypt(&world, "data", "data.enc").await;
    let message = std::fs::read(world.folder().join("data.enc")).expect("a message");
    let before = names(&folder);
    let run = [&["run", "work/mask.toml", "-", "-o", "work/out"][..], &CLAIMS].concat();
    let mut child = world
        .adyton(&run)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // Far more than a pipe holds: what has been written here has been sent to the enclave.
    stdin.write_all(&message[..message.len() - 1000]).await.expect("sent");
    child.kill().await.expect("killed");
    assert_eq!(names(&folder), before);

    let run = [&["run", "work/mask.toml", "data.enc", "-o", "work/out"][..], &CLAIMS].concat();
    assert!(world.run_adyton(&run).await.status.success(), "the next run is served");
    world.stop().await;
}
