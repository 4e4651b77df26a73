//! `Sign` and `Verify`.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ready::{compatible, ready, unless_dry};
use super::sealed::MAX_CIPHERTEXT_BYTES;
use super::{base64, grant_tokens, key_id};
use crate::kms::asymmetric::{self, Message, Scheme};
use crate::kms::call::Session;
use crate::kms::error::{Answer, ApiError};
use crate::kms::input::Input;
use crate::kms::key::KeyRecord;
use crate::kms::key_id::Names;
use crate::kms::spec::KeyUsage;

/// Longest message, in bytes.
pub(super) const MAX_MESSAGE_BYTES: usize = 4096;
/// The signing algorithms of the service model.
const ALGORITHMS: [&str; 13] = [
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
    "ECDSA_SHA_256",
    "ECDSA_SHA_384",
    "ECDSA_SHA_512",
    "SM2DSA",
    "ML_DSA_SHAKE_256",
    "ED25519_SHA_512",
    "ED25519_PH_SHA_512",
];

pub(super) fn sign(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let order = Order::read(&mut input)?;
    input.finish()?;
    let (key, scheme) = order.prepare(session, "Sign")?;
    unless_dry(order.dry_run)?;
    let secret = session.service.store.secret(&key, key.current()?)?;
    let signed = asymmetric::sign(scheme, &secret, order.message()).ok_or_else(ApiError::internal)?;
    Ok(json!({
        "KeyId": session.answered_key(&key.arn),
        "Signature": base64(&signed),
        "SigningAlgorithm": order.algorithm,
    }))
}

pub(super) fn verify(session: &mut Session<'_>, mut input: Input) -> Answer<Value> {
    let order = Order::read(&mut input)?;
    let signed = input.blob("Signature", 1..=MAX_CIPHERTEXT_BYTES)?;
    let signed = input.require("Signature", signed);
    input.finish()?;
    let (key, scheme) = order.prepare(session, "Verify")?;
    unless_dry(order.dry_run)?;
    if !asymmetric::verify(scheme, &key.current()?.public, order.message(), &signed) {
        return Err(ApiError::silent("KMSInvalidSignatureException"));
    }
    Ok(json!({
        "KeyId": session.answered_key(&key.arn),
        "SignatureValid": true,
        "SigningAlgorithm": order.algorithm,
    }))
}

/// What both requests say.
struct Order {
    key: String,
    message: Zeroizing<Vec<u8>>,
    message_type: &'static str,
    algorithm: &'static str,
    dry_run: bool,
}

impl Order {
    fn read(input: &mut Input) -> Answer<Self> {
        let key = key_id(input, "KeyId")?;
        let message = input.blob("Message", 1..=MAX_MESSAGE_BYTES)?;
        let message = input.require("Message", message);
        let message_type = input.choice("MessageType", &["RAW", "DIGEST", "EXTERNAL_MU"])?.unwrap_or("RAW");
        let algorithm = input.required_choice("SigningAlgorithm", &ALGORITHMS)?;
        let dry_run = input.flag("DryRun")?;
        grant_tokens(input)?;
        Ok(Self { key, message, message_type, algorithm, dry_run })
    }

    fn message(&self) -> Message<'_> {
        match self.message_type {
            "RAW" => Message::Raw(&self.message),
            _ => Message::Digest(&self.message),
        }
    }

    /// Finds the key, asks whether the caller may, and whether key, algorithm and message fit.
    fn prepare(&self, session: &mut Session<'_>, operation: &str) -> Answer<(KeyRecord, Scheme)> {
        let key = session.named_key(&self.key, Names::All)?;
        session.authorize(operation, &key, |conditions| {
            conditions.set("kms:SigningAlgorithm", self.algorithm);
            conditions.set("kms:MessageType", self.message_type);
        })?;
        ready(&key, operation, KeyUsage::SignVerify)?;
        compatible(&key, self.algorithm)?;
        let scheme = Scheme::of(key.spec, self.algorithm).ok_or_else(ApiError::internal)?;
        self.fits(scheme)?;
        Ok((key, scheme))
    }

    fn fits(&self, scheme: Scheme) -> Answer<()> {
        let algorithm = self.algorithm;
        let digest = match self.message_type {
            "RAW" if scheme.takes_raw() => return Ok(()),
            "DIGEST" => scheme.digest_bytes(),
            _ => None,
        };
        match digest {
            Some(length) if length == self.message.len() => Ok(()),
            Some(_) => {
                Err(ApiError::validation(format!("Digest is invalid length for algorithm {algorithm}.")))
            }
            None => Err(ApiError::validation(format!(
                "Message type {} is incompatible with algorithm {algorithm}.",
                self.message_type
            ))),
        }
    }
}
