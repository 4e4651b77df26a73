//! Receipts in the hands of whoever would like them to say something else.

use std::path::{Path, PathBuf};
use std::process::Output;

use adyton_parent::client::{Claims, ClientError, VerifiedReceipt, verify_receipt};
use adyton_shared::id::{EnclaveId, PolicyDigest, Sha256Digest};
use adyton_shared::receipt::Receipt;
use adyton_shared::statement::{Purpose, Statement};
use adyton_verifier::attestation::{AttestationError, Expectations};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use crate::command::{adyton, json};
use crate::forge::{Enclave, Forge, POLICY, Says, its_image};
use crate::jobs::{receipt, request};

fn at(forge: &Forge, mut receipt: Receipt) -> Receipt {
    receipt.started = forge.now_ms();
    receipt.finished = forge.now_ms();
    receipt
}

/// The receipt that an honest enclave signs at the forge's time.
fn honest(forge: &Forge, enclave: &Enclave<'_>) -> Receipt {
    at(forge, receipt(&request(enclave).0, b"input", b"output"))
}

fn judge(forge: &Forge, bytes: &[u8]) -> Result<VerifiedReceipt, ClientError> {
    verify_receipt(bytes, &forge.anchor(), &its_image(), &Claims::default())
}

/// Five years ago: every certificate has expired since.
fn long_ago() -> Forge {
    Forge::at(OffsetDateTime::now_utc() - Duration::days(5 * 365))
}

// V-11
#[test]
fn an_old_receipt_verifies_at_its_own_time_and_its_document_at_no_other() {
    let forge = long_ago();
    let enclave = forge.enclave();
    let document = enclave.document(None);
    let signed = honest(&forge, &enclave).sign(&enclave.key, document.clone()).unwrap();
    let verified = judge(&forge, &signed).unwrap();
    assert_eq!((verified.enclave, verified.document.timestamp.0), (enclave.id(), forge.now_ms()));
    let now = adyton_verifier::attestation::UnixMillis(crate::forge::now_ms());
    let today = adyton_verifier::attestation::verify(&document, &forge.anchor(), now, &its_image());
    assert!(matches!(today, Err(AttestationError::Expired { .. })), "{today:?}");
    // Who demands a fresh document does not get an old one for it.
    let fresh = its_image().fresh(std::time::Duration::from_mins(5), std::time::Duration::from_mins(5));
    let refused = verify_receipt(&signed, &forge.anchor(), &fresh, &Claims::default());
    assert!(
        matches!(refused, Err(ClientError::Attestation(AttestationError::ArchiveIsNotFresh))),
        "{refused:?}"
    );
}

// V-11, T-7
#[test]
fn a_receipt_is_signed_while_its_document_is_valid() {
    const HOUR: i64 = 60 * 60 * 1000;
    let forge = long_ago();
    let enclave = forge.enclave();
    let off = |millis: i64| {
        let mut receipt = honest(&forge, &enclave);
        receipt.finished = receipt.finished.checked_add_signed(millis).unwrap();
        judge(&forge, &receipt.sign(&enclave.key, enclave.document(None)).unwrap())
    };
    // The leaf lives for three hours more, and clocks may differ by a minute.
    for millis in [0, HOUR, 3 * HOUR + 59_000, -59_000] {
        assert!(off(millis).is_ok(), "{millis}");
    }
    for millis in [3 * HOUR + 62_000, -61_000, 5 * 365 * 24 * HOUR] {
        let refused = off(millis);
        assert!(
            matches!(refused, Err(ClientError::ReceiptMismatch("time than its document's"))),
            "{millis}: {refused:?}"
        );
    }
}

// T-3, V-13
#[test]
fn a_document_that_is_no_identity_vouches_for_no_receipt() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let receipt = honest(&forge, &enclave);
    let id = *enclave.id().as_bytes();
    // The same enclave, asking KMS for a key.
    let release = Statement { purpose: Purpose::Release, subject: id, policy: POLICY }.to_bytes();
    let longer = [&enclave.identity(None).statement[..], b"\0"].concat();
    for statement in [release, longer, Vec::from(b"hello"), Vec::new()] {
        let document = forge.document(Says { statement, ..enclave.identity(None) });
        let refused = judge(&forge, &receipt.sign(&enclave.key, document).unwrap());
        assert!(matches!(refused, Err(ClientError::NotAnIdentity)), "{refused:?}");
    }
}

