//! Job files: TOML, YAML or JSON, told apart by their names.

use std::path::Path;

use adyton_shared::job::{Field, Job, Leaving, Step, Treatment};

use serde_norway::with::singleton_map_recursive;

use super::failure::{bad_file, failed_with};
use super::step_line::step_line;
use crate::exit::{Exit, Failure};

const HINT: &str = "see docs/policy.md for the steps; `adyton run --check` explains a job file";

/// Reads a job file.
pub(super) fn read(path: &Path) -> Result<Job, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad_file(&error, &format!("the job {}", path.display())))?;
    let wrong =
        |error: String| failed_with(Exit::Usage, format!("the job {}: {error}", path.display()), HINT);
    let extension = path.extension().and_then(|extension| extension.to_str());
    let job: Job = match extension {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        Some("yaml" | "yml") => from_yaml(&text).map_err(|error| wrong(error.to_string()))?,
        Some("json") => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        _ => return Err(wrong("the name ends in neither .toml, .yaml nor .json".to_owned())),
    };
    job.outcome().map_err(|error| {
        let line = error.step().and_then(|step| step_line(&text, extension.unwrap_or_default(), step));
        wrong(line.map_or_else(|| error.to_string(), |line| format!("line {line}: {error}")))
    })?;
    Ok(job)
}

/// YAML would write a step as a tag, `!mask`; people write it as a key, as in the other formats.
fn from_yaml(text: &str) -> Result<Job, serde_norway::Error> {
    singleton_map_recursive::deserialize(serde_norway::Deserializer::from_str(text))
}

/// What a job does, in sentences.
pub(super) fn explain(job: &Job) -> Vec<String> {
    let mut lines =
        vec![format!("reads {:?} records, sends the result to {}", job.input, job.to).to_lowercase()];
    for (index, step) in job.steps.iter().enumerate() {
        let list = |fields: &[adyton_shared::job::FieldPath]| {
            fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let text = match step {
            Step::Select(fields) => format!("keeps {} and nothing else", list(fields)),
            Step::Drop(fields) => format!("drops {}", list(fields)),
            Step::Mask(mask) => {
                format!("masks {}, all but the last {} characters", list(&mask.fields), mask.keep_last)
            }
            Step::Rename(rename) => format!("calls {} {}", rename.from, rename.to),
            Step::Token(keyed) => format!("replaces {} by tokens under {}", list(&keyed.fields), keyed.key),
            Step::Hash(keyed) => format!("replaces {} by hashes under {}", list(&keyed.fields), keyed.key),
            Step::Filter(condition) => format!("lets only records pass for which {condition}"),
            Step::Aggregate(aggregate) if aggregate.by.is_empty() => {
                "makes figures about all records".to_owned()
            }
            Step::Aggregate(aggregate) => {
                format!("makes figures about groups of records with equal {}", list(&aggregate.by))
            }
            Step::Digest(_) => "replaces everything by its SHA-256".to_owned(),
        };
        lines.push(format!("step {}: {text}", index + 1));
    }
    match job.outcome().map(|outcome| outcome.leaving) {
        Ok(Leaving::Records(fields)) => {
            let fields: Vec<_> = fields.iter().map(described).collect();
            lines.push(format!("a release rule must allow: {}", fields.join(", ")));
        }
        Ok(Leaving::Open | Leaving::Bytes) => {
            lines.push("a release rule must allow everything: sealed, or with reveal = true".to_owned());
        }
        Ok(Leaving::Aggregate(groups)) => {
            let figures = groups.figures.iter().map(|figure| figure.name.as_str());
            let all: Vec<_> = groups.count.then_some("count").into_iter().chain(figures).collect();
            lines.push(format!("a release rule must allow the aggregate: {}", all.join(", ")));
        }
        Ok(Leaving::Digest(_)) | Err(_) => {}
    }
    lines
}

/// A field by its name in the payload, of which release rules speak, and what was done to it.
fn described(field: &Field) -> String {
    let mut notes: Vec<_> = field
        .treatments
        .iter()
        .map(|treatment| match treatment {
            Treatment::Mask { keep_last } => format!("masked, last {keep_last} readable"),
            Treatment::Token { key } => format!("token under {key}"),
            Treatment::Hash { key } => format!("hash under {key}"),
        })
        .collect();
    if field.name != field.origin {
        notes.push(format!("called {}", field.name));
    }
    if notes.is_empty() {
        field.origin.to_string()
    } else {
        format!("{} ({})", field.origin, notes.join(", "))
    }
}
