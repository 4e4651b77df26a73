//! `GenerateMac` and `VerifyMac`.

use aws_lc_rs::hmac::{self, HMAC_SHA224, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ready::{compatible, ready, unless_dry};
use super::sealed::MAX_CIPHERTEXT_BYTES;
use super::sign::MAX_MESSAGE_BYTES;
use super::{base64, grant_tokens, key_id};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::spec::KeyUsage;

/// In the order in which AWS lists them in its errors.
const ALGORITHMS: [&str; 4] = ["HMAC_SHA_384", "HMAC_SHA_256", "HMAC_SHA_224", "HMAC_SHA_512"];

pub(super) fn generate(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let order = Order::read(&mut input)?;
    input.finish()?;
    let (key, secret) = order.prepare(session, "GenerateMac")?;
    Ok(json!({
        "KeyId": session.answered_key(&key.arn),
        "Mac": base64(hmac::sign(&secret, &order.message).as_ref()),
        "MacAlgorithm": order.algorithm,
    }))
}

pub(super) fn verify(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let order = Order::read(&mut input)?;
    let mac = input.blob("Mac", 1..=MAX_CIPHERTEXT_BYTES)?;
    let mac = input.require("Mac", mac);
    input.finish()?;
    let (key, secret) = order.prepare(session, "VerifyMac")?;
    hmac::verify(&secret, &order.message, &mac).map_err(|_| ApiError::silent("KMSInvalidMacException"))?;
    Ok(json!({
        "KeyId": session.answered_key(&key.arn),
        "MacValid": true,
        "MacAlgorithm": order.algorithm,
    }))
}

/// What both requests say.
struct Order {
    key: String,
    message: Zeroizing<Vec<u8>>,
    algorithm: &'static str,
    dry_run: bool,
}

impl Order {
    fn read(input: &mut Input) -> Answer<Self> {
        let key = key_id(input, "KeyId")?;
        let message = input.blob("Message", 1..=MAX_MESSAGE_BYTES)?;
        let message = input.require("Message", message);
        let algorithm = input.required_choice("MacAlgorithm", &ALGORITHMS)?;
        let dry_run = input.flag("DryRun")?;
        grant_tokens(input)?;
        Ok(Self { key, message, algorithm, dry_run })
    }

    /// Finds the key, asks whether the caller may, and whether key and algorithm fit.
    fn prepare(&self, session: &mut Session<'_>, operation: &str) -> Answer<(KeyRecord, hmac::Key)> {
        let key = session.named_key(&self.key, Names::All)?;
        session.authorize(operation, &key, |conditions| {
            conditions.set("kms:MacAlgorithm", self.algorithm);
        })?;
        ready(&key, operation, KeyUsage::GenerateVerifyMac)?;
        compatible(&key, self.algorithm)?;
        unless_dry(self.dry_run)?;
        let secret = session.service.store.secret(&key, key.current()?)?;
        let algorithm = match self.algorithm {
            "HMAC_SHA_224" => HMAC_SHA224,
            "HMAC_SHA_256" => HMAC_SHA256,
            "HMAC_SHA_384" => HMAC_SHA384,
            _ => HMAC_SHA512,
        };
        Ok((key, hmac::Key::new(algorithm, &secret)))
    }
}
