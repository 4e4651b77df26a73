//! `adyton-sim demo`: the whole way of a job once, and three refusals.
//!
//! Everything is done by the commands that a user would type, each a process of its own; this file
//! only puts them in order and shows what they say.

mod commands;
mod jobs;
mod refusals;
mod sealed;
mod teller;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use self::teller::Teller;
use crate::state::StateDir;
use crate::world::{Info, World, WorldOptions};

const CUSTOMERS: &str = include_str!("../../../data/customers.ndjson");
const MASK_JOB: &str = include_str!("../../../data/mask.toml");
const DIGEST_JOB: &str = include_str!("../../../data/digest.toml");
const TOKENS_JOB: &str = include_str!("../../../data/tokens.toml");
const BY_COUNTRY_JOB: &str = include_str!("../../../data/by_country.toml");
const EMAILS_JOB: &str = include_str!("../../../data/emails.toml");

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
            ("tokens.toml", TOKENS_JOB),
            ("by_country.toml", BY_COUNTRY_JOB),
            ("emails.toml", EMAILS_JOB),
        ] {
            fs_err::write(self.folder.join(name), content)?;
        }
        self.jobs(teller).await?;
        self.figures(teller).await?;
        self.for_others(teller).await?;
        teller.heading("three refusals");
        self.other_measurement(teller).await?;
        self.swapped_key(teller).await?;
        self.unlisted_field(teller).await
    }
}
