//! Conditions of `filter`: a part of the Common Expression Language, read strictly.
//!
//! The crate `cel` turns the text into a tree; what the tree may hold is decided here, and the
//! enclave computes it itself: exactly, without copies of the data, at a cost that the length of the
//! expression bounds. Before the parser sees the text, its length, its nesting and its alphabet have
//! been checked, because the parser recurses. There are no loops, no pattern matching, no
//! concatenation and no division, so an expression costs at most its nodes times the record.

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use cel::parser::Parser;

use super::{FieldPath, Segment};
use crate::decimal::Decimal;
use crate::limits::{MAX_FILTER_BYTES, MAX_FILTER_NESTING, MAX_FILTER_NODES};

/// Stands for the whole record, so that `has(record.x)` can ask for a member of it.
const RECORD: &str = "record";

/// What a record must be to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The tree.
    pub root: Expression,
    /// The fields that it reads, each once; [`Expression::Field`] counts from 0.
    pub fields: Vec<FieldPath>,
    /// How many parts the tree has.
    pub parts: usize,
}

/// A part of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `null`
    Null,
    /// `true`, `false`
    Boolean(bool),
    /// `'text'`
    Text(String),
    /// `12`, `0.5`
    Number(Decimal),
    /// The value of a field.
    Field(usize),
    /// `has(a.b)`
    Has(usize),
    /// `!a`
    Not(Box<Self>),
    /// `a && b`
    And(Box<[Self; 2]>),
    /// `a || b`
    Or(Box<[Self; 2]>),
    /// `a ? b : c`
    If(Box<[Self; 3]>),
    /// `a == b`, `a < b`, …
    Compare(Comparison, Box<[Self; 2]>),
    /// `a in [b, c]`
    In(Box<Self>, Vec<Self>),
    /// `a + b`, …
    Calculate(Calculation, Box<[Self; 2]>),
    /// `-a`
    Negate(Box<Self>),
    /// `a.startsWith(b)`, …
    Search(Search, Box<[Self; 2]>),
    /// `size(a)`: characters of a text.
    Size(Box<Self>),
    /// `double(a)`, `int(a)`: the number that a text spells.
    ToNumber {
        /// Whether it must be whole.
        whole: bool,
        /// The text.
        of: Box<Self>,
    },
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How two numbers are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Calculation {
    Add,
    Subtract,
    Multiply,
}

/// Where a text is looked for in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Search {
    Contains,
    StartsWith,
    EndsWith,
}

/// Why a text is not a condition. It quotes the requester's own text at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConditionError {
    /// Too long.
    #[error("it has {0} bytes; the limit is {MAX_FILTER_BYTES}")]
    TooLong(usize),
    /// Nested too deeply.
    #[error("it is nested deeper than {MAX_FILTER_NESTING} levels")]
    TooDeep,
    /// Too many parts.
    #[error("it has more than {MAX_FILTER_NODES} parts, together with the filters before it")]
    TooManyParts,
    /// A character or a spelling outside of the language.
    #[error("byte {at}: {problem}")]
    Spelling {
        /// Where, in bytes.
        at: usize,
        /// What to do instead.
        problem: &'static str,
    },
    /// Not CEL.
    #[error("it is not a CEL expression: {0}")]
    Syntax(String),
    /// CEL, but not offered here.
    #[error("{0} is not offered here")]
    Unsupported(String),
    /// It can never be true or false.
    #[error("it is neither true nor false")]
    NotBoolean,
}

impl Condition {
    /// Reads a condition.
    ///
    /// # Errors
    /// [`ConditionError`].
    pub fn parse(text: &str) -> Result<Self, ConditionError> {
        check(text)?;
        // The parser is large, and not ours: should it panic, this is one more expression that it cannot read.
        let parsed = std::panic::catch_unwind(|| Parser::new().parse(text));
        let syntax = |problem: String| ConditionError::Syntax(problem);
        let tree = parsed
            .map_err(|_| syntax("the parser gave up".to_owned()))?
            .map_err(|errors| syntax(errors.errors.first().map_or_else(String::new, |e| e.msg.clone())))?;
        let mut reader = Reader { fields: Vec::new(), nodes: 0 };
        let root = reader.read(&tree)?;
        if !root.may_be_boolean() {
            return Err(ConditionError::NotBoolean);
        }
        Ok(Self { root, fields: reader.fields, parts: reader.nodes })
    }
}

