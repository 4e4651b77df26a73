//! Which requests a key policy lets through, and why not the others.

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, Decision, Delegation, KeyPolicy, Mismatch, Principal, Request, StatementId, Verdict,
};

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/enclave/i-1";
const ROLE: &str = "arn:aws:iam::111122223333:role/enclave";
const ROOT: &str = "arn:aws:iam::111122223333:root";
const STRANGER: &str = "arn:aws:iam::444455556666:user/mallory";

/// What a policy says, without the statement.
#[derive(Debug, PartialEq)]
enum Answer {
    Allowed,
    Root,
    OtherAccount,
    Denied,
    Nothing,
}
use Answer::{Allowed, Denied, Nothing, OtherAccount, Root};

struct Ask<'a> {
    caller: &'a str,
    action: &'a str,
    values: &'a [(&'a str, &'a str)],
}

const ASK: Ask<'static> = Ask { caller: ALICE, action: "kms:Decrypt", values: &[] };

fn ask_policy(policy: &str, ask: &Ask) -> Decision {
    let policy = KeyPolicy::parse(policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    let principal = Principal::parse(ask.caller).unwrap();
    let mut context = ConditionContext::for_principal(&principal);
    for (key, value) in ask.values {
        context.add(key, value);
    }
    let resource = KeyArn::parse(KEY).unwrap();
    policy.evaluate(&Request {
        action: ask.action,
        resource: &resource,
        principal: &principal,
        context: &context,
    })
}

fn answer(policy: &str, ask: &Ask) -> Answer {
    match ask_policy(policy, ask) {
        Decision::Allowed { .. } => Allowed,
        Decision::DelegatedToIam { delegation: Delegation::AccountRoot, .. } => Root,
        Decision::DelegatedToIam { delegation: Delegation::OtherAccount, .. } => OtherAccount,
        Decision::ExplicitDeny { .. } => Denied,
        Decision::NoStatement => Nothing,
    }
}

/// A policy of version 2012-10-17 from statements.
fn policy(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

/// An allow for everybody with this condition block.
fn allow_if(condition: &str) -> String {
    policy(&format!(
        r#"{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*","Condition":{condition}}}"#
    ))
}

#[test]
fn the_default_policy_leaves_the_account_to_iam_and_gives_its_root_user_everything() {
    let default = policy(&format!(
        r#"{{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{{"AWS":"{ROOT}"}},"Action":"kms:*","Resource":"*"}}"#
    ));
    assert_eq!(answer(&default, &ASK), Root);
    assert_eq!(answer(&default, &Ask { caller: ROOT, ..ASK }), Allowed);
    assert_eq!(answer(&default, &Ask { caller: SESSION, ..ASK }), Root);
    assert_eq!(answer(&default, &Ask { caller: STRANGER, ..ASK }), Nothing);
}

#[test]
fn principals_are_matched_by_what_they_name() {
    for (principal, caller, expected) in [
        (r#""*""#, ALICE, Allowed),
        (r#""*""#, STRANGER, OtherAccount),
        (r#"{"AWS":"*"}"#, SESSION, Allowed),
        (r#"{"AWS":"111122223333"}"#, ALICE, Root),
        (r#"{"AWS":"111122223333"}"#, ROOT, Allowed),
        (r#"{"AWS":"444455556666"}"#, STRANGER, OtherAccount),
        (r#"{"AWS":"arn:aws:iam::444455556666:root"}"#, ALICE, Nothing),
        (r#"{"AWS":"arn:aws:iam::111122223333:user/alice"}"#, ALICE, Allowed),
        (r#"{"AWS":"arn:aws:iam::111122223333:user/Alice"}"#, ALICE, Nothing),
        (r#"{"AWS":"arn:aws:iam::111122223333:user/alic"}"#, ALICE, Nothing),
        (r#"{"AWS":"arn:aws:iam::444455556666:user/mallory"}"#, STRANGER, OtherAccount),
        (
            r#"{"AWS":["arn:aws:iam::111122223333:role/other","arn:aws:iam::111122223333:role/enclave"]}"#,
            SESSION,
            Allowed,
        ),
        (r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/enclave/i-1"}"#, SESSION, Allowed),
        (r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/enclave/i-2"}"#, SESSION, Nothing),
        (r#"{"AWS":"111122223333","Service":"ec2.amazonaws.com"}"#, SESSION, Root),
        (r#"{"Service":"ec2.amazonaws.com"}"#, ALICE, Nothing),
    ] {
        let policy = policy(&format!(
            r#"{{"Effect":"Allow","Principal":{principal},"Action":"kms:Decrypt","Resource":"*"}}"#
        ));
        assert_eq!(answer(&policy, &Ask { caller, ..ASK }), expected, "{principal} for {caller}");
    }
}

#[test]
fn a_direct_allow_counts_more_than_a_delegation_and_a_deny_more_than_both() {
    let statement = |sid: &str, principal: &str, effect: &str| {
        format!(
            r#"{{"Sid":"{sid}","Effect":"{effect}","Principal":{{"AWS":"{principal}"}},"Action":"kms:*","Resource":"*"}}"#
        )
    };
    let (root, direct) = (statement("root", ROOT, "Allow"), statement("direct", ALICE, "Allow"));
    let named = |index, sid: &str| StatementId { index, sid: Some(sid.to_owned()) };
    assert_eq!(
        ask_policy(&policy(&format!("{root},{direct}")), &ASK),
        Decision::Allowed { statement: named(1, "direct") }
    );
    let deny = statement("deny", "111122223333", "Deny");
    assert_eq!(
        ask_policy(&policy(&format!("{root},{direct},{deny}")), &ASK),
        Decision::ExplicitDeny { statement: named(2, "deny") }
    );
    assert_eq!(answer(&policy(&format!("{deny},{direct}")), &Ask { caller: ROOT, ..ASK }), Denied);
}

#[test]
fn not_principal_spares_only_those_whose_account_and_role_are_listed_too() {
    let policy_for = |listed: &str| {
        policy(&format!(
            r#"{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}},
               {{"Effect":"Deny","NotPrincipal":{{"AWS":[{listed}]}},"Action":"*","Resource":"*"}}"#
        ))
    };
    let listed = |arns: &[&str]| arns.iter().map(|arn| format!("{arn:?}")).collect::<Vec<_>>().join(",");
    for (list, caller, expected) in [
        (vec![ALICE, ROOT], ALICE, Allowed),
        (vec![ALICE, ROOT], SESSION, Denied),
        (vec![ALICE], ALICE, Denied),
        (vec![ROOT], ROOT, Allowed),
        (vec![SESSION, ROLE, "111122223333"], SESSION, Allowed),
        (vec![ROLE, ROOT], SESSION, Denied),
        (vec!["*"], STRANGER, OtherAccount),
    ] {
        assert_eq!(answer(&policy_for(&listed(&list)), &Ask { caller, ..ASK }), expected, "{list:?}");
    }
}

#[test]
fn actions_are_matched_without_case_and_with_wildcards() {
    for (element, action, expected) in [
        (r#""Action":"kms:Decrypt""#, "kms:Decrypt", Allowed),
        (r#""Action":"KMS:decrypt""#, "kms:Decrypt", Allowed),
        (r#""Action":"*""#, "kms:PutKeyPolicy", Allowed),
        (r#""Action":"kms:*""#, "kms:PutKeyPolicy", Allowed),
        (r#""Action":"kms:GenerateDataKey*""#, "kms:GenerateDataKeyWithoutPlaintext", Allowed),
        (r#""Action":"kms:GenerateDataKey*""#, "kms:GenerateRandom", Nothing),
        (r#""Action":"kms:GenerateDataKey""#, "kms:GenerateDataKeyPair", Nothing),
        (r#""Action":"kms:?ncrypt""#, "kms:Encrypt", Allowed),
        (r#""Action":"kms:?ncrypt""#, "kms:ncrypt", Nothing),
        (r#""Action":["kms:Encrypt","kms:Decrypt"]"#, "kms:Decrypt", Allowed),
        (r#""Action":"s3:*""#, "kms:Decrypt", Nothing),
        (r#""NotAction":"kms:Decrypt""#, "kms:Decrypt", Nothing),
        (r#""NotAction":"kms:decrypt""#, "kms:Decrypt", Nothing),
        (r#""NotAction":["kms:Put*","kms:Encrypt"]"#, "kms:Decrypt", Allowed),
    ] {
        let policy = policy(&format!(r#"{{"Effect":"Allow","Principal":"*",{element},"Resource":"*"}}"#));
        assert_eq!(answer(&policy, &Ask { action, ..ASK }), expected, "{element} {action}");
    }
}

#[test]
fn resources_are_this_key_or_an_arn_pattern() {
    for (element, expected) in [
        (r#""Resource":"*""#, Allowed),
        (format!(r#""Resource":"{KEY}""#).as_str(), Allowed),
        (r#""Resource":"arn:aws:kms:*:111122223333:key/*""#, Allowed),
        (r#""Resource":"arn:aws:kms:eu-west-1:111122223333:KEY/*""#, Nothing),
        (r#""Resource":"arn:aws:kms:eu-west-1:111122223333:key/other""#, Nothing),
        (r#""Resource":"arn:aws:kms:*:444455556666:key/*""#, Nothing),
        (r#""Resource":"arn:aws:kms:eu-west-1:${aws:PrincipalAccount}:key/*""#, Allowed),
        (r#""Resource":"arn:aws:kms:eu-west-1:${aws:Unknown}:key/*""#, Nothing),
        (r#""NotResource":"*""#, Nothing),
        (r#""NotResource":"arn:aws:kms:*:444455556666:key/*""#, Allowed),
    ] {
        let policy = policy(&format!(r#"{{"Effect":"Allow","Principal":"*","Action":"*",{element}}}"#));
        assert_eq!(answer(&policy, &ASK), expected, "{element}");
    }
}

#[test]
fn a_statement_without_action_or_resource_does_nothing() {
    for effect in ["Allow", "Deny"] {
        for element in [r#","Action":"*""#, r#","Resource":"*""#, ""] {
            let policy = policy(&format!(r#"{{"Effect":"{effect}","Principal":"*"{element}}}"#));
            assert_eq!(answer(&policy, &ASK), Nothing, "{policy}");
        }
    }
}

#[test]
fn what_an_absent_key_means_depends_on_the_operator() {
    for (condition, absent, present_and_equal, present_and_other) in [
        (r#"{"StringEquals":{"k:x":"a"}}"#, Nothing, Allowed, Nothing),
        (r#"{"StringNotEquals":{"k:x":"a"}}"#, Allowed, Nothing, Allowed),
        (r#"{"StringEqualsIfExists":{"k:x":"a"}}"#, Allowed, Allowed, Nothing),
        (r#"{"StringNotEqualsIfExists":{"k:x":"a"}}"#, Allowed, Nothing, Allowed),
        (r#"{"StringLike":{"k:x":"a*"}}"#, Nothing, Allowed, Nothing),
        (r#"{"StringNotLike":{"k:x":"a*"}}"#, Allowed, Nothing, Allowed),
        (r#"{"StringEqualsIgnoreCase":{"k:x":"A"}}"#, Nothing, Allowed, Nothing),
        (r#"{"StringNotEqualsIgnoreCase":{"k:x":"A"}}"#, Allowed, Nothing, Allowed),
        (r#"{"Null":{"k:x":"true"}}"#, Allowed, Nothing, Nothing),
        (r#"{"Null":{"k:x":"false"}}"#, Nothing, Allowed, Allowed),
        (r#"{"Null":{"k:x":true}}"#, Allowed, Nothing, Nothing),
        (r#"{"ForAnyValue:StringEquals":{"k:x":"a"}}"#, Nothing, Allowed, Nothing),
        (r#"{"ForAnyValue:StringEqualsIfExists":{"k:x":"a"}}"#, Nothing, Allowed, Nothing),
        (r#"{"ForAllValues:StringEquals":{"k:x":"a"}}"#, Allowed, Allowed, Nothing),
        (r#"{"ForAllValues:StringNotEquals":{"k:x":"a"}}"#, Allowed, Nothing, Allowed),
        (r#"{"ForAnyValue:StringNotEquals":{"k:x":"a"}}"#, Nothing, Nothing, Allowed),
        (r#"{"Bool":{"k:x":"true"}}"#, Nothing, Nothing, Nothing),
        (r#"{"BoolIfExists":{"k:x":"true"}}"#, Allowed, Nothing, Nothing),
        (r#"{"NumericNotEquals":{"k:x":1}}"#, Allowed, Allowed, Allowed),
        (r#"{"NotIpAddress":{"k:x":"10.0.0.0/8"}}"#, Allowed, Allowed, Allowed),
        (r#"{"ArnNotLike":{"k:x":"arn:aws:iam::1:user/*"}}"#, Allowed, Allowed, Allowed),
        (r#"{"DateLessThan":{"k:x":"2026-01-01"}}"#, Nothing, Nothing, Nothing),
    ] {
        let policy = allow_if(condition);
        let with = |values| answer(&policy, &Ask { values, ..ASK });
        assert_eq!(with(&[]), absent, "{condition}, absent");
        assert_eq!(with(&[("K:X", "a")]), present_and_equal, "{condition}, equal");
        assert_eq!(with(&[("k:x", "b")]), present_and_other, "{condition}, other");
    }
}

#[test]
fn every_operator_follows_the_rules_for_absent_keys() {
    const POSITIVE: [(&str, &str); 18] = [
        ("StringEquals", "a"),
        ("StringEqualsIgnoreCase", "a"),
        ("StringLike", "*"),
        ("NumericEquals", "1"),
        ("NumericLessThan", "1"),
        ("NumericLessThanEquals", "1"),
        ("NumericGreaterThan", "1"),
        ("NumericGreaterThanEquals", "1"),
        ("DateEquals", "2026-01-01"),
        ("DateLessThan", "2026-01-01"),
        ("DateLessThanEquals", "2026-01-01"),
        ("DateGreaterThan", "2026-01-01"),
        ("DateGreaterThanEquals", "2026-01-01"),
        ("Bool", "false"),
        ("IpAddress", "0.0.0.0/0"),
        ("ArnEquals", "arn:*:*:*:*:*"),
        ("ArnLike", "arn:*:*:*:*:*"),
        ("ForAnyValue:StringEquals", "a"),
    ];
    const NEGATED: [(&str, &str); 8] = [
        ("StringNotEquals", "a"),
        ("StringNotEqualsIgnoreCase", "a"),
        ("StringNotLike", "*"),
        ("NumericNotEquals", "1"),
        ("DateNotEquals", "2026-01-01"),
        ("NotIpAddress", "0.0.0.0/0"),
        ("ArnNotEquals", "arn:*:*:*:*:*"),
        ("ArnNotLike", "arn:*:*:*:*:*"),
    ];
    let absent = |operator: &str, value: &str| {
        answer(&allow_if(&format!(r#"{{"{operator}":{{"k:x":"{value}"}}}}"#)), &ASK)
    };
    for (operator, value) in POSITIVE {
        assert_eq!(absent(operator, value), Nothing, "{operator}");
    }
    for (operator, value) in NEGATED {
        assert_eq!(absent(operator, value), Allowed, "{operator}");
    }
    for (operator, value) in POSITIVE.into_iter().take(17).chain(NEGATED) {
        assert_eq!(absent(&format!("{operator}IfExists"), value), Allowed, "{operator}IfExists");
        assert_eq!(absent(&format!("ForAllValues:{operator}"), value), Allowed, "ForAllValues:{operator}");
        assert_eq!(absent(&format!("ForAnyValue:{operator}"), value), Nothing, "ForAnyValue:{operator}");
        // Of a set without a member none is compared, and IfExists asks about members.
        let both = format!("ForAnyValue:{operator}IfExists");
        assert_eq!(absent(&both, value), Nothing, "{both}");
    }
}

#[test]
fn variables_stand_for_keys_of_the_request_defaults_and_characters() {
    let tag = ("aws:PrincipalTag/team", "blue");
    let context = ("kms:EncryptionContext:tenant", "acme");
    for (wanted, values, value, expected) in [
        ("${aws:username}", &[][..], "alice", Allowed),
        ("${AWS:UserName}", &[], "alice", Allowed),
        ("${aws:username}-${aws:PrincipalAccount}", &[], "alice-111122223333", Allowed),
        ("${aws:PrincipalTag/team}", &[tag], "blue", Allowed),
        ("${aws:PrincipalTag/team}", &[], "blue", Nothing),
        ("${aws:PrincipalTag/team, 'red'}", &[], "red", Allowed),
        ("${aws:PrincipalTag/team, 'red'}", &[tag], "red", Nothing),
        ("${aws:PrincipalTag/team,'red'}", &[tag], "blue", Allowed),
        ("${kms:EncryptionContext:tenant}", &[context], "acme", Allowed),
        ("t-${kms:EncryptionContext:tenant}", &[context], "t-other", Nothing),
        // Two values are none.
        ("${aws:PrincipalTag/team}", &[tag, ("aws:PrincipalTag/team", "red")], "blue", Nothing),
        ("a${*}b${?}c${$}", &[], "a*b?c$", Allowed),
        ("a${*}", &[], "abc", Nothing),
        // A value is never read as a pattern.
        ("${aws:PrincipalTag/team}", &[("aws:PrincipalTag/team", "*")], "anything", Nothing),
    ] {
        let condition = format!(r#"{{"StringLike":{{"k:x":"{wanted}"}}}}"#);
        let values: Vec<_> = values.iter().copied().chain([("k:x", value)]).collect();
        let ask = Ask { values: &values, ..ASK };
        assert_eq!(answer(&allow_if(&condition), &ask), expected, "{wanted} {value}");
    }
    // Only texts and ARNs have variables.
    let arn = r#"{"ArnLike":{"k:x":"arn:aws:iam::${aws:PrincipalAccount}:user/*"}}"#;
    assert_eq!(answer(&allow_if(arn), &Ask { values: &[("k:x", ALICE)], ..ASK }), Allowed);
    let bool = allow_if(r#"{"Bool":{"k:x":"${aws:SecureTransport}"}}"#);
    assert!(KeyPolicy::parse(&bool).is_err());
}

#[test]
fn values_are_compared_as_their_operator_says() {
    let role = "arn:aws:iam::111122223333:role/enclave";
    for (condition, value, expected) in [
        (r#"{"StringEquals":{"k:x":["a","b"]}}"#, "b", Allowed),
        (r#"{"StringNotEquals":{"k:x":["a","b"]}}"#, "b", Nothing),
        (r#"{"StringNotEquals":{"k:x":["a","b"]}}"#, "c", Allowed),
        (r#"{"StringEquals":{"k:x":"a*"}}"#, "ab", Nothing),
        (r#"{"StringEquals":{"k:x":"a*"}}"#, "a*", Allowed),
        (r#"{"StringEquals":{"k:x":"a"}}"#, "A", Nothing),
        (r#"{"StringLike":{"k:x":"a?c*"}}"#, "abcd", Allowed),
        (r#"{"StringLike":{"k:x":"A*"}}"#, "abc", Nothing),
        (r#"{"StringEquals":{"k:x":"${aws:PrincipalAccount}"}}"#, "111122223333", Allowed),
        (r#"{"StringEquals":{"k:x":"${aws:username}"}}"#, "alice", Allowed),
        (r#"{"StringEquals":{"k:x":"${aws:none}"}}"#, "", Nothing),
        (r#"{"StringNotEquals":{"k:x":"${aws:none}"}}"#, "", Allowed),
        (r#"{"NumericEquals":{"k:x":"7"}}"#, "7.0", Allowed),
        (r#"{"NumericLessThan":{"k:x":7}}"#, "7", Nothing),
        (r#"{"NumericLessThanEquals":{"k:x":7}}"#, "7", Allowed),
        (r#"{"NumericGreaterThan":{"k:x":7}}"#, "10", Allowed),
        (r#"{"NumericGreaterThanEquals":{"k:x":[7,20]}}"#, "10", Allowed),
        (r#"{"NumericLessThan":{"k:x":7}}"#, "six", Nothing),
        (r#"{"DateGreaterThan":{"k:x":"2026-01-01T00:00:00Z"}}"#, "2026-01-01T00:00:01Z", Allowed),
        (r#"{"DateLessThan":{"k:x":"2026-01-01T00:00:00Z"}}"#, "2026-01-01T00:00:01Z", Nothing),
        (r#"{"DateEquals":{"k:x":"1767225600"}}"#, "2026-01-01T00:00:00Z", Allowed),
        (r#"{"Bool":{"k:x":false}}"#, "False", Allowed),
        (r#"{"Bool":{"k:x":"true"}}"#, "false", Nothing),
        (r#"{"ArnLike":{"k:x":"arn:aws:iam::*:role/enc*"}}"#, role, Allowed),
        (r#"{"ArnEquals":{"k:x":"arn:aws:iam::*:role/enc*"}}"#, role, Allowed),
        (r#"{"ArnLike":{"k:x":"arn:aws:*"}}"#, role, Nothing),
        (r#"{"IpAddress":{"k:x":["10.0.0.0/8","192.0.2.1"]}}"#, "10.200.0.1", Allowed),
        (r#"{"IpAddress":{"k:x":"10.0.0.0/8"}}"#, "11.0.0.1", Nothing),
        (r#"{"NotIpAddress":{"k:x":"10.0.0.0/8"}}"#, "10.0.0.1", Nothing),
    ] {
        let values = &[("k:x", value)];
        assert_eq!(answer(&allow_if(condition), &Ask { values, ..ASK }), expected, "{condition} {value}");
    }
}

#[test]
fn the_keys_of_an_encryption_context_are_a_set() {
    let all = r#"{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":["tenant","purpose"]}}"#;
    let any = r#"{"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":["tenant","purpose"]}}"#;
    let plain = r#"{"StringEquals":{"kms:EncryptionContextKeys":["tenant","purpose"]}}"#;
    let not = r#"{"StringNotEquals":{"kms:EncryptionContextKeys":["tenant","purpose"]}}"#;
    for (condition, keys, expected) in [
        (all, &["tenant"][..], Allowed),
        (all, &["tenant", "purpose"], Allowed),
        (all, &["tenant", "Purpose"], Nothing),
        (all, &["tenant", "extra"], Nothing),
        (all, &[], Allowed),
        (any, &["extra", "purpose"], Allowed),
        (any, &["extra"], Nothing),
        (any, &[], Nothing),
        (plain, &["tenant"], Allowed),
        (plain, &["tenant", "purpose"], Nothing),
        (not, &["tenant", "purpose"], Allowed),
    ] {
        let values = keys.iter().map(|key| ("kms:EncryptionContextKeys", *key)).collect::<Vec<_>>();
        let ask = Ask { values: &values, ..ASK };
        assert_eq!(answer(&allow_if(condition), &ask), expected, "{condition} {keys:?}");
    }
}

// K-4: two keys that differ in case only are one condition key with two values, and equal nothing.
#[test]
fn a_second_context_pair_in_another_case_does_not_satisfy_a_condition() {
    let principal = Principal::parse(ALICE).unwrap();
    let json = allow_if(r#"{"StringEquals":{"kms:EncryptionContext:tenant":"a"}}"#);
    let policy = KeyPolicy::parse(&json).unwrap();
    let resource = KeyArn::parse(KEY).unwrap();
    let decide = |pairs: &[(&str, &str)]| {
        let mut context = ConditionContext::for_principal(&principal);
        context.add_encryption_context(pairs.iter().copied());
        let request =
            Request { action: "kms:Decrypt", resource: &resource, principal: &principal, context: &context };
        policy.evaluate(&request)
    };
    assert!(matches!(decide(&[("tenant", "a")]), Decision::Allowed { .. }));
    assert!(matches!(decide(&[("Tenant", "a")]), Decision::Allowed { .. }));
    assert_eq!(decide(&[("tenant", "b")]), Decision::NoStatement);
    assert_eq!(decide(&[("tenant", "b"), ("TENANT", "a")]), Decision::NoStatement);
    assert_eq!(decide(&[("tenant", "A")]), Decision::NoStatement);
}

#[test]
fn all_conditions_of_a_statement_must_hold() {
    let condition = r#"{"StringEquals":{"k:x":"a","k:y":"b"},"StringLike":{"k:x":"*"}}"#;
    for (values, expected) in [
        (&[("k:x", "a"), ("k:y", "b")][..], Allowed),
        (&[("k:x", "a")], Nothing),
        (&[("k:x", "a"), ("k:y", "c")], Nothing),
    ] {
        assert_eq!(answer(&allow_if(condition), &Ask { values, ..ASK }), expected);
    }
}

#[test]
fn policy_variables_exist_in_the_newer_version_only() {
    for (version, value, expected) in [
        (r#""Version":"2012-10-17","#, "alice", Allowed),
        (r#""Version":"2008-10-17","#, "alice", Nothing),
        (r#""Version":"2008-10-17","#, "${aws:username}", Allowed),
        ("", "${aws:username}", Allowed),
    ] {
        let policy = format!(
            r#"{{{version}"Id":"x","Statement":{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*",
                "Condition":{{"StringEquals":{{"k:x":"${{aws:username}}"}}}}}}}}"#
        );
        let values = &[("k:x", value)];
        assert_eq!(answer(&policy, &Ask { values, ..ASK }), expected, "{version} {value}");
    }
}

#[test]
fn explains_for_each_statement_what_did_not_fit() {
    let document = policy(
        r#"{"Effect":"Allow","Principal":"*","Action":"*"},
           {"Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"*","Resource":"*"},
           {"Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*"},
           {"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:kms:*:*:key/other"},
           {"Sid":"enclave","Effect":"Allow","Principal":"*","Action":"*","Resource":"*",
            "Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:PCR0":["0xab","cd"]}}},
           {"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"*","Resource":"*"}"#,
    );
    let policy = KeyPolicy::parse(&document).unwrap();
    let principal = Principal::parse(ALICE).unwrap();
    let mut context = ConditionContext::for_principal(&principal);
    context.add_recipient([(0, &[0xab][..])]);
    let resource = KeyArn::parse(KEY).unwrap();
    let request =
        Request { action: "kms:Decrypt", resource: &resource, principal: &principal, context: &context };
    let trace = policy.explain(&request);
    let verdicts = trace.iter().map(|trace| trace.verdict.clone()).collect::<Vec<_>>();
    let unmet = Mismatch::Condition {
        operator: "StringEqualsIgnoreCase".into(),
        key: "kms:RecipientAttestation:PCR0".into(),
        wanted: vec!["0xab".into(), "cd".into()],
        actual: vec!["ab".into()],
    };
    let expected = [Mismatch::Inert, Mismatch::Principal, Mismatch::Action, Mismatch::Resource, unmet]
        .map(Verdict::Skipped)
        .into_iter()
        .chain([Verdict::Applies { directly: false }]);
    assert_eq!(verdicts, expected.collect::<Vec<_>>());
    assert_eq!(
        trace[4].to_string(),
        "statement 4 (enclave) (allow): does not apply: StringEqualsIgnoreCase kms:RecipientAttestation:PCR0 \
         wants 0xab or cd, the request has ab; measurements are compared without 0x"
    );
    assert_eq!(trace[5].to_string(), "statement 5 (deny): applies to the caller's account");
    assert_eq!(policy.evaluate(&request).to_string(), "denied by statement 5");
}
