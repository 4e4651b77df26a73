//! One object, two jobs, and the receipt.

use anyhow::Result;

use super::{CUSTOMERS, Demo, Teller};
use crate::world::adyton;

/// Records shown before and after.
const EXCERPT: usize = 3;

impl Demo<'_> {
    pub(super) async fn jobs(&self, teller: &mut Teller) -> Result<()> {
        teller.heading("one object, two jobs");
        self.encrypt("customers", "customers.enc").await?;
        let records = CUSTOMERS.lines().count();
        teller.step(&format!(
            "encrypted {records} customer records, bound to tenant, object, purpose and version"
        ));
        let receipt = self.job("mask.toml", "customers.enc", "customers.masked", "customers").await?;
        teller.step("masking job: opened, masked and released inside; receipt verified");
        let masked = fs_err::read_to_string(self.folder.join("customers.masked"))?;
        for (before, after) in CUSTOMERS.lines().zip(masked.lines()).take(EXCERPT) {
            teller.show("before", before);
            teller.show("after", after);
        }
        self.job("digest.toml", "customers.enc", "customers.sha256", "customers").await?;
        teller.step("digest job: SHA-256 of the plaintext, which nobody outside has seen");
        teller.show("sha-256", fs_err::read_to_string(self.folder.join("customers.sha256"))?.trim());
        teller.heading("the receipt of the masking job, signed by the attested enclave");
        let text = |path: &[&str]| {
            let value = path.iter().fold(&receipt, |value, key| &value[*key]);
            value.as_str().map_or_else(|| value.to_string(), str::to_owned)
        };
        for (label, path) in [
            ("job", &["job"][..]),
            ("for", &["requester"]),
            ("input", &["input", "sha256"]),
            ("output", &["output", "sha256"]),
            ("records", &["output", "records"]),
            ("key", &["key"]),
            ("policy", &["policy"]),
            ("finished", &["finished"]),
        ] {
            teller.show(label, &text(path));
        }
        adyton(
            self.state,
            &self.arguments(&[
                "receipt",
                "verify",
                "customers.masked.receipt",
                "--input",
                "customers.enc",
                "--output",
                "customers.masked",
            ]),
        )
        .await?;
        teller.step("receipt checked again, offline, against both files");
        Ok(())
    }
}
