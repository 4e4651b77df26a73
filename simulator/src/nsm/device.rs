//! The device proper: limits, registers, documents, randomness.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_nitro_enclaves_nsm_api::api::{AttestationDoc, Digest, ErrorCode, Request, Response};
use serde_bytes::ByteBuf;

use super::chain::{Chain, ModuleName};
use super::document::{encode_payload, sign};
use super::pcr::Bank;
use super::root::SimulatedRoot;
use super::{Clock, Faults, MAX_PCRS, MapForm, NsmConfig, NsmError, parent_pcr};

/// The largest encoded request in bytes: the driver and the device refuse more.
const MAX_REQUEST_BYTES: usize = 0x1000;
/// Limits on what a document carries, in bytes: AWS's `attestation_process.md`, §3.2.2.2.
/// AWS's device test sends 1,024 bytes of user data and nonce without an error, but a document
/// with more than 512 is invalid for everybody who follows that page. The simulator is strict
/// where it shows the mistake early.
const MAX_USER_DATA_BYTES: usize = 512;
const MAX_NONCE_BYTES: usize = 512;
const MAX_PUBLIC_KEY_BYTES: usize = 1024;
/// How much randomness one request yields, in bytes.
const RANDOM_BYTES: usize = 256;
/// Registers that debug mode leaves at zero: everything measured from the image. What describes
/// the parent (PCR3, PCR4) stays, as the real debug document of 2022-10-12 shows.
const IMAGE_PCRS: [u16; 4] = [0, 1, 2, 8];
/// The register that names the parent instance.
const INSTANCE_PCR: u16 = 4;

pub(super) struct Device {
    bank: Bank,
    chain: Chain,
    name: ModuleName,
    map_form: MapForm,
    clock: Clock,
    faults: Faults,
}

impl Device {
    pub(super) fn start(root: SimulatedRoot, config: NsmConfig) -> Result<Self, NsmError> {
        let NsmConfig { state_dir: _, mut pcrs, debug, map_form, clock } = config;
        let now = clock();
        let name = ModuleName::new(root.instance_id(), now)?;
        pcrs.entry(INSTANCE_PCR).or_insert_with(|| parent_pcr(name.instance()));
        if debug {
            pcrs.retain(|index, _| !IMAGE_PCRS.contains(index));
        }
        Ok(Self {
            bank: Bank::boot(&pcrs)?,
            chain: Chain::issue(root, name.clone(), now)?,
            name,
            map_form,
            clock,
            faults: Faults::default(),
        })
    }

    pub(super) fn module_id(&self) -> &str {
        self.name.module()
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(super) fn process(&mut self, request: Request) -> Response {
        self.answer(request).unwrap_or_else(Response::Error)
    }

    fn answer(&mut self, request: Request) -> Result<Response, ErrorCode> {
        let encoded = serde_cbor::to_vec(&request).map_err(|_| ErrorCode::InvalidArgument)?;
        if encoded.len() > MAX_REQUEST_BYTES {
            return Err(ErrorCode::InputTooLarge);
        }
        match request {
            Request::DescribePCR { index } => {
                let (lock, value) = self.bank.describe(index)?;
                Ok(Response::DescribePCR { lock, data: value.to_vec() })
            }
            Request::ExtendPCR { index, data } => {
                Ok(Response::ExtendPCR { data: self.bank.extend(index, &data)?.to_vec() })
            }
            Request::LockPCR { index } => {
                self.bank.lock(index)?;
                Ok(Response::LockPCR)
            }
            Request::LockPCRs { range } => {
                self.bank.lock_below(range)?;
                Ok(Response::LockPCRs)
            }
            Request::DescribeNSM => Ok(Response::DescribeNSM {
                version_major: 1,
                version_minor: 0,
                version_patch: 0,
                module_id: self.name.module().to_owned(),
                max_pcrs: MAX_PCRS,
                locked_pcrs: self.bank.locked().map(|(index, _)| index).collect(),
                digest: Digest::SHA384,
            }),
            Request::Attestation { user_data, nonce, public_key } => {
                Ok(Response::Attestation { document: self.attest(user_data, nonce, public_key)? })
            }
            Request::GetRandom => self.random(),
            // The enum may grow; a device answers like this to what it does not know.
            _ => Err(ErrorCode::InvalidOperation),
        }
    }

    fn attest(
        &mut self,
        user_data: Option<ByteBuf>,
        nonce: Option<ByteBuf>,
        public_key: Option<ByteBuf>,
    ) -> Result<Vec<u8>, ErrorCode> {
        limit(user_data.as_ref(), MAX_USER_DATA_BYTES)?;
        limit(nonce.as_ref(), MAX_NONCE_BYTES)?;
        limit(public_key.as_ref(), MAX_PUBLIC_KEY_BYTES)?;
        if public_key.as_ref().is_some_and(|key| key.is_empty()) {
            // A document with an empty key is invalid (AWS: length 1 to 1024).
            return Err(ErrorCode::InvalidArgument);
        }
        if !self.faults.attestation_takes.is_zero() {
            std::thread::sleep(self.faults.attestation_takes);
        }
        if self.faults.attestation_fails {
            return Err(ErrorCode::InternalError);
        }
        let now = (self.clock)();
        let pcrs: BTreeMap<_, _> = self
            .bank
            .locked()
            .map(|(index, value)| (usize::from(index), ByteBuf::from(value.to_vec())))
            .collect();
        let (leaf, cabundle) = self.chain.current(now).map_err(|_| ErrorCode::InternalError)?;
        let payload = encode_payload(
            &AttestationDoc {
                module_id: self.name.module().to_owned(),
                digest: Digest::SHA384,
                timestamp: unix_millis(now)?,
                pcrs,
                certificate: ByteBuf::from(leaf.certificate.clone()),
                cabundle: cabundle.to_vec(),
                public_key,
                user_data,
                nonce,
            },
            self.map_form,
        )
        .map_err(|_| ErrorCode::InternalError)?;
        sign(payload, &leaf.key).map_err(|_| ErrorCode::InternalError)
    }

    fn random(&self) -> Result<Response, ErrorCode> {
        if self.faults.random_fails {
            return Err(ErrorCode::InternalError);
        }
        let mut random = vec![0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(|_| ErrorCode::InternalError)?;
        Ok(Response::GetRandom { random })
    }
}

fn limit(field: Option<&ByteBuf>, bytes: usize) -> Result<(), ErrorCode> {
    match field {
        Some(field) if field.len() > bytes => Err(ErrorCode::InputTooLarge),
        _ => Ok(()),
    }
}

fn unix_millis(time: SystemTime) -> Result<u64, ErrorCode> {
    time.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_millis()).ok())
        .ok_or(ErrorCode::InternalError)
}
