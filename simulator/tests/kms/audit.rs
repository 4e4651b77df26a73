//! The audit log: one line a call, CloudTrail's names, none of the secrets.

use std::path::PathBuf;

use crate::harness::{Kms, REGION, refusal};
use adyton_simulator::kms::{AuditVerdict, verify_audit};
use aws_sdk_kms::primitives::Blob;
use serde_json::{Value, json};

#[tokio::test]
async fn a_call_leaves_one_line_under_cloudtrails_names() {
    let kms = Kms::start().await;
    let client = kms.administrator();
    let key = client.create_key().send().await.unwrap().key_metadata.unwrap().arn.unwrap();
    let sealed = client.encrypt().key_id(&key).plaintext(Blob::new("canary-plaintext"));
    let sealed = sealed.encryption_context("tenant", "a").send().await.unwrap();
    client.describe_key().key_id(&key).send().await.unwrap();
    let wrong = client.decrypt().set_ciphertext_blob(sealed.ciphertext_blob).send().await;
    assert_eq!(refusal(wrong).0, "InvalidCiphertextException");

    let lines = kms.audit();
    let names: Vec<&Value> = lines.iter().map(|line| &line["eventName"]).collect();
    assert_eq!(names, ["CreateKey", "Encrypt", "DescribeKey", "Decrypt"]);
    let encrypt = &lines[1];
    assert_eq!(encrypt["eventSource"], "kms.amazonaws.com");
    assert_eq!(encrypt["awsRegion"], REGION);
    assert_eq!(encrypt["sourceIPAddress"], "127.0.0.1");
    assert_eq!(encrypt["userIdentity"]["arn"], "arn:aws:iam::111122223333:user/administrator");
    assert_eq!(encrypt["userIdentity"]["type"], "IAMUser");
    assert_eq!(encrypt["requestParameters"], json!({"keyId": key, "encryptionContext": {"tenant": "a"}}));
    assert_eq!(
        encrypt["resources"],
        json!([{"accountId": "111122223333", "type": "AWS::KMS::Key", "ARN": key}])
    );
    assert_eq!(encrypt["errorCode"], Value::Null);
    assert_eq!((&lines[0]["readOnly"], &encrypt["readOnly"]), (&json!(false), &json!(true)));
    assert_eq!(lines[3]["errorCode"], "InvalidCiphertextException");
    assert_eq!(lines[3]["resources"][0]["ARN"], key);
}

#[tokio::test]
async fn refusals_are_recorded_with_their_reason() {
    let kms = Kms::start().await;
    let alice = kms.stranger("arn:aws:sts::111122223333:assumed-role/enclave/session");
    let (_, text) = refusal(alice.list_keys().send().await);
    let line = kms.audit().pop().unwrap();
    assert_eq!(line["errorCode"], "AccessDenied");
    assert_eq!(line["errorMessage"], text.unwrap());
    assert_eq!(line["userIdentity"]["type"], "AssumedRole");

    // Nobody is named on the word of a signature that is wrong.
    let user = kms.server.first_administrator().unwrap();
    let forger = adyton_simulator::kms::User { secret_access_key: "wrong".to_owned().into(), ..user };
    assert_eq!(refusal(kms.client(&forger).list_keys().send().await).0, "InvalidSignatureException");
    let line = kms.audit().pop().unwrap();
    assert_eq!(line["userIdentity"], json!({"type": "Unknown"}));
    assert_eq!(line["errorCode"], "InvalidSignatureException");
}

/// A log with four lines, of a KMS that has ended.
async fn log_of_four() -> (tempfile::TempDir, PathBuf) {
    let kms = Kms::start().await;
    let client = kms.administrator();
    for _ in 0..4 {
        client.list_keys().send().await.unwrap();
    }
    let folder = kms.stop().await;
    let log = folder.path().join("kms/audit.ndjson");
    (folder, log)
}

fn breaks(log: &std::path::Path) -> Vec<String> {
    verify_audit(log).unwrap().breaks
}

const SEALED: &str = "not told by this check: a log and a head that were put back together to an earlier state, and \
                      what somebody with the root key wrote";

#[tokio::test]
async fn the_chain_is_whole_across_restarts_and_beside_a_running_service() {
    let kms = Kms::start().await;
    kms.administrator().list_keys().send().await.unwrap();
    let kms = kms.restart().await;
    kms.administrator().list_keys().send().await.unwrap();
    let log = kms.folder.path().join("kms/audit.ndjson");
    let verdict = verify_audit(&log).unwrap();
    assert_eq!((verdict.lines, verdict.breaks, verdict.notes), (2, vec![], vec![SEALED.to_owned()]));
    let lines = kms.audit();
    assert_eq!((&lines[0]["sequence"], &lines[1]["sequence"]), (&json!(1), &json!(2)));
    assert_eq!(lines[0]["previousHash"], "0".repeat(64));
    assert_eq!(lines[1]["previousHash"], lines[0]["hash"]);
}

