//! One JSON record through the plan: validated to its last byte, copied in spans, in one pass.
//!
//! Nothing recurses on the machine's stack: the way down to treated fields is a list of frames, and
//! the inside of a value that is kept or dropped whole is one bit for each level.

use zeroize::Zeroizing;

use adyton_shared::limits::MAX_RECORD_DEPTH;

use super::error::Flaw;
use super::mask::{escape_json, mask, stars};
use super::plan::{Action, Container, Node, Plan, Scalar};
use super::scan::{Text, after, byte, space, string, unescape, word};

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
}

/// Where a member's name and colon are.
#[derive(Clone, Copy)]
struct Head {
    name: (usize, usize),
    colon: usize,
}

impl Treatment {
    pub(super) fn new(plan: Plan) -> Self {
        let met = vec![0; plan.names()];
        Self { plan, frames: Vec::new(), met, objects: 0, scratch: Zeroizing::default() }
    }

    /// Treats the object that starts at the first byte, appends the result, and gives the position behind the object.
    ///
    /// After a refusal `out` may hold a part of the result; the caller takes it back.
    #[inline]
    pub(super) fn object(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Flaw> {
        self.frames.clear();
        let Self { plan, frames, met, objects, scratch } = self;
        let mut walk = Walk { plan, frames, met, objects, scratch, bytes, out, span: (0, 0) };
        walk.run()
    }
}

struct Walk<'a> {
    plan: &'a Plan,
    frames: &'a mut Vec<Frame>,
    met: &'a mut [u64],
    objects: &'a mut u64,
    scratch: &'a mut Zeroizing<Vec<u8>>,
    bytes: &'a [u8],
    out: &'a mut Vec<u8>,
    /// What is to be copied next: parts that touch are copied as one.
    span: (usize, usize),
}

