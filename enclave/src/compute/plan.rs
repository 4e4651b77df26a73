//! The steps of a job as one tree of field names, made once and applied in a single pass.
//!
//! A value leaves if the last `select` covers it (every earlier one covers that) and no `drop` does;
//! it is masked with the smallest `keep_last` that any `mask` demands. A node says what happens to an
//! object, an array and a scalar in its place. Where a `mask` or `drop` reaches into a value that
//! would leave whole, a value of another shape is refused: the step cannot be done, so nothing leaves.

use std::collections::BTreeMap;

use adyton_shared::job::{FieldPath, Job, Mask, Segment, Step};

use super::error::Place;

/// What a job does to each record.
pub(super) struct Plan {
    nodes: Vec<Node>,
    names: usize,
    /// Every field that a step names, for formats that can tell whether it exists.
    pub(super) fields: Vec<(FieldPath, Place)>,
}

/// What happens to the value of one field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    Drop,
    /// Depends on its shape: the node with this number.
    Node(usize),
}

/// What happens to a value, by its shape.
pub(super) struct Node {
    names: Names,
    /// The elements of an array.
    pub(super) each: Action,
    /// Members that are not named.
    pub(super) rest: Action,
    pub(super) object: Container,
    pub(super) array: Container,
    pub(super) scalar: Scalar,
}

/// What happens to an object or array.
#[derive(Clone, Copy)]
pub(super) enum Container {
    Enter,
    Drop,
    Refuse(Place),
}

/// What happens to text, numbers and booleans.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    Drop,
    /// Null cannot hide anything that the step is about and stays; all else is refused.
    OnlyNull(Place),
    Mask {
        keep_last: usize,
        place: Place,
    },
}

impl Plan {
    /// Compiles steps that [`Job::outcome`] has accepted.
    pub(super) fn new(job: &Job) -> Self {
        let mut tree = Branch::default();
        let mut fields = Vec::new();
        let last = job.steps.iter().rposition(|step| matches!(step, Step::Select(_)));
        for (index, step) in job.steps.iter().enumerate() {
            let (Step::Select(paths) | Step::Drop(paths) | Step::Mask(Mask { fields: paths, .. })) = step
            else {
                continue;
            };
            for (nth, path) in paths.iter().enumerate() {
                let place = Place { step: count(index), field: count(nth) };
                fields.push((path.clone(), place));
                let branch = tree.at(path.segments());
                match step {
                    Step::Select(_) => branch.selected |= Some(index) == last,
                    Step::Drop(_) => branch.dropped = Some(place),
                    Step::Mask(mask) => branch.mask(mask.keep_last, place),
                    Step::Digest(_) => {}
                }
            }
        }
        let mut plan = Self { nodes: Vec::new(), names: 0, fields };
        // A record is an object whatever leaves of it, so its node is there even if nothing does.
        let names = tree.names.into_iter().map(|(name, branch)| (name, plan.grow(branch, false))).collect();
        let names = plan.number(names);
        plan.push(Node {
            names,
            each: Action::Drop,
            rest: Action::Drop,
            object: Container::Enter,
            array: Container::Drop,
            scalar: Scalar::Drop,
        });
        plan
    }