#[test]
fn another_key_another_document_and_another_policy_are_refused() {
    let forge = Forge::new();
    let (enclave, other) = (forge.enclave(), forge.enclave());
    let good = honest(&forge, &enclave);
    // Somebody's own signature under the enclave's document.
    let thief = Ed25519KeyPair::generate().unwrap();
    let refused = judge(&forge, &good.sign(&thief, enclave.document(None)).unwrap());
    assert!(matches!(refused, Err(ClientError::Receipt(_))), "{refused:?}");
    // The enclave's signature under the document of another, genuine one.
    let refused = judge(&forge, &good.sign(&enclave.key, other.document(None)).unwrap());
    assert!(matches!(refused, Err(ClientError::Receipt(_))), "{refused:?}");
    // A document for the thief's key from another hypervisor.
    let elsewhere = Forge::new();
    let id = EnclaveId::new(thief.public_key().as_ref().try_into().unwrap());
    let statement = Statement { purpose: Purpose::Identity, subject: *id.as_bytes(), policy: POLICY };
    let says = Says { statement: statement.to_bytes(), ..enclave.identity(None) };
    let refused = judge(&forge, &good.sign(&thief, elsewhere.document(says)).unwrap());
    assert!(
        matches!(refused, Err(ClientError::Attestation(AttestationError::WrongRoot { .. }))),
        "{refused:?}"
    );
    // What the receipt and what the document say of the policy.
    let lie = Receipt { policy: PolicyDigest::new([1; 48]), ..good };
    let refused = judge(&forge, &lie.sign(&enclave.key, enclave.document(None)).unwrap());
    assert!(matches!(refused, Err(ClientError::ReceiptMismatch("policy"))), "{refused:?}");
}

#[test]
fn a_receipt_of_another_job_does_not_pass_because_the_result_is_right() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let good = honest(&forge, &enclave);
    let signed = good.sign(&enclave.key, enclave.document(None)).unwrap();
    let right = Claims {
        input: Some((good.input_digest, good.input_bytes)),
        output: Some((good.output_digest, good.output_bytes)),
        job_digest: Some(good.job_digest),
        policy: Some(POLICY),
        ..Claims::default()
    };
    let judge = |claims: &Claims| verify_receipt(&signed, &forge.anchor(), &its_image(), claims);
    assert!(judge(&right).is_ok());
    let other = Sha256Digest::of(b"other");
    for (what, claims) in [
        ("job definition", Claims { job_digest: Some(other), ..right.clone() }),
        ("input", Claims { input: Some((other, good.input_bytes)), ..right.clone() }),
        ("output", Claims { output: Some((good.output_digest, good.output_bytes + 1)), ..right.clone() }),
        ("policy", Claims { policy: Some(PolicyDigest::new([7; 48])), ..right.clone() }),
        ("requester", Claims { requester: Some("auditor".parse().unwrap()), ..right.clone() }),
    ] {
        let refused = judge(&claims);
        assert!(matches!(refused, Err(ClientError::ReceiptMismatch(w)) if w == what), "{refused:?}");
    }
}

#[test]
fn no_shorter_longer_or_changed_file_is_a_receipt() {
    let forge = Forge::new();
    let enclave = forge.enclave();
    let good = honest(&forge, &enclave).sign(&enclave.key, enclave.document(None)).unwrap();
    assert!(judge(&forge, &good).is_ok());
    for length in 0..good.len() {
        assert!(judge(&forge, &good[..length]).is_err(), "{length} bytes");
    }
    for more in [&b"\0"[..], b"\n", &[0; 1024], &good] {
        assert!(judge(&forge, &[&good, more].concat()).is_err(), "{} bytes more", more.len());
        assert!(judge(&forge, &[more, &good].concat()).is_err(), "{} bytes before", more.len());
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        let judged = judge(&forge, &changed);
        assert!(judged.is_err(), "byte {at} of {}: {judged:?}", good.len());
    }
}