impl Walk<'_> {
    fn run(&mut self) -> Result<usize, Flaw> {
        if byte(self.bytes, 0)? != b'{' {
            return Err(Flaw::Malformed);
        }
        let mut top = self.enter(self.plan.root(), true)?;
        let mut at = self.copy(0, 1);
        loop {
            at = space(self.bytes, at);
            let next = byte(self.bytes, at)?;
            if next == if top.object.is_some() { b'}' } else { b']' } {
                at = self.copy(at, after(at));
                let Some(outer) = self.frames.pop() else {
                    self.flush();
                    return Ok(at);
                };
                top = outer;
                continue;
            }
            let comma = at;
            if top.begun {
                if next != b',' {
                    return Err(Flaw::Malformed);
                }
                at = space(self.bytes, after(at));
            }
            top.begun = true;
            let node = self.plan.node(top.node).ok_or(Flaw::Malformed)?;
            let (head, action) = if let Some(object) = top.object {
                let (head, action) = self.member(at, node, object)?;
                at = space(self.bytes, after(head.colon));
                (Some(head), action)
            } else {
                (None, node.each)
            };
            at = self.value(at, action, &mut top, comma, head)?;
        }
    }

    /// Reads a member's name and colon and looks up what happens to its value.
    #[inline]
    fn member(&mut self, at: usize, node: &Node, object: u64) -> Result<(Head, Action), Flaw> {
        if byte(self.bytes, at)? != b'"' {
            return Err(Flaw::Malformed);
        }
        let text = string(self.bytes, after(at))?;
        let colon = space(self.bytes, text.end);
        if byte(self.bytes, colon)? != b':' {
            return Err(Flaw::Malformed);
        }
        let name = inside(self.bytes, after(at), text)?;
        let found = if text.escaped {
            self.scratch.clear();
            unescape(name, self.scratch)?;
            node.find(self.scratch)
        } else {
            node.find(name)
        };
        let Some((number, action)) = found else {
            return Ok((Head { name: (at, text.end), colon }, node.rest));
        };
        // Of two members of one name a reader may take either; both must not be let through.
        let met = self.met.get_mut(number).ok_or(Flaw::Malformed)?;
        if std::mem::replace(met, object) == object {
            return Err(Flaw::Malformed);
        }
        Ok((Head { name: (at, text.end), colon }, action))
    }

    /// Reads a value and does with it what the action says.
    #[inline]
    fn value(
        &mut self,
        at: usize,
        action: Action,
        top: &mut Frame,
        comma: usize,
        head: Option<Head>,
    ) -> Result<usize, Flaw> {
        let number = match action {
            Action::Drop => return self.whole::<false>(at),
            Action::Keep => {
                self.lead(top, comma, head);
                return self.whole::<true>(at);
            }
            Action::Node(number) => number,
        };
        let node = self.plan.node(number).ok_or(Flaw::Malformed)?;
        let first = byte(self.bytes, at)?;
        let container = match first {
            b'{' => node.object,
            b'[' => node.array,
            _ => return self.scalar(at, first, node.scalar, top, comma, head),
        };
        match container {
            Container::Drop => self.whole::<false>(at),
            Container::Refuse(place) => Err(Flaw::Type(place)),
            Container::Enter => {
                self.lead(top, comma, head);
                let inner = self.enter(number, first == b'{')?;
                self.frames.push(std::mem::replace(top, inner));
                Ok(self.copy(at, after(at)))
            }
        }
    }

    #[inline]
    fn scalar(
        &mut self,
        at: usize,
        first: u8,
        scalar: Scalar,
        top: &mut Frame,
        comma: usize,
        head: Option<Head>,
    ) -> Result<usize, Flaw> {
        let text = if first == b'"' { Some(string(self.bytes, after(at))?) } else { None };
        let end = if let Some(text) = text { text.end } else { word(self.bytes, at, first)? };
        match scalar {
            Scalar::Drop => {}
            Scalar::OnlyNull(_) | Scalar::Mask { .. } if first == b'n' => {
                self.lead(top, comma, head);
                self.copy(at, end);
            }
            Scalar::Mask { place, .. } if first == b't' || first == b'f' => return Err(Flaw::Type(place)),
            Scalar::OnlyNull(place) => return Err(Flaw::Type(place)),
            Scalar::Mask { keep_last, .. } => {
                self.lead(top, comma, head);
                self.flush();
                self.span = (end, end);
                self.masked(at, end, text, keep_last)?;
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
        self.out.push(b'"');
        if text.is_some_and(|text| text.escaped) {
            self.scratch.clear();
            unescape(raw, self.scratch)?;
            let (count, tail) = mask(self.scratch, keep_last);
            stars(count, self.out);
            escape_json(tail, self.out);
        } else {
            let (count, tail) = mask(raw, keep_last);
            stars(count, self.out);
            self.out.extend_from_slice(tail);
        }
        self.out.push(b'"');
        Ok(())
    }

    /// Reads a value to its end, and copies it without its insignificant white space if it is kept.
    #[inline]
    fn whole<const KEPT: bool>(&mut self, at: usize) -> Result<usize, Flaw> {
        let end = match byte(self.bytes, at)? {
            b'"' => string(self.bytes, after(at))?.end,
            b'{' | b'[' => return self.nested::<KEPT>(at),
            first => word(self.bytes, at, first)?,
        };
        if KEPT {
            self.copy(at, end);
        }
        Ok(end)
    }

    fn nested<const KEPT: bool>(&mut self, mut at: usize) -> Result<usize, Flaw> {
        // One bit for each open container, the innermost lowest: 1 is an object.
        const { assert!(MAX_RECORD_DEPTH <= 128, "the levels are bits of an u128") };
        let mut objects = 0_u128;
        let outside = after(self.frames.len());
        let mut depth = outside;
        loop {
            // A value starts here.
            at = match byte(self.bytes, at)? {
                b'"' => self.token::<KEPT>(at, string(self.bytes, after(at))?.end),
                open @ (b'{' | b'[') => {
                    if depth >= MAX_RECORD_DEPTH {
                        return Err(Flaw::TooDeep);
                    }
                    depth = after(depth);
                    objects = (objects << 1) | u128::from(open == b'{');
                    let inner = self.token::<KEPT>(at, after(at));
                    let close = if open == b'{' { b'}' } else { b']' };
                    if byte(self.bytes, inner)? != close {
                        at = if open == b'{' { self.key::<KEPT>(inner)? } else { inner };
                        continue;
                    }
                    inner
                }
                first => self.token::<KEPT>(at, word(self.bytes, at, first)?),
            };
            // A value has ended; so may have what it is in.
            loop {
                if depth == outside {
                    return Ok(at);
                }
                let object = objects & 1 == 1;
                match (byte(self.bytes, at)?, object) {
                    (b',', _) => {
                        at = self.token::<KEPT>(at, after(at));
                        if object {
                            at = self.key::<KEPT>(at)?;
                        }
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        at = self.token::<KEPT>(at, after(at));
                        objects >>= 1;
                        depth = depth.wrapping_sub(1);
                    }
                    _ => return Err(Flaw::Malformed),
                }
            }
        }
    }

    /// Reads a member's name and colon inside of [`Self::nested`].
    #[inline]
    fn key<const KEPT: bool>(&mut self, at: usize) -> Result<usize, Flaw> {
        if byte(self.bytes, at)? != b'"' {
            return Err(Flaw::Malformed);
        }
        let colon = self.token::<KEPT>(at, string(self.bytes, after(at))?.end);
        if byte(self.bytes, colon)? != b':' {
            return Err(Flaw::Malformed);
        }
        Ok(self.token::<KEPT>(colon, after(colon)))
    }

    /// Copies a token if it is kept, and skips the white space behind it.
    #[inline]
    fn token<const KEPT: bool>(&mut self, start: usize, end: usize) -> usize {
        if KEPT {
            self.copy(start, end);
        }
        space(self.bytes, end)
    }

    /// Goes into an object or array in which parts are treated.
    #[inline]
    fn enter(&mut self, node: usize, object: bool) -> Result<Frame, Flaw> {
        if self.frames.len() >= MAX_RECORD_DEPTH.saturating_sub(1) {
            return Err(Flaw::TooDeep);
        }
        *self.objects = self.objects.wrapping_add(1);
        Ok(Frame { node, object: object.then_some(*self.objects), begun: false, written: false })
    }

    /// Writes what stands before a value: the comma if there is a part before it, its name and colon.
    #[inline]
    fn lead(&mut self, top: &mut Frame, comma: usize, head: Option<Head>) {
        if std::mem::replace(&mut top.written, true) {
            self.copy(comma, after(comma));
        }
        if let Some(head) = head {
            self.copy(head.name.0, head.name.1);
            self.copy(head.colon, after(head.colon));
        }
    }

    /// Copies a part of the input, together with the part before it if they touch.
    #[inline]
    fn copy(&mut self, start: usize, end: usize) -> usize {
        if self.span.1 != start {
            self.flush();
            self.span.0 = start;
        }
        self.span.1 = end;
        end
    }

    #[inline]
    fn flush(&mut self) {
        // Both ends are positions that were read, so there is always something to get.
        self.out.extend_from_slice(self.bytes.get(self.span.0..self.span.1).unwrap_or_default());
    }
}

/// The inside of a string that starts behind a quote.
#[inline]
fn inside(bytes: &[u8], start: usize, text: Text) -> Result<&[u8], Flaw> {
    bytes.get(start..text.end.wrapping_sub(1)).ok_or(Flaw::Malformed)
}
