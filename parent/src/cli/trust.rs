//! Which documents to trust: root, measurements, debug mode.

use std::path::{Path, PathBuf};

use adyton_shared::id::PolicyDigest;
use adyton_verifier::attestation::{Expectations, TrustAnchor};
use clap::Args;

use super::config::ClientConfig;
use super::failure::{bad_file, usage};
use super::measurements::{IMAGE_PCRS, POLICY_PCR, Pcrs, add, add_named, parse_pcr, policy_register};
use crate::exit::Failure;

/// Flags of every command that judges a document.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct TrustArgs {
    /// The trust root: a PEM file, or `aws` for AWS's own.
    #[arg(long, value_name = "PEM|aws")]
    root: Option<String>,
    /// A measurement that the enclave must have, such as 0=4b8d…; give PCR0, PCR1 and PCR2 together.
    #[arg(long = "pcr", value_name = "N=HEX", value_parser = parse_pcr)]
    pcrs: Vec<(u8, [u8; 48])>,
    /// Measurements from a file that `nitro-cli build-enclave` printed, or N=HEX.
    #[arg(long = "pcrs", value_name = "FILE|N=HEX", conflicts_with = "any_image")]
    named_pcrs: Vec<String>,
    /// The policy file that the enclave must run under.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
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
    /// The policy that an enclave or a receipt must name.
    pub(super) policy: Option<PolicyDigest>,
}

impl TrustArgs {
    /// Flags, completed by the settings.
    pub(super) fn resolve(self, config: &ClientConfig) -> Result<Trust, Failure> {
        let Self { root, pcrs, named_pcrs, policy, any_image, allow_debug } = self;
        let anchor = anchor(root.or_else(|| config.root.clone()))?;
        let mut wanted = Pcrs::new();
        pcrs.into_iter().try_for_each(|(index, value)| add(&mut wanted, index, value))?;
        named_pcrs.iter().try_for_each(|named| add_named(&mut wanted, named))?;
        if wanted.is_empty() && !any_image {
            for (index, value) in &config.pcrs {
                let (index, value) = parse_pcr(&format!("{index}={value}"))
                    .map_err(|error| usage(error, "mend pcrs in the settings file"))?;
                wanted.insert(index, value);
            }
        }
        let policy = policy.or_else(|| config.policy.clone()).map(|path| policy_digest(&path)).transpose()?;
        if let Some(policy) = policy.filter(|_| !wanted.is_empty()) {
            // The enclave names its policy itself; the register says the same by the NSM.
            let register = policy_register(policy);
            if wanted.insert(POLICY_PCR, register).is_some_and(|given| given != register) {
                let hint = "give either the policy or PCR16; `adyton policy check` prints the register";
                return Err(usage(format!("PCR{POLICY_PCR} is not that of the given policy"), hint));
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
        Ok(Trust { anchor, expectations, any_image, policy })
    }
}

fn anchor(root: Option<String>) -> Result<TrustAnchor, Failure> {
    let root = root.ok_or_else(|| {
        usage("no trust root is given", "write --root aws, or --root FILE for a simulator's root.pem")
    })?;
    let anchor = if root == "aws" {
        TrustAnchor::aws()
    } else {
        let pem = std::fs::read_to_string(&root)
            .map_err(|error| bad_file(&error, &format!("the trust root {root}")))?;
        TrustAnchor::from_pem(&pem)
    };
    anchor.map_err(|error| usage(format!("the trust root {root}: {error}"), "it is one certificate in PEM"))
}

/// The digest of a policy file, whatever it says: an older one is compared, too.
fn policy_digest(path: &Path) -> Result<PolicyDigest, Failure> {
    let bytes =
        std::fs::read(path).map_err(|error| bad_file(&error, &format!("the policy {}", path.display())))?;
    Ok(PolicyDigest::of(&bytes))
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
