//! All steps and release rules against a plain reference, on random records, jobs and policies.
//!
//! The reference takes one step after the other, value by value, and carries with each value where it
//! comes from and what was done to it. It knows nothing of how the enclave does the same in one walk.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use adyton_enclave::compute::{Grouping, Limits, Pipeline, StepKeys};
use adyton_shared::decimal::Decimal;
use adyton_shared::id::KeyName;
use adyton_shared::job::{
    Aggregate, Destination, FieldPath, Function, Input, Job, Keyed, Leaving, Mask, Quantile, Quantiles,
    Rename, Segment, Step,
};
use adyton_shared::policy::{AggregateRule, Allowance, Demand, FieldRule, Policy, ReleaseRule};
use base64::Engine as _;
use proptest::prelude::*;
use serde_json::{Map, Value};

/// A value, where it comes from, and what was done to it.
#[derive(Clone, Debug)]
struct Node {
    origin: Vec<Segment>,
    kind: Kind,
    treatments: Vec<Done>,
    /// The first step that could not be done to it.
    poison: Option<usize>,
    /// Whether that step was about the value itself; no later one mends that.
    untreatable: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar(Value),
    Object(Vec<Member>),
    Array(Vec<Node>),
}

#[derive(Clone, Debug)]
struct Member {
    /// What steps may call it; none if a renamed field has taken its name.
    handle: Option<String>,
    name: String,
    node: Node,
}

#[derive(Clone, Debug, PartialEq)]
enum Done {
    Mask(u8),
    Token(KeyName),
    Hash(KeyName),
}

fn plant(value: &Value, origin: &[Segment]) -> Node {
    let inside = |segment: Segment| [origin, &[segment]].concat();
    let kind = match value {
        Value::Object(members) => Kind::Object(
            members
                .iter()
                .map(|(name, value)| Member {
                    handle: Some(name.clone()),
                    name: name.clone(),
                    node: plant(value, &inside(Segment::Key(name.clone()))),
                })
                .collect(),
        ),
        Value::Array(all) => Kind::Array(all.iter().map(|v| plant(v, &inside(Segment::Each))).collect()),
        scalar => Kind::Scalar(scalar.clone()),
    };
    Node { origin: origin.to_vec(), kind, treatments: Vec::new(), poison: None, untreatable: false }
}

impl Node {
    fn poison(&mut self, step: usize) {
        self.poison.get_or_insert(step);
    }

    /// Does something to whatever the path names. What stands in its way cannot be treated.
    fn each(&mut self, path: &[Segment], step: usize, act: &mut dyn FnMut(&mut Node)) {
        match (path, &mut self.kind) {
            ([], _) => act(self),
            ([Segment::Key(key), rest @ ..], Kind::Object(members)) => {
                for member in members.iter_mut().filter(|m| m.handle.as_ref() == Some(key)) {
                    member.node.each(rest, step, act);
                }
            }
            ([Segment::Each, rest @ ..], Kind::Array(elements)) => {
                for element in elements {
                    element.each(rest, step, act);
                }
            }
            (_, Kind::Scalar(Value::Null)) => {}
            _ => self.poison(step),
        }
    }

    fn drop_path(&mut self, path: &[Segment], step: usize) {
        let (last, outer) = path.split_last().unwrap();
        self.each(outer, step, &mut |node| match (&mut node.kind, last) {
            (Kind::Object(members), Segment::Key(key)) => members.retain(|m| m.handle.as_ref() != Some(key)),
            (Kind::Array(elements), Segment::Each) => elements.clear(),
            (Kind::Scalar(Value::Null), _) => {}
            _ => node.poison(step),
        });
    }

    /// What is left if only these paths stay; none if nothing of it was meant.
    fn select(&self, paths: &[&[Segment]]) -> Option<Node> {
        if paths.iter().any(|path| path.is_empty()) {
            return Some(self.clone());
        }
        let inside = |segment: &Segment| -> Vec<&[Segment]> {
            paths
                .iter()
                .filter_map(|path| path.split_first().filter(|(first, _)| *first == segment).map(|(_, r)| r))
                .collect()
        };
        let kind = match &self.kind {
            Kind::Scalar(_) => return None,
            Kind::Object(members) => {
                if !paths.iter().any(|path| matches!(path.first(), Some(Segment::Key(_)))) {
                    return None;
                }
                let keep = |member: &Member| {
                    let paths = inside(&Segment::Key(member.handle.clone()?));
                    let node = member.node.select(&paths).filter(|_| !paths.is_empty())?;
                    Some(Member { node, ..member.clone() })
                };
                Kind::Object(members.iter().filter_map(keep).collect())
            }
            Kind::Array(elements) => {
                let paths = inside(&Segment::Each);
                if paths.is_empty() {
                    return None;
                }
                Kind::Array(elements.iter().filter_map(|element| element.select(&paths)).collect())
            }
        };
        Some(Node { kind, poison: None, ..self.clone() })
    }

