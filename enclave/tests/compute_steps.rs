//! Steps on records beyond select, drop and mask: names, tokens, hashes, filters, figures.

use adyton_enclave::compute::{ComputeError, Counts, Grouping, Limits, Pipeline, Place, StepKeys};
use adyton_shared::ErrorCode;
use adyton_shared::job::{Destination, Input, Job, JobError};

const LIMITS: Limits = Limits { record_bytes: 1 << 20 };
const ALL: Grouping = Grouping { minimum: 1, groups: 1000, bytes: 1 << 20 };

fn job(input: Input, steps: &str) -> Job {
    #[derive(serde::Deserialize)]
    struct Steps {
        step: Vec<adyton_shared::job::Step>,
    }
    let Steps { step } = serde_json::from_str(&format!("{{\"step\":[{steps}]}}")).unwrap();
    Job { version: 1, input, steps: step, to: Destination::Parent }
}

fn keys() -> StepKeys {
    let mut keys = StepKeys::new("acme".to_owned());
    keys.insert("k1".parse().unwrap(), &[1; 32]);
    keys.insert("k2".parse().unwrap(), &[2; 32]);
    keys
}

fn run_with(job: &Job, grouping: Grouping, data: &str) -> Result<(String, Counts), ComputeError> {
    let mut results = [data.len().max(1), 1, 7].map(|size| {
        let mut pipeline = Pipeline::of(&job.outcome().unwrap(), &keys(), LIMITS, grouping).unwrap();
        let mut out = Vec::new();
        for chunk in data.as_bytes().chunks(size) {
            pipeline.push(chunk, &mut out)?;
        }
        let counts = pipeline.finish(&mut out)?;
        Ok((String::from_utf8(out).unwrap(), counts))
    });
    assert_eq!(results[0], results[1], "chunks change nothing");
    assert_eq!(results[0], results[2], "chunks change nothing");
    std::mem::replace(&mut results[0], Ok((String::new(), Counts::default())))
}

fn run(input: Input, steps: &str, data: &str) -> Result<String, ComputeError> {
    run_with(&job(input, steps), ALL, data).map(|(out, _)| out)
}

fn lines(steps: &str, data: &str) -> String {
    run(Input::Ndjson, steps, data).unwrap()
}

fn refused(steps: &str, data: &str) -> ComputeError {
    run(Input::Ndjson, steps, data).unwrap_err()
}

fn hmac(key: u8, parts: &[&[u8]]) -> [u8; 32] {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[key; 32]);
    aws_lc_rs::hmac::sign(&key, &parts.concat()).as_ref().try_into().unwrap()
}

fn token(key: u8, path: &str, tag: &str, value: &str) -> String {
    use base64::Engine as _;
    let length = |text: &str| u32::try_from(text.len()).unwrap().to_be_bytes();
    let parts: [&[u8]; 7] = [
        b"adyton token 1",
        &length("acme"),
        b"acme",
        &length(path),
        path.as_bytes(),
        tag.as_bytes(),
        value.as_bytes(),
    ];
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hmac(key, &parts))
}

fn hash(key: u8, value: &str) -> String {
    hex::encode(hmac(key, &[b"adyton hash 1", value.as_bytes()]))
}

#[test]
fn tokens_depend_on_key_field_type_and_value_and_hashes_on_key_and_value() {
    let steps = r#"{"select":["a","b","c","d"]},{"token":{"fields":["a","b"],"key":"k1"}},{"hash":{"fields":["c","d"],"key":"k2"}}"#;
    let out = lines(steps, "{\"a\":\"x\\u0041\",\"b\":12,\"c\":\"12\",\"d\":12}\n");
    let expected = format!(
        "{{\"a\":\"{}\",\"b\":\"{}\",\"c\":\"{}\",\"d\":\"{}\"}}\n",
        token(1, "a", "s", "xA"),
        token(1, "b", "n", "12"),
        hash(2, "12"),
        hash(2, "12"),
    );
    assert_eq!(out, expected);
    assert_eq!(
        lines(steps, "{\"a\":null,\"d\":true}\n"),
        format!("{{\"a\":null,\"d\":\"{}\"}}\n", hash(2, "true"))
    );
    let place = Place { step: 2, field: 1 };
    assert_eq!(refused(steps, "{\"a\":[1]}\n"), ComputeError::FieldType { record: 1, place });
}

