//! Makes bodies from the grammar: right ones, ones with something wrong, and ones that are not JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::grammar::{Field, Kind};

/// `SplitMix64`: the same bodies on every run.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap()).unwrap()
    }

    /// True in so many of a hundred cases.
    pub(super) fn in_hundred(&mut self, cases: usize) -> bool {
        self.below(100) < cases
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Values that lead somewhere.
pub(super) struct Pool {
    pub(super) keys: Vec<String>,
    pub(super) blobs: Vec<String>,
    pub(super) public_keys: Vec<String>,
    pub(super) documents: Vec<String>,
    pub(super) policies: Vec<String>,
}

/// One body for an operation with these fields.
pub(super) fn body(dice: &mut Dice, fields: &[Field], pool: &Pool) -> Vec<u8> {
    // Some bodies are right in all of their fields, most in most of them.
    let wrong = dice.one(&[&0, &4, &30]);
    let absent = dice.one(&[&5, &30]);
    let mut object = Map::new();
    for (name, kind) in fields {
        if dice.in_hundred(*absent) {
            continue;
        }
        let value = if dice.in_hundred(*wrong) { anything(dice, 3) } else { right(dice, *kind, pool) };
        object.insert((*name).to_owned(), value);
    }
    if dice.in_hundred(5) {
        let name = text(dice);
        object.insert(name, anything(dice, 3));
    }
    let mut bytes = serde_json::to_vec(&Value::Object(object)).unwrap();
    if dice.in_hundred(10) {
        mutate(dice, &mut bytes);
    }
    bytes
}

/// A value that fits the kind, or nearly.
fn right(dice: &mut Dice, kind: Kind, pool: &Pool) -> Value {
    match kind {
        Kind::Key => pick(dice, &pool.keys),
        Kind::Alias => format!("alias/{}", dice.below(400)).into(),
        Kind::Text => text(dice).into(),
        Kind::Blob(longest) => {
            if dice.in_hundred(50) {
                return pick(dice, &pool.blobs);
            }
            let length = *dice.one(&[&1, &28, &32, &48, &64, &longest, &dice_length(longest)]);
            STANDARD.encode(dice.bytes(length)).into()
        }
        Kind::PublicKey => pick(dice, &pool.public_keys),
        Kind::One(names) => dice.one(names).into(),
        Kind::Many(names) => (0..dice.below(4)).map(|_| dice.one(names)).collect::<Vec<_>>().into(),
        Kind::Number(most) => {
            let most = usize::try_from(most).unwrap();
            let number = dice.below(most + 2);
            (*dice.one(&[&1, &most, &number])).into()
        }
        Kind::Flag => dice.in_hundred(20).into(),
        Kind::Pairs if dice.in_hundred(60) => json!({}),
        Kind::Pairs => {
            let pairs = (0..dice.below(3)).map(|_| (dice.one(&["a", "b", ""]).to_owned(), text(dice).into()));
            Value::Object(pairs.collect())
        }
        Kind::Texts if dice.in_hundred(60) => json!([]),
        Kind::Texts => (0..dice.below(3)).map(|_| text(dice)).collect::<Vec<_>>().into(),
        Kind::Tags => {
            let tag = |dice: &mut Dice| json!({"TagKey": text(dice), "TagValue": text(dice)});
            (0..dice.below(3)).map(|_| tag(dice)).collect::<Vec<_>>().into()
        }
        Kind::Policy => pick(dice, &pool.policies),
        Kind::Recipient if dice.in_hundred(90) => Value::Null,
        Kind::Recipient => json!({
            "KeyEncryptionAlgorithm": dice.one(&["RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1"]),
            "AttestationDocument": pick(dice, &pool.documents),
        }),
        Kind::Constraints => {
            let name = dice.one(&["EncryptionContextEquals", "EncryptionContextSubset", "SourceArn"]);
            let pairs = right(dice, Kind::Pairs, pool);
            json!({name: pairs})
        }
        Kind::Time => json!(1_900_000_000.5),
        Kind::Principal => dice
            .one(&[
                "arn:aws:iam::111122223333:user/alice",
                "arn:aws:iam::444455556666:root",
                "arn:aws:sts::111122223333:assumed-role/a/b",
                "kms.amazonaws.com",
            ])
            .into(),
        Kind::Region => dice.one(&["us-east-1", "eu-west-1", "nowhere"]).into(),
        Kind::Credential => json!({"AccessKeyId": text(dice), "RawSecretAccessKey": text(dice)}),
    }
}

fn dice_length(longest: usize) -> usize {
    longest.saturating_sub(1).max(1)
}

fn pick(dice: &mut Dice, from: &[String]) -> Value {
    from[dice.below(from.len())].clone().into()
}

fn text(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => String::new(),
        1 => "\u{0}\u{7f}\u{2028}\u{1f511}".into(),
        2 => "x".repeat(dice.below(9000)),
        3 => "aws:reserved".into(),
        4 => "../../%00'\"<>{}".into(),
        5 => hex::encode(dice.bytes(32)),
        _ => format!("text-{}", dice.below(50)),
    }
}

/// A value of any type.
fn anything(dice: &mut Dice, depth: usize) -> Value {
    match dice.below(if depth == 0 { 9 } else { 11 }) {
        0 => Value::Null,
        1 => dice.in_hundred(50).into(),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(-1.5e300),
        5 => json!(dice.below(3)),
        6 => STANDARD.encode(vec![0; dice.below(7000)]).into(),
        7 | 8 => text(dice).into(),
        9 => (0..dice.below(4)).map(|_| anything(dice, depth - 1)).collect::<Vec<_>>().into(),
        _ => Value::Object((0..dice.below(4)).map(|_| (text(dice), anything(dice, depth - 1))).collect()),
    }
}

/// Damages the bytes of a body.
fn mutate(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..=dice.below(3) {
        let place = dice.below(bytes.len().max(1));
        match dice.below(4) {
            0 => bytes.truncate(place),
            1 => {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            2 => {
                let inserted = dice.one(&[&b"\""[..], b"\\u0000", b"\xff", b"[[[[", b"null", b"{}"]);
                bytes.splice(place..place, inserted.iter().copied());
            }
            _ => {
                let tail = bytes[place..].to_vec();
                bytes.extend(tail);
            }
        }
    }
}