    fn rename(&mut self, rename: &Rename, step: usize) {
        let (Some((outer, from)), Some((_, to))) = (rename.from.split_last(), rename.to.split_last()) else {
            panic!()
        };
        self.each(outer, step, &mut |node| match &mut node.kind {
            Kind::Object(members) => {
                for member in members.iter_mut() {
                    if member.handle.as_deref() == Some(to) {
                        member.handle = None;
                    }
                    if member.handle.as_deref() == Some(from) {
                        (member.handle, member.name) = (Some(to.to_owned()), to.to_owned());
                    }
                }
            }
            Kind::Scalar(Value::Null) => {}
            _ => node.poison(step),
        });
    }

    fn treat(&mut self, done: &Done, step: usize) {
        let text = match (&self.kind, done) {
            (Kind::Scalar(Value::Null), _) => return self.treatments.push(done.clone()),
            (Kind::Scalar(Value::String(text)), _) => text.clone(),
            (Kind::Scalar(Value::Number(number)), _) => number.to_string(),
            (Kind::Scalar(Value::Bool(value)), Done::Token(_) | Done::Hash(_)) => value.to_string(),
            _ => {
                self.untreatable = true;
                return self.poison(step);
            }
        };
        if self.untreatable {
            return;
        }
        let tag = match &self.kind {
            Kind::Scalar(Value::String(_)) => "s",
            Kind::Scalar(Value::Bool(_)) => "b",
            _ => "n",
        };
        let result = match done {
            Done::Mask(keep) => masked(&text, *keep),
            Done::Token(key) => {
                let path: String = spelled(&self.origin);
                let parts = [
                    &b"adyton token 1"[..],
                    &length("acme"),
                    b"acme",
                    &length(&path),
                    path.as_bytes(),
                    tag.as_bytes(),
                    text.as_bytes(),
                ];
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hmac(key, &parts.concat()))
            }
            Done::Hash(key) => hex::encode(hmac(key, &[b"adyton hash 1", text.as_bytes()].concat())),
        };
        // What stood in another step's way is gone with the value.
        self.poison = None;
        self.kind = Kind::Scalar(Value::String(result));
        self.treatments.push(done.clone());
    }

    fn find(&self, path: &[Segment]) -> Option<&Node> {
        match (path, &self.kind) {
            ([], _) => Some(self),
            ([Segment::Key(key), rest @ ..], Kind::Object(members)) => {
                members.iter().find(|m| m.handle.as_ref() == Some(key))?.node.find(rest)
            }
            _ => None,
        }
    }

    fn leaves<'a>(&'a self, into: &mut Vec<&'a Node>) {
        match &self.kind {
            Kind::Scalar(_) => into.push(self),
            Kind::Object(members) => members.iter().for_each(|m| m.node.leaves(into)),
            Kind::Array(elements) => elements.iter().for_each(|e| e.leaves(into)),
        }
    }

    fn first_poison(&self) -> Option<usize> {
        let inside: Vec<_> = match &self.kind {
            Kind::Scalar(_) => Vec::new(),
            Kind::Object(members) => members.iter().filter_map(|m| m.node.first_poison()).collect(),
            Kind::Array(elements) => elements.iter().filter_map(Node::first_poison).collect(),
        };
        inside.into_iter().chain(self.poison).min()
    }

    /// None if two members of one object have one name.
    fn value(&self) -> Option<Value> {
        Some(match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::Array(elements) => Value::Array(elements.iter().map(Node::value).collect::<Option<_>>()?),
            Kind::Object(members) => {
                let mut map = Map::new();
                for member in members {
                    if map.insert(member.name.clone(), member.node.value()?).is_some() {
                        return None;
                    }
                }
                Value::Object(map)
            }
        })
    }
}

fn masked(text: &str, keep: u8) -> String {
    let (count, keep) = (text.chars().count(), usize::from(keep));
    let stars = if count < 2 * keep { count } else { count - keep };
    "*".repeat(stars) + &text.chars().skip(stars).collect::<String>()
}

fn length(text: &str) -> [u8; 4] {
    u32::try_from(text.len()).unwrap().to_be_bytes()
}

fn spelled(path: &[Segment]) -> String {
    path.iter().enumerate().fold(String::new(), |text, (nth, segment)| match segment {
        Segment::Each => text + "[]",
        Segment::Key(name) if nth == 0 => name.clone(),
        Segment::Key(name) => text + "." + name,
    })
}

fn secret(key: &KeyName) -> [u8; 32] {
    [key.as_str().as_bytes()[1]; 32]
}

fn hmac(key: &KeyName, data: &[u8]) -> Vec<u8> {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret(key));
    aws_lc_rs::hmac::sign(&key, data).as_ref().to_vec()
}

/// Conditions that need no parser here: a text, a path, and what the text means.
#[derive(Clone, Copy, Debug)]
enum Test {
    IsX,
    AboveOne,
    Has,
    NotNull,
    Spelt,
}

impl Test {
    const ALL: [Self; 5] = [Self::IsX, Self::AboveOne, Self::Has, Self::NotNull, Self::Spelt];

    fn text(self, path: &FieldPath) -> String {
        match self {
            Self::IsX => format!("{path} == 'x'"),
            Self::AboveOne => format!("!has(record.{path}) || {path} > 1"),
            Self::Has => format!("has(record.{path})"),
            Self::NotNull => format!("{path} != null"),
            Self::Spelt => format!("double({path}) > 1"),
        }
    }

