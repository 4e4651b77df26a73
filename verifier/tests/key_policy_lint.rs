//! What the linter finds in key policies, and that it finds nothing in those for enclaves.

use std::collections::BTreeMap;

use adyton_verifier::key_policy::{
    Finding, KeyPolicy, Measurement, PolicyError, RecipientOnly, RuntimeRole, Severity,
};

const ROLE: &str = "arn:aws:iam::111122223333:role/enclave";
const OWNER: &str = "arn:aws:iam::111122223333:user/owner";
const ADMIN: &str = "arn:aws:iam::111122223333:user/admin";
const ROOT: &str = "arn:aws:iam::111122223333:root";
const VPC: &str = r#""StringEquals":{"kms:CallerAccount":"111122223333","aws:SourceVpce":"vpce-1"}"#;

fn hex(byte: u8) -> String {
    format!("{byte:02x}").repeat(48)
}

fn policy(statements: &[String]) -> KeyPolicy {
    let json = format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","));
    KeyPolicy::parse(&json).unwrap_or_else(|error| panic!("{error}: {json}"))
}

type Brief = (&'static str, &'static str, Option<usize>);

/// Requirement, code and statement of each error, or of each warning.
fn found(findings: &[Finding], severity: Severity) -> Vec<Brief> {
    let of = |finding: &&Finding| finding.severity == severity;
    let brief = |finding: &Finding| {
        let index = finding.statement.as_ref().map(|statement| statement.index);
        (finding.requirement, finding.code, index)
    };
    findings.iter().filter(of).map(brief).collect()
}

fn errors(statements: &[String]) -> Vec<Brief> {
    found(&policy(statements).lint(&[]), Severity::Error)
}

fn warnings(statements: &[String]) -> Vec<Brief> {
    found(&policy(statements).lint(&[]), Severity::Warning)
}

fn allow(principal: &str, actions: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":{actions},"Resource":"*","Condition":{{{condition}}}}}"#
    )
}