impl Expression {
    fn may_be_boolean(&self) -> bool {
        match self {
            Self::Null
            | Self::Text(_)
            | Self::Number(_)
            | Self::Calculate(..)
            | Self::Negate(_)
            | Self::Size(_)
            | Self::ToNumber { .. } => false,
            Self::If(parts) => {
                let [_, yes, no] = &**parts;
                yes.may_be_boolean() && no.may_be_boolean()
            }
            _ => true,
        }
    }
}

/// Looks at the text before the recursive parser does: length, alphabet, nesting, number of parts.
fn check(text: &str) -> Result<(), ConditionError> {
    if text.len() > MAX_FILTER_BYTES {
        return Err(ConditionError::TooLong(text.len()));
    }
    let spelling = |at, problem| Err(ConditionError::Spelling { at, problem });
    let (mut open, mut prefixes, mut parts) = (0_usize, 0_usize, 0_usize);
    let mut before = b' ';
    let mut bytes = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = bytes.next() {
        let word = before.is_ascii_alphanumeric() || before == b'_';
        match byte {
            b'\'' | b'"' if word => return spelling(at, "texts have no prefix"),
            b'\'' | b'"' if before == byte => return spelling(at, "write texts in single quotes"),
            b'\'' | b'"' => {
                parts = parts.saturating_add(1);
                loop {
                    match bytes.next() {
                        Some((_, end)) if end == byte => break,
                        Some((_, b'\\')) => drop(bytes.next()),
                        Some((at, b'\n' | b'\r')) => return spelling(at, "a text ends on its line"),
                        Some(_) => {}
                        None => return spelling(at, "the text has no end"),
                    }
                }
            }
            b'0'..=b'9' if !word && before != b'.' => {
                parts = parts.saturating_add(1);
                let number = text.get(at..).unwrap_or_default();
                let end =
                    number.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(number.len());
                let number = number.get(..end).unwrap_or_default();
                // Fifteen digits survive the parser's binary floating point; more would not.
                let exact = !number.contains('.') || number.len() <= 16;
                if !exact || !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
                    return spelling(at, "write numbers as digits, with a point 15 of them at most");
                }
                while bytes.next_if(|(_, b)| b.is_ascii_digit() || *b == b'.').is_some() {}
            }
            b'(' | b'[' => {
                open = open.saturating_add(1);
                parts = parts.saturating_add(1);
            }
            b')' | b']' => open = open.saturating_sub(1),
            // Each of these is one level for the parser, and stays one to the end of its operand.
            b'!' | b'-' | b'?' => prefixes = prefixes.saturating_add(1),
            b'+' | b'*' | b'<' | b'>' | b'&' | b'|' | b'=' | b'.' | b',' => parts = parts.saturating_add(1),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => parts = parts.saturating_add(usize::from(!word)),
            b'0'..=b'9' | b' ' | b'\t' | b'\n' | b'\r' | b':' => {}
            b'/' | b'%' => return spelling(at, "there is no division: it would have to round"),
            _ => return spelling(at, "this character is not offered outside of texts"),
        }
        if open.saturating_add(prefixes) > MAX_FILTER_NESTING {
            return Err(ConditionError::TooDeep);
        }
        if parts > MAX_FILTER_NODES {
            return Err(ConditionError::TooManyParts);
        }
        before = byte;
    }
    Ok(())
}

struct Reader {
    fields: Vec<FieldPath>,
    nodes: usize,
}

