//! What is not a key policy, and that nothing makes the reader panic.

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, IdentityPolicy, KeyPolicy, MAX_KEY_POLICY_BYTES, PolicyError, Principal, Request,
};
use proptest::prelude::*;

fn error(json: &str) -> PolicyError {
    KeyPolicy::parse(json).err().unwrap_or_else(|| panic!("accepted: {json}"))
}

/// A policy of one statement with this body after its `Effect`.
fn statement(effect: &str, body: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}",{body}}}}}"#)
}

fn condition(block: &str) -> String {
    let body = format!(r#""Principal":"*","Action":"*","Resource":"*","Condition":{block}"#);
    statement("Allow", &body)
}

fn unknown(element: &str) -> PolicyError {
    PolicyError::UnknownElement { element: element.to_owned() }
}

fn value(element: &'static str, value: &str) -> PolicyError {
    PolicyError::Value { element, value: value.to_owned() }
}

#[test]
fn refuses_what_is_not_json() {
    for json in ["", "{", "null x", r#"{"Statement":[],}"#, "{'Version':1}", "{}\n{}", "[[["] {
        assert!(matches!(error(json), PolicyError::Json { .. }), "{json}");
    }
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(matches!(error(&deep), PolicyError::Json { .. }));
}

#[test]
fn refuses_a_key_that_occurs_twice() {
    for json in [
        r#"{"Version":"2012-10-17","Version":"2008-10-17","Statement":[]}"#.to_owned(),
        statement("Allow", r#""Effect":"Deny","Principal":"*","Action":"*","Resource":"*""#),
        condition(r#"{"StringEquals":{"k:x":"a"},"StringEquals":{"k:y":"b"}}"#),
        condition(r#"{"StringEquals":{"k:x":"a","k:x":"b"}}"#),
        condition(r#"{"StringEquals":{"k:x":"a","K:X":"b"}}"#),
    ] {
        let PolicyError::Json { reason } = error(&json) else { panic!("{json}") };
        assert!(reason.contains("occurs twice"), "{reason}");
    }
}

#[test]
fn refuses_what_is_too_long_or_outside_the_character_set() {
    let padded = |bytes: usize| {
        let policy = statement("Allow", r#""Principal":"*""#);
        format!("{policy}{}", " ".repeat(bytes - policy.len()))
    };
    assert!(KeyPolicy::parse(&padded(MAX_KEY_POLICY_BYTES)).is_ok());
    let bytes = MAX_KEY_POLICY_BYTES + 1;
    assert_eq!(error(&padded(bytes)), PolicyError::TooLarge { bytes });
    for (text, code) in [("\u{100}", 0x100), ("\0", 0), ("\u{b}", 0xb), ("🔑", 0x1f511)] {
        let json = statement("Allow", &format!(r#""Sid":"{text}","Principal":"*""#));
        assert_eq!(error(&json), PolicyError::Character { code });
    }
    assert!(KeyPolicy::parse(&statement("Allow", "\"Sid\":\"é\u{ff}\",\r\n\t\"Principal\":\"*\"")).is_ok());
}

#[test]
fn refuses_documents_of_another_shape() {
    for (json, expected) in [
        ("[]", PolicyError::Shape { element: "policy" }),
        (r#""x""#, PolicyError::Shape { element: "policy" }),
        ("{}", PolicyError::Missing { element: "Statement" }),
        (r#"{"Statement":[]}"#, PolicyError::Shape { element: "Statement" }),
        (r#"{"Statement":null}"#, PolicyError::Shape { element: "Statement" }),
        (r#"{"Statement":["x"]}"#, PolicyError::Shape { element: "Statement" }),
        (r#"{"Version":"2012-10-18","Statement":[]}"#, value("Version", "2012-10-18")),
        (r#"{"Version":20121017,"Statement":[]}"#, PolicyError::Shape { element: "Version" }),
        (r#"{"Id":7,"Statement":[]}"#, PolicyError::Shape { element: "Id" }),
        (r#"{"Statment":[]}"#, unknown("Statment")),
        (r#"{"statement":[]}"#, unknown("statement")),
    ] {
        assert_eq!(error(json), expected, "{json}");
    }
}

#[test]
fn refuses_statements_that_are_not_entirely_understood() {
    let all = r#""Principal":"*","Action":"*","Resource":"*""#;
    for (effect, body, expected) in [
        ("allow", all.to_owned(), value("Effect", "allow")),
        ("", all.to_owned(), value("Effect", "")),
        ("Allow", format!(r#"{all},"Resources":"*""#), unknown("Resources")),
        ("Allow", format!(r#"{all},"action":"*""#), unknown("action")),
        ("Allow", format!(r#"{all},"Sid":1"#), PolicyError::Shape { element: "Sid" }),
        ("Allow", format!(r#"{all},"NotAction":"*""#), PolicyError::Both { element: "Action" }),
        ("Allow", format!(r#"{all},"NotResource":"*""#), PolicyError::Both { element: "Resource" }),
        ("Deny", format!(r#"{all},"NotPrincipal":"*""#), PolicyError::Both { element: "Principal" }),
        ("Allow", r#""Action":"*","Resource":"*""#.into(), PolicyError::Missing { element: "Principal" }),
        ("Allow", r#""NotPrincipal":"*","Action":"*""#.into(), PolicyError::NotPrincipalWithAllow),
        ("Allow", r#""Principal":"*","Action":[]"#.into(), PolicyError::Shape { element: "Action" }),
        ("Allow", r#""Principal":"*","Action":[1]"#.into(), PolicyError::Shape { element: "Action" }),
        ("Allow", r#""Principal":"*","Action":"Decrypt""#.into(), value("Action", "Decrypt")),
        ("Allow", r#""Principal":"*","Action":"kms:""#.into(), value("Action", "kms:")),
        ("Allow", r#""Principal":"*","Action":"k*s:x""#.into(), value("Action", "k*s:x")),
        ("Allow", r#""Principal":"*","Action":"kms:a b""#.into(), value("Action", "kms:a b")),
        ("Allow", r#""Principal":"*","Resource":{}"#.into(), PolicyError::Shape { element: "Resource" }),
        ("Allow", r#""Principal":"*","Resource":"key/1""#.into(), value("Resource", "key/1")),
        ("Allow", r#""Principal":"*","Resource":"arn:aws:kms:*""#.into(), value("Resource", "arn:aws:kms:*")),
        (
            "Allow",
            r#""Principal":"*","Resource":"arn:aws:kms:*:*:key/${aws:x""#.into(),
            value("Resource", "arn:aws:kms:*:*:key/${aws:x"),
        ),
    ] {
        assert_eq!(error(&statement(effect, &body)), expected, "{effect} {body}");
    }
    let no_effect = r#"{"Statement":{"Principal":"*","Action":"*","Resource":"*"}}"#;
    assert_eq!(error(no_effect), PolicyError::Missing { element: "Effect" });
}

#[test]
fn refuses_principals_that_a_key_policy_cannot_name() {
    for (principal, named) in [
        (r#""111122223333""#, "111122223333"),
        (r#"{"AWS":""}"#, ""),
        (r#"{"AWS":"11112222333"}"#, "11112222333"),
        (r#"{"AWS":"AIDACKCEVSQ6C2EXAMPLE"}"#, "AIDACKCEVSQ6C2EXAMPLE"),
        (r#"{"AWS":"arn:aws:iam::111122223333:role/*"}"#, "arn:aws:iam::111122223333:role/*"),
        (r#"{"AWS":"arn:aws:iam::*:root"}"#, "arn:aws:iam::*:root"),
        (r#"{"AWS":"arn:aws:iam::111122223333:group/g"}"#, "arn:aws:iam::111122223333:group/g"),
        (r#"{"AWS":"arn:aws:iam::111122223333:role/a//b"}"#, "arn:aws:iam::111122223333:role/a//b"),
        (
            r#"{"AWS":["*","arn:aws:kms:eu-west-1:111122223333:key/1"]}"#,
            "arn:aws:kms:eu-west-1:111122223333:key/1",
        ),
        (r#"{"Service":"*"}"#, "*"),
        (r#"{"Service":"ec2"}"#, "ec2"),
        (r#"{"Federated":"cognito-identity.amazonaws.com"}"#, "Federated"),
        (r#"{"aws":"*"}"#, "aws"),
    ] {
        let invalid = error(&statement("Allow", &format!(r#""Principal":{principal}"#)));
        assert_eq!(invalid, PolicyError::InvalidPrincipal(named.to_owned()), "{principal}");
        assert_eq!(invalid.aws_message(), "Policy contains a statement with one or more invalid principals.");
    }
    for principal in ["{}", "[]", "null", r#"{"AWS":[]}"#, r#"{"AWS":[["*"]]}"#, "true"] {
        let shape = error(&statement("Allow", &format!(r#""Principal":{principal}"#)));
        assert_eq!(shape, PolicyError::Shape { element: "Principal" }, "{principal}");
    }
}

#[test]
fn refuses_conditions_that_cannot_be_evaluated() {
    for name in ["StringEqual", "stringEquals", "BinaryEquals", "NullIfExists", "ForAllValue:StringLike"] {
        let block = format!(r#"{{"{name}":{{"k:x":"a"}}}}"#);
        assert_eq!(error(&condition(&block)), PolicyError::UnsupportedOperator(name.to_owned()));
    }
    for (operator, text) in [
        ("NumericEquals", "seven"),
        ("NumericEquals", "NaN"),
        ("NumericLessThan", "${aws:x}"),
        ("DateLessThan", "tomorrow"),
        ("Bool", "yes"),
        ("Null", ""),
        ("IpAddress", "10.0.0.0/33"),
        ("StringEquals", "${aws:username"),
        ("StringEquals", "${}"),
    ] {
        let block = format!(r#"{{"{operator}":{{"k:x":"{text}"}}}}"#);
        let expected = PolicyError::ConditionValue {
            operator: operator.to_owned(),
            key: "k:x".to_owned(),
            value: text.to_owned(),
        };
        assert_eq!(error(&condition(&block)), expected);
    }
    for block in [
        "[]",
        r#""x""#,
        r#"{"StringEquals":"x"}"#,
        r#"{"StringEquals":{"k:x":null}}"#,
        r#"{"StringEquals":{"k:x":[]}}"#,
        r#"{"StringEquals":{"k:x":{"a":"b"}}}"#,
        r#"{"StringEquals":{"k:x":[["a"]]}}"#,
    ] {
        assert_eq!(error(&condition(block)), PolicyError::Shape { element: "Condition" }, "{block}");
    }
    for key in ["", "x", ":x", "k:"] {
        let block = format!(r#"{{"StringEquals":{{"{key}":"a"}}}}"#);
        assert_eq!(error(&condition(&block)), unknown(key));
    }
}

/// Texts in the neighbourhood of policies: the words of the language in any order.
fn almost_policies() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "null",
        "true",
        "1",
        "-1e999",
        "\\u0000",
        "${",
        "}",
        "*",
        "?",
        "\"Version\":\"2012-10-17\",",
        "\"Statement\":",
        "\"Effect\":\"Allow\",",
        "\"Effect\":\"Deny\",",
        "\"Principal\":",
        "\"NotPrincipal\":",
        "\"AWS\":",
        "\"arn:aws:iam::111122223333:root\"",
        "\"Action\":\"kms:*\",",
        "\"Resource\":\"*\",",
        "\"Condition\":",
        "\"StringLike\":",
        "\"Null\":",
        "\"ForAnyValue:StringNotLike\":",
        "\"kms:EncryptionContextKeys\":",
        "\"${aws:username}*\"",
    ]);
    prop::collection::vec(words, 0..60).prop_map(|words| words.concat())
}

/// JSON whose names and texts are often those of policies.
fn random_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "Version",
        "2012-10-17",
        "Id",
        "Statement",
        "Sid",
        "Effect",
        "Allow",
        "Deny",
        "Principal",
        "NotPrincipal",
        "AWS",
        "*",
        "111122223333",
        "Action",
        "NotAction",
        "kms:*",
        "kms:Decrypt",
        "Resource",
        "NotResource",
        "arn:aws:kms:*:*:key/*",
        "Condition",
        "StringEquals",
        "ForAllValues:StringLikeIfExists",
        "Null",
        "true",
        "kms:RecipientAttestation:PCR0",
        "0x00",
        "${aws:username}",
        "${*",
        "${a, 'b'}",
        "",
    ]);
    let text = prop_oneof![4 => word.prop_map(str::to_owned), 1 => ".{0,8}"].boxed();
    let name = text.clone();
    let leaf = prop_oneof![
        text.prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        let member = (name.clone(), inner.clone())
            .prop_map(|(name, value)| format!("{}:{value}", serde_json::to_string(&name).unwrap()));
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(member, 0..7).prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in prop_oneof![".{0,200}", almost_policies(), random_json()]) {
        if let Ok(policy) = KeyPolicy::parse(&text) {
            let _ = policy.lint(&[]);
        }
        if let Err(error) = IdentityPolicy::parse(&text) {
            prop_assert!(!error.iam_message().is_empty());
        }
    }

    #[test]
    fn no_condition_value_makes_the_evaluator_panic(
        wanted in "[ -~]{0,24}",
        actual in ".{0,24}",
        operator in prop::sample::select(vec![
            "StringEquals", "StringLike", "StringNotLike", "NumericLessThan", "DateGreaterThan", "Bool",
            "ArnLike", "IpAddress", "ForAllValues:StringLike", "ForAnyValue:ArnNotEquals", "Null",
        ]),
    ) {
        let wanted = serde_json::to_string(&wanted).unwrap();
        let Ok(policy) = KeyPolicy::parse(&condition(&format!(r#"{{"{operator}":{{"k:x":{wanted}}}}}"#)))
        else { return Ok(()) };
        let principal = Principal::parse("arn:aws:iam::111122223333:user/a").unwrap();
        let resource = KeyArn::parse("arn:aws:kms:eu-west-1:111122223333:key/1").unwrap();
        let mut context = ConditionContext::for_principal(&principal);
        context.add("k:x", &actual);
        let request =
            Request { action: "kms:Decrypt", resource: &resource, principal: &principal, context: &context };
        let _ = policy.evaluate(&request);
        let _ = policy.explain(&request);
    }
}
