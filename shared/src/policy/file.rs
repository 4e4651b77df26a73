//! The policy file as it is written, and the checks that make it a [`Policy`].

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use super::context::{ContextRule, ContextRules, REQUIRED_PAIRS};
use super::keys::{KeyTable, check_demands, named_keys};
use super::release::{AggregateRule, Allowance, Demand, FieldRule, ReleaseRule};
use super::size::Size;
use super::{Cache, Kms, Limits, Policy};
use crate::KeyArn;
use crate::id::{KeyName, PolicyDigest, RequesterKey, RequesterName};
use crate::job::{Destination, FieldPath, Function};
use crate::limits::{MAX_FIELDS, MAX_POLICY_BYTES};

/// Most jobs at once: each may buffer a message frame, a record and a few transport frames.
const MAX_JOBS: usize = 1024;
/// How long one release may take if the policy does not say, in seconds: throttling of some seconds is sat out.
const DEFAULT_KMS_DEADLINE_SECONDS: u64 = 30;
/// The longest that a policy may allow, in seconds: a job holds its turn all the while.
const MAX_KMS_DEADLINE_SECONDS: u64 = 120;
/// Longest record that a policy may allow, in bytes.
const MAX_RECORD_BYTES: u64 = 64 << 20;
/// Groups of an aggregate if the policy does not say.
const DEFAULT_GROUPS: usize = 100_000;
/// Most groups of an aggregate that a policy may allow.
const MAX_GROUPS: usize = 10_000_000;
/// Memory of an aggregate if the policy does not say, in bytes.
const DEFAULT_GROUP_BYTES: u64 = 64 << 20;
/// Most memory of an aggregate that a policy may allow, in bytes; each running job may take it.
const MAX_GROUP_BYTES: u64 = 4 << 30;

