//! One JSON record through the plan: validated to its last byte, copied in spans, in one pass.
//!
//! Nothing recurses on the machine's stack: the way down to treated fields is a list of frames.

use adyton_shared::job::Place;
use zeroize::{Zeroize as _, Zeroizing};

use adyton_shared::limits::MAX_RECORD_DEPTH;

use super::after::After;
use super::chain::{DIGEST_TEXT_BYTES, Kind};
use super::error::Flaw;
use super::mask::{escape_json, mask, stars};
use super::plan::{Action, Container, Name, NewName, Node, Plan, Scalar};
use super::reads::{Capture, Escapes, Shape};
use super::scan::{Text, after, byte, space, string, unescape, word};
use super::whole::Copier;

/// How many times as long as the longest record its result may be: a name of one character can become one of hundreds.
const MAX_GROWTH: usize = 8;
/// A result of so many bytes is never too long.
const SHORT_RESULT_BYTES: usize = 64 * 1024;

/// Applies a plan to records and reuses what it needs between them.
pub(super) struct Treatment {
    plan: Plan,
    frames: Vec<Frame>,
    /// For each name of the plan, the number of the object in which it was met last.
    met: Vec<u64>,
    /// Objects met so far in which names matter.
    objects: u64,
    /// Unescaped text of the data.
    scratch: Zeroizing<Vec<u8>>,
    /// A treated value.
    treated: Zeroizing<Vec<u8>>,
    /// Where the values are that filters and an aggregate read.
    found: Vec<Option<Capture>>,
    /// The first step that could not treat a value, where that is not known to matter yet.
    untreated: Option<Place>,
    after: Option<After>,
    /// The longest result of one record, in bytes.
    most: usize,
    /// The end of the result that has not been written: most often all of it, for a record that need not leave.
    pending: (usize, usize),
    /// Records that have left.
    pub(super) left: u64,
}

/// A container on the way to treated fields.
#[derive(Clone, Copy)]
struct Frame {
    node: usize,
    object: Option<u64>,
    /// Whether a part has been read.
    begun: bool,
    /// Whether a part has been written.
    written: bool,
    /// Only looked at: nothing of it is written.
    silent: bool,
}

/// Where the parts are that stand before a value. Before an element of an array all but the comma are empty.
#[derive(Clone, Copy)]
struct Lead<'a> {
    renamed: Option<&'a NewName>,
    comma: usize,
    name: usize,
    name_end: usize,
    colon: usize,
    colon_end: usize,
}

impl Treatment {
    /// `limit` is the longest record, in bytes.
    pub(super) fn new(plan: Plan, after: Option<After>, limit: usize) -> Self {
        let (met, found) = (vec![0; plan.names()], vec![None; plan.slots]);
        Self {
            plan,
            frames: Vec::new(),
            met,
            objects: 0,
            scratch: Zeroizing::default(),
            treated: Zeroizing::default(),
            found,
            untreated: None,
            after,
            most: limit.saturating_mul(MAX_GROWTH).max(SHORT_RESULT_BYTES),
            pending: (0, 0),
            left: 0,
        }
    }

    /// Treats the object that starts at the first byte and gives the position behind the object; [`Self::leaves`]
    /// completes the result.
    ///
    /// After a refusal `out` may hold a part of the result; the caller takes it back.
    #[inline]
    pub(super) fn object(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        self.frames.clear();
        self.found.fill(None);
        self.untreated = None;
        let defer = self.after.is_some();
        let Self { plan, frames, met, objects, scratch, treated, found, untreated, .. } = self;
        let to = Copier::new(bytes, out, self.most);
        let mut walk =
            Walk { plan, frames, met, objects, scratch, treated, found, untreated, defer, bytes, to };
        let end = walk.run()?;
        self.pending = walk.to.pending();
        Ok(end)
    }

