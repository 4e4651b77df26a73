//! JSON records through the compute stage: what leaves, and what is refused.

use adyton_enclave::compute::{ComputeError, Counts, Limits, Pipeline, Place};
use adyton_shared::error_code::ErrorCode;
use adyton_shared::job::{Destination, DigestAlgorithm, FieldPath, Input, Job, Mask, Step};

const LIMITS: Limits = Limits { record_bytes: 4 << 20 };

fn paths(fields: &[&str]) -> Vec<FieldPath> {
    fields.iter().map(|field| FieldPath::parse(field).unwrap()).collect()
}

fn select(fields: &[&str]) -> Step {
    Step::Select(paths(fields))
}

fn drop_fields(fields: &[&str]) -> Step {
    Step::Drop(paths(fields))
}

fn mask(fields: &[&str], keep_last: u8) -> Step {
    Step::Mask(Mask { fields: paths(fields), keep_last })
}

fn pipeline(input: Input, steps: &[Step]) -> Pipeline {
    let job = Job { version: 1, input, steps: steps.to_vec(), to: Destination::Parent };
    Pipeline::new(&job, LIMITS).unwrap()
}

/// Runs a job on the input in chunks of some size; the result does not depend on it.
fn in_chunks(
    input: Input,
    steps: &[Step],
    data: &[u8],
    size: usize,
) -> Result<(Vec<u8>, Counts), ComputeError> {
    let mut pipeline = pipeline(input, steps);
    let mut out = Vec::new();
    for chunk in data.chunks(size) {
        pipeline.push(chunk, &mut out)?;
    }
    let counts = pipeline.finish(&mut out)?;
    Ok((out, counts))
}

fn run(input: Input, steps: &[Step], data: &[u8]) -> Result<String, ComputeError> {
    let whole = in_chunks(input, steps, data, data.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        if data.len() < 100_000 || size == 64 {
            assert_eq!(in_chunks(input, steps, data, size), whole, "in chunks of {size}");
        }
    }
    whole.map(|(out, _)| String::from_utf8(out).unwrap())
}

fn ndjson(steps: &[Step], data: &str) -> Result<String, ComputeError> {
    run(Input::Ndjson, steps, data.as_bytes())
}

/// One record through both JSON inputs.
fn one(steps: &[Step], record: &str) -> Result<String, ComputeError> {
    let line = ndjson(steps, record);
    assert_eq!(run(Input::Json, steps, record.as_bytes()), line);
    line.map(|line| line.strip_suffix('\n').unwrap().to_owned())
}