impl Reader {
    /// Depth is bounded by what [`check`] has let through.
    fn read(&mut self, tree: &IdedExpr) -> Result<Expression, ConditionError> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_FILTER_NODES {
            return Err(ConditionError::TooManyParts);
        }
        let unsupported = |what: &str| Err(ConditionError::Unsupported(what.to_owned()));
        match &tree.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Null => Ok(Expression::Null),
                LiteralValue::Boolean(value) => Ok(Expression::Boolean(*value.inner())),
                LiteralValue::String(text) => Ok(Expression::Text(text.inner().to_owned())),
                LiteralValue::Int(number) => Ok(Expression::Number(Decimal::whole((*number.inner()).into()))),
                // The shortest spelling of a number of 15 digits is that number.
                LiteralValue::Double(number) => Decimal::parse(number.inner().to_string().as_bytes())
                    .map(Expression::Number)
                    .ok_or_else(|| ConditionError::Unsupported("such a number".to_owned())),
                LiteralValue::Bytes(_) | LiteralValue::UInt(_) => unsupported("such a literal"),
            },
            Expr::Ident(_) | Expr::Select(_) => self.field(&tree.expr),
            Expr::Call(call) if call.func_name == operators::INDEX => self.field(&tree.expr),
            Expr::Call(call) => self.call(call),
            Expr::List(_) => unsupported("a list, except behind `in`,"),
            Expr::Comprehension(_) => unsupported("a macro such as all, exists or map"),
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => unsupported("a map or message"),
        }
    }

    fn field(&mut self, expr: &Expr) -> Result<Expression, ConditionError> {
        let mut segments = Vec::new();
        path(expr, &mut segments)?;
        if segments.first() == Some(&Segment::Key(RECORD.to_owned())) && segments.len() > 1 {
            segments.remove(0);
        }
        let path = FieldPath::from_segments(segments);
        let known = self.fields.iter().position(|known| *known == path);
        let number = known.unwrap_or(self.fields.len());
        if known.is_none() {
            self.fields.push(path);
        }
        let test = matches!(expr, Expr::Select(SelectExpr { test: true, .. }));
        Ok(if test { Expression::Has(number) } else { Expression::Field(number) })
    }

    fn call(&mut self, call: &CallExpr) -> Result<Expression, ConditionError> {
        let CallExpr { func_name: name, target, args } = call;
        if name == operators::IN
            && let (None, [value, IdedExpr { expr: Expr::List(list), .. }]) = (target, args.as_slice())
        {
            let value = self.read(value)?;
            let list = list.elements.iter().map(|element| self.read(element)).collect::<Result<_, _>>()?;
            return Ok(Expression::In(Box::new(value), list));
        }
        let mut parts = Vec::new();
        for part in target.iter().map(|target| &**target).chain(args) {
            parts.push(self.read(part)?);
        }
        let unsupported = || ConditionError::Unsupported(format!("{name} with {} operands", args.len()));
        match <[Expression; 1]>::try_from(parts) {
            Ok([only]) => one(name, Box::new(only)).ok_or_else(unsupported),
            Err(parts) => match <[Expression; 2]>::try_from(parts) {
                Ok(both) => two(name, target.is_some(), Box::new(both)).ok_or_else(unsupported),
                Err(parts) => match <[Expression; 3]>::try_from(parts) {
                    Ok(all) if name == operators::CONDITIONAL => Ok(Expression::If(Box::new(all))),
                    _ => Err(unsupported()),
                },
            },
        }
    }
}