    /// Whether the object that was just treated leaves: to be asked once for each record.
    ///
    /// If so, its result is in `out` as a whole, for which [`Self::object`] has left room; if not, the caller takes
    /// back what is there.
    #[inline]
    pub(super) fn leaves(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, Flaw> {
        let leaves = match &mut self.after {
            None => true,
            Some(after) => after.record(bytes, &self.found, self.untreated)?,
        };
        if leaves {
            let (start, end) = self.pending;
            out.extend_from_slice(bytes.get(start..end).unwrap_or_default());
            self.left = self.left.saturating_add(1);
        }
        Ok(leaves)
    }

    /// Whether nothing of single records leaves.
    pub(super) const fn is_silent(&self) -> bool {
        self.plan.silent
    }

    pub(super) const fn after(&mut self) -> Option<&mut After> {
        self.after.as_mut()
    }
}

/// Makes sure of room for so many bytes: a vector that grows by itself leaves its old memory unwiped.
#[inline]
pub(super) fn room(out: &mut Vec<u8>, more: usize) {
    if out.capacity().saturating_sub(out.len()) < more {
        let needed = out.len().saturating_add(more).max(out.capacity().saturating_mul(2));
        let mut larger = Vec::with_capacity(needed);
        larger.extend_from_slice(out);
        std::mem::swap(out, &mut larger);
        larger.zeroize();
    }
}

struct Walk<'a> {
    plan: &'a Plan,
    /// The containers around the innermost.
    frames: &'a mut Vec<Frame>,
    met: &'a mut [u64],
    objects: &'a mut u64,
    scratch: &'a mut Zeroizing<Vec<u8>>,
    treated: &'a mut Zeroizing<Vec<u8>>,
    found: &'a mut [Option<Capture>],
    untreated: &'a mut Option<Place>,
    /// Whether a value that cannot be treated is only noted.
    defer: bool,
    bytes: &'a [u8],
    to: Copier<'a>,
}

impl<'a> Walk<'a> {
    fn run(&mut self) -> Result<usize, Flaw> {
        if byte(self.bytes, 0)? != b'{' {
            return Err(Flaw::Malformed);
        }
        let mut top = self.enter(self.plan.root(), true)?;
        top.silent = self.plan.silent;
        if !top.silent {
            self.to.copy(0, 1);
        }
        let mut at = 1;
        loop {
            at = space(self.bytes, at);
            let next = byte(self.bytes, at)?;
            if next == if top.object.is_some() { b'}' } else { b']' } {
                if !top.silent {
                    self.to.copy(at, after(at));
                }
                at = after(at);
                let Some(outer) = self.frames.pop() else { return Ok(at) };
                top = outer;
                continue;
            }
            let comma = at;
            if std::mem::replace(&mut top.begun, true) {
                if next != b',' {
                    return Err(Flaw::Malformed);
                }
                at = space(self.bytes, after(at));
            }
            let plan = self.plan;
            let node = plan.node(top.node).ok_or(Flaw::Malformed)?;
            let (lead, action) = if let Some(object) = top.object {
                let (lead, action) = self.member(comma, at, node, object)?;
                at = space(self.bytes, lead.colon_end);
                (lead, action)
            } else {
                (Lead { renamed: None, comma, name: at, name_end: at, colon: at, colon_end: at }, node.each)
            };
            at = self.value(at, action, &mut top, &lead)?;
        }
    }

    /// Reads a member's name and colon and looks up what happens to its value.
    #[inline]
    fn member(
        &mut self,
        comma: usize,
        at: usize,
        node: &'a Node,
        object: u64,
    ) -> Result<(Lead<'a>, Action), Flaw> {
        if byte(self.bytes, at)? != b'"' {
            return Err(Flaw::Malformed);
        }
        let text = string(self.bytes, after(at))?;
        let colon = space(self.bytes, text.end);
        if byte(self.bytes, colon)? != b':' {
            return Err(Flaw::Malformed);
        }
        let mut lead =
            Lead { renamed: None, comma, name: at, name_end: text.end, colon, colon_end: after(colon) };
        let found = if text.escaped {
            unescape(inside(self.bytes, after(at), text)?, self.scratch)?;
            node.find(self.scratch, 0, self.scratch.len())
        } else {
            node.find(self.bytes, after(at), text.end.wrapping_sub(1))
        };
        let Some(Name { number, action, new, .. }) = found else { return Ok((lead, node.rest)) };
        // Of two members of one name a reader may take either; both must not be let through.
        let met = self.met.get_mut(*number).ok_or(Flaw::Malformed)?;
        if std::mem::replace(met, object) == object {
            return Err(Flaw::Malformed);
        }
        lead.renamed = new.as_ref();
        Ok((lead, *action))
    }

