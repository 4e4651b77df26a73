//! `adyton requester`: keys that sign requests.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use adyton_shared::id::{RequesterKey, RequesterName};
use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use zeroize::Zeroizing;

use super::failure::{bad_file, failed_with};
use crate::exit::{Exit, Failure};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

#[derive(Debug, Subcommand)]
pub(super) enum RequesterCommand {
    /// Makes an Ed25519 key and prints the lines for policy.toml.
    #[command(after_help = "EXAMPLE:
  adyton requester new --name billing -o billing.key >> policy.toml")]
    New {
        /// The requester's name, as the policy will have it.
        #[arg(long)]
        name: RequesterName,
        /// Where the key goes (PKCS#8 in PEM, readable by you alone); never overwritten.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Prints the lines for policy.toml again.
    #[command(after_help = "EXAMPLE:
  adyton requester show --name billing billing.key")]
    Show {
        /// The requester's name.
        #[arg(long)]
        name: RequesterName,
        /// The key file.
        key: PathBuf,
    },
}

pub(super) fn run(command: RequesterCommand, json: bool) -> Result<Exit, Failure> {
    let (name, key, path) = match command {
        RequesterCommand::New { name, output } => (name, create(&output)?, output),
        RequesterCommand::Show { name, key } => (name, read_key(&key)?, key),
    };
    let public = public_key(&key)?;
    if json {
        println!("{}", serde_json::json!({ "name": name, "key": public, "file": path }));
    } else {
        println!("[[requester]]\nname = \"{name}\"\nkey = \"{public}\"");
    }
    Ok(Exit::Ok)
}

fn public_key(key: &Ed25519KeyPair) -> Result<RequesterKey, Failure> {
    let public = key.public_key().as_ref().try_into().map_err(|_| broken())?;
    Ok(RequesterKey::new(public))
}

fn broken() -> Failure {
    failed_with(Exit::Aws, "the key could not be made or used", "try again")
}

fn create(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let key = Ed25519KeyPair::generate().map_err(|_| broken())?;
    let seed = key.seed().map_err(|_| broken())?;
    let seed = seed.as_be_bytes().map_err(|_| broken())?;
    // RFC 8410 §7: PKCS#8 version 1, the form that OpenSSL writes.
    let mut der = Zeroizing::new(Vec::with_capacity(48));
    der.extend_from_slice(&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20]);
    der.extend_from_slice(seed.as_ref());
    let pem = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", *Zeroizing::new(STANDARD.encode(&*der))));
    let failed = |error: &std::io::Error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            let message = format!("{} exists; a key is never overwritten", path.display());
            return failed_with(Exit::File, message, "choose another name, or remove it if nobody uses it");
        }
        bad_file(error, &path.display().to_string())
    };
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.map_err(|error| failed(&error))?;
    if let Err(error) = file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()) {
        let _ = std::fs::remove_file(path);
        return Err(failed(&error));
    }
    Ok(key)
}

/// Reads a requester's private key.
pub(super) fn read_key(path: &Path) -> Result<Ed25519KeyPair, Failure> {
    let wrong = || {
        let message = format!("{} is not an Ed25519 key in PKCS#8 PEM", path.display());
        failed_with(Exit::File, message, "make one with `adyton requester new`")
    };
    let text = Zeroizing::new(
        std::fs::read_to_string(path)
            .map_err(|error| bad_file(&error, &format!("the requester's key {}", path.display())))?,
    );
    let inside = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).ok_or_else(wrong)?.0;
    let encoded = Zeroizing::new(inside.split_ascii_whitespace().collect::<String>());
    let der = Zeroizing::new(STANDARD.decode(&*encoded).map_err(|_| wrong())?);
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| wrong())
}
