//! The compute stage against a plain reference over parsed values, on random records and jobs.

use adyton_enclave::compute::{ComputeError, Counts, Limits, Pipeline};
use adyton_shared::error_code::ErrorCode;
use adyton_shared::job::{Destination, FieldPath, Input, Job, Leaving, Mask, Segment, Step};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value};

type Outcome = Result<(Vec<u8>, Counts), ErrorCode>;

const LIMITS: Limits = Limits { record_bytes: 1 << 20 };

fn run<'a>(job: &Job, chunks: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut pipeline = Pipeline::new(job, LIMITS).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        pipeline.push(chunk, &mut out).map_err(ComputeError::code)?;
    }
    let counts = pipeline.finish(&mut out).map_err(ComputeError::code)?;
    Ok((out, counts))
}

/// The steps of a job, one after the other for each value.
struct Reference<'a> {
    selected: Vec<&'a [Segment]>,
    dropped: Vec<&'a [Segment]>,
    masked: Vec<(&'a [Segment], u8)>,
}

impl<'a> Reference<'a> {
    fn new(job: &'a Job) -> Self {
        let mut this = Self { selected: Vec::new(), dropped: Vec::new(), masked: Vec::new() };
        for step in &job.steps {
            match step {
                Step::Select(fields) => this.selected = fields.iter().map(FieldPath::segments).collect(),
                Step::Drop(fields) => this.dropped.extend(fields.iter().map(FieldPath::segments)),
                Step::Mask(mask) => {
                    this.masked.extend(mask.fields.iter().map(|field| (field.segments(), mask.keep_last)));
                }
                _ => unreachable!(),
            }
        }
        let dropped = this.dropped.clone();
        this.selected.retain(|path| !dropped.iter().any(|dropped| path.starts_with(dropped)));
        this
    }

    fn treat(&self, value: &Value, path: &mut Vec<Segment>) -> Result<Option<Value>, ErrorCode> {
        let inside = |longer: &[Segment]| longer.len() > path.len() && longer.starts_with(path);
        if self.dropped.iter().any(|dropped| *dropped == *path) {
            return Ok(None);
        }
        let kept = self.selected.iter().any(|selected| path.starts_with(selected));
        if !kept && !self.selected.iter().any(|selected| inside(selected)) {
            return Ok(None);
        }
        let mask = self.masked.iter().filter(|(masked, _)| *masked == *path).map(|(_, keep)| *keep).min();
        let treated: Vec<&[Segment]> = {
            let all = self.dropped.iter().copied().chain(self.masked.iter().map(|(masked, _)| *masked));
            all.chain(self.selected.iter().copied()).filter(|other| inside(other)).collect()
        };
        let next = |each: bool| treated.iter().any(|other| (other[path.len()] == Segment::Each) == each);
        let live = |each: bool| {
            let selected = self.selected.iter().filter(|selected| inside(selected));
            selected.into_iter().any(|other| (other[path.len()] == Segment::Each) == each)
        };
        match value {
            Value::Object(_) | Value::Array(_) if mask.is_some() => Err(ErrorCode::FieldType),
            Value::Object(_) | Value::Array(_) if kept && treated.is_empty() => Ok(Some(value.clone())),
            Value::Object(members) => {
                if !(if kept { next(false) } else { live(false) }) {
                    return if kept { Err(ErrorCode::FieldType) } else { Ok(None) };
                }
                let mut result = Map::new();
                for (name, member) in members {
                    path.push(Segment::Key(name.clone()));
                    if let Some(member) = self.treat(member, path)? {
                        result.insert(name.clone(), member);
                    }
                    path.pop();
                }
                Ok(Some(Value::Object(result)))
            }
            Value::Array(elements) => {
                if !(if kept { next(true) } else { live(true) }) {
                    return if kept { Err(ErrorCode::FieldType) } else { Ok(None) };
                }
                let mut result = Vec::new();
                for element in elements {
                    path.push(Segment::Each);
                    result.extend(self.treat(element, path)?);
                    path.pop();
                }
                Ok(Some(Value::Array(result)))
            }
            _ if !kept => Ok(None),
            Value::Null => Ok(Some(Value::Null)),
            scalar => match (mask, scalar) {
                (None, _) if treated.is_empty() => Ok(Some(scalar.clone())),
                (None, _) | (Some(_), Value::Bool(_)) => Err(ErrorCode::FieldType),
                (Some(keep), Value::String(text)) => Ok(Some(masked(text, keep))),
                (Some(keep), number) => Ok(Some(masked(&number.to_string(), keep))),
            },
        }
    }
}

