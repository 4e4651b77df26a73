//! The policy that lets one enclave image read, and the idioms it is made of.

use std::collections::BTreeMap;

use adyton_shared::KeyArn;
use adyton_verifier::key_policy::{
    ConditionContext, Decision, KeyPolicy, Measurement, MeasurementError, Principal, RecipientOnly,
    RenderError, Request,
};

const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
const ROLE: &str = "arn:aws:iam::111122223333:role/enclave";
const OWNER: &str = "arn:aws:iam::111122223333:user/owner";
const ADMIN: &str = "arn:aws:iam::111122223333:user/admin";
const ROOT: &str = "arn:aws:iam::111122223333:root";
const CONTEXT: [(&str, &str); 2] = [("tenant", "t"), ("purpose", "p")];

type Pcrs = Vec<(u8, Vec<u8>)>;

fn image() -> BTreeMap<u8, Measurement> {
    [0, 1, 2, 16].map(|index| (index, Measurement::new([index + 1; 48]).unwrap())).into()
}

fn document(pcrs: &[(u8, u8)]) -> Pcrs {
    pcrs.iter().map(|(index, byte)| (*index, vec![*byte; 48])).collect()
}

fn good_document() -> Pcrs {
    document(&[(0, 1), (1, 2), (2, 3), (3, 0), (16, 17)])
}

fn recipient_only(pcrs: &BTreeMap<u8, Measurement>) -> RecipientOnly<'_> {
    RecipientOnly {
        enclave_role: ROLE,
        data_owners: &[OWNER],
        administrator: ADMIN,
        pcrs,
        vpc_endpoint: None,
        required_context: &[],
        named_keys: &[],
        fixed_context: &[],
    }
}

fn decide_with(
    policy: &str,
    caller: &Principal,
    action: &str,
    document: Option<&Pcrs>,
    values: &[(&str, &str)],
) -> Decision {
    let mut context = ConditionContext::for_principal(caller);
    context.add_encryption_context(CONTEXT);
    if let Some(pcrs) = document {
        context.add_recipient(pcrs.iter().map(|(index, value)| (*index, value.as_slice())));
    }
    for (key, value) in values {
        context.set(key, value);
    }
    let resource = KeyArn::parse(KEY).unwrap();
    let policy = KeyPolicy::parse(policy).unwrap();
    policy.evaluate(&Request { action, resource: &resource, principal: caller, context: &context })
}

fn decide(policy: &str, caller: &str, action: &str, document: Option<&Pcrs>) -> Decision {
    let caller = match Principal::assumed(caller, "i-1") {
        Ok(session) => session,
        Err(_) => Principal::parse(caller).unwrap(),
    };
    decide_with(policy, &caller, action, document, &[])
}

fn is_allowed(decision: &Decision) -> bool {
    matches!(decision, Decision::Allowed { .. })
}

#[track_caller]
fn denied_by(decision: &Decision) -> &str {
    match decision {
        Decision::ExplicitDeny { statement } => statement.sid.as_deref().unwrap(),
        other => panic!("{other}"),
    }
}

// K-2
#[test]
fn only_the_attested_enclave_opens_data() {
    let pcrs = image();
    let policy = recipient_only(&pcrs).render().unwrap();
    let good = good_document();
    assert!(is_allowed(&decide(&policy, ROLE, "kms:Decrypt", Some(&good))));
    assert!(is_allowed(&decide(&policy, ROLE, "kms:GenerateDataKey", Some(&good))));
    // Without a document, every measurement is absent; the first deny fires.
    for caller in [ROLE, OWNER, ADMIN, ROOT, "arn:aws:iam::444455556666:user/m"] {
        assert_eq!(denied_by(&decide(&policy, caller, "kms:Decrypt", None)), "OpenNothingUnlessPCR0Fits");
    }
    // An attested document does not help somebody else.
    assert_eq!(decide(&policy, OWNER, "kms:Decrypt", Some(&good)), Decision::NoStatement);
    // ReEncrypt takes no document, so it is closed to everybody.
    for action in ["kms:ReEncryptFrom", "kms:ReEncryptTo"] {
        assert_eq!(denied_by(&decide(&policy, ROLE, action, None)), "OpenNothingUnlessPCR0Fits");
    }
    // The enclave's role gets no data key without a document either.
    assert_eq!(decide(&policy, ROLE, "kms:GenerateDataKey", None), Decision::NoStatement);
    assert_eq!(decide(&policy, ROLE, "kms:GenerateDataKeyWithoutPlaintext", None), Decision::NoStatement);
}

