//! The steps of a job as one tree of field names, made once and applied in a single pass.
//!
//! A value leaves if the last `select` covers it (every earlier one covers that) and no `drop` does.
//! A node says what happens to an object, an array and a scalar in its place. Where a step reaches
//! into a value that would leave whole, a value of another shape is refused: the step cannot be
//! done, so nothing leaves.

use std::collections::BTreeMap;

use adyton_shared::job::{Fields, Leaving, Outcome, Place, Segment, Treatment};

use super::chain::Chain;
use super::keys::{NoKey, StepKeys};
use super::mask::escape_json;
use super::reads::slots;

/// What a job does to each record.
pub(super) struct Plan {
    nodes: Vec<Node>,
    names: usize,
    chains: Vec<Chain>,
    /// Nothing of single records leaves: they are only read.
    pub(super) silent: bool,
    /// How many values filters and an aggregate read.
    pub(super) slots: usize,
    /// The path of every field that a step names, for formats that can tell whether it exists.
    pub(super) fields: Vec<(Vec<Segment>, Place)>,
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
    /// A filter or an aggregate reads the value: where it is noted.
    pub(super) slot: Option<usize>,
    /// One of them reads something inside.
    pub(super) look: bool,
}

/// What happens to an object or array.
#[derive(Clone, Copy)]
pub(super) enum Container {
    Enter,
    /// Entered in order to read, not to write.
    Look,
    Keep,
    Drop,
    Refuse(Place),
}

/// What happens to text, numbers and booleans.
#[derive(Clone, Copy)]
pub(super) enum Scalar {
    Keep,
    Drop,
    /// Null cannot hide anything that the step is about and stays; all else is refused.
    OnlyNull(Place),
    /// One mask, which most treated fields have.
    Mask {
        keep_last: usize,
        place: Place,
    },
    /// The treatments of this number.
    Chain {
        chain: usize,
        place: Place,
    },
}

impl Plan {
    /// Compiles what a job on records comes down to.
    pub(super) fn new(outcome: &Outcome, keys: &StepKeys) -> Result<Self, NoKey> {
        let Outcome { fields, named, leaving, .. } = outcome;
        let path = |number| fields.origin(number).segments().to_vec();
        let paths = named.iter().map(|(number, place)| (path(*number), *place)).collect();
        let slots = slots(outcome);
        let silent = matches!(leaving, Leaving::Aggregate(_));
        let mut plan = Self {
            nodes: Vec::new(),
            names: 0,
            chains: Vec::new(),
            silent,
            slots: slots.len(),
            fields: paths,
        };
        // A record is an object whatever leaves of it, so its node is there even if nothing does.
        let open = *leaving == Leaving::Open;
        let source = Source { fields, keys, slots: &slots };
        let (members, _) = plan.inside(&source, 0, open, silent)?;
        let names = plan.number(members);
        plan.push(Node {
            names,
            each: Action::Drop,
            rest: if open { Action::Keep } else { Action::Drop },
            object: Container::Enter,
            array: Container::Drop,
            scalar: Scalar::Drop,
            slot: None,
            look: false,
        });
        Ok(plan)
    }

    /// The number of the node for a whole record.
    pub(super) fn root(&self) -> usize {
        self.nodes.len().saturating_sub(1)
    }

    pub(super) fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    pub(super) fn chain(&self, number: usize) -> Option<&Chain> {
        self.chains.get(number)
    }

    /// How many names there are in all nodes; each has a number below this.
    pub(super) const fn names(&self) -> usize {
        self.names
    }

    /// What happens to everything named inside of a field: members by name, and elements.
    fn inside(
        &mut self,
        source: &Source<'_>,
        number: usize,
        kept: bool,
        lost: bool,
    ) -> Result<(Vec<Member>, Option<Grown>), NoKey> {
        let (mut members, mut each) = (Vec::new(), None);
        for inner in &source.fields.node(number).inside {
            let grown = self.grow(source, *inner, kept, lost)?;
            let node = source.fields.node(*inner);
            match (&node.origin, &node.name) {
                (Segment::Key(name), Segment::Key(new)) => {
                    members.push(Member { name: name.clone(), grown, new: new.clone() });
                }
                _ => each = Some(grown),
            }
        }
        Ok((members, each))
    }