/// Why a policy is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// Too long to be a policy.
    #[error("a policy of {0} bytes is over the limit of {MAX_POLICY_BYTES}")]
    TooLarge(usize),
    /// Not TOML, an unknown field, or a value of another type; the text has line and column.
    #[error("{0}")]
    Syntax(String),
    /// What it says makes no sense.
    #[error("{place}: {problem}")]
    Meaning {
        /// The table concerned.
        place: String,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

pub(super) fn meaning(place: impl Into<String>, problem: impl Into<String>) -> PolicyError {
    PolicyError::Meaning { place: place.into(), problem: problem.into() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u64,
    name: String,
    kms: KmsTable,
    #[serde(default)]
    envelope: EnvelopeTable,
    context: BTreeMap<String, RuleTable>,
    #[serde(default)]
    requester: Vec<RequesterTable>,
    #[serde(default)]
    release: Vec<ReleaseTable>,
    #[serde(default)]
    keys: BTreeMap<KeyName, KeyTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    cache: CacheTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KmsTable {
    region: String,
    keys: Vec<KeyArn>,
    endpoint: Option<String>,
    roots: Option<String>,
    deadline_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeTable {
    #[serde(default)]
    allow_non_committing: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    signed: Option<bool>,
    equals: Option<String>,
    minimum: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequesterTable {
    name: RequesterName,
    key: RequesterKey,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseTable {
    requester: RequesterName,
    to: Destination,
    fields: Option<Vec<FieldEntry>>,
    digest: Option<bool>,
    aggregate: Option<AggregateTable>,
    reveal: Option<bool>,
    #[serde(default)]
    pad: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AggregateTable {
    minimum_group: u64,
    budget: Option<u32>,
    by: Option<Vec<FieldPath>>,
    fields: Option<Vec<FieldPath>>,
    functions: Option<Vec<Function>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum FieldEntry {
    Plain(FieldPath),
    Treated(TreatedField),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TreatedField {
    path: FieldPath,
    #[serde(rename = "as")]
    treatment: TreatmentName,
    keep_last: Option<u8>,
    key: Option<KeyName>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TreatmentName {
    Mask,
    Token,
    Hash,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    payload: Option<Size>,
    record: Option<Size>,
    result: Option<Size>,
    jobs: Option<usize>,
    groups: Option<usize>,
    group_bytes: Option<Size>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheTable {
    entries: Option<usize>,
    age_seconds: Option<u64>,
    messages: Option<u64>,
    bytes: Option<Size>,
}

pub(super) fn parse(bytes: &[u8]) -> Result<Policy, PolicyError> {
    if bytes.len() > MAX_POLICY_BYTES {
        return Err(PolicyError::TooLarge(bytes.len()));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| PolicyError::Syntax(format!("not UTF-8: {error}")))?;
    let file: File = toml::from_str(text).map_err(|error| PolicyError::Syntax(error.to_string()))?;
    let File { version, name, kms, envelope, context, requester, release, keys, limits, cache } = file;
    if version != 1 {
        return Err(meaning("version", format!("{version} is not supported; this release knows 1")));
    }
    let kms = self::kms(kms)?;
    let requesters = requesters(requester)?;
    let keys = named_keys(keys, &kms)?;
    let release = self::release(release, &requesters, &kms)?;
    check_demands(&release, &keys)?;
    Ok(Policy {
        name,
        digest: PolicyDigest::of(bytes),
        allow_non_committing: envelope.allow_non_committing,
        context: self::context(context)?,
        release,
        keys,
        kms,
        requesters,
        limits: self::limits(&limits)?,
        cache: Cache {
            entries: cache.entries.unwrap_or(1000),
            age_seconds: cache.age_seconds.unwrap_or(300),
            messages: cache.messages.unwrap_or(1 << 20),
            bytes: cache.bytes.map_or(1 << 40, |size| size.0),
        },
    })
}

fn kms(table: KmsTable) -> Result<Kms, PolicyError> {
    let KmsTable { region, keys, endpoint, roots, deadline_seconds } = table;
    let word = |s: &str, extra: &[u8]| {
        !s.is_empty()
            && s.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || extra.contains(&b))
    };
    if !word(&region, b"") {
        return Err(meaning("[kms] region", "write a region such as eu-west-1"));
    }
    if keys.is_empty() {
        return Err(meaning("[kms] keys", "list at least one full key ARN"));
    }
    for (index, key) in keys.iter().enumerate() {
        if keys.iter().take(index).any(|other| other == key) {
            return Err(meaning("[kms] keys", format!("{key} is listed twice")));
        }
        if key.region() != region {
            return Err(meaning("[kms] keys", format!("{key} is not in the region {region}")));
        }
    }
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let host = endpoint.unwrap_or_else(|| format!("kms.{region}.{suffix}"));
    if !word(&host, b".") {
        return Err(meaning(
            "[kms] endpoint",
            "write a host name such as vpce-1-2.kms.eu-west-1.vpce.amazonaws.com",
        ));
    }
    if roots.as_ref().is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
        return Err(meaning("[kms] roots", "write certificates in PEM"));
    }
    let deadline_seconds = deadline_seconds.unwrap_or(DEFAULT_KMS_DEADLINE_SECONDS);
    if !(1..=MAX_KMS_DEADLINE_SECONDS).contains(&deadline_seconds) {
        return Err(meaning("[kms] deadline_seconds", format!("write 1 to {MAX_KMS_DEADLINE_SECONDS}")));
    }
    Ok(Kms { region, host, roots, keys, deadline_seconds })
}

fn context(tables: BTreeMap<String, RuleTable>) -> Result<ContextRules, PolicyError> {
    let mut rules = BTreeMap::new();
    for (key, table) in tables {
        let rule = match table {
            RuleTable { signed: Some(true), equals: None, minimum: None } => ContextRule::Signed,
            RuleTable { signed: None, equals: Some(text), minimum: None } => ContextRule::Equals(text),
            RuleTable { signed: None, equals: None, minimum: Some(floor) } => ContextRule::Minimum(floor),
            _ => {
                let problem = "write exactly one of signed = true, equals = \"…\", minimum = N";
                return Err(meaning(format!("[context] {key}"), problem));
            }
        };
        rules.insert(key, rule);
    }
    for key in REQUIRED_PAIRS {
        if !rules.contains_key(key) {
            return Err(meaning(
                "[context]",
                format!("{key} is missing; every payload names tenant, object, purpose and version"),
            ));
        }
    }
    if !rules.values().any(|rule| *rule == ContextRule::Signed) {
        let problem = "no pair is signed = true, so the parent could swap a payload for another";
        return Err(meaning("[context]", problem));
    }
    Ok(ContextRules(rules))
}

fn requesters(tables: Vec<RequesterTable>) -> Result<BTreeMap<RequesterName, RequesterKey>, PolicyError> {
    let mut requesters = BTreeMap::new();
    let mut keys = HashSet::new();
    for RequesterTable { name, key } in tables {
        if !keys.insert(key) {
            return Err(meaning(format!("[[requester]] {name}"), "another requester has this key"));
        }
        if requesters.insert(name.clone(), key).is_some() {
            return Err(meaning(format!("[[requester]] {name}"), "this name is listed twice"));
        }
    }
    if requesters.is_empty() {
        return Err(meaning("[[requester]]", "none is listed, so nobody could send a job"));
    }
    Ok(requesters)
}

fn release(
    tables: Vec<ReleaseTable>,
    requesters: &BTreeMap<RequesterName, RequesterKey>,
    kms: &Kms,
) -> Result<Vec<ReleaseRule>, PolicyError> {
    let mut rules: Vec<ReleaseRule> = Vec::new();
    for (index, table) in tables.into_iter().enumerate() {
        let place = format!("[[release]] number {}", index.saturating_add(1));
        let ReleaseTable { requester, to, fields, digest, aggregate, reveal, pad } = table;
        if !requesters.contains_key(&requester) {
            return Err(meaning(place, format!("there is no [[requester]] named {requester}")));
        }
        let what = match (fields, digest, aggregate, reveal) {
            (Some(fields), None, None, None) => Allowance::Fields(self::fields(&place, fields)?),
            (None, Some(true), None, None) => Allowance::Digest,
            (None, None, Some(table), None) => Allowance::Aggregate(self::aggregate(&place, table)?),
            (None, None, None, Some(true)) if !to.is_sealed() => Allowance::Everything,
            (None, None, None, None) if to.is_sealed() => Allowance::Everything,
            (None, None, None, None) => {
                let problem = "a rule without fields, digest or aggregate lets out everything, readable; \
                               write reveal = true if that is what you want";
                return Err(meaning(place, problem));
            }
            (None, None, None, Some(_)) => {
                let problem = "write reveal = true where everything may leave readable, and nowhere else";
                return Err(meaning(place, problem));
            }
            _ => {
                let problem = "write exactly one of fields = […], digest = true, aggregate = {…}";
                return Err(meaning(place, problem));
            }
        };
        self::destination(&place, &to, pad, kms)?;
        if pad && what == Allowance::Digest {
            return Err(meaning(place, "a digest has one length; leave pad out"));
        }
        let rule = ReleaseRule { requester, to, what, pad };
        if rules.contains(&rule) {
            return Err(meaning(place, "the same rule is listed before"));
        }
        rules.push(rule);
    }
    if rules.is_empty() {
        return Err(meaning("[[release]]", "none is listed, so nothing could ever leave"));
    }
    Ok(rules)
}

fn destination(place: &str, to: &Destination, pad: bool, kms: &Kms) -> Result<(), PolicyError> {
    if pad && !to.is_sealed() {
        let problem =
            "pad = true hides a result's length, but the parent reads the result itself; leave it out";
        return Err(meaning(place, problem));
    }
    match to {
        // One endpoint is measured, and it serves one region.
        Destination::Kms(key) if key.region() != kms.region => {
            let region = &kms.region;
            let problem = format!("{key} is not in the region {region} of [kms]; replicate the key there");
            Err(meaning(place, problem))
        }
        // A result keeps the payload's context. Opened again, its fields would count under the names that the
        // first job gave them, and a part of an object would pass for the object.
        Destination::Kms(key) if kms.keys.contains(key) => {
            let problem = format!(
                "{key} is one of [kms] keys, so a result could come back as a payload, with its fields under \
                 other names; seal it to a key that this policy does not open"
            );
            Err(meaning(place, problem))
        }
        Destination::Parent | Destination::Age(_) | Destination::Kms(_) => Ok(()),
    }
}

fn fields(place: &str, entries: Vec<FieldEntry>) -> Result<Vec<FieldRule>, PolicyError> {
    if entries.is_empty() || entries.len() > MAX_FIELDS {
        return Err(meaning(place, format!("list 1 to {MAX_FIELDS} fields")));
    }
    let rules: Vec<FieldRule> = entries
        .into_iter()
        .map(|entry| match entry {
            FieldEntry::Plain(path) => Ok(FieldRule { path, demand: Demand::Plain }),
            FieldEntry::Treated(field) => treated(place, field),
        })
        .collect::<Result<_, _>>()?;
    for (index, rule) in rules.iter().enumerate() {
        let overlaps = |other: &FieldRule| other.path.covers(&rule.path) || rule.path.covers(&other.path);
        if rules.iter().take(index).any(overlaps) {
            return Err(meaning(
                place,
                format!("'{}' is listed twice, or together with a part of it", rule.path),
            ));
        }
    }
    Ok(rules)
}

/// Aggregates that one requester may ask for of one object if the rule does not say.
const DEFAULT_AGGREGATE_BUDGET: u32 = 100;

fn aggregate(place: &str, table: AggregateTable) -> Result<AggregateRule, PolicyError> {
    let AggregateTable { minimum_group, budget, by, fields, functions } = table;
    if minimum_group < 2 {
        let problem = "a group of one record is that record; write minimum_group = 2 or more";
        return Err(meaning(place, problem));
    }
    let budget = budget.unwrap_or(DEFAULT_AGGREGATE_BUDGET);
    if budget == 0 || functions.as_ref().is_some_and(Vec::is_empty) {
        return Err(meaning(place, "a budget or a list of functions that allows nothing has no effect"));
    }
    for paths in [&by, &fields].into_iter().flatten() {
        if paths.len() > MAX_FIELDS {
            return Err(meaning(place, format!("list {MAX_FIELDS} fields at most")));
        }
    }
    Ok(AggregateRule { minimum_group, budget, by, fields, functions })
}

fn treated(place: &str, field: TreatedField) -> Result<FieldRule, PolicyError> {
    let TreatedField { path, treatment, keep_last, key } = field;
    let demand = match (treatment, keep_last, key) {
        (TreatmentName::Mask, keep_last, None) => Demand::Mask { keep_last: keep_last.unwrap_or(0) },
        (TreatmentName::Token, None, key) => Demand::Token { key },
        (TreatmentName::Hash, None, key) => Demand::Hash { key },
        _ => {
            let problem = format!("'{path}': keep_last belongs to as = \"mask\", key to token and hash");
            return Err(meaning(place, problem));
        }
    };
    Ok(FieldRule { path, demand })
}

fn limits(table: &LimitsTable) -> Result<Limits, PolicyError> {
    let LimitsTable { payload, record, result, jobs, groups, group_bytes } = table;
    let record = record.map_or(4 << 20, |size| size.0);
    if !(1..=MAX_RECORD_BYTES).contains(&record) {
        return Err(meaning("[limits] record", "write 1 B to 64 MiB"));
    }
    let jobs = jobs.unwrap_or(64);
    if !(1..=MAX_JOBS).contains(&jobs) {
        return Err(meaning("[limits] jobs", format!("write 1 to {MAX_JOBS}")));
    }
    let groups = groups.unwrap_or(DEFAULT_GROUPS);
    if !(1..=MAX_GROUPS).contains(&groups) {
        return Err(meaning("[limits] groups", format!("write 1 to {MAX_GROUPS}")));
    }
    let group_bytes = group_bytes.map_or(DEFAULT_GROUP_BYTES, |size| size.0);
    if !(1..=MAX_GROUP_BYTES).contains(&group_bytes) {
        return Err(meaning("[limits] group_bytes", "write 1 B to 4 GiB"));
    }
    let whole = |size: Option<Size>| size.map_or(64 << 30, |size| size.0);
    Ok(Limits {
        payload: whole(*payload),
        record: usize::try_from(record).map_err(|_| meaning("[limits] record", "too large"))?,
        result: whole(*result),
        jobs,
        groups,
        group_bytes: usize::try_from(group_bytes)
            .map_err(|_| meaning("[limits] group_bytes", "too large"))?,
    })
}