    /// Reads a value and does with it what the action says.
    #[inline]
    fn value(&mut self, at: usize, action: Action, top: &mut Frame, lead: &Lead<'_>) -> Result<usize, Flaw> {
        let depth = after(self.frames.len());
        let number = match action {
            Action::Drop => return self.to.whole::<false>(at, depth),
            Action::Keep => {
                self.lead(top, lead)?;
                return self.to.whole::<true>(at, depth);
            }
            Action::Node(number) => number,
        };
        let node = self.plan.node(number).ok_or(Flaw::Malformed)?;
        let first = byte(self.bytes, at)?;
        let mut container = match first {
            b'{' => node.object,
            b'[' => node.array,
            _ => return self.scalar(at, first, node, top, lead),
        };
        if let Some(slot) = node.slot {
            self.note(slot, Shape::Container, (at, at), false);
        }
        if let Container::Refuse(place) = container {
            self.refuse(place)?;
            container = if first == b'{' && node.look { Container::Look } else { Container::Drop };
        }
        match container {
            Container::Drop | Container::Refuse(_) => self.to.whole::<false>(at, depth),
            Container::Keep => {
                self.lead(top, lead)?;
                self.to.whole::<true>(at, depth)
            }
            Container::Enter => {
                self.lead(top, lead)?;
                let inner = self.enter(number, first == b'{')?;
                self.frames.push(std::mem::replace(top, inner));
                self.to.copy(at, after(at));
                Ok(after(at))
            }
            Container::Look => {
                let mut inner = self.enter(number, true)?;
                inner.silent = true;
                self.frames.push(std::mem::replace(top, inner));
                Ok(after(at))
            }
        }
    }

    /// A value cannot be treated: a refusal, or a note for when the record's filters have decided.
    fn refuse(&mut self, place: Place) -> Result<(), Flaw> {
        if !self.defer {
            return Err(Flaw::Type(place));
        }
        *self.untreated = Some(self.untreated.map_or(place, |first| first.min(place)));
        Ok(())
    }

    /// Notes where a value is that a filter or an aggregate reads.
    #[inline]
    fn note(&mut self, slot: usize, shape: Shape, (start, end): (usize, usize), json: bool) {
        let escapes = if json { Escapes::Json } else { Escapes::None };
        if let Some(found) = self.found.get_mut(slot) {
            *found = Some(Capture { shape, start, end, escapes });
        }
    }

    #[inline]
    fn scalar(
        &mut self,
        at: usize,
        first: u8,
        node: &Node,
        top: &mut Frame,
        lead: &Lead<'_>,
    ) -> Result<usize, Flaw> {
        let text = if first == b'"' { Some(string(self.bytes, after(at))?) } else { None };
        let end = if let Some(text) = text { text.end } else { word(self.bytes, at, first)? };
        if let Some(slot) = node.slot {
            match text {
                Some(Text { end, escaped }) => {
                    let inside = (after(at), end.wrapping_sub(1));
                    self.note(slot, Shape::Scalar(Kind::Text), inside, escaped);
                }
                None if first == b'n' => self.note(slot, Shape::Null, (at, end), false),
                None => self.note(slot, Shape::Scalar(Kind::of(first)), (at, end), false),
            }
        }
        match node.scalar {
            Scalar::Drop => {}
            Scalar::Keep => {
                self.lead(top, lead)?;
                self.to.copy(at, end);
            }
            Scalar::OnlyNull(_) | Scalar::Mask { .. } | Scalar::Chain { .. } if first == b'n' => {
                self.lead(top, lead)?;
                self.to.copy(at, end);
            }
            Scalar::Mask { place, .. } if first == b't' || first == b'f' => self.refuse(place)?,
            Scalar::OnlyNull(place) => self.refuse(place)?,
            Scalar::Mask { keep_last, .. } => {
                self.lead(top, lead)?;
                self.to.flush();
                self.masked(at, end, text, keep_last)?;
            }
            Scalar::Chain { chain, place } => {
                if self.plan.chain(chain).is_some_and(|chain| chain.takes(Kind::of(first))) {
                    self.lead(top, lead)?;
                    self.to.flush();
                    self.treated(at, end, text, Kind::of(first), chain)?;
                } else {
                    self.refuse(place)?;
                }
            }
        }
        Ok(end)
    }

