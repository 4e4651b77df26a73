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
    /// The number and action of the member whose unescaped name is at `start..end`, if a step names it.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8], start: usize, end: usize) -> Option<(usize, Action)> {
        self.names.find(bytes, start, end)
    }
}

/// The names of an object's members that matter.
struct Names {
    entries: Vec<Name>,
    /// Where an entry is, by [`Head::slot`]; at least half of the slots are [`FREE`], so a search ends soon.
    slots: Vec<usize>,
}

const FREE: usize = usize::MAX;

struct Name {
    head: Head,
    text: Box<[u8]>,
    number: usize,
    action: Action,
}

/// Length and first eight bytes: for names of up to eight bytes, all there is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    first: u64,
}

impl Names {
    fn new(names: Vec<(String, Action)>, first: usize) -> Self {
        let count = names.len().saturating_mul(2).next_power_of_two();
        let mut slots = vec![FREE; count];
        let mut entries = Vec::new();
        for ((name, action), number) in names.into_iter().zip(first..) {
            let text = name.into_bytes().into_boxed_slice();
            let head = Head::of(&text, 0, text.len());
            let mut slot = head.slot();
            while let Some(taken) = slots.get_mut(slot & count.wrapping_sub(1)) {
                if *taken == FREE {
                    *taken = entries.len();
                    break;
                }
                slot = slot.wrapping_add(1);
            }
            entries.push(Name { head, text, number, action });
        }
        Self { entries, slots }
    }

    #[inline]
    fn find(&self, bytes: &[u8], start: usize, end: usize) -> Option<(usize, Action)> {
        let head = Head::of(bytes, start, end);
        let mut slot = head.slot();
        loop {
            let index = self.slots.get(slot & self.slots.len().wrapping_sub(1))?;
            let entry = self.entries.get(*index)?;
            if entry.head == head && (head.length <= 8 || bytes.get(start..end) == Some(&*entry.text)) {
                return Some((entry.number, entry.action));
            }
            slot = slot.wrapping_add(1);
        }
    }
}

impl Head {
    #[inline]
    fn of(bytes: &[u8], start: usize, end: usize) -> Self {
        let length = end.wrapping_sub(start);
        let first = match bytes.get(start..).and_then(<[u8]>::first_chunk) {
            Some(eight) => u64::from_le_bytes(*eight),
            None => bytes.iter().skip(start).rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
        };
        // What follows the name is not of the name.
        let bits = u32::try_from(length).unwrap_or(8).min(8).wrapping_mul(8);
        let of_the_name = 1_u64.checked_shl(bits).map_or(u64::MAX, |above| above.wrapping_sub(1));
        Self { length, first: first & of_the_name }
    }

    /// Any mixture does: the names are the requester's, nobody gains by collisions.
    #[inline]
    fn slot(self) -> usize {
        let mixed = (self.first ^ self.length as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 48) as usize
    }
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
