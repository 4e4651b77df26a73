//! A policy in sentences: what it allows, and where it is weaker than it could be.

use adyton_shared::id::{PolicyDigest, RequesterName};
use adyton_shared::job::{Destination, FieldPath, Function};
use adyton_shared::policy::{
    AggregateRule, Allowance, Cache, ContextRule, Demand, FieldRule, Kms, Limits, NamedKey, Policy,
    ReleaseRule,
};

use super::measurements::{IMAGE_PCRS, POLICY_PCR, Pcrs};

/// A group below this many records says much of each of them. Public bodies suppress cells of fewer than 3 to 11 (the
/// highest of these is what the US Centers for Medicare & Medicaid Services ask of all who publish from their data).
const SMALL_GROUP: u64 = 11;
/// So many aggregates of one object can be subtracted from each other in many ways.
const LARGE_BUDGET: u32 = 1000;
/// A data key that is kept longer outlives what its owner revokes, in seconds.
const LONG_CACHE_SECONDS: u64 = 15 * 60;
/// A mask that leaves so many characters readable leaves most of a card number.
const LONG_REST: u8 = 6;

/// Something that a reader should think about.
#[derive(Debug)]
pub(super) struct Warning {
    /// For scripts; never changes its meaning.
    pub(super) code: &'static str,
    /// For people.
    pub(super) text: String,
}

fn warning(code: &'static str, text: impl Into<String>) -> Warning {
    Warning { code, text: text.into() }
}

/// What the policy says.
pub(super) fn explain(policy: &Policy) -> Vec<String> {
    let Policy {
        name: _,
        digest: _,
        kms,
        allow_non_committing,
        context,
        requesters,
        release,
        keys: named,
        limits,
        cache,
    } = policy;
    let mut lines = Vec::new();
    for (name, key) in requesters {
        lines.push(format!("{name} may send jobs, signed by {key}"));
        let own = release.iter().filter(|rule| rule.requester == *name);
        lines.extend(own.map(|rule| format!("{name} may get {}", allowed(rule))));
    }
    lines.push("nothing else leaves, and one job's result is let out by one of these rules".to_owned());
    for name in requesters.keys().filter(|name| record_rules(release, name) > 1) {
        lines.push(format!(
            "results of several jobs of {name} can be laid side by side, record by record, by whoever reads them: what \
             all of these rules let out of one payload counts together"
        ));
    }
    for (key, rule) in context.iter() {
        lines.push(match rule {
            ContextRule::Signed => format!("a payload's {key} must be the one that the signed request names"),
            ContextRule::Equals(value) => format!("a payload's {key} must be {value}"),
            ContextRule::Minimum(floor) => format!("a payload's {key} must be {floor} or higher"),
        });
    }
    lines.extend(keys(kms));
    for (name, NamedKey { source, key, context }) in named {
        let context = list(context.pairs().map(|(key, value)| format!("{key} = {value}")));
        lines.push(format!(
            "steps may use the key {name}, kept in {source}, wrapped under {key} for {context}"
        ));
    }
    lines.push(if *allow_non_committing {
        "messages without key commitment are opened, too".to_owned()
    } else {
        "messages without key commitment are refused".to_owned()
    });
    lines.extend(bounds(limits, cache));
    lines
}

/// How many rules let records of single persons or things out to this requester.
fn record_rules(release: &[ReleaseRule], requester: &RequesterName) -> usize {
    let records = |rule: &&ReleaseRule| {
        rule.requester == *requester && matches!(rule.what, Allowance::Fields(_) | Allowance::Everything)
    };
    release.iter().filter(records).count()
}

fn allowed(rule: &ReleaseRule) -> String {
    let ReleaseRule { requester: _, to, what, pad } = rule;
    let what = match what {
        Allowance::Fields(fields) => {
            format!("records with {}", list(fields.iter().map(field)))
        }
        Allowance::Digest => "the digest of a payload, by which a guess of it can be confirmed".to_owned(),
        Allowance::Aggregate(rule) => aggregate(rule),
        Allowance::Everything => "everything: whole records and payloads".to_owned(),
    };
    let to = match to {
        Destination::Parent => {
            "readable by the requester and, unless the request is sealed, by the parent".to_owned()
        }
        Destination::Age(recipient) => format!("sealed to the age key {recipient}"),
        Destination::Kms(key) => format!("sealed under the KMS key {key}"),
    };
    let pad = match (pad, &rule.what) {
        (false, _) => "",
        (true, Allowance::Everything) => ", its length rounded up unless it is a raw payload or a digest",
        (true, _) => ", its length rounded up",
    };
    format!("{what}, {to}{pad}")
}

fn field(rule: &FieldRule) -> String {
    let FieldRule { path, demand } = rule;
    let under = |key: &Option<_>| match key {
        Some(key) => format!(" under the key {key}"),
        None => " under any key of the policy".to_owned(),
    };
    match demand {
        Demand::Plain => path.to_string(),
        Demand::Mask { keep_last: 0 } => format!("{path} (masked)"),
        Demand::Mask { keep_last } => format!("{path} (masked, the last {keep_last} readable at most)"),
        Demand::Token { key } => format!("{path} (as a token{})", under(key)),
        Demand::Hash { key } => format!("{path} (as a keyed hash{})", under(key)),
    }
}

