//! The command line without an enclave: help, exit statuses, offline verdicts, local files.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use adyton_shared::policy::Policy;
use serde_json::Value;
use tempfile::TempDir;

const GENUINE: &str = "2026-01-03-us-east-1-base.cbor";
const ITS_TIME: &str = "2026-01-03T20:41:08Z";
const DEBUG: &str = "2022-10-12-us-east-1-evervault-debug.cbor";
const DEBUG_TIME: &str = "2022-10-12T13:50:07Z";

/// Runs `adyton` in a folder of its own, without this machine's settings.
struct Scratch(TempDir);

struct Ended {
    status: i32,
    stdout: String,
    stderr: String,
}

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(&[], arguments)
    }

    fn run_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Ended {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adyton"));
        command.env_clear().env("AWS_EC2_METADATA_DISABLED", "true").envs(variables.iter().copied());
        command.current_dir(self.0.path()).args(arguments);
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { status: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name)
    }

    /// A key, and the flags of a job that would be sent with it to nobody.
    fn job_flags(&self) -> Vec<String> {
        if !self.path("billing.key").exists() {
            assert_eq!(self.run(&["requester", "new", "--name", "billing", "-o", "billing.key"]).status, 0);
        }
        let flags = "--as billing --requester-key billing.key --root aws --any-image --plain-request \
                     --enclave unix:none.sock";
        flags.split(' ').map(str::to_owned).collect()
    }

    fn run_job(&self, arguments: &[&str]) -> Ended {
        let flags = self.job_flags();
        let flags = flags.iter().map(String::as_str);
        self.run(&["run"].into_iter().chain(arguments.iter().copied()).chain(flags).collect::<Vec<_>>())
    }
}

impl Ended {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{} / {}", self.stdout, self.stderr))
    }

    /// An error is one sentence and one hint.
    #[track_caller]
    fn fails(&self, status: i32, message: &str, hint: &str) {
        assert_eq!(self.status, status, "{}", self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(self.stderr.contains(message), "'{message}' is not in: {}", self.stderr);
        let said = self.stderr.split_once("\n hint: ").map(|(_, hint)| hint).unwrap_or_default();
        assert!(said.contains(hint), "'{hint}' is not in the hint: {}", self.stderr);
    }
}

fn vector(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/attestation").join(name);
    path.to_str().unwrap().to_owned()
}

fn verify(more: &[&str]) -> Ended {
    verify_file(&vector(GENUINE), ITS_TIME, more)
}

fn verify_file(file: &str, at: &str, more: &[&str]) -> Ended {
    let fixed = ["attest", "verify", file, "--root", "aws", "--at", at];
    Scratch::new().run(&fixed.iter().chain(more).copied().collect::<Vec<_>>())
}

/// A PCR of the genuine document, as a flag's value.
fn pcr(index: u8) -> String {
    let accepted = verify(&["--any-image", "--json"]).json();
    format!("{index}={}", accepted["document"]["pcrs"][index.to_string()].as_str().unwrap())
}

#[test]
fn every_command_has_help_with_an_example() {
    let scratch = Scratch::new();
    let commands: [&[&str]; 11] = [
        &[],
        &["requester", "new"],
        &["requester", "show"],
        &["encrypt"],
        &["run"],
        &["attest"],
        &["attest", "verify"],
        &["receipt", "verify"],
        &["policy", "check"],
        &["policy", "lint"],
        &["serve"],
    ];
    for command in commands {
        let help = scratch.run(&[command, &["--help"]].concat());
        assert_eq!(help.status, 0, "{command:?}");
        assert!(help.stdout.contains("EXAMPLE"), "{command:?} shows no example:\n{}", help.stdout);
        assert!(help.stdout.contains("adyton "), "{command:?}");
        assert!(help.stdout.contains("--json"), "{command:?}");
    }
    let help = scratch.run(&["--help"]).stdout;
    for status in [
        "0  done",
        "1  refused",
        "2  the command line",
        "3  no enclave",
        "4  the connection",
        "5  a local file",
    ] {
        assert!(help.contains(status), "{status} is not documented:\n{help}");
    }
}