    /// Writes a text or number as a masked string.
    #[inline]
    fn masked(&mut self, at: usize, end: usize, text: Option<Text>, keep_last: usize) -> Result<(), Flaw> {
        let raw = match text {
            Some(text) => inside(self.bytes, after(at), text)?,
            None => self.bytes.get(at..end).ok_or(Flaw::Malformed)?,
        };
        self.to.grow(spelled(raw.len()))?;
        let out = &mut *self.to.out;
        out.push(b'"');
        if text.is_some_and(|text| text.escaped) {
            unescape(raw, self.scratch)?;
            let (count, tail) = mask(self.scratch, keep_last);
            stars(count, out);
            escape_json(tail, out);
        } else {
            let (count, tail) = mask(raw, keep_last);
            stars(count, out);
            out.extend_from_slice(tail);
        }
        out.push(b'"');
        Ok(())
    }

    /// Writes a value as what its treatments make of it.
    fn treated(
        &mut self,
        at: usize,
        end: usize,
        text: Option<Text>,
        kind: Kind,
        chain: usize,
    ) -> Result<(), Flaw> {
        let chain = self.plan.chain(chain).ok_or(Flaw::Malformed)?;
        let raw = match text {
            Some(text) => inside(self.bytes, after(at), text)?,
            None => self.bytes.get(at..end).ok_or(Flaw::Malformed)?,
        };
        let raw = if text.is_some_and(|text| text.escaped) {
            unescape(raw, self.scratch)?;
            self.scratch.as_slice()
        } else {
            raw
        };
        // A token or hash; anything else makes room again.
        self.to.grow(DIGEST_TEXT_BYTES.saturating_add(2))?;
        self.to.out.push(b'"');
        if !chain.append(raw, kind, self.to.out) {
            chain.apply(raw, kind, self.treated);
            self.to.grow(spelled(self.treated.len()))?;
            escape_json(self.treated, self.to.out);
        }
        self.to.out.push(b'"');
        Ok(())
    }

    /// Goes into an object or array in which parts are treated.
    #[inline]
    fn enter(&mut self, node: usize, object: bool) -> Result<Frame, Flaw> {
        if self.frames.len() >= MAX_RECORD_DEPTH.saturating_sub(1) {
            return Err(Flaw::TooDeep);
        }
        *self.objects = self.objects.wrapping_add(1);
        let object = object.then_some(*self.objects);
        Ok(Frame { node, object, begun: false, written: false, silent: false })
    }

    /// Writes what stands before a value: the comma if there is a part before it, its name and colon.
    #[inline]
    fn lead(&mut self, top: &mut Frame, lead: &Lead<'_>) -> Result<(), Flaw> {
        if let Some(new) = lead.renamed {
            self.to.grow(new.json.len())?;
            if std::mem::replace(&mut top.written, true) {
                self.to.copy(lead.comma, after(lead.comma));
            }
            self.to.flush();
            self.to.out.extend_from_slice(&new.json);
            self.to.copy(lead.colon, lead.colon_end);
            return Ok(());
        }
        let tight =
            self.to.touches(lead.comma) && after(lead.comma) == lead.name && lead.name_end == lead.colon;
        if std::mem::replace(&mut top.written, true) {
            if tight {
                self.to.copy(lead.comma, lead.colon_end);
                return Ok(());
            }
            self.to.copy(lead.comma, after(lead.comma));
        }
        self.to.copy(lead.name, lead.name_end);
        self.to.copy(lead.colon, lead.colon_end);
        Ok(())
    }
}

/// The longest spelling of a text of so many bytes: each a control character.
const fn spelled(text: usize) -> usize {
    text.saturating_mul(6).saturating_add(2)
}

/// The inside of a string that starts behind a quote.
#[inline]
fn inside(bytes: &[u8], start: usize, text: Text) -> Result<&[u8], Flaw> {
    bytes.get(start..text.end.wrapping_sub(1)).ok_or(Flaw::Malformed)
}