    /// The number of the node for a whole record.
    pub(super) fn root(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    pub(super) fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// How many names there are in all nodes; each has a number below this.
    pub(super) const fn names(&self) -> usize {
        self.names
    }

    /// Depth is bounded by the length of a path, so this may recurse.
    fn grow(&mut self, branch: Branch, kept: bool) -> Action {
        if branch.dropped.is_some() {
            return Action::Drop;
        }
        let kept = kept || branch.selected;
        let treated_inside = branch.first_place();
        let each = branch.each.map(|each| self.grow(*each, kept));
        let names: Vec<_> = branch.names.into_iter().map(|(name, b)| (name, self.grow(b, kept))).collect();
        let leaves = |action: Action| kept || action != Action::Drop;
        let some_name_leaves = names.iter().any(|(_, action)| leaves(*action));
        let some_element_leaves = each.is_some_and(leaves);
        let demand = match branch.mask {
            Some((_, place)) => Some(place),
            None => treated_inside.filter(|_| kept),
        };
        if !(kept || some_name_leaves || some_element_leaves) {
            return Action::Drop;
        }
        if kept && demand.is_none() {
            return Action::Keep;
        }
        let container = |enter: bool| match demand {
            _ if enter && branch.mask.is_none() => Container::Enter,
            Some(place) => Container::Refuse(place),
            None => Container::Drop,
        };
        let scalar = match (branch.mask, demand) {
            (Some((keep_last, place)), _) if kept => Scalar::Mask { keep_last: keep_last.into(), place },
            (_, Some(place)) if kept => Scalar::OnlyNull(place),
            _ => Scalar::Drop,
        };
        let whole = if kept { Action::Keep } else { Action::Drop };
        let (object, array) = (container(some_name_leaves), container(some_element_leaves));
        let names = self.number(names);
        self.push(Node { names, each: each.unwrap_or(whole), rest: whole, object, array, scalar })
    }

    fn push(&mut self, node: Node) -> Action {
        self.nodes.push(node);
        Action::Node(self.root())
    }

    fn number(&mut self, names: Vec<(String, Action)>) -> Names {
        let first = self.names;
        self.names = self.names.saturating_add(names.len());
        Names::new(names, first)
    }
}

impl Node {
    /// The number and action of a member, if a step names it. `name` is unescaped.
    #[inline]
    pub(super) fn find(&self, name: &[u8]) -> Option<(usize, Action)> {
        self.names.find(name)
    }
}

/// Up to this many names are compared one after the other.
const FEW: usize = 12;

/// The names of an object's members that matter, in order of length and first bytes.
struct Names {
    /// Bit *n* is set if a name has *n* bytes, modulo 64: most other names are told apart by that alone.
    lengths: u64,
    entries: Vec<Name>,
}

struct Name {
    /// Its length and first eight bytes: equal for names of up to eight bytes only if the names are.
    head: (usize, u64),
    text: Box<[u8]>,
    number: usize,
    action: Action,
}

impl Names {
    fn new(names: Vec<(String, Action)>, first: usize) -> Self {
        let numbered = names.into_iter().zip(first..);
        let mut entries: Vec<_> = numbered
            .map(|((name, action), number)| {
                let text = name.into_bytes().into_boxed_slice();
                Name { head: head(&text), text, number, action }
            })
            .collect();
        entries.sort_by_key(|entry| entry.head);
        let lengths = entries.iter().fold(0, |bits, entry| bits | length_bit(entry.text.len()));
        Self { lengths, entries }
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<(usize, Action)> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        let head = head(name);
        let few = self.entries.len() <= FEW;
        let first = if few { 0 } else { self.entries.partition_point(|entry| entry.head < head) };
        let candidates = self.entries.iter().skip(first).take_while(|entry| few || entry.head == head);
        let equal = |entry: &&Name| entry.head == head && (name.len() <= 8 || *entry.text == *name);
        candidates.into_iter().find(equal).map(|entry| (entry.number, entry.action))
    }
}

#[inline]
const fn length_bit(length: usize) -> u64 {
    1 << (length & 63)
}

#[inline]
fn head(name: &[u8]) -> (usize, u64) {
    let first = if let Some(eight) = name.first_chunk() {
        u64::from_le_bytes(*eight)
    } else {
        name.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte))
    };
    (name.len(), first)
}

/// A field while the tree is built.
#[derive(Default)]
struct Branch {
    names: BTreeMap<String, Branch>,
    each: Option<Box<Branch>>,
    selected: bool,
    dropped: Option<Place>,
    mask: Option<(u8, Place)>,
}

impl Branch {
    fn at(&mut self, segments: &[Segment]) -> &mut Self {
        segments.iter().fold(self, |branch, segment| match segment {
            Segment::Key(name) => branch.names.entry(name.clone()).or_default(),
            Segment::Each => branch.each.get_or_insert_default(),
        })
    }

    /// The strictest mask counts.
    fn mask(&mut self, keep_last: u8, place: Place) {
        if self.mask.is_none_or(|(other, _)| keep_last < other) {
            self.mask = Some((keep_last, place));
        }
    }

    /// The first place in the job that treats something inside of this field.
    fn first_place(&self) -> Option<Place> {
        let inside = self.names.values().chain(self.each.as_deref());
        inside
            .filter_map(|b| {
                [b.dropped, b.mask.map(|(_, place)| place), b.first_place()].into_iter().flatten().min()
            })
            .min()
    }
}

/// Counts from 1; a job has few steps and few fields.
fn count(index: usize) -> u16 {
    u16::try_from(index.saturating_add(1)).unwrap_or(u16::MAX)
}
