//! Makes attestation documents of any shape, good and bad, under roots of its own.

pub(crate) mod cbor;
pub(crate) mod chain;
pub(crate) mod document;

use std::path::PathBuf;

use adyton_verifier::attestation::UnixMillis;

/// The time of every document made here: 2026-01-10T12:00:00.250Z.
pub(crate) const NOW: UnixMillis = UnixMillis(1_768_046_400_250);

/// A document of the vectors, see their README.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors/attestation");
    let path = folder.join(format!("{name}.cbor"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The vectors that are good at their own time.
pub(crate) const GENUINE: [&str; 8] = [
    "2021-03-24-us-east-2-anjuna-publickey",
    "2022-08-04-us-east-2-nitriding",
    "2022-10-13-us-east-1-evervault",
    "2022-11-09-eu-west-1-veracruz",
    "2023-09-28-ap-southeast-1-sparsity",
    "2024-12-13-ap-south-1-oyster",
    "2025-04-15-us-east-1-nautilus",
    "2026-01-03-us-east-1-base",
];
