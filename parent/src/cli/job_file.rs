//! Job files: TOML, YAML or JSON, told apart by their names.

use std::path::Path;

use adyton_shared::job::{Field, Job, Outcome, Step};

use serde_norway::with::singleton_map_recursive;

use super::failure::{bad_file, failed_with};
use crate::exit::{Exit, Failure};

const HINT: &str = "see docs/policy.md for the steps; `adyton run --check` explains a job file";

/// Reads a job file.
pub(super) fn read(path: &Path) -> Result<Job, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| bad_file(&error, &format!("the job {}", path.display())))?;
    let wrong =
        |error: String| failed_with(Exit::Usage, format!("the job {}: {error}", path.display()), HINT);
    let job: Job = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        Some("yaml" | "yml") => from_yaml(&text).map_err(|error| wrong(error.to_string()))?,
        Some("json") => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        _ => return Err(wrong("the name ends in neither .toml, .yaml nor .json".to_owned())),
    };
    job.outcome().map_err(|error| wrong(error.to_string()))?;
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
            Step::Digest(_) => "replaces everything by its SHA-256".to_owned(),
        };
        lines.push(format!("step {}: {text}", index + 1));
    }
    if let Ok(Outcome::Records(fields)) = job.outcome() {
        let name = |field: &Field<'_>| match field.mask_keep_last {
            Some(keep) => format!("{} (masked, last {keep} readable)", field.path),
            None => field.path.to_string(),
        };
        let fields: Vec<_> = fields.iter().map(name).collect();
        lines.push(format!("a release rule must allow: {}", fields.join(", ")));
    }
    lines
}
