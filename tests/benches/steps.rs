//! Tokens, filters and aggregates over NDJSON, decryption included, beside `jq`, `jaq` and `DuckDB` on plaintext.
//!
//! `tests/bench steps`. One thread each, synthetic records of about 300 bytes. `jq` and `jaq` get a slice of the
//! same file and the time is scaled by its bytes. They have no HMAC: beside tokens they only spell the same values
//! in base64, which is less work. `DuckDB` reads a million records from a file in memory and its figures are compared
//! with ours. A program that is not installed is skipped and named; `JQ`, `JAQ` and `PYTHON` say where they are.
#![expect(
    clippy::cast_precision_loss,
    clippy::naive_bytecount,
    reason = "figures are printed rounded, and lines are counted once"
)]

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use adyton_enclave::compute::{Grouping, Limits, Pipeline, StepKeys};
use adyton_shared::DataKey;
use adyton_shared::job::{Destination, Input, Job, Step};
use adyton_tests::measure::{ROUNDS, computed, end_of_line, median, opened_and_computed, records, row, seal};

const PAYLOAD_BYTES: usize = 200_000_000;
/// What the slower programs get of it.
const SLICE_BYTES: usize = 20_000_000;
const MILLION: usize = 1_000_000;

const TOKEN: &str = r#"[
    {"select": ["id", "created", "name", "email", "phone", "address", "card", "amount", "currency", "items", "note", "active"]},
    {"token": {"fields": ["name", "email", "phone", "card.pan"], "key": "k"}}]"#;
const TOKEN_JQ: &str = ".name |= @base64 | .email |= @base64 | .phone |= @base64 | .card.pan |= @base64";

const FILTER: &str = r#"[{"filter": "active && amount > 2500 && address.country == 'GB'"}]"#;
const FILTER_JQ: &str = r#"select(.active and .amount > 2500 and .address.country == "GB")"#;

const AGGREGATE: &str = r#"[{"aggregate": {"by": ["address.zip", "active"], "count": true, "sum": ["amount"], "min": ["amount"],
    "max": ["amount"], "mean": ["amount"], "distinct": ["name"]}}]"#;
const AGGREGATE_SQL: &str = "
import sys, time, json, duckdb
db = duckdb.connect()
db.execute('SET threads = 1')
query = '''SELECT address.zip, active, count(*), sum(amount), min(amount), max(amount), count(DISTINCT name)
    FROM read_json(?, format = 'newline_delimited', columns = {address: 'STRUCT(zip VARCHAR)', active: 'BOOLEAN',
    amount: 'DECIMAL(18, 3)', name: 'VARCHAR'}) GROUP BY ALL ORDER BY active, address.zip'''
times = []
for _ in range(int(sys.argv[2])):
    start = time.monotonic()
    rows = db.execute(query, [sys.argv[1]]).fetchall()
    times.append(time.monotonic() - start)