    /// What it says of a value, if it can say anything.
    fn holds(self, node: Option<&Node>) -> Option<bool> {
        let poisoned = node.is_some_and(|n| n.untreatable && matches!(n.kind, Kind::Scalar(_)));
        let scalar = match node.map(|node| &node.kind) {
            None => Err(false),
            Some(Kind::Scalar(_)) if poisoned => Err(true),
            Some(Kind::Scalar(value)) => Ok(value),
            Some(_) => Err(true),
        };
        match (self, scalar) {
            (Self::Has, scalar) => Some(scalar != Err(false)),
            (Self::AboveOne, Err(false)) => Some(true),
            (Self::IsX, Ok(Value::String(text))) => Some(text == "x"),
            (Self::IsX, Ok(Value::Null)) => Some(false),
            (Self::AboveOne, Ok(Value::Number(number))) => Some(number.as_f64().unwrap() > 1.0),
            (Self::NotNull, Ok(value)) => Some(!value.is_null()),
            (Self::Spelt, Ok(value @ Value::Number(_))) => cents(value).map(|cents| cents > 100),
            (Self::Spelt, Ok(Value::String(text))) => cents_of(text).map(|cents| cents > 100),
            (Self::IsX | Self::AboveOne | Self::NotNull | Self::Spelt, _) => None,
        }
    }
}

/// A step with what the reference needs to know about it.
#[derive(Clone, Debug)]
enum Act {
    Plain(Step),
    Filter(Test, FieldPath),
}

impl Act {
    fn step(&self) -> Step {
        match self {
            Self::Plain(step) => step.clone(),
            Self::Filter(test, path) => Step::Filter(test.text(path)),
        }
    }
}

/// What becomes of one record: an error, nothing, or what leaves of it; and what its filters have read.
struct Fate {
    leaves: Result<Option<Node>, ()>,
    /// A filter keeps it back, and some step cannot treat it: whether that is noticed is of no interest.
    unclear: bool,
    read: Vec<Node>,
}

fn fate(record: &Value, acts: &[Act]) -> Fate {
    let mut node = plant(record, &[]);
    let mut decisions = Vec::new();
    let mut read = Vec::new();
    for (act, step) in acts.iter().zip(1..) {
        match act {
            Act::Filter(test, path) => {
                let found = node.find(path.segments());
                decisions.push((step, test.holds(found)));
                read.extend(found.cloned());
            }
            Act::Plain(Step::Select(paths)) => {
                let paths: Vec<_> = paths.iter().map(FieldPath::segments).collect();
                node = node.select(&paths).unwrap();
            }
            Act::Plain(Step::Drop(paths)) => paths.iter().for_each(|p| node.drop_path(p.segments(), step)),
            Act::Plain(Step::Rename(rename)) => node.rename(rename, step),
            Act::Plain(Step::Mask(Mask { fields, keep_last })) => {
                treat(&mut node, fields, &Done::Mask(*keep_last), step);
            }
            Act::Plain(Step::Token(Keyed { fields, key })) => {
                treat(&mut node, fields, &Done::Token(key.clone()), step);
            }
            Act::Plain(Step::Hash(Keyed { fields, key })) => {
                treat(&mut node, fields, &Done::Hash(key.clone()), step);
            }
            Act::Plain(_) => {}
        }
    }
    let aggregates = matches!(acts.last(), Some(Act::Plain(Step::Aggregate(_))));
    let poison = if aggregates { None } else { node.first_poison() };
    let broken = !aggregates && (poison.is_some() || node.value().is_none());
    if broken && decisions.iter().any(|(_, holds)| *holds == Some(false)) {
        return Fate { leaves: Ok(None), unclear: true, read };
    }
    if broken && poison.is_none() {
        return Fate { leaves: Err(()), unclear: false, read };
    }
    for (step, holds) in decisions {
        match holds {
            _ if poison.is_some_and(|poison| poison < step) => {
                return Fate { leaves: Err(()), unclear: false, read };
            }
            None => return Fate { leaves: Err(()), unclear: false, read },
            Some(false) => return Fate { leaves: Ok(None), unclear: false, read },
            Some(true) => {}
        }
    }
    Fate { leaves: if poison.is_some() { Err(()) } else { Ok(Some(node)) }, unclear: false, read }
}

fn treat(node: &mut Node, fields: &[FieldPath], done: &Done, step: usize) {
    for path in fields {
        node.each(path.segments(), step, &mut |node| node.treat(done, step));
    }
}

/// Whether a plain reading of a rule lets a value out.
fn allowed(rules: &[FieldRule], node: &Node) -> bool {
    rules.iter().any(|rule| {
        node.origin.starts_with(rule.path.segments())
            && match &rule.demand {
                Demand::Plain => true,
                Demand::Mask { keep_last } => {
                    node.treatments.iter().any(|d| matches!(d, Done::Mask(k) if k <= keep_last))
                }
                Demand::Token { key } => node
                    .treatments
                    .iter()
                    .any(|d| matches!(d, Done::Token(k) if key.as_ref().is_none_or(|key| key == k))),
                Demand::Hash { key } => node
                    .treatments
                    .iter()
                    .any(|d| matches!(d, Done::Hash(k) if key.as_ref().is_none_or(|key| key == k))),
            }
    })
}