#[test]
fn treatments_follow_each_other_in_the_order_written() {
    let steps = r#"{"mask":{"fields":["a"],"keep_last":2}},{"token":{"fields":["a"],"key":"k1"}},{"rename":{"from":"a","to":"b"}},{"mask":{"fields":["b"],"keep_last":4}},{"select":["b"]}"#;
    let token = token(1, "a", "s", "***34");
    let shown = format!("{}{}", "*".repeat(39), &token[39..]);
    assert_eq!(lines(steps, "{\"a\":\"12034\"}\n"), format!("{{\"b\":\"{shown}\"}}\n"));
    // Of two masks each takes what the other left.
    let twice =
        r#"{"mask":{"fields":["a"],"keep_last":4}},{"mask":{"fields":["a"],"keep_last":2}},{"select":["a"]}"#;
    assert_eq!(
        lines(twice, "{\"a\":\"123456\"}\n{\"a\":\"12345678\"}\n"),
        "{\"a\":\"******\"}\n{\"a\":\"******78\"}\n"
    );
}

#[test]
fn csv_cells_are_tokenised_hashed_and_renamed_too() {
    let steps = r#"{"token":{"fields":["a"],"key":"k1"}},{"hash":{"fields":["b"],"key":"k1"}},{"rename":{"from":"b","to":"h,1"}},{"select":["h,1","a"]}"#;
    let out = run(Input::Csv, &steps.replace("h,1", "h"), "a,b,c\r\n\"x\"\"y\",1,2\r\n").unwrap();
    assert_eq!(out, format!("a,h\r\n{},{}\r\n", token(1, "a", "s", "x\"y"), hash(1, "1")));
    let odd = run(Input::Csv, steps, "a,b\nx,1\n").unwrap();
    assert!(odd.starts_with("a,\"h,1\"\n"), "{odd}");
    // A column that has the new name already, and would leave beside it.
    let clash = r#"{"rename":{"from":"a","to":"b"}}"#;
    assert_eq!(run(Input::Csv, clash, "a,b\n1,2\n"), Err(ComputeError::Malformed { record: 0 }));
    assert_eq!(run(Input::Csv, clash, "a,c\n1,2\n").unwrap(), "b,c\n1,2\n");
    let missing = ComputeError::FieldMissing { place: Place { step: 1, field: 1 } };
    assert_eq!(run(Input::Csv, clash, "b,c\n1,2\n"), Err(missing));
}

#[test]
fn a_renamed_field_keeps_its_place_and_never_stands_beside_another_of_its_name() {
    let steps = r#"{"rename":{"from":"card.pan","to":"card.n"}},{"rename":{"from":"card","to":"c\"1"}}"#;
    let open = steps.replace("c\\\"1", "c1");
    assert_eq!(
        lines(&open, "{\"id\":1, \"card\" : {\"pan\":\"x\",\"e\":2}}\n"),
        "{\"id\":1,\"c1\":{\"n\":\"x\",\"e\":2}}\n"
    );
    assert_eq!(lines(&open, "{\"card\":{\"e\":2,\"n\":3}}\n"), "{\"c1\":{\"e\":2,\"n\":3}}\n");
    assert_eq!(refused(&open, "{\"card\":{\"pan\":1,\"n\":3}}\n"), ComputeError::Malformed { record: 1 });
    assert_eq!(refused(&open, "{\"c1\":1,\"card\":{}}\n"), ComputeError::Malformed { record: 1 });
    let place = Place { step: 1, field: 1 };
    assert_eq!(refused(&open, "{\"card\":\"text\"}\n"), ComputeError::FieldType { record: 1, place });
    let quoted = r#"{"rename":{"from":"a","to":"\"b\\\"c\""}}"#;
    assert_eq!(lines(quoted, "{\"a\":1}\n"), "{\"b\\\"c\":1}\n");
    // The name means the renamed field alone: another of that name is not selected with it.
    let selected = r#"{"rename":{"from":"a","to":"b"}},{"select":["b"]}"#;
    assert_eq!(lines(selected, "{\"b\":2}\n"), "{}\n");
}

fn filter(condition: &str) -> String {
    serde_json::json!({ "filter": condition }).to_string()
}