/// A folder with an old receipt and what belongs to it, and no settings.
struct Archive {
    folder: TempDir,
}

impl Archive {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let forge = long_ago();
        let enclave = forge.enclave();
        let policy = b"the policy of that time";
        let digest = PolicyDigest::of(policy);
        let id = *enclave.id().as_bytes();
        let statement = Statement { purpose: Purpose::Identity, subject: id, policy: digest }.to_bytes();
        let document = forge.document(Says { statement, ..enclave.identity(None) });
        let receipt = Receipt { policy: digest, ..honest(&forge, &enclave) };
        let root = forge.root_pem();
        let files: [(&str, &[u8]); 7] = [
            ("root.pem", root.as_bytes()),
            ("receipt", &receipt.sign(&enclave.key, document).unwrap()),
            ("policy.toml", policy),
            ("data.enc", b"input"),
            ("result", b"output"),
            (
                "job.toml",
                b"version = 1\ninput = \"raw\"\nto = \"parent\"\nstep = [{ digest = \"sha-256\" }]\n",
            ),
            // Settings of somebody who trusts another root, in the folder where one looks for them.
            ("adyton.toml", b"root = \"nowhere.pem\"\n[pcrs]\n0 = \"00\"\n"),
        ];
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let [first, second, third] = ["07", "01", "02"].map(|byte| byte.repeat(48));
        let measured = format!(
            r#"{{"Measurements": {{"HashAlgorithm": "Sha384 {{ ... }}", "PCR0": "{first}", "PCR1": "{second}", "PCR2": "{third}"}}}}"#
        );
        std::fs::write(folder.path().join("measured.json"), measured).unwrap();
        Self { folder }
    }

    async fn verify(&self, more: &[&str]) -> Output {
        adyton(&self.folder, &[&["receipt", "verify", "receipt"], more].concat()).output().await.unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

const TRUST: [&str; 4] = ["--root", "root.pem", "--pcrs", "measured.json"];

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

// V-11
#[tokio::test]
async fn a_third_party_needs_the_file_a_root_and_measurements() {
    let archive = Archive::new();
    let all = ["--input", "data.enc", "--output", "result", "--job", "job.toml"];
    let judged = archive.verify(&[&TRUST[..], &all].concat()).await;
    let text = String::from_utf8(judged.stdout).unwrap();
    assert_eq!(judged.status.code(), Some(0), "{text}");
    for sentence in [
        "accepted: the enclave signed this receipt",
        "it proves that\n- an enclave with the expected measurements ran a job for billing",
        "which is the given file",
        "it does not prove\n- that the data were true",
        "- that no other job ran on the same input",
        "- that the result was delivered",
    ] {
        assert!(text.contains(sentence), "{sentence}: {text}");
    }

    let judged = archive.verify(&[&TRUST[..], &["--json"]].concat()).await;
    let said = json(&judged.stdout);
    assert_eq!(said["verdict"], "accepted");
    assert_eq!(said["compared"]["image"], true);
    assert_eq!(said["compared"]["input"], false);
    assert!(said["proves"][0].as_str().unwrap().contains("which was compared with nothing"), "{said}");
    assert!(said["does_not_prove"].as_array().is_some_and(|lines| lines.len() >= 5));

    // Without a root it is AWS's, which has not signed this; without measurements nothing is judged.
    let aws = archive.verify(&["--pcrs", "measured.json", "--json"]).await;
    assert_eq!((code(&aws), json(&aws.stderr)["code"].clone()), (Some(1), "wrong_root".into()));
    assert_eq!(code(&archive.verify(&["--root", "root.pem"]).await), Some(2));
    let any = archive.verify(&["--root", "root.pem", "--any-image"]).await;
    let text = String::from_utf8(any.stdout).unwrap();
    assert!(text.contains("of an image that nobody compared"), "{text}");
    assert!(text.contains("- anything about the program"), "{text}");
}

// V-5, V-12
#[tokio::test]
async fn measurements_files_that_name_no_image_are_refused() {
    let archive = Archive::new();
    let hex = "07".repeat(48);
    for (content, exit) in [
        (format!(r#"{{"PCR0": "{hex}"}}"#), 2),
        (r#"{"Measurements": {}}"#.to_owned(), 2),
        ("no JSON".to_owned(), 2),
        (format!(r#"{{"0": "{hex}", "1": "{hex}", "2": "{hex}"}}"#), 1),
    ] {
        std::fs::write(archive.path("measured.json"), &content).unwrap();
        assert_eq!(code(&archive.verify(&TRUST).await), Some(exit), "{content}");
    }
    assert_eq!(code(&archive.verify(&["--root", "root.pem", "--pcrs", "nowhere.json"]).await), Some(5));
    let twice = format!("0={hex}");
    assert_eq!(
        code(&archive.verify(&["--root", "root.pem", "--pcrs", &twice, "--pcr", &twice]).await),
        Some(2)
    );
}

#[tokio::test]
async fn every_file_that_is_given_is_compared() {
    let archive = Archive::new();
    let flags = [
        ("--input", "data.enc", "input"),
        ("--output", "result", "output"),
        ("--job", "job.toml", "job definition"),
    ];
    for (flag, file, what) in flags {
        let path = archive.path(file);
        let before = std::fs::read(&path).unwrap();
        let verify = [&TRUST[..], &[flag, file, "--json"]].concat();
        assert_eq!(code(&archive.verify(&verify).await), Some(0), "{flag}");
        let other = if flag == "--job" {
            String::from_utf8(before.clone()).unwrap().replace("raw", "csv").into_bytes()
        } else {
            [&before[..], b"x"].concat()
        };
        std::fs::write(&path, other).unwrap();
        let refused = archive.verify(&verify).await;
        let said = json(&refused.stderr);
        assert_eq!(
            (code(&refused), &said["code"], &said["what"]),
            (Some(1), &"receipt_mismatch".into(), &what.into())
        );
        std::fs::write(&path, before).unwrap();
    }
    // This document has no PCR16, so the policy is compared where no measurements are.
    let policy = ["--root", "root.pem", "--any-image", "--policy", "policy.toml", "--json"];
    let accepted = archive.verify(&policy).await;
    assert_eq!(json(&accepted.stdout)["compared"]["policy"], true);
    std::fs::write(archive.path("policy.toml"), "another").unwrap();
    let refused = archive.verify(&policy).await;
    assert_eq!((code(&refused), json(&refused.stderr)["what"].clone()), (Some(1), "policy".into()));
    // With them, the register must say the same.
    let refused = archive.verify(&[&TRUST[..], &["--policy", "policy.toml", "--json"]].concat()).await;
    assert_eq!((code(&refused), json(&refused.stderr)["code"].clone()), (Some(1), "pcr_absent".into()));
}

#[tokio::test]
async fn what_is_no_receipt_says_so_and_settings_count_only_if_named() {
    let archive = Archive::new();
    let verify = [&TRUST[..], &["--json"]].concat();
    std::fs::write(archive.path("receipt"), b"no receipt").unwrap();
    let refused = archive.verify(&verify).await;
    assert_eq!(
        (code(&refused), json(&refused.stderr)["code"].clone()),
        (Some(1), "receipt_malformed".into())
    );
    let named = archive.verify(&[&verify[..], &["--config", "adyton.toml"]].concat()).await;
    assert_eq!(code(&named), Some(1), "flags win over settings");
    let named = archive.verify(&["--config", "adyton.toml"]).await;
    assert!(String::from_utf8_lossy(&named.stderr).contains("nowhere.pem"), "{named:?}");
    assert!(!Path::new("adyton.toml").exists());
    let any = Expectations::any_image();
    assert!(matches!(
        verify_receipt(b"", &Forge::new().anchor(), &any, &Claims::default()),
        Err(ClientError::Receipt(_))
    ));
}