#[test]
fn a_senseless_command_line_is_status_2() {
    let scratch = Scratch::new();
    let lines: [&[&str]; 8] = [
        &[],
        &["fly"],
        &["run"],
        &["requester", "new", "--name", "UPPER", "-o", "k"],
        &[
            "encrypt",
            "in",
            "-o",
            "out",
            "--key",
            "alias/a",
            "--tenant",
            "t",
            "--object",
            "o",
            "--purpose",
            "p",
            "--version",
            "1",
        ],
        &["attest", "verify", "f", "--root", "aws", "--at", ITS_TIME, "--pcr", "32=00"],
        &["attest", "verify", "f", "--root", "aws", "--at", ITS_TIME, "--any-image", "--pcr", "0=00"],
        &["serve", "--enclave", "vsock:2", "--proxy", "8000=a:1"],
    ];
    for line in lines {
        let ended = scratch.run(line);
        assert_eq!(ended.status, 2, "{line:?}: {}", ended.stderr);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{line:?}");
    }
}

// V-12
#[test]
fn a_genuine_document_is_accepted_at_its_own_time_for_its_own_image() {
    let any = verify(&["--any-image"]);
    assert_eq!(any.status, 0, "{}", any.stdout);
    assert!(any.stdout.starts_with("accepted\n"), "{}", any.stdout);
    let pcrs: Vec<_> = (0..3).flat_map(|index| ["--pcr".to_owned(), pcr(index)]).collect();
    let its_own = verify(&pcrs.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(its_own.status, 0, "{}", its_own.stdout);
    let json = verify(&["--any-image", "--json"]).json();
    assert_eq!(json["verdict"], "accepted");
    assert_eq!(json["document"]["module_id"], "i-0368fa67e156d6d23-enc019b8596b1a9dad6");
}

/// Refused with this code, in text and in JSON.
#[track_caller]
fn refuses(file: &str, at: &str, more: &[&str], code: &str) {
    let text = verify_file(file, at, more);
    assert_eq!(text.status, 1, "{}{}", text.stdout, text.stderr);
    assert!(text.stdout.starts_with(&format!("refused ({code}): ")), "{}", text.stdout);
    let json = verify_file(file, at, &[more, &["--json"]].concat());
    assert_eq!(
        (json.status, &json.json()["verdict"], &json.json()["code"]),
        (1, &"refused".into(), &code.into())
    );
}

// V-3, V-6, V-11
#[test]
fn every_other_document_is_refused_with_its_code() {
    let (genuine, any) = (vector(GENUINE), ["--any-image"]);
    refuses(&genuine, "2026-06-01T00:00:00Z", &any, "expired");
    refuses(&genuine, "2026-01-03T12:00:00Z", &any, "not_yet_valid");
    let other = format!("0={}", "ab".repeat(48));
    let (first, second) = (pcr(1), pcr(2));
    let other = ["--pcr", &other, "--pcr", &first, "--pcr", &second];
    refuses(&genuine, ITS_TIME, &other, "pcr_mismatch");
    refuses(&genuine, ITS_TIME, &["--any-image", "--nonce", &"00".repeat(16)], "nonce_absent");
    refuses(&vector(DEBUG), DEBUG_TIME, &any, "debug_mode");
    let changed = vector("invalid-2022-11-09-eu-west-1-veracruz-bad-signature.cbor");
    refuses(&changed, "2022-11-09T22:52:01Z", &any, "bad_signature");
    let custom = vector("invalid-2024-12-13-oyster-custom-root.cbor");
    refuses(&custom, "2024-12-13T09:05:46Z", &["--any-image", "--allow-debug"], "wrong_root");
    refuses(&vector("README.md"), ITS_TIME, &any, "malformed");
}

// V-6
#[test]
fn debug_mode_is_accepted_only_when_allowed() {
    let allowed = verify_file(&vector(DEBUG), DEBUG_TIME, &["--any-image", "--allow-debug"]);
    assert_eq!(allowed.status, 0, "{}", allowed.stdout);
}

// V-11
#[test]
fn the_nonce_must_be_the_expected_one() {
    let (file, at) = (vector("2022-11-09-eu-west-1-veracruz.cbor"), "2022-11-09T22:52:01Z");
    let json = verify_file(&file, at, &["--any-image", "--json"]).json();
    let nonce = json["document"]["nonce"].as_str().unwrap();
    let right = verify_file(&file, at, &["--any-image", "--nonce", nonce]);
    assert_eq!(right.status, 0, "{}", right.stdout);
    refuses(&file, at, &["--any-image", "--nonce", &"00".repeat(32)], "nonce_mismatch");
    verify_file(&file, at, &["--any-image", "--nonce", "xyz"]).fails(2, "--nonce", "hexadecimal");
    verify_file(&file, at, &["--any-image", "--nonce", "00"]).fails(2, "nonce", "16 to 512");
}

// V-12
#[test]
fn without_an_expected_image_there_is_no_verdict() {
    verify(&[]).fails(2, "no expected measurement", "--any-image");
    verify_file(&vector(GENUINE), "yesterday", &["--any-image"]).fails(
        2,
        "not a time",
        "2026-01-03T20:41:08Z",
    );
    verify_file("nowhere.cbor", ITS_TIME, &["--any-image"]).fails(5, "nowhere.cbor", "check the path");
    let scratch = Scratch::new();
    let root = scratch.write("root.pem", "no certificate");
    let wrong = ["attest", "verify", "f", "--any-image", "--at", ITS_TIME, "--root", root.to_str().unwrap()];
    scratch.run(&wrong).fails(2, "root.pem", "PEM");
}

#[test]
fn settings_that_lie_around_do_not_change_an_offline_verdict() {
    let scratch = Scratch::new();
    scratch.write("adyton.toml", "root = \"other.pem\"\n[pcrs]\n0 = \"00\"\n");
    let file = vector(GENUINE);
    let fixed = ["attest", "verify", &file, "--at", ITS_TIME, "--any-image"];
    assert_eq!(scratch.run(&[&fixed[..], &["--root", "aws"]].concat()).status, 0);
    scratch.run(&fixed).fails(2, "no trust root", "--root aws");
}

#[test]
fn a_requester_is_made_once_and_its_lines_are_those_of_a_policy() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    let made = scratch.run(&["requester", "new", "--name", "billing", "-o", "billing.key"]);
    assert_eq!(made.status, 0, "{}", made.stderr);
    let rights = std::fs::metadata(scratch.path("billing.key")).unwrap().permissions().mode();
    assert_eq!(rights & 0o777, 0o600);
    let policy = format!(
        r#"version = 1
           name = "payments"
           kms = {{ region = "eu-west-1", keys = ["arn:aws:kms:eu-west-1:111122223333:key/1"] }}
           context = {{ tenant = {{ signed = true }}, object = {{ signed = true }}, purpose = {{ equals = "p" }}, version = {{ minimum = 1 }} }}
           release = [{{ requester = "billing", to = "parent", digest = true }}]
           {}"#,
        made.stdout
    );
    let policy = Policy::parse(policy.as_bytes()).unwrap();
    assert!(policy.requesters.contains_key(&"billing".parse().unwrap()));

    let key = std::fs::read(scratch.path("billing.key")).unwrap();
    let again = scratch.run(&["requester", "new", "--name", "billing", "-o", "billing.key"]);
    again.fails(5, "exists", "another name");
    assert_eq!(std::fs::read(scratch.path("billing.key")).unwrap(), key);
    let shown = scratch.run(&["requester", "show", "--name", "billing", "billing.key"]);
    assert_eq!(shown.stdout, made.stdout);
    let json = scratch.run(&["requester", "show", "--name", "billing", "billing.key", "--json"]).json();
    assert!(made.stdout.contains(json["key"].as_str().unwrap()));
    // Nothing of the private half is ever printed.
    let secret = std::str::from_utf8(&key).unwrap().lines().nth(1).unwrap().to_owned();
    assert!(!format!("{}{}{json}", made.stdout, made.stderr).contains(&secret));
}

