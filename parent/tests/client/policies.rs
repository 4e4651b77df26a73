//! `adyton policy check`: what it says, warns of, refuses and writes.

use std::process::Output;

use adyton_shared::id::PolicyDigest;
use aws_lc_rs::digest::{SHA384, digest};
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{adyton, json};

const POLICY: &str = r#"version = 1
name = "payments"
[kms]
region = "eu-west-1"
keys = ["arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001"]
[context]
tenant = { signed = true }
object = { signed = true }
purpose = { equals = "payments" }
version = { minimum = 7 }
[[requester]]
name = "billing"
key = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
[[release]]
requester = "billing"
to = "parent"
fields = ["id", { path = "card.pan", as = "mask", keep_last = 4 }]
[[release]]
requester = "billing"
to = "parent"
aggregate = { minimum_group = 20, budget = 50, by = ["country"], functions = ["count", "sum"] }
[[release]]
requester = "billing"
to = "arn:aws:kms:eu-west-1:444455556666:key/8a51b3c0-0000-4000-8000-000000000002"
pad = true
"#;

const PRINCIPALS: [&str; 6] = [
    "--enclave-role",
    "arn:aws:iam::111122223333:role/enclave",
    "--data-owner",
    "arn:aws:iam::111122223333:role/owner",
    "--administrator",
    "arn:aws:iam::111122223333:role/security",
];

struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new(policy: &str) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
        let [first, second, third] = ["07", "01", "02"].map(|byte| byte.repeat(48));
        let measured = format!(r#"{{"PCR0": "{first}", "PCR1": "{second}", "PCR2": "{third}"}}"#);
        std::fs::write(folder.path().join("measured.json"), measured).unwrap();
        Self { folder }
    }

    async fn check(&self, more: &[&str]) -> Output {
        adyton(&self.folder, &[&["policy", "check", "policy.toml"], more].concat()).output().await.unwrap()
    }

    fn written(&self) -> Option<Value> {
        let text = std::fs::read(self.folder.path().join("key.json")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }
}

fn codes(said: &Value) -> Vec<&str> {
    said["warnings"].as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap()).collect()
}

// T-5
#[tokio::test]
async fn a_policy_is_explained_in_sentences_with_its_digest_and_register() {
    let desk = Desk::new(POLICY);
    let checked = desk.check(&[]).await;
    let text = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{text}");
    let policy = PolicyDigest::of(POLICY.as_bytes());
    let register = digest(&SHA384, &[[0; 48], *policy.as_bytes()].concat());
    for line in [
        "policy payments",
        &format!("digest {policy}"),
        &format!("PCR16  {}", hex::encode(register)),
        "- billing may get records with id, card.pan (masked, the last 4 readable at most), readable by",
        "- billing may get aggregates over groups of 20 records or more (count, sum; of any field; grouped by \
         country; filtered by any of these), 50 of each object while the enclave runs",
        "- billing may get everything: whole records and payloads, sealed under the KMS key \
         arn:aws:kms:eu-west-1:444455556666:key/8a51b3c0-0000-4000-8000-000000000002, its length rounded up",
        "- nothing else leaves, and one job's result is let out by one of these rules",
        "- results of several jobs of billing can be laid side by side, record by record,",
        "- a payload's tenant must be the one that the signed request names",
        "- a payload's purpose must be payments",
        "- a payload's version must be 7 or higher",
        "- messages without key commitment are refused",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(!text.contains("warning"), "{text}");
}

#[tokio::test]
async fn sentences_claim_no_more_than_is_enforced() {
    let desk =
        Desk::new(&POLICY.replace("functions = [\"count\", \"sum\"]", "functions = [\"count\", \"max\"]"));
    let text = String::from_utf8(desk.check(&[]).await.stdout).unwrap();
    assert!(
        text.contains("minimum, maximum and quantiles are values of single records as they are"),
        "{text}"
    );
    let one = Desk::new(POLICY.rsplit_once("[[release]]").unwrap().0);
    let text = String::from_utf8(one.check(&[]).await.stdout).unwrap();
    assert!(!text.contains("side by side") && !text.contains("single records"), "{text}");
}

// Who reviews a policy or a job reads what others wrote.
#[tokio::test]
async fn no_name_in_a_policy_or_a_job_can_erase_or_add_a_line() {
    let odd = r"id\u001bc\u202e\n- nothing else leaves";
    let desk = Desk::new(
        &POLICY
            .replace("\"id\"", &format!("\"{odd}\""))
            .replace("payments\"\n[kms]", &format!("{odd}\"\n[kms]")),
    );
    let checked = desk.check(&[]).await;
    let text = String::from_utf8(checked.stdout).unwrap();
    assert_eq!(checked.status.code(), Some(0), "{text}");
    let shown = r"id\u{1b}c\u{202e}\u{a}- nothing else leaves";
    assert!(text.contains(&format!("records with {shown}, card.pan")), "{text}");
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("- nothing else leaves")).count(), 1);

    let job = format!("version = 1\ninput = \"csv\"\nto = \"parent\"\n[[step]]\nselect = [\"{odd}\"]\n");
    std::fs::write(desk.folder.path().join("job.toml"), &job).unwrap();
    let explained = adyton(&desk.folder, &["run", "--check", "job.toml"]).output().await.unwrap();
    let text = String::from_utf8(explained.stdout).unwrap();
    assert!(text.contains(&format!("keeps {shown} and nothing else")), "{text}");
    std::fs::write(desk.folder.path().join("job.toml"), job.replace("id", "id..")).unwrap();
    let refused = adyton(&desk.folder, &["run", "--check", "job.toml"]).output().await.unwrap();
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && !text.contains(['\u{1b}', '\u{202e}']), "{text}");
}