    /// `kept`: what it is in leaves whole. `lost`: what it is in does not leave.
    ///
    /// Depth is bounded by the length of a path, so this may recurse.
    fn grow(&mut self, source: &Source<'_>, number: usize, kept: bool, lost: bool) -> Result<Grown, NoKey> {
        let node = source.fields.node(number);
        let lost = lost || node.dropped.is_some();
        let kept = !lost && (kept || source.fields.is_selected(number));
        let (members, each) = self.inside(source, number, kept, lost)?;
        let slot = source.slots.binary_search(&number).ok();
        let look = members.iter().any(|member| member.grown.looks);
        let some_name_leaves = members.iter().any(|member| kept || member.grown.leaves);
        let some_element_leaves = each.is_some_and(|each| kept || each.leaves);
        let leaves = kept || some_name_leaves || some_element_leaves;
        let looks = look || slot.is_some();
        if !leaves && !looks {
            return Ok(Grown { action: Action::Drop, leaves, looks });
        }
        let treated = node.changes.first().map(|change| change.place).filter(|_| leaves);
        let demand = treated.or_else(|| first_place(source.fields, number).filter(|_| kept));
        if kept && demand.is_none() && !looks {
            return Ok(Grown { action: Action::Keep, leaves, looks });
        }
        let container = |enter: bool, look: bool| match demand {
            _ if enter && treated.is_none() => Container::Enter,
            Some(place) => Container::Refuse(place),
            None if kept => Container::Keep,
            None if look => Container::Look,
            None => Container::Drop,
        };
        let (object, array) = (container(some_name_leaves, look), container(some_element_leaves, false));
        let scalar = match (treated, demand) {
            _ if !kept => Scalar::Drop,
            (Some(place), _) => self.treatment(source, number, place)?,
            (None, Some(place)) => Scalar::OnlyNull(place),
            (None, None) => Scalar::Keep,
        };
        let whole = if kept { Action::Keep } else { Action::Drop };
        let each = each.map_or(whole, |each| each.action);
        let names = self.number(members);
        let node = Node { names, each, rest: whole, object, array, scalar, slot, look };
        Ok(Grown { action: self.push(node), leaves, looks })
    }

    fn treatment(&mut self, source: &Source<'_>, number: usize, place: Place) -> Result<Scalar, NoKey> {
        let changes = &source.fields.node(number).changes;
        if let [only] = changes.as_slice()
            && let Treatment::Mask { keep_last } = only.treatment
        {
            return Ok(Scalar::Mask { keep_last: keep_last.into(), place });
        }
        let treatments = changes.iter().map(|change| &change.treatment);
        self.chains.push(Chain::new(&source.fields.origin(number), treatments, source.keys)?);
        Ok(Scalar::Chain { chain: self.chains.len().saturating_sub(1), place })
    }

    fn push(&mut self, node: Node) -> Action {
        self.nodes.push(node);
        Action::Node(self.root())
    }

    fn number(&mut self, members: Vec<Member>) -> Names {
        let first = self.names;
        self.names = self.names.saturating_add(members.len());
        Names::new(members, first)
    }
}

/// What a plan is made from.
struct Source<'a> {
    fields: &'a Fields,
    keys: &'a StepKeys,
    /// The nodes that filters and the aggregate read, in order.
    slots: &'a [usize],
}

/// What happens to a field, and what for.
#[derive(Clone, Copy)]
struct Grown {
    action: Action,
    /// Something of it may leave.
    leaves: bool,
    /// Something of it is read by a filter or an aggregate.
    looks: bool,
}

/// A member that a step names.
struct Member {
    name: String,
    grown: Grown,
    /// What it is called in the result.
    new: String,
}

