//! What the enclave can ask of KMS at all.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

// K-15
#[test]
fn the_enclaves_sources_name_decrypt_and_generate_data_key_and_no_other_operation() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    sources(&root.join("enclave/src"), &mut files);
    let text: Vec<_> = files.iter().map(|path| std::fs::read_to_string(path).expect("a source")).collect();
    let operations: BTreeSet<_> = text
        .iter()
        .flat_map(|text| text.split("OPERATION: &str = \"").skip(1))
        .map(|rest| rest.split('"').next().expect("a name"))
        .collect();
    assert_eq!(operations, ["Decrypt", "GenerateDataKey"].into());
    // One place makes the header that names the operation, and it takes the name from there.
    let targets: Vec<_> = text.iter().flat_map(|text| text.match_indices("TrentService")).collect();
    assert_eq!(targets.len(), 1);
    for forbidden in ["\"Encrypt\"", "\"ReEncrypt", "WithoutPlaintext\"", "aws_sdk_kms"] {
        assert!(text.iter().all(|text| !text.contains(forbidden)), "{forbidden}");
    }
    let reviewed = std::fs::read_to_string(root.join("tests/enclave-dependencies.txt")).expect("a list");
    assert!(reviewed.lines().all(|line| line != "aws-sdk-kms"), "no client that could ask anything else");
}