type Cents = i128;
type Calculate<'a> = &'a dyn Fn(&[Cents]) -> String;

/// A number in hundredths, as the generated ones are.
fn cents(value: &Value) -> Option<Cents> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    cents_of(&text)
}

/// The same of a text. Of the generated ones only such that begin with a digit or a sign are numbers.
fn cents_of(text: &str) -> Option<Cents> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
        return None;
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = format!("{fraction:0<2}");
    let magnitude =
        whole.trim_start_matches('-').parse::<Cents>().ok()? * 100 + digits.parse::<Cents>().ok()?;
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

/// A value that figures can be about; none if it is of a wrong shape.
fn scalar(node: &Node, path: &FieldPath) -> Option<Value> {
    match node.find(path.segments()) {
        None => Some(Value::Null),
        Some(Node { kind: Kind::Scalar(_), untreatable: true, .. }) => None,
        Some(Node { kind: Kind::Scalar(value), .. }) => Some(value.clone()),
        Some(_) => None,
    }
}

/// Whether a record has nothing in it that the aggregate could not do with.
fn usable(node: &Node, aggregate: &Aggregate) -> bool {
    let Aggregate { by, sum, min, max, mean, distinct, quantiles, .. } = aggregate;
    let quantiles = quantiles.iter().flat_map(|quantiles| &quantiles.fields);
    let number = |path| scalar(node, path).is_some_and(|value| value.is_null() || cents(&value).is_some());
    by.iter().chain(distinct).all(|path| scalar(node, path).is_some())
        && sum.iter().chain(min).chain(max).chain(mean).chain(quantiles).all(number)
}

/// The records that figures are about. Fewer that are not usable than a group must have vanish as it would.
fn counted(fates: &[Fate], aggregate: &Aggregate, minimum: u64) -> Result<Vec<Node>, ()> {
    let (mut nodes, mut unusable) = (Vec::new(), 0);
    for fate in fates {
        match &fate.leaves {
            Ok(None) => {}
            Ok(Some(node)) if usable(node, aggregate) => nodes.push(node.clone()),
            Ok(Some(_)) | Err(()) => unusable += 1,
        }
    }
    if unusable >= minimum { Err(()) } else { Ok(nodes) }
}

/// Groups by name of field, with their figures as text.
fn figures(
    input: Input,
    nodes: &[Node],
    aggregate: &Aggregate,
    minimum: u64,
) -> BTreeMap<String, Map<String, Value>> {
    // An empty cell is no value.
    let value_of = |node: &Node, path: &FieldPath| match scalar(node, path).unwrap() {
        Value::String(text) if text.is_empty() && input == Input::Csv => Value::Null,
        value => value,
    };
    let mut groups: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for node in nodes {
        let key: Vec<_> = aggregate.by.iter().map(|path| value_of(node, path)).collect();
        groups.entry(serde_json::to_string(&key).unwrap()).or_default().push(node);
    }
    groups.retain(|_, members| members.len() as u64 >= minimum);
    let row = |members: Vec<&Node>| {
        let values = |path: &FieldPath| {
            let all = members.iter().map(|node| value_of(node, path));
            all.filter(|value| !value.is_null()).collect::<Vec<_>>()
        };
        let shown = |count: usize| count > 0 && (minimum <= 1 || count as u64 >= minimum);
        let numbers = |path: &FieldPath| {
            let cents = |value: &Value| value.as_str().map_or_else(|| cents(value), cents_of);
            let mut numbers: Vec<_> = values(path).iter().map(|value| cents(value).unwrap()).collect();
            numbers.sort_unstable();
            numbers
        };
        let mut row = Map::new();
        row.insert("count".to_owned(), Value::from(members.len().to_string()));
        let mut figure = |name: &str, path: &FieldPath, of: Calculate<'_>| {
            let numbers = numbers(path);
            let figure = if shown(numbers.len()) { Value::from(of(&numbers)) } else { Value::Null };
            row.insert(format!("{name}_{path}"), figure);
        };
        let Aggregate { sum, min, max, mean, distinct, quantiles, .. } = aggregate;
        let plain: [(&str, &[FieldPath], Calculate<'_>); 4] = [
            ("sum", sum, &|all| decimal(all.iter().sum())),
            ("min", min, &|all| decimal(all[0])),
            ("max", max, &|all| decimal(all[all.len() - 1])),
            ("mean", mean, &mean_of),
        ];
        for (name, paths, of) in plain {
            for path in paths {
                figure(name, path, of);
            }
        }
        if let Some(Quantiles { fields, at }) = quantiles {
            for (path, at) in fields.iter().flat_map(|path| at.iter().map(move |at| (path, f64::from(*at)))) {
                figure(&format!("quantile_{at}"), path, &|all| decimal(nearest(all, at)));
            }
        }
        for path in distinct {
            let mut all: Vec<_> = values(path).iter().map(ToString::to_string).collect();
            let shown = shown(all.len()) || (all.is_empty() && minimum <= 1);
            all.sort();
            all.dedup();
            let figure = if shown { Value::from(all.len().to_string()) } else { Value::Null };
            row.insert(format!("distinct_{path}"), figure);
        }
        row
    };
    groups.into_iter().map(|(key, members)| (key, row(members))).collect()
}