/// The names that lead to a field, outermost first.
fn path(expr: &Expr, segments: &mut Vec<Segment>) -> Result<(), ConditionError> {
    match expr {
        Expr::Ident(name) => segments.push(Segment::Key(name.clone())),
        Expr::Select(SelectExpr { operand, field, .. }) => {
            path(&operand.expr, segments)?;
            segments.push(Segment::Key(field.clone()));
        }
        Expr::Call(CallExpr { func_name, target: None, args }) if func_name == operators::INDEX => {
            let [of, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = args.as_slice()
            else {
                return Err(ConditionError::Unsupported("an index that is no text".to_owned()));
            };
            path(&of.expr, segments)?;
            segments.push(Segment::Key(name.inner().to_owned()));
        }
        _ => return Err(ConditionError::Unsupported("a member of something that is no field".to_owned())),
    }
    Ok(())
}

fn one(name: &str, part: Box<Expression>) -> Option<Expression> {
    Some(match name {
        operators::LOGICAL_NOT => Expression::Not(part),
        operators::NEGATE => Expression::Negate(part),
        "size" => Expression::Size(part),
        "double" => Expression::ToNumber { whole: false, of: part },
        "int" => Expression::ToNumber { whole: true, of: part },
        _ => return None,
    })
}

fn two(name: &str, method: bool, both: Box<[Expression; 2]>) -> Option<Expression> {
    Some(match name {
        operators::LOGICAL_AND => Expression::And(both),
        operators::LOGICAL_OR => Expression::Or(both),
        operators::EQUALS => Expression::Compare(Comparison::Equal, both),
        operators::NOT_EQUALS => Expression::Compare(Comparison::NotEqual, both),
        operators::LESS => Expression::Compare(Comparison::Less, both),
        operators::LESS_EQUALS => Expression::Compare(Comparison::LessOrEqual, both),
        operators::GREATER => Expression::Compare(Comparison::Greater, both),
        operators::GREATER_EQUALS => Expression::Compare(Comparison::GreaterOrEqual, both),
        operators::ADD => Expression::Calculate(Calculation::Add, both),
        operators::SUBSTRACT => Expression::Calculate(Calculation::Subtract, both),
        operators::MULTIPLY => Expression::Calculate(Calculation::Multiply, both),
        "contains" if method => Expression::Search(Search::Contains, both),
        "startsWith" if method => Expression::Search(Search::StartsWith, both),
        "endsWith" if method => Expression::Search(Search::EndsWith, both),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(text: &str) -> Vec<String> {
        Condition::parse(text).unwrap().fields.iter().map(ToString::to_string).collect()
    }

    fn refused(text: &str) -> ConditionError {
        Condition::parse(text).unwrap_err()
    }

    #[test]
    fn names_the_fields_that_it_reads() {
        assert_eq!(reads("country == 'DE' && total > 100"), ["country", "total"]);
        assert_eq!(reads("has(card.pan) || card[\"e x\"].y == null"), ["card.pan", "card.e x.y"]);
        assert_eq!(reads("has(record.country) && country in ['DE', \"FR\"]"), ["country"]);
        assert_eq!(reads("name.startsWith('A') ? size(name) > 2 : !active"), ["name", "active"]);
        assert_eq!(reads("-a * 2 + double(b) - int(c) != 0.25"), ["a", "b", "c"]);
        assert_eq!(reads("'total' == 'ta\\'b'"), [""; 0]);
    }

    #[test]
    fn decimals_are_what_was_written() {
        let condition = Condition::parse("a == 0.1").unwrap();
        let number = Expression::Number(Decimal::parse(b"0.1").unwrap());
        assert_eq!(
            condition.root,
            Expression::Compare(Comparison::Equal, Box::new([Expression::Field(0), number]))
        );
        assert!(matches!(refused("a == 0.1234567890123456"), ConditionError::Spelling { at: 5, .. }));
        assert!(matches!(refused("a == 1e300"), ConditionError::Spelling { at: 5, .. }));
        assert!(matches!(refused("a == 9223372036854775808"), ConditionError::Syntax(_)));
    }

    #[test]
    fn offers_nothing_that_could_run_long_or_round() {
        for text in ["[1, 2].all(x, x > a)", "a.exists(x, x == 1)", "[a].map(x, x) == a"] {
            assert!(matches!(refused(text), ConditionError::Unsupported(_)), "{text}: {:?}", refused(text));
        }
        for text in ["a.matches('(x+)+y')", "duration(a) == b", "f(a, b)", "a.b(c, d, e)", "[a] == b"] {
            assert!(matches!(refused(text), ConditionError::Unsupported(_)), "{text}: {:?}", refused(text));
        }
        for text in [
            "a / 2 == 1",
            "a % 2 == 1",
            "{'a': 1} == b",
            "a == b'x'",
            "a == r'x'",
            "a == '''x'''",
            "`a` == 1",
            "a == 'x",
        ] {
            assert!(matches!(refused(text), ConditionError::Spelling { .. }), "{text}: {:?}", refused(text));
        }
        for text in ["", "a ==", "a b", "(a", "a)", "== 1", "a = 1"] {
            assert!(matches!(refused(text), ConditionError::Syntax(_)), "{text}: {:?}", refused(text));
        }
        for text in ["1", "'x'", "a + 1", "size(a)", "true ? 1 : 2", "-a"] {
            assert_eq!(refused(text), ConditionError::NotBoolean, "{text}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded_before_anything_recurses() {
        let deep = |levels: usize| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
        assert_eq!(reads(&deep(MAX_FILTER_NESTING)), ["a"]);
        assert_eq!(refused(&deep(MAX_FILTER_NESTING + 1)), ConditionError::TooDeep);
        assert_eq!(refused(&("!".repeat(2000) + "a")), ConditionError::TooDeep);
        assert_eq!(refused(&("[".repeat(4000))), ConditionError::TooDeep);
        assert_eq!(refused(&"a ? b : ".repeat(100)), ConditionError::TooDeep);
        assert_eq!(refused(&vec!["a"; 1000].join("+")), ConditionError::TooManyParts);
        assert_eq!(refused(&vec!["a"; 1000].join(".")), ConditionError::TooManyParts);
        assert_eq!(refused(&"a".repeat(5000)), ConditionError::TooLong(5000));
        // The largest that is let through does not use the stack up either.
        let wide = format!("{} == 1", vec!["a"; MAX_FILTER_NODES / 2 - 2].join("+"));
        assert_eq!(reads(&wide), ["a"]);
    }
}