#[test]
fn a_key_of_openssl_is_read_and_what_is_no_key_is_not() {
    let scratch = Scratch::new();
    // RFC 8410 §10.3.
    let openssl = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    scratch.write("rfc.key", openssl);
    let shown = scratch.run(&["requester", "show", "--name", "a", "rfc.key"]);
    assert!(
        shown.stdout.contains("ed25519:Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="),
        "{}",
        shown.stdout
    );
    scratch.write("no.key", "hello");
    scratch.run(&["requester", "show", "--name", "a", "no.key"]).fails(
        5,
        "not an Ed25519 key",
        "requester new",
    );
}

const TOML: &str = "version = 1\ninput = \"ndjson\"\nto = \"parent\"\n[[step]]\nmask = { fields = [\"card.pan\"], keep_last = 4 }\n[[step]]\nselect = [\"id\", \"card.pan\"]\n";
const YAML: &str = "version: 1\ninput: ndjson\nto: parent\nstep:\n- mask: {fields: [card.pan], keep_last: 4}\n- select: [id, card.pan]\n";
const JSON: &str = r#"{"version": 1, "input": "ndjson", "to": "parent",
 "step": [{"mask": {"fields": ["card.pan"], "keep_last": 4}}, {"select": ["id", "card.pan"]}]}"#;