/// To a millionth, halves to the even one.
fn mean_of(all: &[Cents]) -> String {
    let (sum, count) = (all.iter().sum::<Cents>() * 10_000, all.len() as Cents);
    let (below, rest) = (sum.div_euclid(count), sum.rem_euclid(count));
    let millionths = match (2 * rest).cmp(&count) {
        Ordering::Less => below,
        Ordering::Greater => below + 1,
        Ordering::Equal => below + below.rem_euclid(2),
    };
    let sign = if millionths < 0 { "-" } else { "" };
    let (whole, part) = (millionths.abs() / 1_000_000, millionths.abs() % 1_000_000);
    Decimal::parse(format!("{sign}{whole}.{part:06}").as_bytes()).unwrap().normal().to_string()
}

/// The first value in order up to which so large a part of all lies.
fn nearest(all: &[Cents], at: f64) -> Cents {
    let part = |many: usize| f64::from(u32::try_from(many).unwrap());
    *all.iter().zip(1..).find(|(_, nth)| part(*nth) >= at * part(all.len()) - 1e-9).unwrap().0
}

fn decimal(cents: Cents) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let text = format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100);
    Decimal::parse(text.as_bytes()).unwrap().normal().to_string()
}

// Strategies.

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => (-3..5_i32).prop_map(Value::from),
        2 => (-300..300_i32).prop_map(|n| serde_json::from_str(&format!("{}{}.{}", if n < 0 { "-" } else { "" }, n.abs() / 4, [1, 25, 5, 75][n.unsigned_abs() as usize % 4])).unwrap()),
        4 => prop::sample::select(vec!["x", "y", "4111111111111111", "", "é\n\"q"]).prop_map(Value::from),
    ];
    scalar.prop_recursive(2, 10, 3, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            3 => prop::collection::btree_map(name(), inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn record() -> impl Strategy<Value = Value> {
    prop::collection::btree_map(name(), value(), 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

/// Objects are expected under `a` and `b`, arrays under `c`, as whoever writes a job expects one or the
/// other: where steps expect both, each shape is one that some step knows. The data is of any shape.
fn path() -> impl Strategy<Value = FieldPath> {
    let outer = || prop::sample::select(vec!["a", "b"]);
    prop_oneof![
        5 => name(),
        3 => (outer(), name()).prop_map(|(a, b)| format!("{a}.{b}")),
        1 => Just("c[]".to_owned()),
        1 => name().prop_map(|b| format!("c[].{b}")),
    ]
    .prop_map(|text| FieldPath::parse(&text).unwrap())
}

fn plain_path() -> impl Strategy<Value = FieldPath> {
    path().prop_filter("one value", |path| !path.segments().contains(&Segment::Each))
}

fn key() -> impl Strategy<Value = KeyName> {
    prop::sample::select(vec!["k1", "k2"]).prop_map(|name| name.parse().unwrap())
}

fn paths() -> impl Strategy<Value = Vec<FieldPath>> {
    prop::collection::vec(path(), 1..4)
}

fn act() -> impl Strategy<Value = Act> {
    let keyed = || (paths(), key()).prop_map(|(fields, key)| Keyed { fields, key });
    let from_and_to = (plain_path(), name()).prop_filter("keeps its shape", |(from, to)| {
        from.segments().len() > 1 || (from.to_string() != "c" && to != "c")
    });
    let rename = from_and_to.prop_map(|(from, to)| {
        let outer = from.to_string().rsplit_once('.').map_or(String::new(), |(outer, _)| format!("{outer}."));
        Rename { to: FieldPath::parse(&format!("{outer}{to}")).unwrap(), from }
    });
    prop_oneof![
        3 => paths().prop_map(|paths| Act::Plain(Step::Select(paths))),
        2 => paths().prop_map(|paths| Act::Plain(Step::Drop(paths))),
        3 => rename.prop_map(|rename| Act::Plain(Step::Rename(rename))),
        2 => (paths(), 0..4_u8).prop_map(|(fields, keep_last)| Act::Plain(Step::Mask(Mask { fields, keep_last }))),
        1 => keyed().prop_map(|keyed| Act::Plain(Step::Token(keyed))),
        1 => keyed().prop_map(|keyed| Act::Plain(Step::Hash(keyed))),
        3 => (prop::sample::select(Test::ALL.to_vec()), plain_path()).prop_map(|(test, path)| Act::Filter(test, path)),
    ]
}

fn aggregate() -> impl Strategy<Value = Act> {
    let some = || prop::collection::vec(plain_path(), 0..2);
    let at = prop::sample::subsequence(vec![0.1, 0.333_333, 0.5, 0.75, 0.9, 1.0], 1..4);
    let quantiles =
        prop::option::of((prop::collection::vec(plain_path(), 1..3), at).prop_map(|(fields, at)| {
            Quantiles { fields, at: at.into_iter().map(|at| Quantile::try_from(at).unwrap()).collect() }
        }));
    (some(), some(), some(), some(), some(), some(), quantiles).prop_map(
        |(by, sum, min, max, mean, distinct, quantiles)| {
            let aggregate = Aggregate { by, count: true, sum, min, max, mean, distinct, quantiles };
            Act::Plain(Step::Aggregate(Box::new(aggregate)))
        },
    )
}

/// Whether a step names columns only, as steps on CSV must.
fn is_flat(act: &Act) -> bool {
    let flat = |path: &FieldPath| path.segments().len() == 1;
    match act {
        Act::Filter(_, path) => flat(path),
        Act::Plain(Step::Select(paths) | Step::Drop(paths)) => paths.iter().all(flat),
        Act::Plain(
            Step::Mask(Mask { fields, .. })
            | Step::Token(Keyed { fields, .. })
            | Step::Hash(Keyed { fields, .. }),
        ) => fields.iter().all(flat),
        Act::Plain(Step::Rename(rename)) => flat(&rename.from),
        Act::Plain(Step::Aggregate(aggregate)) => {
            let Aggregate { by, sum, min, max, mean, distinct, quantiles, .. } = &**aggregate;
            let quantiles = quantiles.iter().flat_map(|quantiles| &quantiles.fields);
            [by, sum, min, max, mean, distinct].into_iter().flatten().chain(quantiles).all(flat)
        }
        Act::Plain(_) => false,
    }
}

/// A cell: text, numbers spelt as text, nothing.
fn cell() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["x", "y", "", "", "4111111111111111", "a,\"b\"\r\nc", "é"]).prop_map(str::to_owned),
        3 => (-300..300_i32).prop_map(|n| decimal(n.into())),
        1 => (-3..5_i32).prop_map(|n| n.to_string()),
    ]
}

/// Rows of the columns a, b and c.
fn table() -> impl Strategy<Value = Vec<[String; 3]>> {
    prop::collection::vec([cell(), cell(), cell()], 0..6)
}

/// Jobs that make sense; steps that contradict those before them are left out.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    let last = prop_oneof![2 => Just(None), 1 => aggregate().prop_map(Some)];
    (prop::collection::vec(act(), 0..6), last).prop_map(|(all, last)| sensible(all.into_iter().chain(last)))
}