fn aggregate(rule: &AggregateRule) -> String {
    let AggregateRule { minimum_group, budget, by, fields, functions } = rule;
    let paths = |paths: &Option<Vec<FieldPath>>, any: &str| match paths {
        Some(paths) if paths.is_empty() => "none".to_owned(),
        Some(paths) => list(paths.iter().map(ToString::to_string)),
        None => any.to_owned(),
    };
    let functions = match functions {
        Some(functions) => list(functions.iter().map(|function| format!("{function:?}").to_lowercase())),
        None => "any figure".to_owned(),
    };
    let single = if shows_single_values(rule) {
        "; minimum, maximum and quantiles are values of single records as they are"
    } else {
        ""
    };
    format!(
        "aggregates over groups of {minimum_group} records or more ({functions}; of {}; grouped by {}; filtered by any \
         of these{single}), {budget} of each object while the enclave runs",
        paths(fields, "any field"),
        paths(by, "any field"),
    )
}

/// Whether some of the figures are values of single records, of a group that is large enough.
fn shows_single_values(rule: &AggregateRule) -> bool {
    let single =
        |function: &Function| matches!(function, Function::Min | Function::Max | Function::Quantiles);
    rule.functions.as_ref().is_none_or(|functions| functions.iter().any(single))
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

fn keys(kms: &Kms) -> Vec<String> {
    let Kms { region, host, roots, keys, deadline_seconds } = kms;
    let trusted = if roots.is_some() { "the certificates in the policy" } else { "Amazon's roots" };
    let mut lines = vec![format!(
        "data keys come from {host} ({region}), known by {trusted}, within {deadline_seconds} seconds"
    )];
    lines.extend(keys.iter().map(|key| format!("data keys may be released by {key}")));
    lines
}

fn bounds(limits: &Limits, cache: &Cache) -> Vec<String> {
    let Limits { payload, record, result, jobs, groups, group_bytes } = limits;
    let Cache { entries, age_seconds, messages, bytes } = cache;
    let cached = if *age_seconds == 0 || *entries == 0 {
        "a data key is used for one job and wiped".to_owned()
    } else {
        format!(
            "{entries} data keys at most are kept, each for {age_seconds} seconds, {messages} messages and {bytes} bytes at most"
        )
    };
    vec![
        format!(
            "{jobs} jobs run at once; a payload has {payload} bytes at most, a record {record}, a result {result}"
        ),
        format!("an aggregate has {groups} groups at most, in {group_bytes} bytes of memory"),
        cached,
    ]
}

/// Where the policy is weaker than it could be.
pub(super) fn weaknesses(policy: &Policy) -> Vec<Warning> {
    let Policy { kms, allow_non_committing, context, requesters, release, cache, .. } = policy;
    let mut found = Vec::new();
    for (index, rule) in release.iter().enumerate() {
        rule_weaknesses(&format!("[[release]] number {}", index + 1), rule, &mut found);
    }
    for name in requesters.keys().filter(|name| !release.iter().any(|rule| rule.requester == **name)) {
        found.push(warning(
            "requester_without_rule",
            format!("no release rule names {name}, whose jobs all end refused"),
        ));
    }
    for (key, rule) in context.iter() {
        match rule {
            ContextRule::Minimum(0) => found.push(warning(
                "no_floor",
                format!("[context] {key}: every version passes, so the parent may send an old one"),
            )),
            ContextRule::Equals(_) | ContextRule::Minimum(_) if key == "object" => found.push(warning(
                "object_not_signed",
                "[context] object is not signed, so the parent may swap one object of a tenant for another",
            )),
            ContextRule::Signed | ContextRule::Equals(_) | ContextRule::Minimum(_) => {}
        }
    }
    if *allow_non_committing {
        found.push(warning(
            "non_committing",
            "[envelope] allow_non_committing: who makes a message can make one that opens differently under two keys",
        ));
    }
    if cache.age_seconds > LONG_CACHE_SECONDS && cache.entries > 0 {
        found.push(warning(
            "long_cache",
            format!("[cache] age_seconds = {}: so long a revoked key stays in use", cache.age_seconds),
        ));
    }
    let Kms { region, host, roots, keys: _, deadline_seconds: _ } = kms;
    if !is_of_aws(host, region) {
        found.push(warning(
            "custom_endpoint",
            format!("[kms] endpoint = \"{host}\" is none of AWS's names for KMS in {region}"),
        ));
    }
    if roots.is_some() {
        found.push(warning(
            "custom_roots",
            "[kms] roots: whoever holds these certificates' keys can be KMS for this enclave",
        ));
    }
    found
}

fn rule_weaknesses(place: &str, rule: &ReleaseRule, found: &mut Vec<Warning>) {
    match &rule.what {
        Allowance::Everything if !rule.to.is_sealed() => {
            found.push(warning("reveal", format!("{place}: reveal = true lets everything out readable")));
        }
        Allowance::Everything | Allowance::Digest => {}
        Allowance::Aggregate(aggregate) => {
            let AggregateRule { minimum_group, budget, .. } = aggregate;
            if *minimum_group < SMALL_GROUP {
                found.push(warning(
                    "small_group",
                    format!("{place}: groups of {minimum_group} records say much of each of them"),
                ));
            }
            if *budget > LARGE_BUDGET {
                found.push(warning(
                    "large_budget",
                    format!("{place}: {budget} aggregates of one object leave much to be found by subtracting them"),
                ));
            }
        }
        Allowance::Fields(fields) => {
            for FieldRule { path, demand } in fields {
                if let Demand::Mask { keep_last } = demand
                    && *keep_last > LONG_REST
                {
                    found.push(warning(
                        "long_rest",
                        format!("{place}: the mask of {path} may leave {keep_last} characters readable"),
                    ));
                }
            }
        }
    }
}

/// Whether a host's name is one that AWS gives its KMS in this region.
fn is_of_aws(host: &str, region: &str) -> bool {
    ["amazonaws.com", "amazonaws.com.cn"].iter().any(|suffix| {
        ["kms", "kms-fips"].iter().any(|service| {
            host == format!("{service}.{region}.{suffix}")
                || (host.starts_with("vpce-")
                    && host.ends_with(&format!(".{service}.{region}.vpce.{suffix}")))
        })
    })
}

/// What is weak about these measurements as the expectation of a document (V-5, V-7, V-8).
pub(super) fn weak_measurements(pcrs: &Pcrs) -> Vec<Warning> {
    let mut found = Vec::new();
    if pcrs.is_empty() {
        return found;
    }
    let missing: Vec<_> = IMAGE_PCRS.iter().filter(|index| !pcrs.contains_key(index)).collect();
    if let Some(first) = missing.first() {
        let text = match pcrs.keys().copied().collect::<Vec<_>>().as_slice() {
            [8] => "PCR8 alone is equal for all images that one key has signed".to_owned(),
            [3 | 4] | [3, 4] => "PCR3 and PCR4 say on whose instance an enclave runs, not which".to_owned(),
            [POLICY_PCR] => format!("PCR{POLICY_PCR} alone is what any enclave can extend itself to"),
            _ => format!(
                "PCR{first} is missing: bytes can move between an image's parts while one register stays equal; \
                 give PCR0, PCR1 and PCR2 together"
            ),
        };
        found.push(warning("image_not_named", text));
    }
    if let Some((index, _)) =
        pcrs.iter().find(|(index, value)| IMAGE_PCRS.contains(index) && **value == [0; 48])
    {
        found.push(warning("debug_mode", format!("PCR{index} is zero: that is any enclave in debug mode")));
    }
    found
}

/// The head of an explanation.
pub(super) fn title(name: &str, digest: PolicyDigest, register: &[u8; 48]) -> String {
    format!("policy {name}\ndigest {digest}\nPCR{POLICY_PCR}  {}\n", hex::encode(register))
}

#[cfg(test)]
mod tests {
    use super::*;

    // K-16
    #[test]
    fn only_awss_own_names_pass_as_such() {
        for host in [
            "kms.eu-west-1.amazonaws.com",
            "kms-fips.eu-west-1.amazonaws.com",
            "vpce-0a1-b2.kms.eu-west-1.vpce.amazonaws.com",
        ] {
            assert!(is_of_aws(host, "eu-west-1"), "{host}");
        }
        for host in [
            "localhost",
            "kms.us-east-1.amazonaws.com",
            "kms.eu-west-1.amazonaws.com.example",
            "x.kms.eu-west-1.vpce.amazonaws.com",
            "vpce-1.s3.eu-west-1.vpce.amazonaws.com",
        ] {
            assert!(!is_of_aws(host, "eu-west-1"), "{host}");
        }
    }

    // V-5, V-7, V-8
    #[test]
    fn measurements_that_name_no_image_are_warned_of() {
        let of = |indexes: &[u8]| indexes.iter().map(|index| (*index, [7; 48])).collect::<Pcrs>();
        for (indexes, text) in [
            (&[0][..], "PCR1 is missing"),
            (&[8], "all images that one key has signed"),
            (&[3], "on whose instance"),
            (&[4], "on whose instance"),
            (&[3, 4], "on whose instance"),
            (&[16], "extend itself"),
            (&[0, 2, 16], "PCR1 is missing"),
        ] {
            let found = weak_measurements(&of(indexes));
            assert!(found.len() == 1 && found[0].code == "image_not_named", "{indexes:?}");
            assert!(found[0].text.contains(text), "{indexes:?}: {}", found[0].text);
        }
        assert!(weak_measurements(&of(&[0, 1, 2])).is_empty());
        assert!(weak_measurements(&of(&[])).is_empty());
        let debug = [(0, [0; 48]), (1, [0; 48]), (2, [0; 48])].into();
        assert_eq!(weak_measurements(&debug)[0].code, "debug_mode");
    }
}