#[tokio::test]
async fn what_is_weak_is_warned_of_by_code() {
    let cases: [(&str, &str, &str); 8] = [
        ("pad = true\n", "[[release]]\nrequester = \"billing\"\nto = \"parent\"\nreveal = true\n", "reveal"),
        ("minimum_group = 20", "minimum_group = 10", "small_group"),
        ("budget = 50", "budget = 1001", "large_budget"),
        ("keep_last = 4", "keep_last = 7", "long_rest"),
        ("minimum = 7", "minimum = 0", "no_floor"),
        ("object = { signed = true }", "object = { equals = \"x\" }", "object_not_signed"),
        ("[context]", "[envelope]\nallow_non_committing = true\n[context]", "non_committing"),
        ("[context]", "[cache]\nage_seconds = 901\n[context]", "long_cache"),
    ];
    for (from, to, code) in cases {
        let policy = POLICY.replacen(from, to, 1);
        assert_ne!(policy, POLICY, "{code}");
        let desk = Desk::new(&policy);
        let checked = desk.check(&["--json"]).await;
        assert_eq!(checked.status.code(), Some(0), "{code}: {checked:?}");
        assert_eq!(codes(&json(&checked.stdout)), [code]);
        let denied = desk.check(&["--json", "--deny-warnings"]).await;
        assert_eq!(denied.status.code(), Some(1), "{code}");
        assert_eq!(json(&denied.stderr)["code"], "policy_warnings");
        assert_eq!(json(&denied.stdout)["verdict"], "refused");
    }
    let elsewhere = "endpoint = \"kms.example.com\"\nroots = \"-----BEGIN CERTIFICATE-----\"\nregion = ";
    let kms = POLICY.replacen("region = ", elsewhere, 1);
    let checked = Desk::new(&kms).check(&["--json"]).await;
    assert_eq!(codes(&json(&checked.stdout)), ["custom_endpoint", "custom_roots"]);
    let strict = Desk::new(POLICY).check(&["--deny-warnings"]).await;
    assert_eq!(strict.status.code(), Some(0), "{strict:?}");
}

#[tokio::test]
async fn what_is_no_policy_is_refused_with_the_place() {
    for (from, to, place) in [
        ("version = 1", "version = 2", "version"),
        ("name = \"payments\"", "nome = \"payments\"", "nome"),
        ("minimum_group = 20", "minimum_group = 1", "[[release]] number 2"),
        ("object = { signed = true }\n", "", "[context]"),
    ] {
        let refused = Desk::new(&POLICY.replacen(from, to, 1)).check(&["--json"]).await;
        let said = json(&refused.stderr);
        assert_eq!((refused.status.code(), &said["code"]), (Some(1), &"policy_refused".into()), "{place}");
        assert!(said["message"].as_str().unwrap().contains(place), "{place}: {said}");
    }
    let missing = adyton(&Desk::new("").folder, &["policy", "check", "nowhere.toml"]).output().await.unwrap();
    assert_eq!(missing.status.code(), Some(5));
}