fn sensible(all: impl Iterator<Item = Act>) -> Vec<Act> {
    let mut acts = Vec::new();
    for act in all {
        acts.push(act);
        if job(&acts).outcome().is_err() {
            acts.pop();
        }
    }
    acts
}

fn job(acts: &[Act]) -> Job {
    job_on(Input::Ndjson, acts)
}

fn job_on(input: Input, acts: &[Act]) -> Job {
    let steps = acts.iter().map(Act::step).collect();
    Job { version: 1, input, steps, to: Destination::Parent }
}

fn allowance() -> impl Strategy<Value = Allowance> {
    let wanted = || prop::option::of(key());
    let demand = prop_oneof![
        3 => Just(Demand::Plain),
        1 => (0..4_u8).prop_map(|keep_last| Demand::Mask { keep_last }),
        1 => wanted().prop_map(|key| Demand::Token { key }),
        1 => wanted().prop_map(|key| Demand::Hash { key }),
    ];
    let rules =
        prop::collection::vec((path(), demand).prop_map(|(path, demand)| FieldRule { path, demand }), 1..4);
    let listed = || prop::option::of(prop::collection::vec(plain_path(), 1..3));
    let aggregate = (2..4_u64, listed(), listed()).prop_map(|(minimum_group, by, fields)| {
        Allowance::Aggregate(AggregateRule { minimum_group, budget: 1, by, fields, functions: None })
    });
    prop_oneof![4 => rules.prop_map(Allowance::Fields), 2 => aggregate, 1 => Just(Allowance::Everything), 1 => Just(Allowance::Digest)]
}

fn policy(what: Allowance) -> Policy {
    let text = include_str!("policy.toml");
    let mut policy = Policy::parse(text.as_bytes()).unwrap();
    policy.release = vec![ReleaseRule {
        requester: "billing".parse().unwrap(),
        to: Destination::Parent,
        what,
        pad: false,
    }];
    policy
}