#[tokio::test]
async fn says_where_a_line_was_changed_removed_inserted_or_moved() {
    let (_folder, log) = log_of_four().await;
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let with = |lines: &[&str]| {
        std::fs::write(&log, lines.join("\n") + "\n").unwrap();
        breaks(&log)
    };
    assert_eq!(with(&lines), Vec::<String>::new());

    let changed = lines[1].replace("ListKeys", "ListKeyz");
    assert_eq!(
        with(&[lines[0], &changed, lines[2], lines[3]]),
        ["line 2 was changed: its hash is not that of its content"]
    );
    let spaced = lines[1].replacen(':', ": ", 1);
    assert_eq!(
        with(&[lines[0], &spaced, lines[2], lines[3]]),
        ["line 2 was changed: its hash is not that of its content"]
    );
    assert_eq!(
        with(&[lines[0], lines[2], lines[3]]),
        ["before line 2 one line is missing: the numbers go from 1 to 3"]
    );
    assert_eq!(
        with(&[lines[2], lines[3]]),
        ["before line 1 2 lines are missing: the numbers go from 0 to 3"]
    );
    assert_eq!(
        with(&[lines[0], lines[1], "{\"eventName\":\"ListKeys\"}", lines[2], lines[3]]),
        ["line 3 is not a line of this log: it was inserted or damaged"]
    );
    assert_eq!(
        with(&[lines[0], lines[1], lines[1], lines[2], lines[3]]),
        [
            "line 3 follows line 1, not the line before it: lines were inserted, repeated or put in another order"
        ]
    );
    assert_eq!(
        with(&[lines[0], lines[2], lines[1], lines[3]]),
        [
            "before line 2 one line is missing: the numbers go from 1 to 3",
            "line 3 follows line 1, not the line before it: lines were inserted, repeated or put in another order",
            "line 4 follows line 2, not the line before it: lines were inserted, repeated or put in another order",
        ]
    );
}

#[tokio::test]
async fn the_sealed_head_shows_a_cut_end_and_a_chain_made_anew() {
    let (folder, log) = log_of_four().await;
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&log, lines[..2].join("\n") + "\n").unwrap();
    assert_eq!(breaks(&log), ["the end was cut off: the sealed head is at number 4, the file ends at 2"]);
    // Going on does not hide it.
    let config = crate::harness::config(folder.path());
    let kms = Kms::serve(folder, config, adyton_simulator::kms::Transport::Tls).await;
    kms.administrator().list_keys().send().await.unwrap();
    assert_eq!(breaks(&log), ["before line 3 2 lines are missing: the numbers go from 2 to 5"]);

    // Another service's log has a whole chain, and another head.
    let (_other, other) = log_of_four().await;
    let foreign = std::fs::read_to_string(&other).unwrap();
    std::fs::write(&log, foreign.clone() + foreign.lines().last().unwrap() + "\n").unwrap();
    let found = breaks(&log);
    assert_eq!(
        found.last().unwrap(),
        "the end was cut off: the sealed head is at number 5, the file ends at 4"
    );
    std::fs::write(&log, &text).unwrap();
    std::fs::copy(other.with_extension("head"), log.with_extension("head")).unwrap();
    assert_eq!(
        breaks(&log),
        ["the sealed head does not open under the root key: it was damaged or is of another state folder"]
    );

    // A copy without the head is checked as far as that goes.
    let copy = log.with_file_name("copy.ndjson");
    std::fs::write(&copy, lines[..2].join("\n") + "\n").unwrap();
    let AuditVerdict { lines, breaks, notes, .. } = verify_audit(&copy).unwrap();
    assert_eq!((lines, breaks), (2, vec![]));
    assert_eq!(
        notes,
        [
            "there is no sealed head beside the file: lines cut off at its end, and a chain made anew, would not be noticed"
        ]
    );
}

#[tokio::test]
async fn a_torn_last_line_is_removed_and_noted() {
    let (folder, log) = log_of_four().await;
    let mut text = std::fs::read_to_string(&log).unwrap();
    text.push_str("{\"awsRegion\":\"eu");
    std::fs::write(&log, &text).unwrap();
    assert_eq!(breaks(&log)[0], "line 5, the last, is torn");
    let config = crate::harness::config(folder.path());
    let kms = Kms::serve(folder, config, adyton_simulator::kms::Transport::Tls).await;
    kms.administrator().list_keys().send().await.unwrap();
    assert_eq!(breaks(&log), Vec::<String>::new());
    let lines = kms.audit();
    assert_eq!(lines.len(), 6);
    assert_eq!(lines[4]["eventName"], "TornLineRemoved");
    assert_eq!(
        lines[4]["message"],
        "the process was killed while it wrote a line; its 16 bytes were removed"
    );
}

#[tokio::test]
async fn a_line_whose_head_was_not_written_is_taken_over() {
    let (folder, log) = log_of_four().await;
    let head = log.with_extension("head");
    let before = std::fs::read(&head).unwrap();
    let config = crate::harness::config(folder.path());
    let kms = Kms::serve(folder, config.clone(), adyton_simulator::kms::Transport::Tls).await;
    kms.administrator().list_keys().send().await.unwrap();
    let folder = kms.stop().await;
    std::fs::write(&head, before).unwrap();
    let verdict = verify_audit(&log).unwrap();
    assert!(verdict.is_whole());
    assert!(verdict.notes[0].starts_with("the last line, number 5, is not sealed yet"), "{verdict:?}");
    let kms = Kms::serve(folder, config, adyton_simulator::kms::Transport::Tls).await;
    kms.administrator().list_keys().send().await.unwrap();
    assert_eq!(verify_audit(&log).unwrap().notes, [SEALED]);
}