#[test]
fn a_job_means_the_same_in_all_three_formats() {
    let scratch = Scratch::new();
    let explained = [("job.toml", TOML), ("job.yaml", YAML), ("job.json", JSON)].map(|(name, content)| {
        scratch.write(name, content);
        let ended = scratch.run(&["run", "--check", name]);
        assert_eq!(ended.status, 0, "{name}: {}", ended.stderr);
        ended.stdout
    });
    assert_eq!(explained[0], explained[1]);
    assert_eq!(explained[0], explained[2]);
    assert!(explained[0].contains("a release rule must allow: id, card.pan (masked, last 4 readable)"));
    let json = scratch.run(&["run", "--check", "job.toml", "--json"]).json();
    assert_eq!(json["job"]["input"], "ndjson");
}

#[test]
fn a_wrong_job_is_refused_with_the_place() {
    let scratch = Scratch::new();
    let unknown = TOML.replace("select", "explode");
    let wrong = [
        ("unknown.toml", unknown.as_str(), "line 7"),
        ("unknown.yaml", &YAML.replace("select", "explode"), "line 6"),
        ("unknown.json", &JSON.replace("select", "explode"), "line 2"),
        ("field.toml", &format!("extra = 1\n{TOML}"), "line 1"),
        ("path.toml", &TOML.replace("\"id\"", "\"a..b\""), "'a..b' is not a field path at byte 2"),
        (
            "gone.toml",
            &format!("{TOML}[[step]]\nmask = {{ fields = [\"email\"] }}\n"),
            "line 8: step 3 names 'email'",
        ),
        ("filter.toml", &format!("{TOML}[[step]]\nfilter = \"id ==\"\n"), "line 8: the filter of step 3"),
        ("version.toml", &TOML.replace("version = 1", "version = 2"), "version 2"),
        ("raw.toml", &TOML.replace("ndjson", "raw"), "step 1"),
        ("job.txt", TOML, "neither .toml, .yaml nor .json"),
    ];
    for (name, content, place) in wrong {
        scratch.write(name, content);
        scratch.run(&["run", "--check", name]).fails(2, place, "run --check");
    }
    scratch.run(&["run", "--check", "none.toml"]).fails(5, "none.toml", "check the path");
}

#[test]
fn outputs_and_inputs_are_looked_at_before_anything_is_sent() {
    let scratch = Scratch::new();
    scratch.write("job.toml", TOML);
    scratch.write("data.enc", "x");
    let old = scratch.write("old", "old");
    let claims = ["--tenant", "t", "--object", "o"];
    let run =
        |output: &str| scratch.run_job(&[&["job.toml", "data.enc", "-o", output], &claims[..]].concat());
    run("old").fails(5, "old exists", "--force");
    assert_eq!(std::fs::read(old).unwrap(), b"old");
    run(".").fails(5, "is a folder", "name a file");
    run("none/out").fails(5, "does not exist", "make it");
    scratch.write("new.receipt", "old");
    run("new").fails(5, "new.receipt exists", "--force");
    let same = scratch.run_job(&["job.toml", "data.enc", "-o", "same", "--receipt", "same"]);
    same.fails(2, "--receipt names the output", "a name of its own");
    scratch.run_job(&["job.toml", "none.enc", "-o", "out"]).fails(5, "none.enc", "check the path");
    scratch.run_job(&["job.toml", ".", "-o", "out"]).fails(5, "directory", "name a file");
    assert!(!scratch.path("out").exists() && !scratch.path("new").exists());
}