fn masked(text: &str, keep_last: u8) -> Value {
    let count = text.chars().count();
    let keep = usize::from(keep_last);
    let stars = if count < 2 * keep { count } else { count - keep };
    Value::String("*".repeat(stars) + &text.chars().skip(stars).collect::<String>())
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["", "ä", "a.b", "q\"\\", "a long name with a tail 1", "a long name with a tail 2"])
            .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        2 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        4 => any::<i32>().prop_map(Value::from),
        1 => (-1000..1000_i32).prop_map(|n| Value::from(f64::from(n) / 8.0)),
        6 => "[a-z0-9 -]{0,24}".prop_map(Value::from),
        2 => any::<String>().prop_map(Value::from),
        2 => "[\"\\\\\n\t/ä€🙂x]{0,12}".prop_map(Value::from),
    ];
    scalar.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn record() -> impl Strategy<Value = Value> {
    prop::collection::vec((name(), value()), 0..6)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn path() -> impl Strategy<Value = FieldPath> {
    let segment = prop_oneof![3 => name().prop_map(Some), 1 => Just(None)];
    (name(), prop::collection::vec(segment, 0..4)).prop_map(|(first, more)| {
        let quoted = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        let rest = more
            .iter()
            .map(|segment| segment.as_ref().map_or("[]".to_owned(), |name| format!(".{}", quoted(name))));
        FieldPath::parse(&(quoted(&first) + &rest.collect::<String>())).unwrap()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let fields = || prop::collection::vec(path(), 1..4);
    prop_oneof![
        2 => fields().prop_map(Step::Select),
        1 => fields().prop_map(Step::Drop),
        2 => (fields(), 0..5_u8).prop_map(|(fields, keep_last)| Step::Mask(Mask { fields, keep_last })),
    ]
}

/// Jobs that make sense; steps that contradict those before them are left out.
fn job() -> impl Strategy<Value = Job> {
    prop::collection::vec(step(), 1..6).prop_filter_map("nothing is selected", |steps| {
        let mut job = Job { version: 1, input: Input::Ndjson, steps: Vec::new(), to: Destination::Parent };
        for step in steps {
            job.steps.push(step);
            if job.outcome().is_err() {
                job.steps.pop();
            }
        }
        matches!(job.outcome().unwrap().leaving, Leaving::Records(_)).then_some(job)
    })
}

/// Cuts data at random places.
fn pieces<'a>(data: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
    places.extend([0, data.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &data[pair[0]..pair[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_reference(job in job(), records in prop::collection::vec(record(), 1..4), cuts in cuts()) {
        let reference = Reference::new(&job);
        let lines: String = records.iter().map(|record| record.to_string() + "\n").collect();
        let result = run(&job, pieces(lines.as_bytes(), &cuts));
        let expected: Result<Vec<_>, _> =
            records.iter().map(|record| reference.treat(record, &mut Vec::new())).collect();
        match expected {
            Err(code) => prop_assert_eq!(result, Err(code)),
            Ok(expected) => {
                let (out, counts) = result.unwrap();
                let text = String::from_utf8(out).unwrap();
                let read: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let expected: Vec<_> =
                    expected.into_iter().map(|e| e.unwrap_or_else(|| Value::Object(Map::new()))).collect();
                prop_assert_eq!(&read, &expected);
                let count = records.len() as u64;
                prop_assert_eq!(counts, Counts { records_in: count, records_out: count });
                if reference.masked.is_empty() {
                    let plain: String = expected.iter().map(|record| record.to_string() + "\n").collect();
                    prop_assert_eq!(text, plain);
                }
            }
        }
    }

    #[test]
    fn white_space_and_chunks_change_nothing(job in job(), records in prop::collection::vec(record(), 0..4), cuts in cuts()) {
        let job = Job { input: Input::Json, ..job };
        let array = Value::from(records);
        let plain = run(&job, [array.to_string().as_bytes()]);
        let pretty = serde_json::to_vec_pretty(&array).unwrap();
        prop_assert_eq!(run(&job, [pretty.as_slice()]), plain.clone());
        prop_assert_eq!(run(&job, pieces(&pretty, &cuts)), plain.clone());
        prop_assert_eq!(run(&job, pretty.chunks(1)), plain);
    }

    /// A damaged record is accepted exactly if an independent parser accepts it.
    #[test]
    fn agrees_with_another_parser_about_what_is_json(
        job in job(),
        record in record(),
        edits in prop::collection::vec((any::<Index>(), edit()), 1..4),
        cuts in cuts(),
    ) {
        let mut bytes = record.to_string().into_bytes();
        for (place, edit) in edits {
            let at = place.index(bytes.len());
            match edit {
                Edit::Flip(bit) => bytes[at] ^= 1 << bit,
                Edit::Remove => drop(bytes.remove(at)),
                Edit::Insert(text) => drop(bytes.splice(at..at, text.iter().copied())),
            }
            if bytes.is_empty() {
                bytes.push(b'x');
            }
        }
        prop_assume!(!bytes.contains(&b'\n') && !bytes.iter().all(u8::is_ascii_whitespace));
        let whole = run(&job, [bytes.as_slice()]);
        prop_assert_eq!(&run(&job, pieces(&bytes, &cuts)), &whole);
        // A job about nothing in the record has nothing but the format to judge.
        let never = Step::Select(vec![FieldPath::parse("never").unwrap()]);
        let judged = run(&Job { steps: vec![never], ..job.clone() }, pieces(&bytes, &cuts)).map(|(out, _)| out);
        let as_json = run(&Job { input: Input::Json, ..job }, pieces(&bytes, &cuts));
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(Value::Object(_)) => {
                prop_assert_eq!(judged, Ok(b"{}\n".to_vec()));
                // Only a treated name that comes twice, or a value of the wrong type, may be refused.
                prop_assert_eq!(&as_json, &whole);
                if let Ok((out, _)) = whole {
                    prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
                }
            }
            Ok(_) => prop_assert_eq!(judged, Err(ErrorCode::RecordMalformed)),
            Err(error) if error.to_string().contains("out of range") => {}
            // A type that cannot be treated may come before the flaw.
            Err(_) => {
                prop_assert_eq!(judged, Err(ErrorCode::RecordMalformed));
                prop_assert!(matches!(whole, Err(ErrorCode::RecordMalformed | ErrorCode::FieldType)));
            }
        }
    }

    #[test]
    fn no_input_is_too_strange(
        job in job(),
        input in prop::sample::select(vec![Input::Json, Input::Ndjson, Input::Csv]),
        data in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\\[\\]{}\",:\\\\a1-9 \n\r]{0,200}".prop_map(String::into_bytes),
        ],
        cuts in cuts(),
    ) {
        let job = Job { input, ..job };
        let whole = run(&job, [data.as_slice()]);
        prop_assert_eq!(run(&job, pieces(&data, &cuts)), whole.clone());
        prop_assert_eq!(run(&job, data.chunks(1)), whole);
    }
}

#[derive(Clone, Debug)]
enum Edit {
    Flip(u8),
    Remove,
    Insert(Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    let text = prop::sample::select(vec![
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "0",
        "-",
        ".",
        "e",
        "1",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "\\u0061",
        " ",
        "\t",
        "null",
        "true",
        "\u{1}",
        "é",
        "\"a\":1,",
        ",\"a\":{}",
    ]);
    prop_oneof![
        (0..8_u8).prop_map(Edit::Flip),
        Just(Edit::Remove),
        text.prop_map(|text| Edit::Insert(text.as_bytes().to_vec())),
        any::<u8>().prop_map(|byte| Edit::Insert(vec![byte])),
    ]
}