// K-2: a single deny over several measurements would fire only if all of them differed.
#[test]
fn one_wrong_measurement_is_enough_to_be_denied() {
    let pcrs = image();
    let policy = recipient_only(&pcrs).render().unwrap();
    for wrong in [0_u8, 1, 2, 16] {
        let mut pcrs = good_document();
        pcrs.iter_mut().find(|(index, _)| *index == wrong).unwrap().1[47] ^= 1;
        let decision = decide(&policy, ROLE, "kms:Decrypt", Some(&pcrs));
        assert_eq!(denied_by(&decision), format!("OpenNothingUnlessPCR{wrong}Fits"));
        assert_eq!(decide(&policy, ROLE, "kms:GenerateDataKey", Some(&pcrs)), Decision::NoStatement);
    }
    // PCR16 left out of the document, and an enclave in debug mode.
    let unlocked = document(&[(0, 1), (1, 2), (2, 3)]);
    let decision = decide(&policy, ROLE, "kms:Decrypt", Some(&unlocked));
    assert_eq!(denied_by(&decision), "OpenNothingUnlessPCR16Fits");
    let debug = document(&[(0, 0), (1, 0), (2, 0), (16, 17)]);
    let decision = decide(&policy, ROLE, "kms:Decrypt", Some(&debug));
    assert_eq!(denied_by(&decision), "OpenNothingUnlessPCR0Fits");
}

// K-2, K-3: the denies stand when somebody adds a careless allow.
#[test]
fn a_later_allow_for_the_account_opens_nothing() {
    let pcrs = image();
    let careless =
        r#"{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},"#;
    let list = r#""Statement": ["#;
    let policy = recipient_only(&pcrs).render().unwrap().replace(list, &format!("{list}{careless}"));
    assert_eq!(denied_by(&decide(&policy, ROOT, "kms:Decrypt", None)), "OpenNothingUnlessPCR0Fits");
    assert_eq!(denied_by(&decide(&policy, ROOT, "kms:CreateGrant", None)), "NoGrants");
    assert!(matches!(decide(&policy, OWNER, "kms:TagResource", None), Decision::DelegatedToIam { .. }));
}

#[test]
fn data_owners_encrypt_and_administrators_administer_and_neither_does_more() {
    let pcrs = image();
    let policy = recipient_only(&pcrs).render().unwrap();
    for (action, owner, admin) in [
        ("kms:Encrypt", true, false),
        ("kms:GenerateDataKey", true, false),
        ("kms:GenerateDataKeyWithoutPlaintext", true, false),
        ("kms:GenerateDataKeyPair", false, false),
        ("kms:PutKeyPolicy", false, true),
        ("kms:GetKeyPolicy", false, true),
        ("kms:DescribeKey", false, true),
        ("kms:ScheduleKeyDeletion", false, true),
        ("kms:CreateGrant", false, false),
        ("kms:Decrypt", false, false),
        ("kms:ReEncryptFrom", false, false),
    ] {
        assert_eq!(is_allowed(&decide(&policy, OWNER, action, None)), owner, "{action} by the owner");
        assert_eq!(is_allowed(&decide(&policy, ADMIN, action, None)), admin, "{action} by the administrator");
        assert!(!is_allowed(&decide(&policy, ROLE, action, None)), "{action} by the role");
    }
}