fn pcrs(indices: &[u8]) -> String {
    let pairs =
        indices.iter().map(|index| format!(r#""kms:RecipientAttestation:PCR{index}":"{}""#, hex(index + 1)));
    format!(r#""StringEqualsIgnoreCase":{{{}}},{VPC}"#, pairs.collect::<Vec<_>>().join(","))
}

/// The enclave's own statement, for these registers.
fn attested(indices: &[u8]) -> String {
    allow(ROLE, r#""kms:Decrypt""#, &pcrs(indices))
}

fn deny(action: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"Deny","Principal":"*","Action":{action},"Resource":"*","Condition":{{{condition}}}}}"#
    )
}

/// One deny for each register.
fn denies(indices: &[u8]) -> Vec<String> {
    let each = |index: &u8| {
        let condition = format!(
            r#""StringNotEqualsIgnoreCase":{{"kms:RecipientAttestation:PCR{index}":"{}"}}"#,
            hex(index + 1)
        );
        deny(r#"["kms:Decrypt","kms:ReEncrypt*"]"#, &condition)
    };
    indices.iter().map(each).collect()
}

/// A policy without findings, and one more statement in front of it.
fn with(statement: String) -> Vec<String> {
    let mut statements = vec![statement, attested(&[0, 1, 2])];
    statements.extend(denies(&[0, 1, 2]));
    statements.push(deny(r#""kms:CreateGrant""#, ""));
    statements
}

fn good() -> Vec<String> {
    with(attested(&[0, 1, 2]))
}

// K-2, K-3, K-17, V-5
#[test]
fn the_policy_that_is_written_for_an_enclave_has_no_errors() {
    let image: BTreeMap<_, _> = [0, 1, 2, 3, 16].map(|i| (i, Measurement::new([i + 1; 48]).unwrap())).into();
    for administrator in [ADMIN, ROOT] {
        for vpc_endpoint in [None, Some("vpce-1")] {
            let text = RecipientOnly {
                enclave_role: ROLE,
                data_owners: &[OWNER],
                administrator,
                pcrs: &image,
                vpc_endpoint,
                required_context: &["tenant"],
                named_keys: &[vec![("name", "one")]],
                fixed_context: &[("purpose", "payments")],
            }
            .render()
            .unwrap();
            let role = RuntimeRole::parse(ROLE).unwrap();
            let findings = KeyPolicy::parse(&text).unwrap().lint(&[role]);
            let expected = if vpc_endpoint.is_some() { vec![] } else { vec!["no-vpc-condition"; 2] };
            let codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
            assert_eq!(codes, expected, "{findings:#?}");
            assert!(findings.iter().all(|finding| finding.severity == Severity::Warning));
        }
    }
    assert_eq!(errors(&good()), []);
    assert_eq!(warnings(&good()), []);
}

// K-2
#[test]
fn opening_without_attestation_is_an_error_whoever_does_it() {
    for actions in [
        r#""kms:Decrypt""#,
        r#""kms:ReEncryptFrom""#,
        r#""kms:ReEncrypt*""#,
        r#""KMS:d?crypt""#,
        r#"["kms:Encrypt","kms:DeriveSharedSecret"]"#,
    ] {
        for principal in [ROLE, OWNER, ADMIN] {
            let statements = with(allow(principal, actions, VPC));
            assert_eq!(errors(&statements), [("K-2", "opens-unattested", Some(0))], "{actions} {principal}");
        }
    }
    let but = format!(
        r#"{{"Effect":"Allow","Principal":{{"AWS":"{OWNER}"}},"NotAction":"kms:Encrypt","Resource":"*","Condition":{{{VPC}}}}}"#
    );
    assert!(errors(&with(but)).contains(&("K-2", "opens-unattested", Some(0))));
}

// K-2
#[test]
fn data_keys_in_plaintext_are_for_owners_and_not_for_the_role_of_the_enclave() {
    let data_key = r#""kms:GenerateDataKey""#;
    assert_eq!(errors(&with(allow(OWNER, data_key, VPC))), []);
    assert_eq!(errors(&with(allow(ROLE, data_key, VPC))), [("K-2", "data-key-unattested", Some(0))]);
    // A session of the role is the role.
    let session = "arn:aws:sts::111122223333:assumed-role/enclave/i-1";
    assert_eq!(errors(&with(allow(session, data_key, VPC))), [("K-2", "data-key-unattested", Some(0))]);
    // Who the enclave is can be said.
    let statements = policy(&with(allow(OWNER, data_key, VPC)));
    let findings = statements.lint(&[RuntimeRole::parse(OWNER).unwrap()]);
    assert_eq!(found(&findings, Severity::Error), [("K-2", "data-key-unattested", Some(0))]);
    for other in [ROOT, "*", "111122223333", "enclave"] {
        let error = PolicyError::InvalidPrincipal(other.to_owned());
        assert_eq!(RuntimeRole::parse(other), Err(error));
    }
}

// K-2
#[test]
fn conditions_that_hold_without_a_document_are_no_attestation() {
    let key = "kms:RecipientAttestation:PCR0";
    for (condition, code) in [
        (format!(r#""StringEqualsIfExists":{{"{key}":"{}"}}"#, hex(1)), Some("condition-optional")),
        (format!(r#""ForAllValues:StringEquals":{{"{key}":"{}"}}"#, hex(1)), Some("condition-optional")),
        (format!(r#""StringNotEquals":{{"{key}":"{}"}}"#, hex(1)), Some("condition-optional")),
        (format!(r#""StringLike":{{"{key}":"*"}}"#), Some("measurement-wildcard")),
        (format!(r#""Null":{{"{key}":"false"}}"#), None),
        (format!(r#""StringEquals":{{"kms:RecipientAttestation:NitroTPMPCR0":"{}"}}"#, hex(1)), None),
    ] {
        let also =
            r#""StringEqualsIgnoreCase":{"kms:CallerAccount":"111122223333","aws:SourceVpce":"vpce-1"}"#;
        let statements = with(allow(ROLE, r#""kms:Decrypt""#, &format!("{condition},{also}")));
        let mut expected = vec![("K-2", "opens-unattested", Some(0))];
        expected.splice(0..0, code.map(|code| ("K-2", code, Some(0))));
        assert_eq!(errors(&statements), expected, "{condition}");
    }
}

// K-2
#[test]
fn what_opens_data_is_denied_to_everybody_outside_the_enclave() {
    let enclave = attested(&[0, 1, 2]);
    let missing = [("K-2", "no-deny-outside-enclave", None)];
    let condition =
        |operator: &str| format!(r#""{operator}":{{"kms:RecipientAttestation:PCR0":"{}"}}"#, hex(1));
    let all = r#"["kms:Decrypt","kms:ReEncrypt*"]"#;
    let to_role = deny(all, &condition("StringNotEquals"))
        .replace(r#""*","Action""#, &format!(r#"{{"AWS":"{ROLE}"}},"Action""#));
    let elsewhere = deny(all, &condition("StringNotEquals"))
        .replace(r#""Resource":"*""#, r#""Resource":"arn:aws:kms:*:*:key/other""#);
    for useless in [
        deny(r#""kms:Decrypt""#, &condition("StringNotEquals")),
        deny(all, &condition("StringEquals")),
        deny(all, &condition("ForAnyValue:StringNotEquals")),
        deny(all, &format!(r#"{},"StringEquals":{{"aws:PrincipalArn":"x"}}"#, condition("StringNotEquals"))),
        to_role,
        elsewhere,
    ] {
        assert_eq!(errors(&[enclave.clone(), useless.clone()]), missing, "{useless}");
    }
    assert_eq!(errors(std::slice::from_ref(&enclave)), missing);
    for useful in [
        condition("StringNotEqualsIfExists"),
        r#""Null":{"kms:RecipientAttestation:ImageSha384":"true"}"#.to_owned(),
    ] {
        let statements = [enclave.clone(), deny(all, &useful)];
        assert_eq!(errors(&statements), []);
        assert_eq!(warnings(&statements), [("K-2", "deny-partial", None)]);
    }
    assert_eq!(errors(&[enclave, deny(all, "")]), []);
}

// K-2: such a deny fires only if all measurements differ.
#[test]
fn one_deny_over_several_measurements_is_not_enough() {
    let joined = r#""StringNotEqualsIgnoreCase":{"kms:RecipientAttestation:PCR0":"A","kms:RecipientAttestation:PCR1":"A"}"#
        .replace(":\"A\"", &format!(":\"{}\"", hex(1)));
    let statements = [attested(&[0, 1, 2]), deny(r#"["kms:Decrypt","kms:ReEncrypt*"]"#, &joined)];
    assert_eq!(warnings(&statements), [("K-2", "deny-partial", None), ("K-2", "deny-joined", Some(1))]);
}

// K-3, K-2, K-17
#[test]
fn the_default_policy_protects_nothing() {
    let default = format!(
        r#"{{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{{"AWS":"{ROOT}"}},"Action":"kms:*","Resource":"*"}}"#
    );
    assert_eq!(
        errors(std::slice::from_ref(&default)),
        [
            ("K-2", "nothing-attested", None),
            ("K-2", "no-deny-outside-enclave", None),
            ("K-2", "opens-unattested", Some(0)),
            ("K-3", "root-delegation", Some(0)),
            ("K-17", "no-account-condition", Some(0)),
        ]
    );
    let text = policy(&[default]).lint(&[]).into_iter().find(|finding| finding.code == "root-delegation");
    assert_eq!(
        text.unwrap().to_string(),
        "error K-3 (root-delegation): statement 0 (Enable IAM User Permissions): it leaves kms:Decrypt, \
         kms:ReEncryptFrom, kms:ReEncryptTo, kms:CreateGrant to the IAM policies of the account 111122223333, and \
         nothing denies it; name who may do what instead, or deny these actions to everybody outside the enclave"
    );
}

// K-3
#[test]
fn an_account_may_be_named_where_opening_and_grants_are_denied() {
    let root = allow(ROOT, r#""kms:*""#, VPC);
    assert_eq!(errors(&with(root.clone())), []);
    assert_eq!(warnings(&with(root.clone())), [("K-3", "all-actions", Some(0))]);
    // The same without the deny of grants.
    let mut statements = with(root);
    statements.pop();
    assert_eq!(errors(&statements), [("K-3", "root-delegation", Some(0))]);
}

// K-3
#[test]
fn the_role_of_the_enclave_manages_nothing() {
    let mut open = vec![attested(&[0, 1, 2])];
    open.extend(denies(&[0, 1, 2]));
    for (actions, expected) in [
        (r#""kms:CreateGrant""#, vec![("K-3", "runtime-grants", Some(4))]),
        (r#""kms:PutKeyPolicy""#, vec![("K-3", "runtime-policy", Some(4))]),
        (
            r#"["kms:Put*","kms:Create*"]"#,
            vec![("K-3", "runtime-grants", Some(4)), ("K-3", "runtime-policy", Some(4))],
        ),
        (r#""kms:DescribeKey""#, vec![]),
    ] {
        let mut statements = open.clone();
        statements.push(allow(ROLE, actions, VPC));
        assert_eq!(errors(&statements), expected, "{actions}");
    }
    let mut statements = open.clone();
    statements.push(allow(ROLE, r#"["kms:DisableKey","kms:ScheduleKeyDeletion"]"#, VPC));
    assert_eq!(warnings(&statements), [("K-3", "runtime-administration", Some(4))]);
    let all = errors(&with(allow(ROLE, r#""kms:*""#, VPC)));
    for code in ["all-actions", "runtime-policy"] {
        assert!(all.contains(&("K-3", code, Some(0))), "{all:?}");
    }
    // Others may make grants if the policy says which.
    for (condition, expected) in [
        (VPC.to_owned(), vec![("K-3", "grants", Some(4))]),
        (format!(r#"{VPC},"ForAllValues:StringEquals":{{"kms:GrantOperations":"Encrypt"}}"#), vec![]),
        (
            format!(r#"{VPC},"StringNotEquals":{{"kms:GrantOperations":"Decrypt"}}"#),
            vec![("K-3", "grants", Some(4))],
        ),
        (format!(r#"{VPC},"ArnEquals":{{"kms:GranteePrincipal":"{OWNER}"}}"#), vec![]),
    ] {
        let mut statements = open.clone();
        statements.push(allow(ADMIN, r#""kms:CreateGrant""#, &condition));
        assert_eq!(warnings(&statements), expected, "{condition}");
    }
}

// K-17
#[test]
fn callers_are_bound_to_the_account_and_the_endpoint() {
    let image = pcrs(&[0, 1, 2]);
    let enclave = |condition: &str| with(allow(ROLE, r#""kms:Decrypt""#, &image.replace(VPC, condition)));
    let account = r#""StringEquals":{"kms:CallerAccount":"111122223333"}"#;
    let endpoint = r#""StringEquals":{"aws:SourceVpce":"vpce-1"}"#;
    assert_eq!(warnings(&enclave(account)), [("K-17", "no-vpc-condition", Some(0))]);
    assert_eq!(errors(&enclave(account)), []);
    assert_eq!(errors(&enclave(endpoint)), [("K-17", "no-account-condition", Some(0))]);
    let optional = r#""StringEqualsIfExists":{"aws:SourceVpce":"vpce-1","kms:CallerAccount":"111122223333"}"#;
    assert_eq!(errors(&enclave(optional)), [("K-17", "no-account-condition", Some(0))]);
    assert_eq!(warnings(&enclave(optional)), [("K-17", "no-vpc-condition", Some(0))]);
    // Denies to everybody do as well.
    let mut statements = enclave(r#""Bool":{"aws:SecureTransport":"true"}"#);
    statements.push(deny(r#""kms:*""#, r#""StringNotEquals":{"kms:CallerAccount":"111122223333"}"#));
    statements.push(deny(r#""kms:*""#, r#""StringNotEquals":{"aws:SourceVpce":"vpce-1"}"#));
    assert_eq!(errors(&statements), []);
    assert_eq!(warnings(&statements), []);
}

// K-17
#[test]
fn everybody_and_other_accounts_are_not_named() {
    let encrypt = r#""kms:Encrypt""#;
    assert_eq!(
        errors(&with(allow("*", encrypt, r#""Bool":{"aws:SecureTransport":"true"}"#))),
        [("K-17", "everybody", Some(0)), ("K-17", "no-account-condition", Some(0))]
    );
    assert_eq!(errors(&with(allow("*", encrypt, VPC))), []);
    assert_eq!(warnings(&with(allow("*", encrypt, VPC))), [("K-17", "everybody", Some(0))]);
    for stranger in ["444455556666", "arn:aws:iam::444455556666:root", "arn:aws:iam::444455556666:user/m"] {
        let found = errors(&with(allow(stranger, encrypt, VPC)));
        assert_eq!(found, [("K-17", "other-account", Some(0))], "{stranger}");
    }
}

// V-5, V-7, V-8
#[test]
fn an_image_is_its_three_measurements_together() {
    for (registers, expected) in [
        (&[0_u8][..], vec![("V-5", "image-incomplete")]),
        (&[0, 1], vec![("V-5", "image-incomplete")]),
        (&[0, 2, 3, 8, 16], vec![("V-5", "image-incomplete")]),
        (&[16], vec![("V-5", "image-incomplete")]),
        (&[8], vec![("V-7", "pcr8-alone")]),
        (&[3], vec![("V-8", "parent-alone")]),
        (&[4], vec![("V-8", "parent-alone")]),
        (&[3, 4], vec![("V-8", "parent-alone")]),
        (&[3, 8], vec![("V-7", "pcr8-alone"), ("V-8", "parent-alone")]),
        (&[0, 1, 2], vec![]),
        (&[0, 1, 2, 3, 4, 8, 16], vec![]),
    ] {
        let mut statements = vec![attested(registers)];
        statements.extend(denies(registers));
        let expected: Vec<_> = expected.into_iter().map(|(id, code)| (id, code, Some(0))).collect();
        assert_eq!(errors(&statements), expected, "{registers:?}");
        assert_eq!(warnings(&statements), []);
    }
    // ImageSha384 is PCR0 under another name.
    let named = attested(&[0, 1, 2]).replace("PCR0", "ImageSha384");
    assert_eq!(errors(&with(named)), []);
}

// V-5
#[test]
fn lists_of_measurements_admit_mixtures_of_images() {
    let two = |index: u8| format!(r#"["{}","{}"]"#, hex(index), hex(index + 100));
    let condition = format!(
        r#""StringEquals":{{"kms:RecipientAttestation:PCR0":{},"kms:RecipientAttestation:PCR1":{},"kms:RecipientAttestation:PCR2":"{}","kms:CallerAccount":"111122223333","aws:SourceVpce":"vpce-1"}}"#,
        two(1),
        two(2),
        hex(3)
    );
    assert_eq!(
        warnings(&with(allow(ROLE, r#""kms:Decrypt""#, &condition))),
        [("V-5", "images-mixed", Some(0))]
    );
}

// K-2, V-6
#[test]
fn measurements_that_match_nothing_or_every_debug_enclave_are_named() {
    for (value, expected) in [
        (format!("0x{}", hex(1)), ("K-2", "measurement-0x")),
        (format!("0X{}", hex(1)), ("K-2", "measurement-0x")),
        (hex(0), ("V-6", "measurement-zero")),
        (hex(1).chars().skip(1).collect(), ("K-2", "measurement-malformed")),
        ("unknown".to_owned(), ("K-2", "measurement-malformed")),
        (String::new(), ("K-2", "measurement-malformed")),
    ] {
        let statement = attested(&[0, 1, 2]).replace(&hex(1), &value);
        let (requirement, code) = expected;
        assert_eq!(errors(&with(statement.clone())), [(requirement, code, Some(0))], "{value}");
        // In a deny it refuses the enclave as well.
        let mut statements = good();
        statements.insert(0, denies(&[0]).remove(0).replace(&hex(1), &value));
        assert_eq!(errors(&statements), [(requirement, code, Some(0))], "{value}");
    }
    let capital = attested(&[0, 1, 2]).replace(&hex(1), &hex(0xab).to_uppercase());
    assert_eq!(errors(&with(capital.clone())), []);
    let exact = capital.replace("StringEqualsIgnoreCase", "StringLike");
    assert_eq!(errors(&with(exact)), [("K-2", "measurement-case", Some(0))]);
}

// K-21
#[test]
fn who_may_change_the_policy_is_named() {
    let names = |statements: &[String]| policy(statements).may_be_put_by();
    assert_eq!(names(&good()), Vec::<String>::new());
    let statements = [
        allow(ADMIN, r#"["kms:Put*","kms:GetKeyPolicy"]"#, VPC),
        allow(ADMIN, r#""kms:PutKeyPolicy""#, VPC),
        allow(ROOT, r#""kms:*""#, VPC),
        allow(OWNER, r#""kms:Encrypt""#, VPC),
        deny(r#""kms:PutKeyPolicy""#, ""),
    ];
    assert_eq!(names(&statements), [ADMIN, "the account 111122223333"]);
}

#[test]
fn a_statement_that_does_nothing_is_named() {
    let inert = format!(r#"{{"Effect":"Allow","Principal":{{"AWS":"{ROLE}"}},"Action":"kms:*"}}"#);
    assert_eq!(warnings(&with(inert.clone())), [("K-2", "inert-statement", Some(0))]);
    assert_eq!(errors(&with(inert)), []);
}