// K-2, K-3, V-5
#[tokio::test]
async fn the_key_policy_pins_image_and_policy_and_the_policys_constants() {
    let desk = Desk::new(POLICY);
    let write = ["--json", "--pcrs", "measured.json", "--key-policy", "key.json"];
    let checked = desk.check(&[&write[..], &PRINCIPALS].concat()).await;
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let said = json(&checked.stdout);
    let policy = desk.written().unwrap();
    let statement = |sid: &str| {
        policy["Statement"].as_array().unwrap().iter().find(|s| s["Sid"] == sid).cloned().unwrap()
    };
    let allow = &statement("AttestedEnclave")["Condition"];
    let pcr = |index: u8| &allow["StringEqualsIgnoreCase"][format!("kms:RecipientAttestation:PCR{index}")];
    assert_eq!((pcr(0), pcr(16)), (&"07".repeat(48).into(), &said["pcr16"]));
    assert_eq!(allow["StringEquals"]["kms:EncryptionContext:purpose"], "payments");
    for key in ["tenant", "object", "purpose", "version"] {
        assert_eq!(allow["Null"][format!("kms:EncryptionContext:{key}")], "false", "{key}");
    }
    for index in [0, 1, 2, 16] {
        assert_eq!(statement(&format!("OpenNothingUnlessPCR{index}Fits"))["Effect"], "Deny");
    }

    // It is not overwritten unless told so.
    let again = [&write[..], &PRINCIPALS].concat();
    assert_eq!(desk.check(&again).await.status.code(), Some(5));
    assert_eq!(desk.check(&[&again[..], &["--force"]].concat()).await.status.code(), Some(0));
}

// V-5, V-7, V-8
#[tokio::test]
async fn no_key_policy_is_written_for_measurements_that_name_no_image_or_for_confused_roles() {
    let hex = "07".repeat(48);
    for (indexes, warned) in [(&[0][..], true), (&[8], true), (&[3, 4], true), (&[], false)] {
        let desk = Desk::new(POLICY);
        let named: Vec<_> = indexes.iter().map(|index| format!("{index}={hex}")).collect();
        let pcrs: Vec<_> = named.iter().flat_map(|named| ["--pcr", named.as_str()]).collect();
        let refused = desk.check(&[&pcrs[..], &["--key-policy", "key.json"], &PRINCIPALS].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{indexes:?}: {refused:?}");
        assert!(desk.written().is_none());
        let said = json(&desk.check(&[&pcrs[..], &["--json"]].concat()).await.stdout);
        assert_eq!(codes(&said) == ["image_not_named"], warned, "{indexes:?}: {said}");
    }
    let desk = Desk::new(POLICY);
    let write = ["--pcrs", "measured.json", "--key-policy", "key.json"];
    let same = PRINCIPALS.map(|text| if text.ends_with("role/owner") { PRINCIPALS[1] } else { text });
    for (what, more) in [
        ("one principal in two roles", &same[..]),
        ("no roles", &[]),
        ("another policy's register", &[&["--pcr", &format!("16={hex}")][..], &PRINCIPALS].concat()),
        ("zeros", &[&["--pcr", &format!("3={}", "00".repeat(48))][..], &PRINCIPALS].concat()),
        ("a measurement twice", &[&["--pcr", &format!("0={hex}")][..], &PRINCIPALS].concat()),
    ] {
        let refused = desk.check(&[&write[..], more].concat()).await;
        assert_eq!(refused.status.code(), Some(2), "{what}: {refused:?}");
        assert!(desk.written().is_none(), "{what}");
    }
}

// K-2, K-3, K-17, V-5: what is written passes what judges.
#[tokio::test]
async fn the_key_policy_that_is_written_passes_the_linter() {
    let desk = Desk::new(POLICY);
    let write = ["--pcrs", "measured.json", "--key-policy", "key.json", "--vpc-endpoint", "vpce-0a1b2c"];
    assert_eq!(desk.check(&[&write[..], &PRINCIPALS].concat()).await.status.code(), Some(0));
    let role = PRINCIPALS[1];
    let lint = ["policy", "lint", "key.json", "--role", role, "--deny-warnings", "--json"];
    let judged = adyton(&desk.folder, &lint).output().await.unwrap();
    assert_eq!(judged.status.code(), Some(0), "{judged:?}");
    let said = json(&judged.stdout);
    assert_eq!(said["verdict"], "accepted");
    assert_eq!(said["findings"], serde_json::json!([]));
    // K-21: a policy holds as long as these leave it alone.
    assert_eq!(said["may_be_put_by"], serde_json::json!([PRINCIPALS[5]]));
    // Judged for another role, the enclave's own is not the problem; its data owner is.
    let lint = ["policy", "lint", "key.json", "--role", PRINCIPALS[3], "--json"];
    let judged = adyton(&desk.folder, &lint).output().await.unwrap();
    assert_eq!(judged.status.code(), Some(1));
    assert_eq!(json(&judged.stdout)["findings"][0]["code"], "data-key-unattested");
}