// K-3: what the runtime role must never hold, document or not.
#[test]
fn the_enclave_role_administers_nothing() {
    let pcrs = image();
    let policy = recipient_only(&pcrs).render().unwrap();
    let good = good_document();
    for action in ["kms:PutKeyPolicy", "kms:CreateGrant", "kms:ScheduleKeyDeletion", "kms:Encrypt"] {
        assert!(!is_allowed(&decide(&policy, ROLE, action, Some(&good))), "{action}");
    }
}

// K-17
#[test]
fn data_is_opened_through_the_vpc_endpoint_and_from_the_own_account_only() {
    let pcrs = image();
    let with_endpoint = RecipientOnly { vpc_endpoint: Some("vpce-0a1b"), ..recipient_only(&pcrs) };
    let policy = with_endpoint.render().unwrap();
    let role = Principal::assumed(ROLE, "i-1").unwrap();
    let good = good_document();
    let ask = |values: &[(&str, &str)]| decide_with(&policy, &role, "kms:Decrypt", Some(&good), values);
    assert!(is_allowed(&ask(&[("aws:SourceVpce", "vpce-0a1b")])));
    assert_eq!(denied_by(&ask(&[("aws:SourceVpce", "vpce-0a1c")])), "OpenNothingOutsideTheVpc");
    assert_eq!(denied_by(&ask(&[])), "OpenNothingOutsideTheVpc");
    let foreign = ask(&[("aws:SourceVpce", "vpce-0a1b"), ("kms:CallerAccount", "444455556666")]);
    assert_eq!(denied_by(&foreign), "NothingForOtherAccounts");
}

// K-7: what is wrapped for a named key opens under its own values only, and nobody makes it in plaintext.
#[test]
fn named_keys_have_contexts_of_their_own() {
    let pcrs = image();
    let named = [vec![("purpose", "token"), ("version", "2")]];
    let policy = RecipientOnly { required_context: &["object"], named_keys: &named, ..recipient_only(&pcrs) };
    let policy = policy.render().unwrap();
    let (owner, role) = (Principal::parse(OWNER).unwrap(), Principal::assumed(ROLE, "i-1").unwrap());
    let token = [("kms:EncryptionContext:purpose", "token"), ("kms:EncryptionContext:version", "2")];
    let stale = [("kms:EncryptionContext:purpose", "token"), ("kms:EncryptionContext:version", "1")];
    let document = good_document();
    let open = |values: &[(&str, &str)]| decide_with(&policy, &role, "kms:Decrypt", Some(&document), values);
    assert!(is_allowed(&open(&token)));
    assert_eq!(open(&stale), Decision::NoStatement);
    let make = |action: &str, values: &[(&str, &str)]| decide_with(&policy, &owner, action, None, values);
    assert!(is_allowed(&make("kms:GenerateDataKeyWithoutPlaintext", &token)));
    assert_eq!(make("kms:GenerateDataKeyWithoutPlaintext", &stale), Decision::NoStatement);
    for action in ["kms:GenerateDataKey", "kms:Encrypt", "kms:Decrypt"] {
        assert!(!is_allowed(&make(action, &token)), "{action}");
    }
}

#[test]
fn demanded_context_keys_must_be_there() {
    let pcrs = image();
    let demanding = RecipientOnly { required_context: &["tenant", "object"], ..recipient_only(&pcrs) };
    let policy = demanding.render().unwrap();
    let owner = Principal::parse(OWNER).unwrap();
    let ask = |values: &[(&str, &str)]| decide_with(&policy, &owner, "kms:GenerateDataKey", None, values);
    assert_eq!(ask(&[]), Decision::NoStatement);
    assert!(is_allowed(&ask(&[("kms:EncryptionContext:object", "o")])));
}

