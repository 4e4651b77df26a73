//! What must not work, and the code with which it is refused.

use std::ffi::OsString;

use adyton_shared::envelope::{Parsed, UnverifiedHeader};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Demo, Teller};
use crate::world::{start_enclave, start_parent};

impl Demo<'_> {
    /// The same program under a policy that differs in a comment: another measurement.
    pub(super) async fn other_measurement(&self, teller: &mut Teller) -> Result<()> {
        let policy = self.folder.join("other-policy.toml");
        let mut text = fs_err::read_to_string(self.state.policy())?;
        text.push_str("# one comment more\n");
        fs_err::write(&policy, text)?;
        let socket = self.folder.join("other.sock");
        let enclave = start_enclave(self.state, &policy, &socket, "other-enclave").await?;
        let parent = start_parent(self.state, &socket, self.info.kms_port, "other-parent").await?;
        let mut address = OsString::from("unix:");
        address.push(&socket);
        let mut arguments = self.run_arguments("mask.toml", "customers.enc", "refused", "customers");
        arguments.extend(["--enclave".into(), address, "--any-image".into(), "--plain-request".into()]);
        let refused = self.refused(&arguments).await;
        parent.stop().await;
        enclave.stop().await;
        teller.step("an enclave with another measurement asks for the key; KMS says no");
        self.expect(teller, &refused?, "kms_access_denied")
    }

    /// The parent puts the wrapped key of one object into the message of another.
    pub(super) async fn swapped_key(&self, teller: &mut Teller) -> Result<()> {
        self.encrypt("orders", "orders.enc").await?;
        let mut message = fs_err::read(self.folder.join("customers.enc"))?;
        let foreign = wrapped_key(&fs_err::read(self.folder.join("orders.enc"))?)?;
        let own = wrapped_key(&message)?;
        let at = message.windows(own.len()).position(|window| window == own).context("no wrapped key")?;
        message.splice(at..at + own.len(), foreign);
        fs_err::write(self.folder.join("swapped.enc"), message)?;
        let arguments = self.run_arguments("mask.toml", "swapped.enc", "refused", "customers");
        let refused = self.refused(&arguments).await?;
        teller.step("the parent swaps the wrapped key for another object's");
        self.expect(teller, &refused, "wrapped_key_rejected")
    }

    pub(super) async fn unlisted_field(&self, teller: &mut Teller) -> Result<()> {
        let arguments = self.run_arguments("emails.toml", "customers.enc", "refused", "customers");
        let refused = self.refused(&arguments).await?;
        teller.step("a job asks for e-mail addresses in the clear");
        self.expect(teller, &refused, "release_field_refused")
    }

    fn expect(&self, teller: &Teller, refused: &Value, name: &str) -> Result<()> {
        if refused["code"] != name || self.folder.join("refused").exists() {
            bail!("expected {name}, but: {refused}");
        }
        teller.show("refused", &format!("{} ({})", name, refused["number"]));
        Ok(())
    }
}

/// The ciphertext of a message's only encrypted data key.
fn wrapped_key(message: &[u8]) -> Result<Vec<u8>> {
    match UnverifiedHeader::parse(message)? {
        Parsed::Complete { header, .. } => {
            let key = header.encrypted_data_keys().next().context("the message has no data key")?;
            Ok(key.ciphertext.to_vec())
        }
        Parsed::Incomplete { .. } => bail!("the message is truncated"),
    }
}
