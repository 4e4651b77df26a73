//! The bank of 32 registers: 0 to 15 belong to the hypervisor, 16 to 31 to the enclave.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA384};
use aws_nitro_enclaves_nsm_api::api::ErrorCode;

use super::NsmError;

/// How many registers a device has.
pub const MAX_PCRS: u16 = 32;
/// The first register that the enclave may extend; those below are locked from the start.
const FIRST_CUSTOM_PCR: u16 = 16;

/// The value of a register: a SHA-384 digest, 48 bytes.
pub type Pcr = [u8; 48];

#[derive(Clone, Copy)]
struct Register {
    value: Pcr,
    locked: bool,
}

pub(super) struct Bank {
    registers: Vec<Register>,
}

impl Bank {
    /// The registers as an enclave finds them when it starts.
    pub(super) fn boot(measured: &BTreeMap<u16, Pcr>) -> Result<Self, NsmError> {
        if let Some(&index) = measured.keys().find(|index| **index >= FIRST_CUSTOM_PCR) {
            return Err(NsmError::NotMeasuredAtBoot { index });
        }
        let registers = (0..MAX_PCRS)
            .map(|index| Register {
                value: measured.get(&index).copied().unwrap_or([0; 48]),
                locked: index < FIRST_CUSTOM_PCR,
            })
            .collect();
        Ok(Self { registers })
    }

    pub(super) fn describe(&self, index: u16) -> Result<(bool, Pcr), ErrorCode> {
        let register = self.registers.get(usize::from(index)).ok_or(ErrorCode::InvalidIndex)?;
        Ok((register.locked, register.value))
    }

    /// New value = SHA-384(old value || data).
    pub(super) fn extend(&mut self, index: u16, data: &[u8]) -> Result<Pcr, ErrorCode> {
        let register = self.writable(index)?;
        register.value = sha384(&[&register.value, data]);
        Ok(register.value)
    }

    pub(super) fn lock(&mut self, index: u16) -> Result<(), ErrorCode> {
        self.writable(index)?.locked = true;
        Ok(())
    }

    /// Locks `0..range`. Unlike [`Bank::lock`], registers that are locked already are no error.
    pub(super) fn lock_below(&mut self, range: u16) -> Result<(), ErrorCode> {
        let registers = self.registers.get_mut(..usize::from(range)).ok_or(ErrorCode::InvalidIndex)?;
        for register in registers {
            register.locked = true;
        }
        Ok(())
    }

    /// The locked registers in order: exactly what a document lists.
    pub(super) fn locked(&self) -> impl Iterator<Item = (u16, Pcr)> + '_ {
        (0..MAX_PCRS)
            .zip(&self.registers)
            .filter(|(_, register)| register.locked)
            .map(|(index, register)| (index, register.value))
    }

    fn writable(&mut self, index: u16) -> Result<&mut Register, ErrorCode> {
        let register = self.registers.get_mut(usize::from(index)).ok_or(ErrorCode::InvalidIndex)?;
        if register.locked {
            return Err(ErrorCode::ReadOnlyIndex);
        }
        Ok(register)
    }
}

/// SHA-384 over the parts, one after the other.
pub(super) fn sha384(parts: &[&[u8]]) -> Pcr {
    let mut context = Context::new(&SHA384);
    for part in parts {
        context.update(part);
    }
    let mut value = [0; 48];
    value.copy_from_slice(context.finish().as_ref());
    value
}
