//! The second, independent check of the PCRs (V-2).
//!
//! The payload is written anew from the parsed fields, with the *expected* PCRs
//! in place of the parsed ones, and has to equal the received bytes, which the
//! signature covers. A parser that read a PCR from the wrong place, or let two
//! encodings mean the same, cannot pass both this and the comparison.

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

fn write_pcrs(document: &Document, expectations: &Expectations, writer: &mut Writer) {
    writer.map(document.pcrs.len() as u64);
    for (index, parsed) in &document.pcrs {
        writer.unsigned(u64::from(*index));
        writer.bytes(expectations.pcr(*index).map_or(parsed.as_bytes(), |expected| expected));
    }
}

fn write_optional(value: Option<&[u8]>, writer: &mut Writer) {
    match value {
        Some(bytes) => writer.bytes(bytes),
        None => writer.null(),
    }
}
