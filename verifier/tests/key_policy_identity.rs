//! Identity policies: what their holders may do, and how IAM words what is none.

use adyton_verifier::key_policy::{
    ConditionContext, Effect, IdentityDecision, IdentityPolicy, IdentityRequest, MAX_IDENTITY_POLICY_BYTES,
    Mismatch, PolicyError, Principal, StatementId, Verdict,
};

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
const ALIAS: &str = "arn:aws:kms:eu-west-1:111122223333:alias/app";
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";

fn decide(policy: &str, action: &str, resource: &str, values: &[(&str, &str)]) -> IdentityDecision {
    let policy = IdentityPolicy::parse(policy).unwrap_or_else(|error| panic!("{error}: {policy}"));
    let principal = Principal::parse(ALICE).unwrap();
    let mut context = ConditionContext::for_principal(&principal);
    for (key, value) in values {
        context.add(key, value);
    }
    policy.evaluate(&IdentityRequest { action, resource, principal: &principal, context: &context })
}

fn policy(statements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)
}

fn allowed(index: usize) -> IdentityDecision {
    IdentityDecision::Allowed { statement: StatementId { index, sid: None } }
}

#[test]
fn actions_and_resources_are_patterns_on_keys_and_aliases() {
    let none = IdentityDecision::NoStatement;
    for (body, action, resource, expected) in [
        (r#""Action":"kms:Decrypt","Resource":"*""#, "kms:Decrypt", KEY, allowed(0)),
        (r#""Action":"kms:Decrypt","Resource":"*""#, "kms:Encrypt", KEY, none.clone()),
        (r#""Action":"*","Resource":"*""#, "kms:ListKeys", "*", allowed(0)),
        (r#""Action":"s3:*","Resource":"*""#, "kms:Decrypt", KEY, none.clone()),
        (r#""NotAction":"kms:Put*","Resource":"*""#, "kms:Decrypt", KEY, allowed(0)),
        (r#""NotAction":"kms:Put*","Resource":"*""#, "kms:PutKeyPolicy", KEY, none.clone()),
        (r#""Action":"kms:*","Resource":"arn:aws:kms:*:111122223333:key/*""#, "kms:Decrypt", KEY, allowed(0)),
        (
            r#""Action":"kms:*","Resource":"arn:aws:kms:*:444455556666:key/*""#,
            "kms:Decrypt",
            KEY,
            none.clone(),
        ),
        (r#""Action":"kms:*","Resource":"arn:aws:kms:*:*:alias/app""#, "kms:CreateAlias", ALIAS, allowed(0)),
        (r#""Action":"kms:*","Resource":"arn:aws:kms:*:*:alias/app""#, "kms:Decrypt", KEY, none.clone()),
        // What is not about a key needs a star.
        (r#""Action":"kms:*","Resource":"arn:aws:kms:*:*:key/*""#, "kms:ListKeys", "*", none.clone()),
        (r#""Action":"kms:*","NotResource":"arn:aws:kms:*:*:alias/*""#, "kms:Decrypt", KEY, allowed(0)),
        (r#""Action":"kms:*","NotResource":"arn:aws:kms:*:*:key/*""#, "kms:Decrypt", KEY, none.clone()),
        (
            r#""Action":"kms:*","Resource":"arn:aws:kms:*:${aws:PrincipalAccount}:key/*""#,
            "kms:Decrypt",
            KEY,
            allowed(0),
        ),
    ] {
        let policy = policy(&format!(r#"{{"Effect":"Allow",{body}}}"#));
        assert_eq!(decide(&policy, action, resource, &[]), expected, "{body} {action} {resource}");
    }
}

#[test]
fn a_deny_wins_and_conditions_are_those_of_key_policies() {
    let text = policy(
        r#"{"Effect":"Allow","Action":"kms:*","Resource":"*"},
           {"Sid":"Closed","Effect":"Deny","Action":"kms:Decrypt","Resource":"*",
            "Condition":{"StringNotEquals":{"kms:EncryptionContext:tenant":"${aws:username}"}}}"#,
    );
    assert_eq!(decide(&text, "kms:Encrypt", KEY, &[]), allowed(0));
    assert_eq!(decide(&text, "kms:Decrypt", KEY, &[("kms:EncryptionContext:tenant", "alice")]), allowed(0));
    let denied = decide(&text, "kms:Decrypt", KEY, &[("kms:EncryptionContext:tenant", "bob")]);
    let statement = StatementId { index: 1, sid: Some("Closed".into()) };
    assert_eq!(denied, IdentityDecision::ExplicitDeny { statement });
    assert_eq!(denied.to_string(), "denied by statement 1 (Closed)");
}

#[test]
fn explains_each_statement() {
    let text = policy(
        r#"{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*",
            "Condition":{"StringEquals":{"kms:RequestAlias":"alias/app"}}},
           {"Effect":"Deny","Action":"kms:Decrypt","Resource":"arn:aws:kms:*:444455556666:*"}"#,
    );
    let principal = Principal::parse(ALICE).unwrap();
    let context = ConditionContext::for_principal(&principal);
    let request =
        IdentityRequest { action: "kms:Decrypt", resource: KEY, principal: &principal, context: &context };
    let trace = IdentityPolicy::parse(&text).unwrap().explain(&request);
    assert_eq!(trace.iter().map(|trace| trace.effect).collect::<Vec<_>>(), [Effect::Allow, Effect::Deny]);
    assert_eq!(trace[1].verdict, Verdict::Skipped(Mismatch::Resource));
    assert_eq!(
        trace[0].to_string(),
        "statement 0 (allow): does not apply: StringEquals kms:RequestAlias wants alias/app, the request does not \
         have it"
    );
}

#[test]
fn refusals_are_worded_as_iam_words_them() {
    let statement = |body: &str| policy(&format!("{{{body}}}"));
    let allow = r#""Effect":"Allow""#;
    let all = r#""Action":"kms:*","Resource":"*""#;
    for (text, expected) in [
        ("{".to_owned(), "Syntax errors in policy."),
        ("[]".to_owned(), "Syntax errors in policy."),
        (r#"{"Version":"2012-10-17"}"#.to_owned(), "Syntax errors in policy."),
        (statement(all), "Syntax errors in policy."),
        (statement(&format!(r#""Effect":"allow",{all}"#)), "Syntax errors in policy."),
        (statement(&format!(r#"{allow},{all},"Colour":"red""#)), "Syntax errors in policy."),
        (
            statement(&format!(r#"{allow},{all},"Condition":{{"StringIs":{{"a:b":"c"}}}}"#)),
            "Syntax errors in policy.",
        ),
        (
            r#"{"Version":"2011-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#
                .to_owned(),
            "Policy document must be version 2012-10-17 or greater.",
        ),
        (
            statement(&format!(r#"{allow},{all},"Principal":"*""#)),
            "Policy document should not specify a principal.",
        ),
        (
            statement(&format!(r#""Effect":"Deny",{all},"NotPrincipal":{{"AWS":"111122223333"}}"#)),
            "Policy document should not specify a principal.",
        ),
        (statement(&format!(r#"{allow},"Resource":"*""#)), "Policy statement must contain actions."),
        (statement(&format!(r#"{allow},"Action":"kms:*""#)), "Policy statement must contain resources."),
        (
            statement(&format!(r#"{allow},"Action":"kms:*","Resource":"key/1""#)),
            "Resource key/1 must be in ARN format or \"*\".",
        ),
        (
            statement(&format!(r#"{allow},"Action":"Decrypt","Resource":"*""#)),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            statement(&format!(r#"{allow},"Action":"kms:De:crypt","Resource":"*""#)),
            "Actions/Condition can contain only one colon.",
        ),
        (statement(&format!(r#"{allow},"Action":"k s:*","Resource":"*""#)), "Vendor k s is not valid"),
        (
            statement(&format!(r#""Sid":"a b",{allow},{all}"#)),
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression \
             [0-9A-Za-z]*",
        ),
        (
            policy(&format!(r#"{{"Sid":"a",{allow},{all}}},{{"Sid":"a",{allow},{all}}}"#)),
            "Statement IDs (SID) in a single policy must be unique.",
        ),
        (
            statement(&format!(r#""Sid":"€",{allow},{all}"#)),
            "The specified value for policyDocument is invalid. It must contain only printable ASCII characters.",
        ),
        (" ".repeat(MAX_IDENTITY_POLICY_BYTES + 1), "Cannot exceed quota for PolicySize: 131072"),
    ] {
        let error = IdentityPolicy::parse(&text).expect_err(&text);
        assert_eq!(error.iam_message(), expected, "{text}");
    }
    assert_eq!(
        IdentityPolicy::parse(&statement(&format!(r#"{allow},{all},"Principal":"*""#))),
        Err(PolicyError::PrincipalNotAllowed)
    );
}

#[test]
fn white_space_does_not_count() {
    assert_eq!(IdentityPolicy::counted_characters("{ \"a\":\t[\n] }\r"), 8);
}