fn run(input: Input, acts: &[Act], minimum: u64, data: &str) -> Result<String, ()> {
    let mut keys = StepKeys::new("acme".to_owned());
    for name in ["k1", "k2"] {
        let name: KeyName = name.parse().unwrap();
        keys.insert(name.clone(), &secret(&name));
    }
    let grouping = Grouping { minimum, groups: 1000, bytes: 1 << 20 };
    let outcome = job_on(input, acts).outcome().unwrap();
    let mut pipeline = Pipeline::of(&outcome, &keys, Limits { record_bytes: 1 << 20 }, grouping).unwrap();
    let mut out = Vec::new();
    pipeline.push(data.as_bytes(), &mut out).map_err(drop)?;
    pipeline.finish(&mut out).map_err(drop)?;
    Ok(String::from_utf8(out).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_leaves_that_the_reference_keeps_and_the_rest_is_equal(
        acts in acts(),
        records in prop::collection::vec(record(), 0..6),
        what in allowance(),
    ) {
        let outcome = job(&acts).outcome().unwrap();
        let data: String = records.iter().map(|record| record.to_string() + "\n").collect();
        let policy = policy(what);
        let admitted = policy.rule_for(&"billing".parse().unwrap(), &Destination::Parent, &outcome);
        let minimum = admitted.as_ref().map_or(1, |rule| rule.what.minimum_group());
        let result = run(Input::Ndjson, &acts, minimum, &data);

        let fates: Vec<_> = records.iter().map(|record| fate(record, &acts)).collect();
        let nodes: Result<Vec<_>, ()> = fates.iter().map(|fate| fate.leaves.clone()).filter_map(Result::transpose).collect();
        let read: Vec<_> = fates.iter().flat_map(|fate| &fate.read).collect();

        if let Leaving::Aggregate(_) = outcome.leaving {
            let Some(Act::Plain(Step::Aggregate(aggregate))) = acts.last() else { panic!("the last step") };
            let expected = counted(&fates, aggregate, minimum)
                .map(|nodes| figures(Input::Ndjson, &nodes, aggregate, minimum));
            match (result, expected) {
                (Ok(out), Ok(expected)) => {
                    prop_assert_eq!(rows(&out, aggregate), expected);
                }
                (out, expected) => prop_assert!(out.is_err() && expected.is_err(), "{out:?} {expected:?}"),
            }
            if let Ok(rule) = admitted {
                match &rule.what {
                    Allowance::Everything => {}
                    Allowance::Aggregate(rule) => {
                        let covered = |paths: &Option<Vec<FieldPath>>, node: &Node| paths.as_ref().is_none_or(|paths| {
                            paths.iter().any(|path| node.origin.starts_with(path.segments()))
                        });
                        prop_assert!(read.iter().all(|node| covered(&rule.by, node) || covered(&rule.fields, node)));
                    }
                    other => prop_assert!(false, "{other:?} lets figures out"),
                }
            }
            return Ok(());
        }
        match (&result, &nodes) {
            (Err(()), _) if fates.iter().any(|fate| fate.unclear) => {}
            (Ok(out), Ok(nodes)) => {
                let out: Vec<_> = out.lines().map(|line| pruned(serde_json::from_str(line).unwrap())).collect();
                let expected: Vec<_> = nodes.iter().map(|node| pruned(node.value().unwrap())).collect();
                prop_assert_eq!(out, expected);
            }
            (out, expected) => prop_assert!(out.is_err() && expected.is_err(), "{out:?} {expected:?}"),
        }
        if let (Ok(rule), Ok(nodes)) = (admitted, &nodes) {
            let mut leaves = Vec::new();
            for node in nodes {
                node.leaves(&mut leaves);
            }
            match &rule.what {
                Allowance::Everything => {}
                Allowance::Fields(rules) => {
                    prop_assert!(leaves.iter().all(|leaf| allowed(rules, leaf)), "{leaves:?}");
                    prop_assert!(read.iter().all(|node| allowed(rules, node)), "{read:?}");
                }
                other => prop_assert!(false, "{other:?} lets records out"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_leaves_of_a_table_is_what_the_reference_lets_out(
        acts in acts(),
        table in table(),
        minimum in prop::sample::select(vec![1_u64, 1, 2, 3]),
    ) {
        // Without the others a step may speak of what is no longer there.
        let acts = sensible(acts.into_iter().filter(is_flat));
        let aggregate = match acts.last() {
            Some(Act::Plain(Step::Aggregate(aggregate))) => Some(aggregate),
            _ => None,
        };
        let minimum = if aggregate.is_some() { minimum } else { 1 };
        let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
        let row = |row: &[String; 3]| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
        let data = "a,b,c\n".to_owned() + &table.iter().map(row).collect::<String>();
        let result = run(Input::Csv, &acts, minimum, &data);

        let record = |row: &[String; 3]| {
            let pairs = ["a", "b", "c"].into_iter().zip(row);
            pairs.map(|(name, cell)| (name.to_owned(), Value::from(cell.clone()))).collect::<Map<_, _>>()
        };
        // Which columns leave is decided by the header row, whatever the filters say of rows.
        let plain: Vec<_> = acts.iter().filter(|act| !matches!(act, Act::Filter(..))).cloned().collect();
        let empty = [const { String::new() }; 3];
        let header = fate(&Value::Object(record(&empty)), &plain).leaves.map(|node| node.unwrap());
        let fates: Vec<_> = table.iter().map(|row| fate(&Value::Object(record(row)), &acts)).collect();

        if let Some(aggregate) = aggregate {
            let expected = counted_cells(&fates, aggregate, minimum)
                .map(|nodes| figures(Input::Csv, &nodes, aggregate, minimum));
            match (result, expected) {
                (Ok(out), Ok(expected)) => prop_assert_eq!(cell_rows(&out, aggregate), expected),
                (out, expected) => prop_assert!(out.is_err() && expected.is_err(), "{out:?} {expected:?}"),
            }
            return Ok(());
        }
        let nodes: Result<Vec<_>, ()> = fates.iter().map(|f| f.leaves.clone()).filter_map(Result::transpose).collect();
        match (result, header, nodes) {
            (Ok(out), Ok(header), Ok(nodes)) => {
                let read = read(&out);
                let names: Vec<_> = members(&header).map(|(name, _)| name).collect();
                if names.is_empty() {
                    prop_assert_eq!(out, "\n".repeat(1 + nodes.len()));
                } else {
                    prop_assert_eq!(&read[0], &names);
                    let cells = |node: &Node| members(node).map(|(_, cell)| cell).collect::<Vec<_>>();
                    prop_assert_eq!(&read[1..], nodes.iter().map(cells).collect::<Vec<_>>());
                }
            }
            (out, header, nodes) => prop_assert!(out.is_err() && (header.is_err() || nodes.is_err()), "{out:?} {nodes:?}"),
        }
    }
}

/// The cells of a row by the names that they leave under.
fn members(node: &Node) -> impl Iterator<Item = (String, String)> {
    let Kind::Object(members) = &node.kind else { panic!("a row") };
    members.iter().map(|member| {
        let Kind::Scalar(Value::String(cell)) = &member.node.kind else { panic!("a cell") };
        (member.name.clone(), cell.clone())
    })
}

/// [`counted`] for cells: an empty one is no value, and a number is a text that spells one.
fn counted_cells(fates: &[Fate], aggregate: &Aggregate, minimum: u64) -> Result<Vec<Node>, ()> {
    let Aggregate { sum, min, max, mean, quantiles, .. } = aggregate;
    let quantiles = quantiles.iter().flat_map(|quantiles| &quantiles.fields);
    let numbers: Vec<_> = [sum, min, max, mean].into_iter().flatten().chain(quantiles).collect();
    let (mut nodes, mut unusable) = (Vec::new(), 0);
    for fate in fates {
        let Ok(node) = &fate.leaves else {
            unusable += 1;
            continue;
        };
        let Some(node) = node else { continue };
        let is_number = |path: &FieldPath| match scalar(node, path) {
            Some(Value::String(text)) => text.is_empty() || cents_of(&text).is_some(),
            other => other == Some(Value::Null),
        };
        if numbers.iter().all(|path| is_number(path)) {
            nodes.push(node.clone());
        } else {
            unusable += 1;
        }
    }
    if unusable >= minimum { Err(()) } else { Ok(nodes) }
}

/// Rows of figures by their group, as [`rows`] has them.
fn cell_rows(out: &str, aggregate: &Aggregate) -> BTreeMap<String, Map<String, Value>> {
    let table = read(out);
    let null = |cell: &String| if cell.is_empty() { Value::Null } else { Value::from(cell.clone()) };
    let normal = |cell: &String| match Decimal::parse(cell.as_bytes()) {
        Some(number) => Value::from(number.normal().to_string()),
        None => null(cell),
    };
    let row = |row: &Vec<String>| {
        let (by, figures) = row.split_at(aggregate.by.len());
        let names = table[0][aggregate.by.len()..].iter().cloned();
        let key = serde_json::to_string(&by.iter().map(null).collect::<Vec<_>>()).unwrap();
        (key, names.zip(figures.iter().map(normal)).collect())
    };
    table[1..].iter().map(row).collect()
}

/// Reads a table with a reader that nobody here wrote.
fn read(out: &str) -> Vec<Vec<String>> {
    let (mut reader, mut data) = (csv_core::Reader::new(), out.as_bytes());
    let (mut table, mut row, mut field, mut filled) = (Vec::new(), Vec::new(), vec![0; 4096], 0);
    loop {
        let (result, taken, written) = reader.read_field(data, &mut field[filled..]);
        data = &data[taken..];
        filled += written;
        match result {
            csv_core::ReadFieldResult::InputEmpty => {}
            csv_core::ReadFieldResult::OutputFull => panic!("a field is too long for this test"),
            csv_core::ReadFieldResult::Field { record_end } => {
                row.push(String::from_utf8(field[..filled].to_vec()).unwrap());
                filled = 0;
                if record_end {
                    table.push(std::mem::take(&mut row));
                }
            }
            csv_core::ReadFieldResult::End => return table,
        }
    }
}

/// Without containers of nothing: those around a field that was selected and then dropped need not stay.
fn pruned(value: Value) -> Value {
    let hollow = |value: &Value| {
        value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
    };
    match value {
        Value::Object(members) => {
            let members = members.into_iter().map(|(name, value)| (name, pruned(value)));
            Value::Object(members.filter(|(_, value)| !hollow(value)).collect())
        }
        Value::Array(elements) => {
            Value::Array(elements.into_iter().map(pruned).filter(|e| !hollow(e)).collect())
        }
        scalar => scalar,
    }
}

/// Rows by their group, numbers as the shortest text.
fn rows(out: &str, aggregate: &Aggregate) -> BTreeMap<String, Map<String, Value>> {
    out.lines()
        .map(|line| {
            let mut row: Map<String, Value> = serde_json::from_str(line).unwrap();
            let key: Vec<_> =
                aggregate.by.iter().map(|path| row.remove(&path.to_string()).unwrap()).collect();
            for value in row.values_mut() {
                if let Value::Number(number) = value {
                    *value = Value::from(
                        Decimal::parse(number.to_string().as_bytes()).unwrap().normal().to_string(),
                    );
                }
            }
            (serde_json::to_string(&key).unwrap(), row)
        })
        .collect()
}

/// Every kind of figure has a name that a policy may list.
#[test]
fn functions_have_the_names_of_their_steps() {
    for (text, function) in [("\"count\"", Function::Count), ("\"quantiles\"", Function::Quantiles)] {
        assert_eq!(serde_json::from_str::<Function>(text).unwrap(), function);
    }
}