impl Node {
    /// The member whose unescaped name is at `start..end`, if a step names it.
    #[inline]
    pub(super) fn find(&self, bytes: &[u8], start: usize, end: usize) -> Option<&Name> {
        self.names.find(bytes, start, end)
    }
}

/// The names of an object's members that matter.
struct Names {
    entries: Vec<Name>,
    /// Where an entry is, by [`Head::slot`]; at least half of the slots are [`FREE`], so a search ends soon.
    slots: Vec<usize>,
    /// A bit for each length that a name has, so that most others are passed by at once.
    lengths: u64,
}

const FREE: usize = usize::MAX;

/// A name that a step names.
pub(super) struct Name {
    head: Head,
    text: Box<[u8]>,
    /// Its own number.
    pub(super) own: usize,
    /// Members of one object that would leave under one name share this number.
    pub(super) number: usize,
    pub(super) action: Action,
    /// What it is renamed to.
    pub(super) new: Option<NewName>,
}

/// What a field is renamed to.
pub(super) struct NewName {
    pub(super) text: Box<[u8]>,
    /// As a JSON string.
    pub(super) json: Box<[u8]>,
}

/// Length and first eight bytes: for names of up to eight bytes, all there is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    first: u64,
}

impl Names {
    fn new(members: Vec<Member>, first: usize) -> Self {
        let count = members.len().saturating_mul(2).next_power_of_two();
        let mut slots = vec![FREE; count];
        let mut lengths = 0;
        let mut entries = Vec::new();
        let mut leaving = BTreeMap::new();
        for (Member { name, grown, new }, own) in members.into_iter().zip(first..) {
            let number = if grown.leaves { *leaving.entry(new.clone()).or_insert(own) } else { own };
            let action = grown.action;
            let new = (new != name).then(|| NewName::new(&new));
            let text = name.into_bytes().into_boxed_slice();
            let head = Head::of(&text, 0, text.len());
            lengths |= bit(head.length);
            let mut slot = head.slot();
            while let Some(taken) = slots.get_mut(slot & count.wrapping_sub(1)) {
                if *taken == FREE {
                    *taken = entries.len();
                    break;
                }
                slot = slot.wrapping_add(1);
            }
            entries.push(Name { head, text, own, number, action, new });
        }
        Self { entries, slots, lengths }
    }

    #[inline]
    fn find(&self, bytes: &[u8], start: usize, end: usize) -> Option<&Name> {
        if self.lengths & bit(end.wrapping_sub(start)) == 0 {
            return None;
        }
        self.look_up(bytes, start, end)
    }

    fn look_up(&self, bytes: &[u8], start: usize, end: usize) -> Option<&Name> {
        let head = Head::of(bytes, start, end);
        let mut slot = head.slot();
        loop {
            let index = self.slots.get(slot & self.slots.len().wrapping_sub(1))?;
            let entry = self.entries.get(*index)?;
            if entry.head == head && (head.length <= 8 || bytes.get(start..end) == Some(&*entry.text)) {
                return Some(entry);
            }
            slot = slot.wrapping_add(1);
        }
    }
}

/// Stands for a length, and for those that differ from it by a multiple of 64.
#[inline]
const fn bit(length: usize) -> u64 {
    1 << (length & 63)
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

impl NewName {
    fn new(name: &str) -> Self {
        let mut json = vec![b'"'];
        escape_json(name.as_bytes(), &mut json);
        json.push(b'"');
        Self { text: name.as_bytes().into(), json: json.into_boxed_slice() }
    }
}

/// The first place in the job that treats something inside of this field.
fn first_place(fields: &Fields, number: usize) -> Option<Place> {
    let inside = fields.node(number).inside.iter();
    let places = inside.flat_map(|inner| {
        let node = fields.node(*inner);
        let treated = node.changes.first().map(|change| change.place);
        [node.dropped, node.renamed, treated, first_place(fields, *inner)]
    });
    places.flatten().min()
}
