//! The fields that a job speaks of, as a tree: where each comes from, what it is called, what was done to it.
//!
//! The tree is followed step by step by the names that hold at that step, so that a step on a renamed
//! field finds the same node as the steps before. Each look-up costs the length of its path.

use std::collections::BTreeMap;

use super::outcome::Place;
use super::{FieldPath, Segment};
use crate::id::KeyName;

/// What a step made of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Masked.
    Mask {
        /// How many characters may have stayed readable.
        keep_last: u8,
    },
    /// Replaced by a token.
    Token {
        /// Under this key.
        key: KeyName,
    },
    /// Replaced by a keyed hash.
    Hash {
        /// Under this key.
        key: KeyName,
    },
}

/// A treatment and the place in the job that demands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub treatment: Treatment,
    /// Where the job says so.
    pub place: Place,
}

/// Every field that a job names, and all that lie on the way to one. Node 0 is the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    nodes: Vec<Node>,
    /// The number of the last selection; 0 if there is none, and everything is there.
    selection: usize,
    /// Counts the lists of fields read so far.
    lists: usize,
}

/// One field, or a container on the way to one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    parent: Option<usize>,
    /// What it is called in the input.
    pub origin: Segment,
    /// What it is called now.
    pub name: Segment,
    /// Everything named inside of it.
    pub inside: Vec<usize>,
    /// The same by the names of now; none where something has been renamed away.
    now: BTreeMap<Segment, Option<usize>>,
    selected: usize,
    /// The step that gave it its name of now, if that is not its first.
    pub renamed: Option<Place>,
    /// The step that drops it.
    pub dropped: Option<Place>,
    /// What is done to it, in order.
    pub changes: Vec<Change>,
    /// The last list of fields that names it, and the last that names something inside.
    named: usize,
    named_inside: usize,
}

/// Why a step cannot name a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The same list names it, a part of it, or what it is a part of.
    Overlap,
    /// An earlier step has removed it, or gave it another name.
    Gone,
}

impl Fields {
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::new(None, Segment::Each)], selection: 0, lists: 0 }
    }

    /// The node of this number, which came from this tree.
    #[expect(clippy::indexing_slicing, reason = "numbers are made here, and no node is ever removed")]
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    #[expect(clippy::indexing_slicing, reason = "numbers are made here, and no node is ever removed")]
    pub(super) fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }

    /// Whether a node's value leaves whole, unless something inside of it is named. Ancestors count for themselves.
    pub fn is_selected(&self, number: usize) -> bool {
        self.node(number).selected == self.selection
    }

    /// The path of a field in the input.
    pub fn origin(&self, number: usize) -> FieldPath {
        self.path(number, |node| &node.origin)
    }

    /// The path of a field in the result.
    pub fn name(&self, number: usize) -> FieldPath {
        self.path(number, |node| &node.name)
    }

    fn path(&self, number: usize, part: impl Fn(&Node) -> &Segment) -> FieldPath {
        let mut segments: Vec<_> = self.up(number).map(|node| part(node).clone()).collect();
        // The record itself has no name.
        segments.pop();
        segments.reverse();
        FieldPath::from_segments(segments)
    }

    /// A node and all that it is in.
    fn up(&self, number: usize) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(self.node(number)), |node| node.parent.map(|parent| self.node(parent)))
    }

    /// Whether a step drops the field or something that it is in.
    pub(super) fn is_dropped(&self, number: usize) -> bool {
        self.up(number).any(|node| node.dropped.is_some())
    }

    /// Whether something that the field is in has been made a text.
    pub(super) fn is_inside_of_text(&self, number: usize) -> bool {
        self.up(number).skip(1).any(|node| !node.changes.is_empty())
    }

    /// Starts a list in which no field may be named twice.
    pub(super) fn list(&mut self) {
        self.lists = self.lists.saturating_add(1);
    }

    /// The field that a path names now, for the current list.
    pub(super) fn find(&mut self, path: &FieldPath) -> Result<usize, Unusable> {
        let list = self.lists;
        let (mut number, mut there, mut overlap) = (0, self.is_selected(0), false);
        let mut gone = false;
        for segment in path.segments() {
            self.node_mut(number).named_inside = list;
            let Some(next) = self.enter(number, segment) else { return Err(Unusable::Gone) };
            overlap |= self.node(number).named == list;
            number = next;
            there |= self.is_selected(number);
            gone |= self.node(number).dropped.is_some();
        }
        let node = self.node_mut(number);
        overlap |= node.named == list || node.named_inside == list;
        node.named = list;
        match (overlap, gone || !there) {
            (true, _) => Err(Unusable::Overlap),
            (_, true) => Err(Unusable::Gone),
            _ => Ok(number),
        }
    }

    /// What is called so now inside of a node, if nothing has been renamed away from there.
    fn enter(&mut self, number: usize, segment: &Segment) -> Option<usize> {
        if let Some(known) = self.node(number).now.get(segment) {
            return *known;
        }
        let new = self.nodes.len();
        self.nodes.push(Node::new(Some(number), segment.clone()));
        let node = self.node_mut(number);
        node.inside.push(new);
        node.now.insert(segment.clone(), Some(new));
        Some(new)
    }

    /// From now on these are all that is there.
    pub(super) fn select(&mut self, numbers: &[usize]) {
        self.selection = self.selection.saturating_add(1);
        for number in numbers {
            self.node_mut(*number).selected = self.selection;
        }
    }

    /// Gives a field another name in what it is in. From now on the name means that field alone.
    ///
    /// Refused if the name is known to be taken. Where only the data can tell, its node is made here,
    /// so that the object that has both can be refused.
    pub(super) fn rename(&mut self, number: usize, to: &Segment, place: Place) -> Result<(), Taken> {
        let parent = self.node(number).parent.ok_or(Taken)?;
        if self.enter(parent, to).is_some_and(|other| self.selection > 0 && self.leaves(other)) {
            return Err(Taken);
        }
        let node = self.node_mut(number);
        node.renamed = Some(place);
        let from = std::mem::replace(&mut node.name, to.clone());
        let now = &mut self.node_mut(parent).now;
        now.insert(from, None);
        now.insert(to.clone(), Some(number));
        Ok(())
    }

    /// Whether something of the field is selected by its own name. Depth is bounded by the length of a path.
    fn leaves(&self, number: usize) -> bool {
        let node = self.node(number);
        node.dropped.is_none()
            && (self.is_selected(number) || node.inside.iter().any(|inside| self.leaves(*inside)))
    }
}

/// A new name that another field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken;

impl Node {
    fn new(parent: Option<usize>, origin: Segment) -> Self {
        Self {
            parent,
            name: origin.clone(),
            origin,
            inside: Vec::new(),
            now: BTreeMap::new(),
            // The record is selected until a step selects something else.
            selected: if parent.is_none() { 0 } else { usize::MAX },
            renamed: None,
            dropped: None,
            changes: Vec::new(),
            named: 0,
            named_inside: 0,
        }
    }
}