#[test]
fn refuses_roles_that_would_undo_the_separation() {
    let pcrs = image();
    let good = recipient_only(&pcrs);
    let owned = str::to_owned;
    for (case, error) in [
        (RecipientOnly { enclave_role: ADMIN, ..good.clone() }, RenderError::SameRole(owned(ADMIN))),
        (RecipientOnly { enclave_role: OWNER, ..good.clone() }, RenderError::SameRole(owned(OWNER))),
        (RecipientOnly { enclave_role: "*", ..good.clone() }, RenderError::Principal(owned("*"))),
        (
            RecipientOnly { enclave_role: "111122223333", ..good.clone() },
            RenderError::Principal(owned("111122223333")),
        ),
        (RecipientOnly { administrator: "*", ..good.clone() }, RenderError::Principal(owned("*"))),
        (RecipientOnly { data_owners: &["*"], ..good.clone() }, RenderError::Principal(owned("*"))),
        (
            RecipientOnly { data_owners: &["arn:aws:iam::444455556666:user/m"], ..good.clone() },
            RenderError::OtherAccount(owned("arn:aws:iam::444455556666:user/m")),
        ),
        (RecipientOnly { data_owners: &[], ..good.clone() }, RenderError::NoDataOwner),
        (RecipientOnly { vpc_endpoint: Some(""), ..good.clone() }, RenderError::Text(owned(""))),
        (
            RecipientOnly { required_context: &["${aws:username}"], ..good.clone() },
            RenderError::Text(owned("${aws:username}")),
        ),
    ] {
        assert_eq!(case.render(), Err(error), "{case:?}");
    }
    let mut incomplete = image();
    incomplete.remove(&1);
    assert_eq!(recipient_only(&incomplete).render(), Err(RenderError::NoMeasurement(1)));
    let mut strange = image();
    strange.insert(32, Measurement::new([1; 48]).unwrap());
    assert_eq!(recipient_only(&strange).render(), Err(RenderError::NoSuchPcr(32)));
}

// V-4: the measurements of a debug enclave are never a condition.
#[test]
fn refuses_measurements_that_match_any_debug_enclave() {
    assert_eq!(Measurement::new([0; 48]), Err(MeasurementError::Zero));
    assert_eq!(Measurement::from_hex(&"00".repeat(48)), Err(MeasurementError::Zero));
    for text in ["", "ab", &"ab".repeat(49), &format!("0x{}", "ab".repeat(47)), &"xy".repeat(48)] {
        assert_eq!(Measurement::from_hex(text), Err(MeasurementError::Malformed), "{text}");
    }
    let digits = "aB".repeat(48);
    assert_eq!(Measurement::from_hex(&digits).unwrap().to_string(), digits.to_lowercase());
}

// The usual idiom: allow with one operator, deny with its negation.
#[test]
fn the_usual_deny_outside_the_enclave_fires_for_an_absent_document() {
    let pcr = "ab".repeat(48);
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Principal":{{"AWS":"{ROLE}"}},"Action":"kms:*","Resource":"*"}},
            {{"Effect":"Deny","Principal":{{"AWS":"{ROLE}"}},"Action":"kms:Decrypt","Resource":"*",
              "Condition":{{"StringNotEqualsIgnoreCase":{{"kms:RecipientAttestation:ImageSha384":"{pcr}"}}}}}}]}}"#
    );
    let upper = policy.replace(&pcr, &pcr.to_uppercase());
    for policy in [policy, upper] {
        let right = document(&[(0, 0xab)]);
        assert!(is_allowed(&decide(&policy, ROLE, "kms:Decrypt", Some(&right))));
        for wrong in [None, Some(document(&[(0, 0xac)])), Some(document(&[(1, 0xab)]))] {
            let decision = decide(&policy, ROLE, "kms:Decrypt", wrong.as_ref());
            assert!(matches!(decision, Decision::ExplicitDeny { .. }), "{decision}");
        }
    }
}

#[test]
fn the_rendered_policy_is_stable_and_small() {
    let pcrs = image();
    let policy = recipient_only(&pcrs).render().unwrap();
    assert_eq!(policy, include_str!("vectors/key_policy/recipient-only.json").trim_end());
    let all: BTreeMap<_, _> = (0..32).map(|index| (index, Measurement::new([7; 48]).unwrap())).collect();
    assert!(recipient_only(&all).render().unwrap().len() < 32 * 1024);
}
