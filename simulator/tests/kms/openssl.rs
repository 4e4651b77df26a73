//! The `openssl` program as the second opinion; tests say so and go on where there is none.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Files for one run of `openssl`.
pub(crate) struct Openssl {
    folder: TempDir,
}

impl Openssl {
    /// `None`, and a word about it, where `openssl` does not run.
    pub(crate) fn new() -> Option<Self> {
        if let Err(error) = Command::new("openssl").arg("version").output() {
            println!("skipped: openssl does not run here: {error}");
            return None;
        }
        Some(Self { folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path: PathBuf = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs with arguments; what it wrote, if it succeeded.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let Output { status, stdout, stderr } =
            Command::new("openssl").args(arguments).current_dir(self.folder.path()).output().unwrap();
        if status.success() { Ok(stdout) } else { Err(String::from_utf8_lossy(&stderr).into_owned()) }
    }

    /// Whether `openssl` takes this for a signature of the message under an algorithm of AWS's names.
    pub(crate) fn verifies(
        &self,
        algorithm: &str,
        spki: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), String> {
        let (key, message, signature) =
            (self.file("spki", spki), self.file("message", message), self.file("signature", signature));
        let pem = self.run(&["pkey", "-pubin", "-inform", "DER", "-in", &key])?;
        let pem = self.file("pem", &pem);
        if algorithm == "ED25519_SHA_512" {
            let rest = ["-pubin", "-inkey", &pem, "-in", &message, "-sigfile", &signature];
            return self.run(&[&["pkeyutl", "-verify", "-rawin"], &rest[..]].concat()).map(|_| ());
        }
        let hash = format!("-sha{}", &algorithm[algorithm.len() - 3..]);
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        let options = if algorithm.contains("PSS") { &pss[..] } else { &[] };
        let rest = ["-verify", &pem, "-signature", &signature, &message];
        self.run(&[&["dgst", &hash], options, &rest[..]].concat()).map(|_| ())
    }
}
