//! `adyton-sim nsm`: documents of the simulated NSM, for trying out verifiers and key policies.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use aws_nitro_enclaves_nsm_api::api::{Request, Response};
use clap::Subcommand;
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject as _;
use serde_bytes::ByteBuf;

use crate::nsm::{NsmConfig, SimulatedNsm, measure};
use crate::state::{StateDir, write_whole};

#[derive(Debug, Subcommand)]
pub(super) enum NsmCommand {
    /// Makes an attestation document with the measurements of the state folder's enclave.
    Attest {
        /// A public key to put into it, PEM or DER.
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// A nonce to put into it, in hexadecimal.
        #[arg(long, value_name = "HEX")]
        nonce: Option<String>,
        /// Debug mode: measurements are zero.
        #[arg(long)]
        debug: bool,
        /// Where to write the document.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

pub(super) fn run(folder: &Path, command: NsmCommand, json: bool) -> Result<ExitCode> {
    let NsmCommand::Attest { public_key, nonce, debug, output } = command;
    let state = StateDir::open(folder)?;
    let executable = std::env::current_exe().context("this executable cannot be found")?;
    let pcrs = measure(&executable, &state.policy()).context("measuring; has `adyton-sim up` run here?")?;
    let nsm = SimulatedNsm::open(NsmConfig { debug, ..NsmConfig::new(state.path(), pcrs) })?;
    let request = Request::Attestation {
        user_data: None,
        nonce: nonce.map(|nonce| hex::decode(nonce).context("--nonce")).transpose()?.map(ByteBuf::from),
        public_key: public_key.map(|path| read_key(&path)).transpose()?.map(ByteBuf::from),
    };
    let Response::Attestation { document } = nsm.process(request) else {
        bail!("the simulated NSM refused; nonce and key have limits of 512 and 1024 bytes");
    };
    write_whole(&output, &document)?;
    if json {
        println!("{}", serde_json::json!({ "document": output, "module_id": nsm.module_id() }));
    }
    Ok(ExitCode::SUCCESS)
}

fn read_key(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs_err::read(path)?;
    if !bytes.starts_with(b"-----") {
        return Ok(bytes);
    }
    let key = SubjectPublicKeyInfoDer::from_pem_slice(&bytes)
        .map_err(|_| anyhow::anyhow!("{} is not a public key in PEM", path.display()))?;
    Ok(key.as_ref().to_vec())
}