#[test]
fn no_enclave_is_status_3() {
    let scratch = Scratch::new();
    scratch.write("job.toml", TOML);
    scratch.write("data.enc", "x");
    scratch.run_job(&["job.toml", "data.enc", "-o", "out"]).fails(
        3,
        "no enclave answers at unix:none.sock",
        "running",
    );
    assert!(!scratch.path("out").exists() && !scratch.path("out.receipt").exists());
    let ended =
        scratch.run(&["attest", "--enclave", "unix:none.sock", "--root", "aws", "--any-image", "--json"]);
    let said: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!((ended.status, &said["exit"]), (3, &3.into()));
    assert!(said["hint"].as_str().unwrap().contains("running"));
}

#[test]
fn settings_are_strict_and_relative_to_their_file() {
    let scratch = Scratch::new();
    scratch.write("job.toml", TOML);
    scratch.write("data.enc", "x");
    scratch.job_flags();
    std::fs::create_dir(scratch.path("there")).unwrap();
    let settings = "enclave = \"unix:v.sock\"\nroot = \"aws\"\npcrs = { 0 = \"PCR\", 1 = \"PCR\", 2 = \"PCR\" }\n[requester]\nname = \"billing\"\nkey = \"../billing.key\"\n"
        .replace("PCR", &"ab".repeat(48));
    scratch.write("there/adyton.toml", &settings);
    let run = ["run", "job.toml", "data.enc", "-o", "out", "--config"];
    let ended = scratch.run(&[&run[..], &["there/adyton.toml"]].concat());
    ended.fails(3, "no enclave answers at unix:there/v.sock", "running");
    let twice = ["there/adyton.toml", "--tenant", "acme", "--claim", "tenant=other"];
    scratch.run(&[&run[..], &twice].concat()).fails(2, "tenant is given twice", "each once");
    scratch.write("there/wrong.toml", &format!("colour = \"red\"\n{settings}"));
    scratch.run(&[&run[..], &["there/wrong.toml"]].concat()).fails(2, "line 1", "known are enclave");
    scratch.run(&[&run[..], &["nowhere.toml"]].concat()).fails(5, "nowhere.toml", "check the path");
}

#[test]
fn a_receipt_that_is_none_is_refused() {
    let scratch = Scratch::new();
    scratch.write("a.receipt", "not a receipt");
    let flags = ["receipt", "verify", "a.receipt", "--root", "aws"];
    scratch.run(&[&flags[..], &["--any-image"]].concat()).fails(1, "receipt", "do not use");
    scratch.run(&flags).fails(2, "no expected measurement", "--any-image");
}

const ENCRYPT: [&str; 14] = [
    "encrypt",
    "in",
    "-o",
    "out",
    "--key",
    "arn:aws:kms:eu-west-1:111122223333:key/1",
    "--tenant",
    "acme",
    "--object",
    "data",
    "--purpose",
    "test",
    "--version",
    "1",
];

impl Scratch {
    /// Encrypts with credentials that no KMS knows.
    fn encrypt(&self, more: &[&str]) -> Ended {
        let credentials = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret-CANARY")];
        let ended = self.run_with(&credentials, &[&ENCRYPT[..], more].concat());
        assert!(!self.path("out").exists());
        assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("CANARY"), "{}", ended.stderr);
        ended
    }
}

#[test]
fn encrypting_says_what_is_wrong_before_it_asks_kms() {
    let scratch = Scratch::new();
    scratch.write("in", "plaintext-CANARY");
    scratch.encrypt(&["--frame-length", "0"]).fails(2, "--frame-length 0", "65536");
    scratch.encrypt(&["--frame-length", "4294967295"]).fails(2, "--frame-length 4294967295", "65536");
    scratch.encrypt(&["--context", "tenant=other"]).fails(2, "encryption context", "change");
    scratch.encrypt(&["--context", "aws-crypto-x=y"]).fails(2, "aws-crypto-", "change");
    scratch.encrypt(&["--endpoint-url", "http://localhost:1"]).fails(2, "https://", "https://HOST:PORT");
    scratch.encrypt(&["--endpoint-url", "nonsense"]).fails(2, "'nonsense'", "https://HOST:PORT");
    scratch.encrypt(&["--ca-bundle", "none.pem"]).fails(5, "none.pem", "check the path");
    scratch.encrypt(&["--ca-bundle", "in"]).fails(5, "no certificates", "CERTIFICATE blocks");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    scratch.write("broken.pem", broken);
    scratch.encrypt(&["--ca-bundle", "broken.pem"]).fails(5, "no certificates", "CERTIFICATE blocks");
    let input = |name: &str| {
        let mut line = ENCRYPT;
        line[1] = name;
        scratch.run(&line)
    };
    input("none").fails(5, "none", "check the path");
    input(".").fails(5, "is a directory", "name a file");
}