#[test]
fn select_keeps_the_order_and_the_place_of_fields() {
    let record = r#"{"z":1,"card":{"cvv":"123","pan":"4111","exp":[1,2]},"a":null,"items":[{"n":1,"price":2.50},{"price":-0e1}],"b":true}"#;
    let cases: &[(&[&str], &str)] = &[
        (&["a", "z"], r#"{"z":1,"a":null}"#),
        (&["card.pan"], r#"{"card":{"pan":"4111"}}"#),
        (&["card"], r#"{"card":{"cvv":"123","pan":"4111","exp":[1,2]}}"#),
        (&["items[].price", "b"], r#"{"items":[{"price":2.50},{"price":-0e1}],"b":true}"#),
        (&["card.exp[]"], r#"{"card":{"exp":[1,2]}}"#),
        (&["card.nothing", "none"], r#"{"card":{}}"#),
        (&["none"], "{}"),
    ];
    for (fields, expected) in cases {
        assert_eq!(one(&[select(fields)], record).unwrap(), *expected, "{fields:?}");
    }
}

#[test]
fn select_leaves_out_what_has_another_shape() {
    for (fields, record, expected) in [
        ("card.pan", r#"{"card":"4111","x":1}"#, "{}"),
        ("card.pan", r#"{"card":[{"pan":"4111"}]}"#, "{}"),
        ("card.pan", r#"{"card":null}"#, "{}"),
        ("items[].price", r#"{"items":{"price":1}}"#, "{}"),
        ("items[].price", r#"{"items":[7,{"price":1},[{"price":2}],null]}"#, r#"{"items":[{"price":1}]}"#),
        ("items[]", r#"{"items":"none"}"#, "{}"),
        ("m[][].x", r#"{"m":[[{"x":1,"y":2},{}],[]]}"#, r#"{"m":[[{"x":1},{}],[]]}"#),
    ] {
        assert_eq!(one(&[select(&[fields])], record).unwrap(), expected, "{fields} {record}");
    }
}

#[test]
fn white_space_between_tokens_does_not_leave() {
    let record = " \t{ \"a\" : [ 1 , { \"b\" :\t\" kept \" } , [ ] ] , \"x\" : 1 , \"c\" : { \"d\" : 1 , \"e\" : 2 } }\r ";
    let expected = r#"{"a":[1,{"b":" kept "},[]],"c":{"e":2}}"#;
    assert_eq!(one(&[select(&["a", "c.e"])], record).unwrap(), expected);
    let steps = [select(&["a", "c"]), drop_fields(&["c.d"])];
    assert_eq!(one(&steps, record).unwrap(), expected);
}

#[test]
fn drop_takes_fields_out_of_what_is_selected() {
    let steps = [select(&["card", "items"]), drop_fields(&["card.cvv", "items[].secret"])];
    let record =
        r#"{"id":7,"card":{"cvv":"123","pan":"4111"},"items":[{"secret":1},{"a":2,"secret":{"x":[]}}]}"#;
    assert_eq!(one(&steps, record).unwrap(), r#"{"card":{"pan":"4111"},"items":[{},{"a":2}]}"#);
    let steps = [drop_fields(&["card.cvv"]), select(&["card"])];
    assert_eq!(one(&steps, record).unwrap(), r#"{"card":{"pan":"4111"}}"#);
    let steps = [select(&["id", "card"]), drop_fields(&["id", "card"])];
    assert_eq!(one(&steps, record).unwrap(), "{}");
}

#[test]
fn mask_keeps_the_last_characters() {
    let steps = [select(&["v"]), mask(&["v"], 4)];
    for (value, expected) in [
        (r#""4111 1111 1111 1234""#, r#""***************1234""#),
        (r#""12345678""#, r#""****5678""#),
        (r#""1234567""#, r#""*******""#),
        (r#""""#, r#""""#),
        ("4111111111111234", r#""************1234""#),
        ("-12.5e+10", r#""*****e+10""#),
        ("1234567", r#""*******""#),
        ("null", "null"),
        (r#""äöüßñçé€""#, r#""****ñçé€""#),
        (r#""aaaa\u0041\n\"\\""#, r#""****A\u000a\"\\""#),
        (
            r#""\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00\ud83d\ude00""#,
            r#""****😀😀😀😀""#,
        ),
        (r#""\u0000\u0000\u0000\u0000\u0000\u0000\u0000""#, r#""*******""#),
    ] {
        let out = one(&steps, &format!(r#"{{"v":{value},"w":1}}"#)).unwrap();
        assert_eq!(out, format!(r#"{{"v":{expected}}}"#));
    }
}

#[test]
fn mask_reaches_into_objects_and_arrays_and_the_strictest_counts() {
    let steps = [mask(&["cards[].pan"], 6), select(&["cards", "tags"]), mask(&["cards[].pan", "tags[]"], 2)];
    let record = r#"{"cards":[{"pan":"411111111111","n":1},{"n":2}],"tags":["secret",12345,null]}"#;
    let expected = r#"{"cards":[{"pan":"**********11","n":1},{"n":2}],"tags":["****et","***45",null]}"#;
    assert_eq!(one(&steps, record).unwrap(), expected);
}

#[test]
fn refuses_to_mask_what_is_neither_text_nor_number() {
    let steps = [select(&["a", "b"]), mask(&["a", "b"], 0)];
    let place = Place { step: 2, field: 2 };
    for value in ["true", "false", "{}", r#"{"x":1}"#, "[]", r#"["1"]"#] {
        let error = one(&steps, &format!(r#"{{"a":"x","b":{value}}}"#)).unwrap_err();
        assert_eq!(error, ComputeError::FieldType { record: 1, place });
        assert_eq!(error.code(), ErrorCode::FieldType);
    }
}

#[test]
fn refuses_a_treated_path_through_another_shape_that_would_leave_whole() {
    for step in [mask(&["card.pan"], 0), drop_fields(&["card.pan"])] {
        let steps = [select(&["card"]), step];
        for card in [r#""4111""#, "4111", "true", r#"[{"pan":"4111"}]"#] {
            let error = one(&steps, &format!(r#"{{"card":{card}}}"#)).unwrap_err();
            assert_eq!(error.code(), ErrorCode::FieldType, "{card}");
        }
        assert_eq!(one(&steps, r#"{"card":null}"#).unwrap(), r#"{"card":null}"#);
        assert_eq!(one(&steps, r#"{"card":{}}"#).unwrap(), r#"{"card":{}}"#);
    }
    // Not selected, not treated.
    let steps = [mask(&["card.pan", "x"], 0), select(&["id"])];
    assert_eq!(one(&steps, r#"{"id":1,"card":true,"x":[]}"#).unwrap(), r#"{"id":1}"#);
}

#[test]
fn names_are_compared_unescaped() {
    let steps = [select(&["pan", r#""ä\"b""#]), mask(&["pan"], 0)];
    let record = r#"{"\u0070an":"4111","\u00e4\"b":1,"pa\u006e2":2}"#;
    assert_eq!(one(&steps, record).unwrap(), r#"{"\u0070an":"****","\u00e4\"b":1}"#);
}

#[test]
fn refuses_a_treated_name_that_comes_twice() {
    let steps = [select(&["card", "items[].x"]), mask(&["card.pan"], 0)];
    for record in [
        r#"{"card":{"pan":"1","pan":"2"}}"#,
        r#"{"card":{"pan":"1","\u0070an":"2"}}"#,
        r#"{"card":{"\u0070an":"1","y":3,"p\u0061n":"2"}}"#,
        r#"{"card":null,"card":{}}"#,
        r#"{"items":[{"x":1},{"x":1,"x":2}]}"#,
    ] {
        assert_eq!(one(&steps, record), Err(ComputeError::Malformed { record: 1 }), "{record}");
    }
    // The same name in two objects, or deeper inside, is not a second copy.
    let record = r#"{"card":{"pan":"1","x":{"pan":2}},"items":[{"x":1},{"x":2}],"z":{"card":1}}"#;
    assert!(one(&steps, record).is_ok());
}

#[test]
fn refuses_what_is_not_strict_json() {
    let bad: &[&[u8]] = &[
        b"x",
        b"[]",
        b"1",
        b"\"a\"",
        b"null",
        b"{",
        b"}",
        b"{}}",
        b"{} {}",
        b"{]",
        b"{,}",
        b"{1:2}",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\" 1}",
        b"{\"a\":1,}",
        b"{\"a\":1 \"b\":2}",
        b"{\"a\":[1,]}",
        b"{\"a\":[,1]}",
        b"{\"a\":[1 2]}",
        b"{\"a\":[1}}",
        b"{\"a\":{\"b\":1]}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":'b'}",
        b"{\"a\":01}",
        b"{\"a\":-}",
        b"{\"a\":1.}",
        b"{\"a\":.5}",
        b"{\"a\":1e}",
        b"{\"a\":+1}",
        b"{\"a\":1e+}",
        b"{\"a\":--1}",
        b"{\"a\":0x1}",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"{\"a\":tru}",
        b"{\"a\":trueish}",
        b"{\"a\":nul}",
        b"{\"a\":None}",
        b"{\"a\":\"\t\"}",
        b"{\"a\":\"\x00\"}",
        b"{\"a\":\"\x1f\"}",
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12g4\"}",
        b"{\"a\":\"\\u123\"}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\udc00\"}",
        b"{\"a\":\"\\ud800\\u0041\"}",
        b"{\"a\":\"\\ud800\\ud800\"}",
        b"{\"a\":\"\\",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\xc3\"}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\"\xc0\xaf\"}",
        b"{\"\xff\":1}",
        b"{\"a\":\"\xf4\x90\x80\x80\"}",
        b"\xef\xbb\xbf{}",
        b"{\xc2\xa0}",
        b"{}\x00",
        b"{\"a\":1}//x",
        b"{\"a\":1/**/}",
        b"{\"a\":\"x}",
        b"{\"a\":\"\\ud800x\"}",
        b"{\"a\":\x0b1}",
        b"{\"a\":1\x0c}",
    ];
    let plans = [vec![select(&["a"])], vec![select(&["zz"])], vec![select(&["a.b"])]];
    for record in bad {
        for steps in &plans {
            let error = Err(ComputeError::Malformed { record: 1 });
            let shown = String::from_utf8_lossy(record);
            assert_eq!(run(Input::Ndjson, steps, record), error, "{shown}");
            // Behind a good record, and as the element of an array.
            let second = [b"{\"a\":1}\n", *record, b"\n{}"].concat();
            assert_eq!(
                run(Input::Ndjson, steps, &second),
                Err(ComputeError::Malformed { record: 2 }),
                "{shown}"
            );
            // As a JSON text, what follows a complete object is refused as a second one.
            let refused = run(Input::Json, steps, record).map_err(ComputeError::code);
            let expected =
                if *record == b"[]" { Ok("[]\n".to_owned()) } else { Err(ErrorCode::RecordMalformed) };
            assert_eq!(refused, expected, "{shown}");
        }
    }
}

#[test]
fn refuses_a_malformed_record_even_if_nothing_of_it_is_selected() {
    let data = "{\"a\":1}\n{\"b\":tru}\n";
    let mut pipeline = pipeline(Input::Ndjson, &[select(&["a"])]);
    let mut out = b"before".to_vec();
    let error = pipeline.push(data.as_bytes(), &mut out).unwrap_err();
    assert_eq!(error, ComputeError::Malformed { record: 2 });
    assert_eq!(out, b"before");
    // It stays refused.
    assert_eq!(pipeline.push(b"{\"a\":1}\n", &mut out), Err(error));
    assert_eq!(pipeline.finish(&mut out), Err(error));
    assert_eq!(out, b"before");
}

#[test]
fn lines_may_be_blank_and_the_last_needs_no_line_feed() {
    let data = "\n{\"a\":1}\r\n\r\n  \t\n{\"a\":2}";
    let (out, counts) = in_chunks(Input::Ndjson, &[select(&["a"])], data.as_bytes(), 1000).unwrap();
    assert_eq!(out, b"{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(counts, Counts { records_in: 2, records_out: 2 });
    assert_eq!(ndjson(&[select(&["a"])], data).unwrap().as_bytes(), out);
    assert_eq!(ndjson(&[select(&["a"])], "").unwrap(), "");
}

#[test]
fn a_json_array_is_treated_element_by_element() {
    let steps = [select(&["a"])];
    for (data, expected) in [
        (" [ {\"a\":1,\"b\":\"]}\\\"\"} ,\n{\"b\":[{}]}, {\"a\":[{}]} ] \n", "[{\"a\":1},{},{\"a\":[{}]}]\n"),
        ("[]", "[]\n"),
        (" { \"a\" : 1 }\n", "{\"a\":1}\n"),
    ] {
        assert_eq!(run(Input::Json, &steps, data.as_bytes()).unwrap(), expected);
    }
    let (_, counts) = in_chunks(Input::Json, &steps, b"[{},{},{}]", 4).unwrap();
    assert_eq!(counts, Counts { records_in: 3, records_out: 3 });
}

#[test]
fn refuses_a_json_text_that_is_no_array_of_objects() {
    for (data, record) in [
        ("", 1),
        ("  ", 1),
        ("[", 1),
        ("[{}", 2),
        ("[{},", 2),
        ("[{},]", 2),
        ("[,{}]", 1),
        ("[{} {}]", 2),
        ("[1]", 1),
        ("[{},[]]", 2),
        ("[{}]x", 2),
        ("[{}][{}]", 2),
        ("{}{}", 2),
        ("{},{}", 2),
        ("[{}},{}]", 2),
        ("[{\"a\":]},{}]", 1),
    ] {
        let result = run(Input::Json, &[select(&["a"])], data.as_bytes());
        assert_eq!(result, Err(ComputeError::Malformed { record }), "{data}");
    }
}

#[test]
fn refuses_a_record_over_the_limit_without_holding_it() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5 << 20));
    let error = ComputeError::TooLarge { record: 2, limit: LIMITS.record_bytes };
    assert_eq!(error.code(), ErrorCode::RecordTooLarge);
    for (input, data) in
        [(Input::Ndjson, format!("{{}}\n{long}\n{{}}")), (Input::Json, format!("[{{}},{long},{{}}]"))]
    {
        for size in [1 << 16, 1 << 20, data.len()] {
            assert_eq!(
                in_chunks(input, &[select(&["b"])], data.as_bytes(), size),
                Err(error),
                "{input:?} {size}"
            );
        }
        // The refusal does not wait for the end.
        let mut pipeline = pipeline(input, &[select(&["b"])]);
        let cut = data.get(..LIMITS.record_bytes + 100).unwrap();
        let mut out = Vec::new();
        let refused = cut.as_bytes().chunks(4096).any(|chunk| pipeline.push(chunk, &mut out).is_err());
        assert!(refused);
    }
}

#[test]
fn the_limit_itself_is_allowed() {
    let record = |length: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(length - 8));
    let limits = Limits { record_bytes: 1000 };
    for input in [Input::Ndjson, Input::Json] {
        for (length, chunk, allowed) in
            [(1000, 7, true), (1001, 7, false), (1000, 5000, true), (1001, 5000, false)]
        {
            let job = Job { version: 1, input, steps: vec![select(&["a"])], to: Destination::Parent };
            let mut pipeline = Pipeline::new(&job, limits).unwrap();
            let mut out = Vec::new();
            let text = record(length) + "\n";
            let pushed = text.as_bytes().chunks(chunk).try_for_each(|chunk| pipeline.push(chunk, &mut out));
            let error = ComputeError::TooLarge { record: 1, limit: 1000 };
            assert_eq!(pushed, if allowed { Ok(()) } else { Err(error) }, "{input:?} {length} {chunk}");
        }
    }
}

#[test]
fn refuses_deep_nesting_without_recursion() {
    let nested = |levels: usize, open: &str, close: &str| {
        format!("{{\"a\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1))
    };
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let per = open.matches(['[', '{']).count();
        for fields in ["a", "b", "a.a", "a[].a.a[].a", "a[][][]"] {
            let steps = [select(&[fields])];
            let levels = |count: usize| nested((count - 1) / per + 1, open, close);
            assert!(one(&steps, &levels(127)).is_ok(), "{fields}");
            for count in [130, 10_001, 100_001] {
                let error = one(&steps, &levels(count)).unwrap_err();
                assert_eq!(error, ComputeError::TooDeep { record: 1 }, "{fields} {count}");
                assert_eq!(error.code(), ErrorCode::RecordTooDeep);
            }
        }
    }
    // Not even closed.
    let open = "{\"a\":".to_owned() + &"[".repeat(10_000);
    assert_eq!(ndjson(&[select(&["a"])], &open), Err(ComputeError::TooDeep { record: 1 }));
    assert_eq!(one(&[select(&["a"])], &nested(128, "[", "]")).unwrap(), nested(128, "[", "]"));
    assert_eq!(one(&[select(&["a"])], &nested(129, "[", "]")), Err(ComputeError::TooDeep { record: 1 }));
}

#[test]
fn a_path_may_be_deeper_than_any_record() {
    let path = "a[]".to_owned() + &"[]".repeat(200);
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(one(&[select(&[&path])], &deep(127)).unwrap(), deep(127));
    assert_eq!(one(&[select(&[&path])], &deep(128)), Err(ComputeError::TooDeep { record: 1 }));
}

#[test]
fn numbers_of_any_size_keep_their_spelling() {
    let digits = "9".repeat(100_000);
    for number in [&digits, "1e999999999", "-0.0", "1E-400", "123456789012345678901234567890.5"] {
        let record = format!(r#"{{"a":{number}}}"#);
        assert_eq!(one(&[select(&["a"])], &record).unwrap(), record);
    }
    let masked = one(&[select(&["a"]), mask(&["a"], 4)], &format!(r#"{{"a":{digits}}}"#)).unwrap();
    assert_eq!(masked, format!(r#"{{"a":"{}9999"}}"#, "*".repeat(99_996)));
}

#[test]
fn many_names_at_one_level_are_told_apart() {
    let names: Vec<_> = (0..250).map(|n| format!("field-number-{n}")).collect();
    let fields: Vec<_> = names.iter().step_by(2).map(String::as_str).collect();
    let members: Vec<_> = names.iter().map(|name| format!("\"{name}\":\"{name}\"")).collect();
    let kept: Vec<_> = members.iter().step_by(2).map(String::as_str).collect();
    let out = one(&[select(&fields)], &format!("{{{}}}", members.join(","))).unwrap();
    assert_eq!(out, format!("{{{}}}", kept.join(",")));
}

#[test]
fn digest_is_of_the_plaintext_as_it_is() {
    let step = [Step::Digest(DigestAlgorithm::Sha256)];
    for input in [Input::Raw, Input::Ndjson, Input::Json, Input::Csv] {
        let (out, counts) = in_chunks(input, &step, b"abc", 1).unwrap();
        assert_eq!(out, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n");
        assert_eq!(counts, Counts::default());
        let (out, _) = in_chunks(input, &step, b"", 1).unwrap();
        assert_eq!(out, b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n");
    }
}

// X-1
#[test]
fn no_error_holds_a_byte_of_the_data() {
    let canary = "kanarienvogel";
    let steps = [select(&["a", "b"]), mask(&["a", "b.c"], 2)];
    for record in [
        format!(r#"{{"{canary}":tru}}"#),
        format!(r#"{{"a":"{canary}\q"}}"#),
        format!(r#"{{"a":["{canary}"]}}"#),
        format!(r#"{{"b":"{canary}"}}"#),
        format!(r#"{{"a":"{canary}","a":"{canary}"}}"#),
        format!("{{\"a\":\"{canary}\u{1}\"}}"),
        format!("{{\"a\":{}\"{canary}\"", "[".repeat(200)),
        format!(r#"{{"a":"{canary}""#),
    ] {
        let mut pipeline = pipeline(Input::Ndjson, &steps);
        let mut out = Vec::new();
        let pushed = pipeline.push(format!("{record}\n").as_bytes(), &mut out);
        assert!(out.is_empty());
        let error = pushed.unwrap_err();
        for shown in [format!("{error} {error:?} {:?}", error.code()), format!("{pipeline:?}")] {
            assert!(!shown.contains(canary) && !shown.contains("kanar"), "{shown}");
        }
    }
}