#[test]
fn a_filter_lets_records_pass_that_it_holds_for() {
    let data = "{\"n\":1,\"c\":\"DE\"}\n{\"n\":2.50,\"c\":\"FR\"}\n{\"n\":-3,\"c\":\"D\\u0045\"}\n";
    let passed = |condition: &str| {
        let out = lines(&format!("{},{{\"select\":[\"n\"]}}", filter(condition)), data);
        out.lines().map(|line| line[5..line.len() - 1].to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(passed("c == 'DE'"), "1 -3");
    assert_eq!(passed("c == 'DE' && n > 0"), "1");
    assert_eq!(passed("n == 2.5 || n < -2.999"), "2.50 -3");
    assert_eq!(passed("c in ['FR', 'IT']"), "2.50");
    assert_eq!(passed("!(c != 'FR')"), "2.50");
    assert_eq!(passed("n * 2 - 1 >= 1"), "1 2.50");
    assert_eq!(passed("c.startsWith('D') ? n < 0 : true"), "2.50 -3");
    assert_eq!(passed("size(c) == 2 && c.contains('E') && c.endsWith(\"E\")"), "1 -3");
    assert_eq!(passed("has(record.x) && x.y == 1"), "");
    assert_eq!(passed("has(x.y) || n == 1"), "1");
    assert_eq!(passed("c == null"), "");
    assert_eq!(passed("int('7') == 7 && double('0.50') == 0.5 && n > double('1')"), "2.50");
}

#[test]
fn money_and_large_numbers_are_compared_exactly() {
    let one = |condition: &str, number: &str| {
        !lines(&format!("{},{{\"select\":[\"n\"]}}", filter(condition)), &format!("{{\"n\":{number}}}\n"))
            .is_empty()
    };
    assert!(one("n == 0.3", "0.3") && one("n + 0.1 == 0.3", "0.20"));
    assert!(!one("n == 9007199254740992", "9007199254740993"));
    assert!(one("n > 9223372036854775807", "9223372036854775808"));
    assert!(one("n < 0.1", "0.09999999999999999999"));
    assert!(one("n == 100", "1e2"));
    let unexact = ComputeError::Inexact { record: 1, step: 1 };
    for number in ["1e400", "1e-400", "123456789012345678901234567890123456789012"] {
        assert_eq!(refused(&filter("n > 1"), &format!("{{\"n\":{number}}}\n")), unexact, "{number}");
        // What no condition looks at may be any number.
        assert!(one("has(record.n)", number));
    }
}

#[test]
fn a_filter_that_cannot_decide_ends_the_job_with_record_and_step() {
    let undecided = |condition: &str, record: &str| {
        let steps = format!("{{\"drop\":[\"z\"]}},{}", filter(condition));
        let data = format!("{{\"n\":1,\"c\":\"x\"}}\n{record}\n");
        assert_eq!(refused(&steps, &data), ComputeError::Undecided { record: 2, step: 2 }, "{condition}");
    };
    undecided("n == 1", "{}");
    undecided("n > 0", r#"{"n":"1"}"#);
    undecided("n == 1", r#"{"n":"1"}"#);
    undecided("n > 0", r#"{"n":null}"#);
    undecided("n == 1", r#"{"n":[1]}"#);
    undecided("n == 1 && c == 'x'", r#"{"n":1}"#);
    undecided("n == 1 || c == 'x'", r#"{"n":2}"#);
    undecided("n in [1, 2]", r#"{"n":"1"}"#);
    undecided("n == 1 || int(c) == 1", r#"{"n":2,"c":"1.5"}"#);
    undecided("has(record.n) && n == 1", r#"{"n":true}"#);
    // As CEL has it, one side may decide alone, whichever it is.
    let steps = format!("{},{{\"select\":[\"n\"]}}", filter("c == 'x' || n == 1"));
    assert_eq!(lines(&steps, "{\"n\":1}\n{\"c\":\"x\"}\n"), "{\"n\":1}\n{}\n");
    assert_eq!(lines(&filter("c == 'x' && n == 1"), "{\"n\":2}\n{\"c\":\"y\"}\n"), "");
}

#[test]
fn a_filter_sees_values_as_they_are_at_its_step() {
    let mask = r#"{"mask":{"fields":["a"],"keep_last":0}}"#;
    let select = r#"{"select":["a"]}"#;
    let data = "{\"a\":\"xy\"}\n{\"a\":\"zz\\n\"}\n";
    assert_eq!(lines(&format!("{mask},{},{select}", filter("a == '**'")), data), "{\"a\":\"**\"}\n");
    assert_eq!(lines(&format!("{},{mask},{select}", filter("a == 'xy'")), data), "{\"a\":\"**\"}\n");
    let token = format!(
        r#"{{"token":{{"fields":["a"],"key":"k1"}}}},{},{select}"#,
        filter("size(a) == 43 && a != 'xy'")
    );
    assert_eq!(lines(&token, data).lines().count(), 2);
    let renamed = format!(
        r#"{{"rename":{{"from":"a","to":"b"}}}},{},{{"drop":["b"]}},{{"select":["c"]}}"#,
        filter("b == 'xy'")
    );
    assert_eq!(lines(&renamed, "{\"a\":\"xy\",\"b\":\"no\",\"c\":1}\n"), "{\"c\":1}\n");
    assert_eq!(lines(&renamed, "{\"a\":\"no\",\"b\":\"xy\",\"c\":1}\n"), "");
}

#[test]
fn what_a_filter_reads_may_be_dropped_later_and_inside_of_what_leaves_or_not() {
    let steps = format!(
        r#"{},{{"drop":["card"]}},{{"select":["id"]}}"#,
        filter("card.brand == 'V' && card.x.y == 1")
    );
    assert_eq!(lines(&steps, "{\"id\":1,\"card\":{\"brand\":\"V\",\"x\":{\"y\":1}}}\n"), "{\"id\":1}\n");
    let whole = format!(r#"{},{{"select":["card"]}}"#, filter("card.brand == 'V'"));
    assert_eq!(
        lines(&whole, "{\"card\":{\"a\":[1, 2],\"brand\":\"V\"}}\n"),
        "{\"card\":{\"a\":[1,2],\"brand\":\"V\"}}\n"
    );
    let twice = "{\"id\":1,\"card\":{\"brand\":\"V\",\"brand\":\"W\"}}\n";
    assert_eq!(refused(&steps, twice), ComputeError::Malformed { record: 1 });
    // The value that a later step could not treat does not matter in a record that does not come so far.
    let late = format!(r#"{},{{"mask":{{"fields":["a"]}}}},{{"select":["a"]}}"#, filter("n == 1"));
    assert_eq!(lines(&late, "{\"n\":2,\"a\":[1]}\n{\"n\":1,\"a\":\"x\"}\n"), "{\"a\":\"*\"}\n");
    let place = Place { step: 2, field: 1 };
    assert_eq!(refused(&late, "{\"n\":1,\"a\":[1]}\n"), ComputeError::FieldType { record: 1, place });
    // The step that fails first is the one that is named.
    let early = format!(r#"{{"mask":{{"fields":["a"]}}}},{},{{"select":["a"]}}"#, filter("n == 1"));
    let place = Place { step: 1, field: 1 };
    assert_eq!(refused(&early, "{\"n\":2,\"a\":true}\n"), ComputeError::FieldType { record: 1, place });
}

#[test]
fn filtered_results_have_the_form_of_the_input() {
    let steps = format!(r#"{},{{"select":["n"]}}"#, filter("n > 1"));
    let array = |data: &str| run(Input::Json, &steps, data).unwrap();
    assert_eq!(array("[{\"n\":1},{\"n\":2}, {\"n\":0},{\"n\":3}]"), "[{\"n\":2},{\"n\":3}]\n");
    assert_eq!(array("[{\"n\":1},{\"n\":0}]"), "[]\n");
    assert_eq!(array("{\"n\":2}"), "{\"n\":2}\n");
    assert_eq!(array("{\"n\":1}"), "");
    let csv = format!(r#"{},{{"select":["a"]}}"#, filter("int(n) > 1 && a != 'x\"y'"));
    let out = run(Input::Csv, &csv, "a,n\nq,1\nr,2\n\"x\"\"y\",3\n\"s,t\",\"4\"\n").unwrap();
    assert_eq!(out, "a\nr\n\"s,t\"\n");
    assert_eq!(run(Input::Csv, &csv, "a,n\nq,1\nr,x\n"), Err(ComputeError::Undecided { record: 2, step: 1 }));
    let (_, counts) =
        run_with(&job(Input::Ndjson, &steps), ALL, "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n").unwrap();
    assert_eq!(counts, Counts { records_in: 3, records_out: 2 });
}

const SALES: &str = "\
{\"c\":\"DE\",\"a\":0.10,\"n\":1}
{\"c\":\"FR\",\"a\":5,\"n\":null}
{\"c\":\"DE\",\"a\":0.20,\"n\":2}
{\"c\":\"DE\",\"n\":2}
{\"c\":null,\"a\":1e2}
{\"a\":-1.5,\"n\":7}
";

#[test]
fn figures_are_exact_and_in_the_order_of_their_groups() {
    let steps = r#"{"aggregate":{"by":["c"],"count":true,"sum":["a"],"mean":["a"],"min":["a"],"max":["a","n"],"distinct":["n"],"quantiles":{"fields":["a"],"at":[0.5,0.9]}}}"#;
    let expected = "\
{\"c\":null,\"count\":2,\"sum_a\":98.5,\"mean_a\":49.25,\"min_a\":-1.5,\"max_a\":100,\"max_n\":7,\"distinct_n\":1,\"quantile_0.5_a\":-1.5,\"quantile_0.9_a\":100}
{\"c\":\"DE\",\"count\":3,\"sum_a\":0.30,\"mean_a\":0.15,\"min_a\":0.10,\"max_a\":0.20,\"max_n\":2,\"distinct_n\":2,\"quantile_0.5_a\":0.10,\"quantile_0.9_a\":0.20}
{\"c\":\"FR\",\"count\":1,\"sum_a\":5,\"mean_a\":5,\"min_a\":5,\"max_a\":5,\"max_n\":null,\"distinct_n\":0,\"quantile_0.5_a\":5,\"quantile_0.9_a\":5}
";
    let (out, counts) = run_with(&job(Input::Ndjson, steps), ALL, SALES).unwrap();
    assert_eq!(out, expected);
    assert_eq!(counts, Counts { records_in: 6, records_out: 3 });
    let array = format!("[{}]", SALES.trim_end().replace('\n', ","));
    let (out, _) = run_with(&job(Input::Json, steps), ALL, &array).unwrap();
    assert_eq!(out, format!("[{}]\n", expected.trim_end().replace('\n', ",")));
}

#[test]
fn csv_figures_take_empty_cells_for_nothing() {
    let steps = r#"{"aggregate":{"by":["c"],"count":true,"sum":["a"],"distinct":["c"]}}"#;
    let out = run(Input::Csv, steps, "c,a,x\nDE,1.50,q\n\"D,E\",2,\nDE,,\n,3,\n").unwrap();
    assert_eq!(out, "c,count,sum_a,distinct_c\n,1,3,0\n\"D,E\",1,2,1\nDE,2,1.50,1\n");
    let place = Place { step: 1, field: 2 };
    for text in ["NaN", "Infinity", "-inf", "1,5", "0x10", " 1", "1e"] {
        let data = format!("c,a\nx,1\nx,\"{text}\"\n");
        assert_eq!(
            run(Input::Csv, steps, &data),
            Err(ComputeError::FieldType { record: 2, place }),
            "{text}"
        );
    }
}

// An aggregate over one record would be that record.
#[test]
fn groups_and_figures_below_the_minimum_vanish() {
    let steps = r#"{"aggregate":{"by":["c"],"count":true,"sum":["a"],"max":["n"],"distinct":["n"]}}"#;
    let minimum =
        |minimum| run_with(&job(Input::Ndjson, steps), Grouping { minimum, ..ALL }, SALES).unwrap().0;
    assert_eq!(
        minimum(2),
        "{\"c\":null,\"count\":2,\"sum_a\":98.5,\"max_n\":null,\"distinct_n\":null}\n{\"c\":\"DE\",\"count\":3,\"sum_a\":0.30,\"max_n\":2,\"distinct_n\":2}\n"
    );
    // Three records, but only two values of a.
    assert_eq!(minimum(3), "{\"c\":\"DE\",\"count\":3,\"sum_a\":null,\"max_n\":2,\"distinct_n\":2}\n");
    assert_eq!(minimum(4), "");
    // A filter that leaves one record of a group makes the group vanish.
    let one = format!("{},{steps}", filter("has(record.a) && a == 0.1"));
    let alone = run_with(&job(Input::Ndjson, &one), Grouping { minimum: 2, ..ALL }, SALES).unwrap();
    assert_eq!(alone, (String::new(), Counts { records_in: 6, records_out: 0 }));
}

#[test]
fn what_cannot_be_calculated_is_refused_with_record_and_step() {
    let quantile = r#"{"select":["a"]},{"aggregate":{"quantiles":{"fields":["a"],"at":[0.5]}}}"#;
    let place = Place { step: 2, field: 1 };
    for value in ["\"1\"", "true", "[1]", "{}"] {
        let data = format!("{{\"a\":1}}\n{{\"a\":{value}}}\n");
        assert_eq!(refused(quantile, &data), ComputeError::FieldType { record: 2, place }, "{value}");
    }
    // JSON has no such numbers.
    for value in ["NaN", "Infinity", "-Infinity", "1.", "+1"] {
        let data = format!("{{\"a\":1}}\n{{\"a\":{value}}}\n");
        assert_eq!(refused(quantile, &data), ComputeError::Malformed { record: 2 }, "{value}");
    }
    let sum = r#"{"aggregate":{"sum":["a"]}}"#;
    let inexact = ComputeError::Inexact { record: 2, step: 1 };
    assert_eq!(refused(sum, "{\"a\":1}\n{\"a\":1e300}\n"), inexact);
    let huge = "9".repeat(38);
    assert_eq!(refused(sum, &format!("{{\"a\":{huge}}}\n{{\"a\":{huge}}}\n")), inexact);
    assert_eq!(lines(sum, "{\"a\":9007199254740993}\n{\"a\":0.1}\n"), "{\"sum_a\":9007199254740993.1}\n");
    let by = r#"{"aggregate":{"by":["a"],"count":true}}"#;
    let place = Place { step: 1, field: 1 };
    assert_eq!(refused(by, "{\"a\":[]}\n"), ComputeError::FieldType { record: 1, place });
    assert_eq!(
        lines(by, "{\"a\":1.0}\n{\"a\":1}\n{\"a\":\"1\"}\n{\"a\":true}\n"),
        "{\"a\":true,\"count\":1}\n{\"a\":1,\"count\":2}\n{\"a\":\"1\",\"count\":1}\n"
    );
}

// X-1
#[test]
fn what_cannot_be_used_of_fewer_records_than_a_group_must_have_is_not_told() {
    // An error that a record's value decides about is an answer about that record: where, and whether.
    let total = r#"{"aggregate":{"count":true,"sum":["pay"]}}"#;
    let ask = |minimum, condition: &str, data: &str| {
        let steps = format!("{},{total}", filter(condition));
        run_with(&job(Input::Ndjson, &steps), Grouping { minimum, ..ALL }, data).map(|(out, _)| out)
    };
    let data = (1..=9)
        .fold(String::new(), |data, n| data + &format!("{{\"id\":{n},\"pay\":{n}0,\"who\":\"w{n}\"}}\n"));
    // Where the record of the highest pay is, and whether it is 7's: a filter made to fail there, a calculation, a
    // text to be added up, once for each value of the secret.
    let huge = "9223372036854775807";
    for condition in [
        "id != 7 || pay > 50 && who > 1".to_owned(),
        format!("id != 7 || pay < 50 || pay * {huge} * {huge} > 1"),
    ] {
        let without = "{\"count\":8,\"sum_pay\":380}\n";
        assert_eq!(ask(2, &condition, &data).unwrap(), without, "{condition}");
        assert!(ask(1, &condition, &data).is_err());
    }
    let texts = data.replace(":70,", ":\"70\",");
    assert_eq!(ask(2, "true", &texts).unwrap(), "{\"count\":8,\"sum_pay\":380}\n");
    assert_eq!(ask(2, "id == 7", &texts).unwrap(), "");
    // As many as a group: the job ends, and says neither which nor how many.
    let told = ask(3, "id < 5 || who > 1", &data).unwrap_err();
    assert_eq!(told, ComputeError::Untold { code: ErrorCode::FilterUndecided, step: 1 });
    assert_eq!((told.record(), told.step(), told.code()), (None, Some(1), ErrorCode::FilterUndecided));
    // Of several reasons the one of most records is told.
    let texts = data.replace(":10,", ":\"10\",").replace(":20,", ":true,");
    let told = ask(3, "id < 7 || who > 1", &texts).unwrap_err();
    assert_eq!(told, ComputeError::Untold { code: ErrorCode::FilterUndecided, step: 1 });
    assert_eq!(ask(6, "id < 7 || who > 1", &texts).unwrap(), "");
    // How far a job came when its groups were too many is no more to be told.
    let by = job(Input::Ndjson, r#"{"aggregate":{"by":["id"],"count":true}}"#);
    let few = |minimum| run_with(&by, Grouping { minimum, groups: 5, ..ALL }, &data).unwrap_err();
    assert_eq!(few(1), ComputeError::TooManyGroups { record: 6, step: 1 });
    assert_eq!(few(2), ComputeError::Untold { code: ErrorCode::TooManyGroups, step: 1 });
}

// A record of which one value cannot be used leaves no trace in the figures about the others.
#[test]
fn a_record_counts_whole_or_not_at_all() {
    let steps = r#"{"aggregate":{"by":["c"],"count":true,"sum":["a"],"min":["a"],"distinct":["a"],"quantiles":{"fields":["a"],"at":[1]},"max":["n"]}}"#;
    let data = "{\"c\":\"x\",\"a\":1,\"n\":1}\n{\"c\":\"x\",\"a\":2,\"n\":1}\n";
    let grouping = Grouping { minimum: 2, ..ALL };
    let expected = run_with(&job(Input::Ndjson, steps), grouping, data).unwrap().0;
    for odd in ["{\"c\":\"x\",\"a\":-9,\"n\":\"text\"}", "{\"c\":\"y\",\"a\":3,\"n\":true}", "{\"c\":{}}"] {
        let (out, counts) =
            run_with(&job(Input::Ndjson, steps), grouping, &format!("{data}{odd}\n")).unwrap();
        assert_eq!(out, expected, "{odd}");
        assert_eq!(counts, Counts { records_in: 3, records_out: 1 });
    }
    let huge = "99999999999999999999999999999999999999";
    let sums = r#"{"aggregate":{"count":true,"sum":["a"]}}"#;
    let data = format!("{{\"a\":1}}\n{{\"a\":{huge}}}\n{{\"a\":{huge}}}\n");
    let out = run_with(&job(Input::Ndjson, sums), grouping, &data).unwrap().0;
    assert_eq!(out, format!("{{\"count\":2,\"sum_a\":1{}}}\n", "0".repeat(38)));
}

// S-6, S-10
#[test]
fn a_long_name_takes_no_memory_that_is_not_used_and_a_result_is_in_proportion_to_its_record() {
    let rename = |input, from: &str, inside: &str| {
        let to = "n".repeat(400);
        let (from, to) = (format!("{inside}{from}"), format!("{inside}{to}"));
        job(input, &format!(r#"{{"rename":{{"from":"{from}","to":"{to}"}}}}"#))
    };
    let run = |job: &Job, data: &str| {
        let mut pipeline = Pipeline::of(&job.outcome().unwrap(), &keys(), LIMITS, ALL).unwrap();
        let mut out = Vec::new();
        pipeline.push(data.as_bytes(), &mut out).map(|()| out.capacity())
    };
    // One name becomes longer, whatever the record's length.
    let value = "v".repeat(1_000_000);
    for (input, data) in [
        (Input::Ndjson, format!("{{\"a\":\"{value}\"}}\n")),
        (Input::Json, format!("{{\"a\":\"{value}\"}}\n")),
        (Input::Csv, format!("a,b\n{value},1\n")),
    ] {
        let capacity = run(&rename(input, "a", ""), &data).unwrap();
        assert!(capacity < 6 * data.len(), "{input:?}: {capacity}");
    }
    // Very many do.
    let many = |count: usize| format!("{{\"l\":[{}]}}\n", vec!["{\"a\":1}"; count].join(","));
    let each = rename(Input::Ndjson, "a", "l[].");
    assert!(run(&each, &many(10_000)).is_ok());
    assert_eq!(run(&each, &many(100_000)), Err(ComputeError::TooLarge { record: 1, limit: 1 << 20 }));
}

#[test]
fn what_an_aggregate_holds_is_bounded() {
    let data = (0..50).fold(String::new(), |data, n| data + &format!("{{\"a\":{n}}}\n"));
    let by = job(Input::Ndjson, r#"{"aggregate":{"by":["a"],"count":true}}"#);
    let few = run_with(&by, Grouping { groups: 49, ..ALL }, &data);
    assert_eq!(few, Err(ComputeError::TooManyGroups { record: 50, step: 1 }));
    assert!(run_with(&by, Grouping { groups: 50, ..ALL }, &data).is_ok());
    for steps in [
        r#"{"aggregate":{"by":["a"],"count":true}}"#,
        r#"{"aggregate":{"distinct":["a"]}}"#,
        r#"{"aggregate":{"quantiles":{"fields":["a"],"at":[1.0]}}}"#,
    ] {
        let small = run_with(&job(Input::Ndjson, steps), Grouping { bytes: 1000, ..ALL }, &data);
        assert!(matches!(small, Err(ComputeError::TooManyGroups { step: 1, .. })), "{steps}: {small:?}");
    }
    // One value of each group can be called by many long names.
    let name = "n".repeat(400);
    let data = (0..50).fold(String::new(), |data, n| data + &format!("{{\"a\":{n},\"{name}\":{n}}}\n"));
    let at = (1..=200).map(|n| format!("{}", f64::from(n) / 1000.0)).collect::<Vec<_>>().join(",");
    let many = format!(r#"{{"aggregate":{{"by":["a"],"quantiles":{{"fields":["{name}"],"at":[{at}]}}}}}}"#);
    let large = |bytes| run_with(&job(Input::Ndjson, &many), Grouping { bytes, ..ALL }, &data);
    assert!(matches!(large(1 << 20), Err(ComputeError::TooManyGroups { step: 1, .. })));
    assert!(large(8 << 20).is_ok());
}

#[test]
fn groups_may_be_formed_by_treated_fields() {
    let steps = r#"{"hash":{"fields":["e"],"key":"k1"}},{"rename":{"from":"e","to":"who"}},{"aggregate":{"by":["who"],"count":true}}"#;
    assert_eq!(
        lines(steps, "{\"e\":\"x\"}\n{\"e\":\"x\"}\n"),
        format!("{{\"who\":\"{}\",\"count\":2}}\n", hash(1, "x"))
    );
}

#[test]
fn refuses_jobs_that_make_no_sense() {
    let step = |steps: &str| job(Input::Ndjson, steps).outcome().unwrap_err();
    let after = format!(r#"{{"aggregate":{{"count":true}}}},{}"#, filter("a == 1"));
    assert!(matches!(step(&after), JobError::Misplaced { step: 2, .. }));
    assert!(matches!(
        step(&format!(r#"{{"drop":["a"]}},{}"#, filter("a == 1"))),
        JobError::Gone { step: 2, .. }
    ));
    assert!(matches!(
        step(&format!(r#"{{"select":["b"]}},{}"#, filter("has(record.a)"))),
        JobError::Gone { step: 2, .. }
    ));
    assert!(matches!(
        step(&format!(r#"{{"rename":{{"from":"a","to":"b"}}}},{}"#, filter("a == 1"))),
        JobError::Gone { step: 2, .. }
    ));
    assert!(matches!(
        step(&format!(r#"{{"mask":{{"fields":["a"]}}}},{}"#, filter("a.b == 1"))),
        JobError::Inside { step: 2, .. }
    ));
    assert!(matches!(step(&filter("a ==")), JobError::Condition { step: 1, .. }));
    assert!(matches!(step(r#"{"aggregate":{"sum":["items[].price"]}}"#), JobError::Several { step: 1, .. }));
    assert!(matches!(step(r#"{"aggregate":{"by":["a"]}}"#), JobError::FigureCount { step: 1, count: 0 }));
    assert!(matches!(
        step(r#"{"aggregate":{"by":["count"],"count":true}}"#),
        JobError::ColumnTwice { step: 1, .. }
    ));
    assert!(matches!(step(r#"{"aggregate":{"sum":["a","a"]}}"#), JobError::ColumnTwice { step: 1, .. }));
    let key = job(Input::Ndjson, r#"{"select":["a"]},{"token":{"fields":["a"],"key":"none"}}"#);
    assert!(Pipeline::of(&key.outcome().unwrap(), &keys(), LIMITS, ALL).is_err());
}

#[test]
fn bytes_leave_as_they_are_where_no_step_touches_them() {
    assert_eq!(run(Input::Raw, "", "\u{0}any\r\nbytes").unwrap(), "\u{0}any\r\nbytes");
    assert_eq!(run(Input::Ndjson, "", "{ \"a\" : 1 }\n").unwrap(), "{\"a\":1}\n");
    assert_eq!(run(Input::Csv, "", "a,b\n1,\"2\"\n").unwrap(), "a,b\n1,2\n");
}

// 63 steps of 256 fields each: the limits of a job.
#[test]
fn the_largest_jobs_are_understood_at_once() {
    let list = |step: usize| (0..256).map(|n| format!("\"f{n}.s{step}\"")).collect::<Vec<_>>().join(",");
    let drops: Vec<_> = (0..63).map(|step| format!("{{\"drop\":[{}]}}", list(step))).collect();
    let steps = format!("{},{{\"select\":[{}]}}", drops.join(","), list(64));
    assert!(job(Input::Ndjson, &steps).outcome().is_ok());
}