#[test]
fn a_kms_that_is_down_or_answers_garbage_is_status_6_and_shows_nothing_secret() {
    use std::io::{Read, Write};
    let scratch = Scratch::new();
    scratch.write("in", "plaintext-CANARY");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        // As often as the SDK tries.
        while let Ok((mut stream, _)) = listener.accept() {
            let mut hello = [0; 1024];
            match stream.read(&mut hello) {
                Ok(count) if hello[..count].starts_with(b"stop") => return,
                _ => drop(stream.write_all(b"garbage-CANARY")),
            }
        }
    });
    scratch.encrypt(&["--endpoint-url", &url]).fails(6, "KMS could not be reached", "--ca-bundle");
    let address = url.strip_prefix("https://").unwrap();
    std::net::TcpStream::connect(address).unwrap().write_all(b"stop").unwrap();
    server.join().unwrap();
    let down = scratch.encrypt(&["--endpoint-url", &url, "--json"]);
    let said: Value = serde_json::from_str(&down.stderr).unwrap();
    assert_eq!((down.status, &said["exit"]), (6, &6.into()));
    assert!(said["message"].as_str().unwrap().contains("Connection refused"), "{said}");
}

#[test]
fn without_credentials_it_says_where_they_come_from() {
    let scratch = Scratch::new();
    scratch.write("in", "x");
    let url = ["--endpoint-url", "https://localhost:1"];
    let ended = scratch.run(&[&ENCRYPT[..], &url].concat());
    ended.fails(6, "there are no AWS credentials", "AWS_PROFILE");
}

// K-2, K-3, V-7
#[test]
fn a_weak_key_policy_is_refused_with_its_findings() {
    let scratch = Scratch::new();
    let root = "arn:aws:iam::111122223333:root";
    scratch.write(
        "default.json",
        &format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"Enable IAM","Effect":"Allow",
                "Principal":{{"AWS":"{root}"}},"Action":"kms:*","Resource":"*"}}]}}"#
        ),
    );
    let refused = scratch.run(&["policy", "lint", "default.json", "--json"]);
    assert_eq!(refused.status, 1);
    let said: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!((&said["verdict"], &said["errors"]), (&"refused".into(), &5.into()));
    let delegation =
        said["findings"].as_array().unwrap().iter().find(|f| f["code"] == "root-delegation").unwrap();
    assert_eq!(delegation["requirement"], "K-3");
    assert_eq!(delegation["severity"], "error");
    assert_eq!(delegation["statement"], serde_json::json!({ "index": 0, "sid": "Enable IAM" }));
    let failure: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!((&failure["code"], &failure["exit"]), (&"key_policy_weak".into(), &1.into()));
    // For people.
    let refused = scratch.run(&["policy", "lint", "default.json"]);
    assert!(
        refused
            .stdout
            .contains("error K-3 (root-delegation): statement 0 (Enable IAM): it leaves kms:Decrypt")
    );
    assert!(refused.stdout.ends_with("5 errors, 2 warnings\n"), "{}", refused.stdout);

    // A name that others gave moves no cursor and makes no line.
    let policy = std::fs::read_to_string(scratch.path("default.json")).unwrap();
    scratch.write("hostile.json", &policy.replace("Enable IAM", "x\\u001b[2K\\u000a0 errors"));
    let refused = scratch.run(&["policy", "lint", "hostile.json"]);
    assert!(
        refused.stdout.contains("statement 0 (x\\u{1b}[2K\\u{a}0 errors): it leaves"),
        "{}",
        refused.stdout
    );

    scratch.write("none.json", "{}");
    let none = scratch.run(&["policy", "lint", "none.json", "--json"]);
    let failure: Value = serde_json::from_str(&none.stderr).unwrap();
    assert_eq!((none.status, &failure["code"]), (1, &"key_policy_malformed".into()));
    assert_eq!(scratch.run(&["policy", "lint", "nowhere.json"]).status, 5);
    assert_eq!(scratch.run(&["policy", "lint", "default.json", "--role", "*"]).status, 2);
}
