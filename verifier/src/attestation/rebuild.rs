//! The second, independent check of the PCRs (V-2).
//!
//! The payload is written anew from the parsed fields, with the *expected* PCRs
//! in place of the parsed ones, and has to equal the received bytes, which the
//! signature covers. A parser that read a PCR from the wrong place, or let two
//! encodings mean the same, cannot pass both this and the comparison.

use std::collections::BTreeMap;

use super::cbor::Writer;
use super::document::{Document, Field, Payload};
use super::error::AttestationError;
use super::expectations::Expectations;

/// Compares the payload as it should be with the one received.
pub(super) fn check(
    received: &[u8],
    payload: &Payload,
    expectations: &Expectations,
) -> Result<(), AttestationError> {
    if encode(payload, expectations) == received { Ok(()) } else { Err(AttestationError::Rebuild) }
}

fn encode(payload: &Payload, expectations: &Expectations) -> Vec<u8> {
    let mut writer = Writer::default();
    if payload.is_open() {
        writer.open_map();
    } else {
        writer.map(payload.order().len() as u64);
    }
    for field in payload.order() {
        writer.text(field.name());
        write_value(*field, payload.document(), expectations, &mut writer);
    }
    if payload.is_open() {
        writer.end_open_map();
    }
    writer.into_bytes()
}

fn write_value(field: Field, document: &Document, expectations: &Expectations, writer: &mut Writer) {
    match field {
        Field::ModuleId => writer.text(&document.module_id),
        Field::Digest => writer.text("SHA384"),
        Field::Timestamp => writer.unsigned(document.timestamp.0),
        Field::Pcrs => write_pcrs(document, expectations, writer),
        Field::Certificate => writer.bytes(&document.certificate),
        Field::Cabundle => {
            writer.array(document.cabundle.len() as u64);
            document.cabundle.iter().for_each(|certificate| writer.bytes(certificate));
        }
        Field::PublicKey => write_optional(document.public_key.as_deref(), writer),
        Field::UserData => write_optional(document.user_data.as_deref(), writer),
        Field::Nonce => write_optional(document.nonce.as_deref(), writer),
    }
}

/// Parsed PCRs, overridden by expected ones. An expected one that was not parsed is written too, and will differ.
fn write_pcrs(document: &Document, expectations: &Expectations, writer: &mut Writer) {
    let mut pcrs: BTreeMap<u8, &[u8]> =
        document.pcrs.iter().map(|(index, parsed)| (*index, parsed.as_bytes())).collect();
    pcrs.extend(expectations.expected_pcrs().map(|(index, expected)| (*index, expected.as_slice())));
    writer.map(pcrs.len() as u64);
    for (index, value) in pcrs {
        writer.unsigned(u64::from(index));
        writer.bytes(value);
    }
}

fn write_optional(value: Option<&[u8]>, writer: &mut Writer) {
    match value {
        Some(bytes) => writer.bytes(bytes),
        None => writer.null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::envelope::Envelope;
    use crate::attestation::expectations::check_pcrs;

    /// Genuine documents, three with the definite map and one with the indefinite.
    const DOCUMENTS: [&[u8]; 4] = [
        include_bytes!("../../../tests/vectors/attestation/2021-03-24-us-east-2-anjuna-publickey.cbor"),
        include_bytes!("../../../tests/vectors/attestation/2022-08-04-us-east-2-nitriding.cbor"),
        include_bytes!("../../../tests/vectors/attestation/2022-10-13-us-east-1-evervault.cbor"),
        include_bytes!("../../../tests/vectors/attestation/2026-01-03-us-east-1-base.cbor"),
    ];

    /// Whether comparing parsed PCRs, and writing the payload anew, accept these PCRs.
    fn verdicts(received: &[u8], pcrs: BTreeMap<u8, [u8; 48]>) -> (bool, bool) {
        let payload = Payload::parse(received).unwrap();
        let compared = check_pcrs(&pcrs, payload.document()).is_ok();
        let rebuilt = check(received, &payload, &Expectations::pcrs(pcrs).unwrap()).is_ok();
        (compared, rebuilt)
    }

    fn parsed_pcrs(received: &[u8]) -> BTreeMap<u8, [u8; 48]> {
        let payload = Payload::parse(received).unwrap();
        payload
            .document()
            .pcrs
            .iter()
            .map(|(index, pcr)| (*index, pcr.as_bytes().try_into().unwrap()))
            .collect()
    }

    // V-2
    #[test]
    fn comparing_and_rebuilding_agree_on_every_expectation() {
        for document in DOCUMENTS {
            let received = Envelope::split(document).unwrap().payload();
            let right = parsed_pcrs(received);
            assert_eq!(verdicts(received, right.clone()), (true, true));
            for index in 0..=255 {
                let one = |value| verdicts(received, BTreeMap::from([(index, value)]));
                let Some(value) = right.get(&index) else {
                    assert_eq!(one([0; 48]), (false, false), "PCR{index} is absent");
                    continue;
                };
                assert_eq!(one(*value), (true, true), "PCR{index}");
                for bit in 0..48 * 8 {
                    let mut wrong = *value;
                    wrong[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(one(wrong), (false, false), "PCR{index}, bit {bit}");
                }
            }
        }
    }

    // V-2
    #[test]
    fn comparing_and_rebuilding_agree_on_every_changed_document() {
        for document in DOCUMENTS {
            let genuine = Envelope::split(document).unwrap().payload();
            let right = parsed_pcrs(genuine);
            let start = genuine.windows(4).position(|bytes| bytes == b"pcrs").unwrap() + 6;
            for (index, position) in right.keys().zip((start..).step_by(51)) {
                // Head of the index, head of the value, first byte of the value.
                for offset in 0..4 {
                    let mut changed = genuine.to_vec();
                    changed[position + offset] ^= 1;
                    if Payload::parse(&changed).is_ok() {
                        assert_eq!(
                            verdicts(&changed, right.clone()),
                            (false, false),
                            "PCR{index} + {offset}"
                        );
                    }
                }
            }
        }
    }
}