print(json.dumps({'seconds': sorted(times)[len(times) // 2], 'rows': [[str(c) for c in r] for r in rows]}))
";

fn main() -> anyhow::Result<()> {
    let data = records(PAYLOAD_BYTES);
    let slice = data.get(..end_of_line(&data, SLICE_BYTES)).unwrap_or_default();
    let key = DataKey::copy_from(&[7; 32]).ok_or_else(|| anyhow::anyhow!("key length"))?;
    let message = seal(&key, &data)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("records.ndjson");
    std::fs::write(&file, slice)?;

    println!("{} MB of NDJSON, one thread, median of {ROUNDS}", data.len() / 1_000_000);
    println!("{:<34}{:>10}{:>8}{:>8}", "", "MB/s", "ratio", "hold");
    for (name, steps, program) in [("token", TOKEN, TOKEN_JQ), ("filter", FILTER, FILTER_JQ)] {
        let ours = opened_and_computed(&key, &message, || pipeline(steps))?;
        row(&format!("open and {name}"), data.len(), ours, None);
        let ours = ours.as_secs_f64() / data.len() as f64;
        let expected = computed(slice, pipeline(steps)?)?;
        for (other, hold) in [("jq", 20.0), ("jaq", 4.0)] {
            let binary = std::env::var(other.to_uppercase()).unwrap_or_else(|_| other.to_owned());
            if Command::new(&binary).arg("--version").stdout(Stdio::null()).status().is_err() {
                println!("{other} is not installed: skipped");
                continue;
            }
            let output = Command::new(&binary).args(["-c", program]).arg(&file).output()?.stdout;
            let same = if name == "filter" { output == expected } else { lines(&output) == lines(&expected) };
            anyhow::ensure!(same, "{other} does not say the same about {name}");
            let theirs = median(|| run(&binary, program, &file))?;
            let ratio = theirs.as_secs_f64() / slice.len() as f64 / ours;
            row(&format!("{other} -c, plaintext"), slice.len(), theirs, Some((ratio, hold)));
        }
    }
    drop((data, message));
    aggregate(&key, folder.path())
}

fn aggregate(key: &DataKey, folder: &Path) -> anyhow::Result<()> {
    let mut data = records(MILLION * 450);
    let end = data.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(MILLION - 1);
    data.truncate(end.map(|(at, _)| at + 1).ok_or_else(|| anyhow::anyhow!("too few records"))?);
    let file = folder.join("million.ndjson");
    std::fs::write(&file, &data)?;
    let message = seal(key, &data)?;
    let ours = opened_and_computed(key, &message, || pipeline(AGGREGATE))?;
    row("open and aggregate a million", data.len(), ours, None);

    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let rounds = ROUNDS.to_string();
    let output = Command::new(&python).args(["-c", AGGREGATE_SQL]).arg(&file).arg(&rounds).output();
    let Some(output) = output.ok().filter(|output| output.status.success()) else {
        println!("DuckDB is not installed for {python}: skipped");
        return Ok(());
    };
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let seconds = answer.get("seconds").and_then(serde_json::Value::as_f64).unwrap_or_default();
    same_figures(&computed(&data, pipeline(AGGREGATE)?)?, answer.get("rows"))?;
    // At most twice its time.
    let ratio = seconds / ours.as_secs_f64();
    row("DuckDB, plaintext", data.len(), std::time::Duration::from_secs_f64(seconds), Some((ratio, 0.5)));
    Ok(())
}

/// Compares counts and sums, group by group, in whatever order.
fn same_figures(ours: &[u8], theirs: Option<&serde_json::Value>) -> anyhow::Result<()> {
    let number = |text: &str| text.parse::<f64>().unwrap_or(f64::NAN);
    let mut left = Vec::new();
    for line in ours.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let group: serde_json::Value = serde_json::from_slice(line)?;
        let get = |name: &str| group.get(name).map(ToString::to_string).unwrap_or_default();
        left.push((
            get("address.zip").replace('"', ""),
            get("active"),
            get("count"),
            number(&get("sum_amount")),
            get("distinct_name"),
        ));
    }
    let rows = theirs.and_then(serde_json::Value::as_array).ok_or_else(|| anyhow::anyhow!("no rows"))?;
    let text = |row: &serde_json::Value, at: usize| {
        row.get(at).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned()
    };
    let mut right: Vec<_> = rows
        .iter()
        .map(|row| {
            (text(row, 0), text(row, 1).to_lowercase(), text(row, 2), number(&text(row, 3)), text(row, 6))
        })
        .collect();
    left.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    right.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    anyhow::ensure!(left == right, "DuckDB does not say the same: {:?} {:?}", left.first(), right.first());
    Ok(())
}

fn lines(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'\n').count()
}

fn run(program: &str, filter: &str, file: &Path) -> anyhow::Result<()> {
    let nowhere = File::create("/dev/null")?;
    let status = Command::new(program).args(["-c", filter]).arg(file).stdout(nowhere).status()?;
    anyhow::ensure!(status.success(), "{program} failed");
    Ok(())
}

fn pipeline(steps: &str) -> anyhow::Result<Pipeline> {
    let steps: Vec<Step> = serde_json::from_str(steps)?;
    let job = Job { version: 1, input: Input::Ndjson, steps, to: Destination::Parent };
    let mut keys = StepKeys::new("acme".to_owned());
    keys.insert("k".parse()?, &[3; 32]);
    let grouping = Grouping { minimum: 1, groups: 100_000, bytes: 64 << 20 };
    Ok(Pipeline::of(&job.outcome()?, &keys, Limits { record_bytes: 4 << 20 }, grouping)?)
}
