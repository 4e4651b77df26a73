//! Key policies and identity policies: read or refused, and whatever is read can be evaluated, explained
//! and linted, with the explanation agreeing with the decision.
#![no_main]

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, Decision, IdentityDecision, IdentityPolicy, IdentityRequest, KeyPolicy, Principal, Request,
    StatementTrace, Verdict,
};
use libfuzzer_sys::fuzz_target;

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";

fn applies(trace: &[StatementTrace]) -> bool {
    trace.iter().any(|statement| matches!(statement.verdict, Verdict::Applies { .. }))
}

fuzz_target!(|text: &str| {
    let principal = Principal::parse("arn:aws:iam::111122223333:user/alice").expect("a user");
    let resource = KeyArn::parse(KEY).expect("a key");
    let mut context = ConditionContext::for_principal(&principal);
    context.add_recipient([(0, &[0xab; 48][..]), (1, &[0xcd; 48][..])]);
    context.add_encryption_context([("tenant", "acme"), ("Tenant", "other")]);
    let action = "kms:Decrypt";
    if let Ok(policy) = KeyPolicy::parse(text) {
        let request = Request { action, resource: &resource, principal: &principal, context: &context };
        let nothing = policy.evaluate(&request) == Decision::NoStatement;
        assert_eq!(nothing, !applies(&policy.explain(&request)));
        for finding in policy.lint(&[]) {
            assert!(!finding.to_string().is_empty());
        }
    }
    match IdentityPolicy::parse(text) {
        Ok(policy) => {
            let request = IdentityRequest { action, resource: KEY, principal: &principal, context: &context };
            let nothing = policy.evaluate(&request) == IdentityDecision::NoStatement;
            assert_eq!(nothing, !applies(&policy.explain(&request)));
        }
        Err(error) => assert!(!error.iam_message().is_empty()),
    }
});
