//! `adyton-sim demo`: the whole way of a job once, and three refusals.
//!
//! Everything is done by the commands that a user would type, each a process of its own; this file
//! only puts them in order and shows what they say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use adyton_shared::envelope::{Parsed, UnverifiedHeader};
use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::state::StateDir;
use crate::world::{Info, World, WorldOptions, adyton, adyton_output, start_enclave, start_parent};

const CUSTOMERS: &str = include_str!("../../data/customers.ndjson");
const MASK_JOB: &str = include_str!("../../data/mask.toml");
const DIGEST_JOB: &str = include_str!("../../data/digest.toml");
const EMAILS_JOB: &str = include_str!("../../data/emails.toml");
/// Records shown before and after.
const EXCERPT: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "EXAMPLES:
  adyton-sim demo
  adyton-sim demo --keep ./demo      look at policy, messages, receipts and logs afterwards")]
pub(super) struct DemoArgs {
    /// Keep everything in this folder, which must be new or empty.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

pub(super) async fn run(arguments: DemoArgs, json: bool) -> Result<ExitCode> {
    let temporary = tempfile::Builder::new().prefix("adyton-demo-").tempdir()?;
    let folder = arguments.keep.unwrap_or_else(|| temporary.path().to_owned());
    if fs_err::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty", folder.display());
    }
    let mut teller = Teller::new(json);
    teller.heading("starting");
    let world = World::up(&folder, WorldOptions::default(), |step| teller.step(step)).await?;
    let demo = Demo { state: &world.state, info: &world.info, folder: world.state.path() };
    let shown = demo.show(&mut teller).await;
    world.down().await;
    shown?;
    teller.end();
    Ok(ExitCode::SUCCESS)
}

/// Says each step in a line, with the time that it took.
struct Teller {
    json: bool,
    since: Instant,
    started: Instant,
}

impl Teller {
    fn new(json: bool) -> Self {
        Self { json, since: Instant::now(), started: Instant::now() }
    }

    fn heading(&self, text: &str) {
        if !self.json {
            println!("\n{text}");
        }
    }

    fn step(&mut self, text: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        if self.json {
            println!("{}", json!({ "step": text, "seconds": seconds }));
        } else {
            println!("  {seconds:>6.2} s  {text}");
        }
    }

    fn show(&self, label: &str, text: &str) {
        if self.json {
            println!("{}", json!({ "show": label, "text": text }));
        } else {
            println!("            {label:<9}{text}");
        }
    }

    fn end(&self) {
        if !self.json {
            println!(
                "\ndone in {:.1} s. `adyton-sim up` leaves it all running, to try your own data and policy.",
                self.started.elapsed().as_secs_f64()
            );
        }
    }
}

struct Demo<'a> {
    state: &'a StateDir,
    info: &'a Info,
    folder: &'a Path,
}

impl Demo<'_> {
    async fn show(&self, teller: &mut Teller) -> Result<()> {
        for (name, content) in [
            ("customers.ndjson", CUSTOMERS),
            ("mask.toml", MASK_JOB),
            ("digest.toml", DIGEST_JOB),
            ("emails.toml", EMAILS_JOB),
        ] {
            fs_err::write(self.folder.join(name), content)?;
        }
        self.jobs(teller).await?;
        teller.heading("three refusals");
        self.other_measurement(teller).await?;
        self.swapped_key(teller).await?;
        self.unlisted_field(teller).await
    }

    async fn jobs(&self, teller: &mut Teller) -> Result<()> {
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

    /// The same program under a policy that differs in a comment: another measurement.
    async fn other_measurement(&self, teller: &mut Teller) -> Result<()> {
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
        arguments.extend(["--enclave".into(), address, "--any-image".into()]);
        let refused = self.refused(&arguments).await;
        parent.stop().await;
        enclave.stop().await;
        teller.step("an enclave with another measurement asks for the key; KMS says no");
        self.expect(teller, &refused?, "kms_access_denied")
    }

    /// The parent puts the wrapped key of one object into the message of another.
    async fn swapped_key(&self, teller: &mut Teller) -> Result<()> {
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

    async fn unlisted_field(&self, teller: &mut Teller) -> Result<()> {
        let arguments = self.run_arguments("emails.toml", "customers.enc", "refused", "customers");
        let refused = self.refused(&arguments).await?;
        teller.step("a job asks for e-mail addresses in the clear");
        self.expect(teller, &refused, "release_field_refused")
    }

    async fn encrypt(&self, object: &str, output: &str) -> Result<()> {
        let arguments =
            ["encrypt", "customers.ndjson", "--tenant", "acme", "--purpose", "payments", "--version", "1"];
        let mut arguments = self.arguments(&arguments);
        arguments.extend(["--object".into(), object.into(), "-o".into(), self.folder.join(output).into()]);
        adyton(self.state, &arguments).await?;
        Ok(())
    }

    async fn job(&self, job: &str, input: &str, output: &str, object: &str) -> Result<Value> {
        adyton(self.state, &self.run_arguments(job, input, output, object)).await
    }

    fn run_arguments(&self, job: &str, input: &str, output: &str, object: &str) -> Vec<OsString> {
        let mut arguments = self.arguments(&["run", job, input, "--tenant", "acme", "--version", "1"]);
        arguments.extend(["--object".into(), object.into(), "-o".into(), self.folder.join(output).into()]);
        arguments
    }

    /// Words as they are, names of files in the demo's folder as paths.
    fn arguments(&self, words: &[&str]) -> Vec<OsString> {
        let word = |word: &&str| {
            let path = self.folder.join(word);
            if path.is_file() { path.into_os_string() } else { OsString::from(word) }
        };
        let config = ["--config".into(), self.info.client_config.clone().into_os_string()];
        words.iter().map(word).chain(config).collect()
    }

    /// What a command says that must be refused.
    async fn refused(&self, arguments: &[OsString]) -> Result<Value> {
        let output = adyton_output(self.state, arguments).await?;
        if output.status.success() {
            bail!("the job was not refused");
        }
        serde_json::from_slice(&output.stderr)
            .with_context(|| String::from_utf8_lossy(&output.stderr).trim().to_owned())
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
