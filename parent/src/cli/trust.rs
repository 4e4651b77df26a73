//! Which documents to trust: root, measurements, debug mode.

use std::collections::BTreeMap;

use adyton_verifier::attestation::{Expectations, TrustAnchor};
use clap::Args;

use super::config::ClientConfig;
use super::failure::{bad_file, usage};
use crate::exit::Failure;

/// The measurements that name an image together.
const IMAGE_PCRS: [u8; 3] = [0, 1, 2];

/// Flags of every command that judges a document.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TrustArgs {
    /// The trust root: a PEM file, or `aws` for AWS's own.
    #[arg(long, value_name = "PEM|aws")]
    root: Option<String>,
    /// A measurement that the enclave must have, such as 0=4b8d…; give PCR0, PCR1 and PCR2 together.
    #[arg(long = "pcr", value_name = "N=HEX", value_parser = parse_pcr)]
    pcrs: Vec<(u8, [u8; 48])>,
    /// Accept any image: the document proves a Nitro enclave, not which one.
    #[arg(long, conflicts_with = "pcrs")]
    any_image: bool,
    /// Accept debug mode, in which the host reads the enclave's memory. For tests only.
    #[arg(long)]
    allow_debug: bool,
}

/// What a document is judged by.
pub(super) struct Trust {
    pub(super) anchor: TrustAnchor,
    pub(super) expectations: Expectations,
    /// Whether the documents of any image pass.
    pub(super) any_image: bool,
}

fn parse_pcr(text: &str) -> Result<(u8, [u8; 48]), String> {
    let wrong = || format!("'{text}': write N=HEX with N from 0 to 31 and 96 hexadecimal digits");
    let (index, value) = text.split_once('=').ok_or_else(wrong)?;
    let index = index.parse().ok().filter(|index| *index < 32).ok_or_else(wrong)?;
    let mut bytes = [0; 48];
    hex::decode_to_slice(value, &mut bytes).map_err(|_| wrong())?;
    Ok((index, bytes))
}

impl TrustArgs {
    /// Flags, completed by the settings.
    pub(super) fn resolve(self, config: &ClientConfig) -> Result<Trust, Failure> {
        let Self { root, pcrs, any_image, allow_debug } = self;
        let root = root.or_else(|| config.root.clone()).ok_or_else(|| {
            usage("no trust root is given", "write --root aws, or --root FILE for a simulator's root.pem")
        })?;
        let anchor = if root == "aws" {
            TrustAnchor::aws()
        } else {
            let pem = std::fs::read_to_string(&root)
                .map_err(|error| bad_file(&error, &format!("the trust root {root}")))?;
            TrustAnchor::from_pem(&pem)
        };
        let anchor = anchor.map_err(|error| {
            usage(format!("the trust root {root}: {error}"), "it is one certificate in PEM")
        })?;
        let mut wanted: BTreeMap<u8, [u8; 48]> = BTreeMap::new();
        for (index, value) in pcrs {
            if wanted.insert(index, value).is_some() {
                return Err(usage(format!("--pcr {index} is given twice"), "give each once"));
            }
        }
        if wanted.is_empty() && !any_image {
            for (index, value) in &config.pcrs {
                let (index, value) = parse_pcr(&format!("{index}={value}"))
                    .map_err(|error| usage(error, "mend pcrs in the settings file"))?;
                wanted.insert(index, value);
            }
        }
        // PCR8 is equal for all images of one signer, PCR16 is whatever an enclave says of itself, and bytes can
        // move between PCR1 and PCR2 without changing PCR0 (V-5, V-7).
        if let Some(index) = IMAGE_PCRS.iter().find(|index| !wanted.is_empty() && !wanted.contains_key(index))
        {
            return Err(usage(
                format!("PCR{index} is not among the expected measurements"),
                "one image is named by PCR0, PCR1 and PCR2 together: give all three with --pcr",
            ));
        }
        let expectations = if any_image {
            Expectations::any_image()
        } else {
            Expectations::pcrs(wanted).map_err(|_| {
                usage(
                    "no expected measurement is given",
                    "write --pcr 0=… --pcr 1=… --pcr 2=…, or --any-image to accept every enclave",
                )
            })?
        };
        let expectations = if allow_debug { expectations.danger_allow_debug() } else { expectations };
        Ok(Trust { anchor, expectations, any_image })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(indexes: &[u8]) -> Result<Trust, Failure> {
        let pcrs = indexes.iter().map(|index| (*index, [7; 48])).collect();
        TrustArgs { root: Some("aws".to_owned()), pcrs, ..TrustArgs::default() }
            .resolve(&ClientConfig::default())
    }

    // V-5, V-7, V-8, V-12
    #[test]
    fn measurements_that_name_no_image_are_refused() {
        for indexes in [&[0][..], &[0, 1], &[1, 2], &[3], &[4], &[8], &[16], &[0, 2, 8, 16]] {
            let refused = resolve(indexes).err().unwrap();
            assert!(refused.message.contains("is not among the expected measurements"), "{indexes:?}");
        }
        assert!(resolve(&[]).is_err());
        assert!(resolve(&[0, 1, 2]).is_ok());
        assert!(resolve(&[0, 1, 2, 8, 16]).is_ok());
    }
}
