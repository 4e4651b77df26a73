//! Policies: what is read, what is refused, and what a rule lets out.

use adyton_shared::job::{Destination, FieldPath, Input, Job, Keyed, Mask, Rename, Step};
use adyton_shared::policy::{Policy, PolicyError, ReleaseRefusal};

const GOOD: &str = r#"
version = 1
name = "payments"

[kms]
region = "eu-west-1"
keys = ["arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001"]

[context]
tenant = { signed = true }
object = { signed = true }
purpose = { equals = "payments" }
version = { minimum = 7 }

[[requester]]
name = "billing"
key = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="

[[release]]
requester = "billing"
to = "parent"
fields = ["id", { path = "card.pan", as = "mask", keep_last = 4 }]

[[release]]
requester = "billing"
to = "parent"
digest = true

[limits]
record = "4 MiB"
"#;

fn problem(text: &str) -> String {
    Policy::parse(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn reads_a_policy_and_fills_in_defaults() {
    let policy = Policy::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(policy.kms.host, "kms.eu-west-1.amazonaws.com");
    assert_eq!((policy.limits.payload, policy.limits.record, policy.limits.jobs), (64 << 30, 4 << 20, 64));
    assert_eq!(policy.kms.deadline_seconds, 30);
    assert!(!policy.allow_non_committing);
    assert_eq!(policy.release.len(), 2);
}

// K-5, K-14
#[test]
fn a_result_cannot_be_sealed_to_a_key_from_which_payloads_are_opened() {
    // Otherwise the result of one job, in which `card.pan` may be called `id`, would be the payload of the next:
    // it keeps tenant, object and version.
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
    let release = "to = \"parent\"\ndigest = true";
    for what in ["", "\nfields = [\"id\"]", "\naggregate = { minimum_group = 20 }"] {
        let own = GOOD.replace(release, &format!("to = \"{arn}\"{what}"));
        assert!(problem(&own).contains("is one of [kms] keys"), "{}", problem(&own));
        let foreign = GOOD.replace(release, &format!("to = \"{}\"{what}", arn.replace("1111", "4444")));
        assert!(Policy::parse(foreign.as_bytes()).is_ok());
    }
}

// T-4
#[test]
fn every_byte_changes_the_digest() {
    let policy = Policy::parse(GOOD.as_bytes()).unwrap();
    let spaced = Policy::parse(format!("{GOOD} ").as_bytes()).unwrap();
    assert_ne!(policy.digest, spaced.digest);
}

// K-9, K-6, K-5
#[test]
fn refuses_what_its_author_cannot_have_meant() {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
    let alias = "arn:aws:kms:eu-west-1:111122223333:alias/payments";
    let cases = [
        (GOOD.replace("name = \"payments\"", "name = \"payments\"\nnam = 1"), "unknown field `nam`"),
        (GOOD.replace("record =", "recrod ="), "unknown field `recrod`"),
        (GOOD.replace(arn, alias), "an alias is not a key"),
        (GOOD.replace(arn, &arn.replace("eu-west-1", "us-east-1")), "is not in the region eu-west-1"),
        (GOOD.replace(&format!("[\"{arn}\"]"), "[]"), "list at least one full key ARN"),
        (GOOD.replace(&format!("[\"{arn}\"]"), &format!("[\"{arn}\", \"{arn}\"]")), "is listed twice"),
        (
            GOOD.replace("region =", "deadline_seconds = 0\nregion ="),
            "[kms] deadline_seconds: write 1 to 120",
        ),
        (
            GOOD.replace("region =", "deadline_seconds = 121\nregion ="),
            "[kms] deadline_seconds: write 1 to 120",
        ),
        (GOOD.replace("object = { signed = true }", ""), "object is missing"),
        (GOOD.replace("{ signed = true }", "{ equals = \"x\" }"), "no pair is signed"),
        (GOOD.replace("{ signed = true }", "{ signed = false }"), "write exactly one of"),
        (GOOD.replace("digest = true", "digest = false"), "write exactly one of"),
        (GOOD.replace("digest = true", "digest = true\nfields = [\"id\"]"), "write exactly one of"),
        (GOOD.replace("digest = true", ""), "write reveal = true if that is what you want"),
        (GOOD.replace("digest = true", "reveal = false"), "and nowhere else"),
        (GOOD.replace("digest = true", "digest = true\nreveal = true"), "write exactly one of"),
        (GOOD.replace("digest = true", "aggregate = { minimum_group = 1 }"), "is that record"),
        (GOOD.replace("digest = true", "aggregate = { budget = 1 }"), "missing field `minimum_group`"),
        (GOOD.replace("digest = true", "aggregate = { minimum_group = 2, budget = 0 }"), "has no effect"),
        (GOOD.replace("as = \"mask\", keep_last = 4", "as = \"token\", keep_last = 4"), "belongs to as"),
        (GOOD.replace("as = \"mask\", keep_last = 4", "as = \"mask\", key = \"k\""), "belongs to as"),
        (GOOD.replace("\"id\",", "\"id\", \"card\","), "together with a part of it"),
        (
            GOOD.replace(
                "digest = true",
                "fields = [\"id\", { path = \"card.pan\", as = \"mask\", keep_last = 4 }]",
            ),
            "the same rule is listed before",
        ),
        (
            GOOD.replace("requester = \"billing\"\nto", "requester = \"audit\"\nto"),
            "no [[requester]] named audit",
        ),
        (GOOD.replace("version = 1", "version = 2"), "2 is not supported"),
        (GOOD.replace("\"4 MiB\"", "\"4 MB\""), "is not a size"),
        (GOOD.split("[[release]]").next().unwrap().to_owned(), "nothing could ever leave"),
    ];
    for (text, expected) in cases {
        assert!(problem(&text).contains(expected), "{expected}: {}", problem(&text));
    }
    assert_eq!(Policy::parse(&[0xff]).unwrap_err().to_string().get(..9), Some("not UTF-8"));
    let long = vec![b' '; 300 * 1024];
    assert_eq!(Policy::parse(&long).unwrap_err(), PolicyError::TooLarge(300 * 1024));
}

fn job(steps: Vec<Step>) -> Job {
    Job { version: 1, input: Input::Ndjson, steps, to: Destination::Parent }
}

fn select(fields: &[&str]) -> Step {
    Step::Select(fields.iter().map(|f| FieldPath::parse(f).unwrap()).collect())
}

fn mask(field: &str, keep_last: u8) -> Step {
    Step::Mask(Mask { fields: vec![FieldPath::parse(field).unwrap()], keep_last })
}

#[test]
fn a_rule_lets_out_the_listed_fields_with_at_least_the_listed_treatment() {
    let policy = Policy::parse(GOOD.as_bytes()).unwrap();
    let billing = "billing".parse().unwrap();
    let ask = |steps| {
        let job = job(steps);
        policy.rule_for(&billing, &Destination::Parent, &job.outcome().unwrap()).map(|_| ())
    };
    assert_eq!(ask(vec![select(&["id"])]), Ok(()));
    assert_eq!(ask(vec![select(&["id", "card.pan"]), mask("card.pan", 4)]), Ok(()));
    assert_eq!(ask(vec![select(&["id.part"])]), Ok(()));
    assert_eq!(ask(vec![select(&["card.pan"]), mask("card.pan", 5)]), Err(ReleaseRefusal::Field));
    assert_eq!(ask(vec![select(&["card.pan"])]), Err(ReleaseRefusal::Field));
    assert_eq!(ask(vec![select(&["card"])]), Err(ReleaseRefusal::Field));
    assert_eq!(ask(vec![select(&["email"])]), Err(ReleaseRefusal::Field));
    assert_eq!(ask(vec![]), Err(ReleaseRefusal::Open));
    assert_eq!(ask(vec![mask("card.pan", 4)]), Err(ReleaseRefusal::Open));
    let other = "audit".parse().unwrap();
    let job = job(vec![select(&["id"])]);
    let refused = policy.rule_for(&other, &Destination::Parent, &job.outcome().unwrap());
    assert_eq!(refused.map(|_| ()), Err(ReleaseRefusal::NoRule));
}

fn rename(from: &str, to: &str) -> Step {
    Step::Rename(Rename { from: FieldPath::parse(from).unwrap(), to: FieldPath::parse(to).unwrap() })
}

fn keyed(field: &str, key: &str) -> Keyed {
    Keyed { fields: vec![FieldPath::parse(field).unwrap()], key: key.parse().unwrap() }
}

fn judged(fields: &str, steps: Vec<Step>) -> Result<(), ReleaseRefusal> {
    let listed = "fields = [\"id\", { path = \"card.pan\", as = \"mask\", keep_last = 4 }]";
    let keys = "\n[keys.k1]\nsource = \"file:k1\"\ncontext = { purpose = \"k1\" }\n";
    let policy = Policy::parse((GOOD.replace(listed, fields) + keys).as_bytes()).unwrap();
    let outcome = job(steps).outcome().unwrap();
    policy.rule_for(&"billing".parse().unwrap(), &Destination::Parent, &outcome).map(|_| ())
}

#[test]
fn a_name_neither_adds_a_treatment_nor_takes_one_away() {
    let rule = r#"fields = ["id", { path = "card.pan", as = "mask", keep_last = 4 }, "card.masked"]"#;
    let masked = vec![mask("card.pan", 4), rename("card.pan", "card.number"), select(&["card.number"])];
    assert_eq!(judged(rule, masked), Ok(()));
    let later = vec![rename("card.pan", "card.number"), select(&["card.number"]), mask("card.number", 2)];
    assert_eq!(judged(rule, later), Ok(()));
    // A name that the rule allows does not make another field allowed.
    let lied = vec![rename("card.pan", "card.masked"), select(&["card.masked"])];
    assert_eq!(judged(rule, lied), Err(ReleaseRefusal::Field));
    // Two fields that change names keep what was done to each.
    let swapped = vec![
        mask("card.exp", 0),
        rename("card.exp", "card.x"),
        rename("card.pan", "card.exp"),
        rename("card.x", "card.pan"),
    ];
    let first = [swapped.clone(), vec![select(&["card.pan"])]].concat();
    assert_eq!(judged(rule, first), Err(ReleaseRefusal::Field));
    let second = [swapped, vec![select(&["card.exp"])]].concat();
    assert_eq!(judged(rule, second), Err(ReleaseRefusal::Field));
}

#[test]
fn a_rule_may_demand_a_token_or_a_hash_and_its_key() {
    let select = || select(&["email"]);
    let token = |key: &str| vec![Step::Token(keyed("email", key)), select()];
    let hash = |key: &str| vec![Step::Hash(keyed("email", key)), select()];
    let any = r#"fields = [{ path = "email", as = "token" }]"#;
    let one = r#"fields = [{ path = "email", as = "token", key = "k1" }]"#;
    assert_eq!(judged(any, token("k2")), Ok(()));
    assert_eq!(judged(one, token("k1")), Ok(()));
    assert_eq!(judged(one, token("k2")), Err(ReleaseRefusal::Field));
    assert_eq!(judged(any, hash("k1")), Err(ReleaseRefusal::Field));
    assert_eq!(judged(any, vec![select()]), Err(ReleaseRefusal::Field));
    let hashed = r#"fields = [{ path = "email", as = "hash", key = "k1" }]"#;
    assert_eq!(judged(hashed, hash("k1")), Ok(()));
    // What a later step makes of a token says no more than the token.
    let both = vec![Step::Token(keyed("email", "k1")), mask("email", 4), select()];
    assert_eq!(judged(one, both), Ok(()));
}

#[test]
fn everything_leaves_only_where_the_policy_says_so_in_so_many_words() {
    assert_eq!(judged("reveal = true", vec![]), Ok(()));
    assert_eq!(judged("reveal = true", vec![select(&["email"])]), Ok(()));
}

const AGE: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

// K-7
#[test]
fn named_keys_are_bound_to_a_context_that_nothing_else_has() {
    let keys = |tables: &str| format!("{GOOD}\n{tables}");
    let token =
        "[keys.token]\nsource = \"file:token.key\"\ncontext = { purpose = \"token\", version = \"3\" }\n";
    let policy = Policy::parse(keys(token).as_bytes()).unwrap();
    let named = &policy.keys[&"token".parse().unwrap()];
    assert_eq!(named.key, policy.kms.keys[0]);
    assert_eq!(named.source.to_string(), "file:token.key");
    assert_eq!(policy.named_contexts(&named.key), [[("purpose", "token"), ("version", "3")]]);
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/8a51b3c0-0000-4000-8000-000000000001";
    let other = arn.replace("0001", "0002");
    let two_keys = |text: String| text.replace(&format!("[\"{arn}\"]"), &format!("[\"{arn}\", \"{other}\"]"));
    let without = |part: &str| keys(&token.replace(part, ""));
    let set = |part: &str, new: &str| keys(&token.replace(part, new));
    let twin = format!("{token}{}", token.replace("keys.token", "keys.twin"));
    for (text, expected) in [
        (set("file:token.key", "file:../token.key"), "without a folder"),
        (set("file:token.key", "vault:token"), "not a source"),
        (without("purpose = \"token\", "), "context needs a purpose"),
        (set("purpose = \"token\"", "purpose = \"\""), "context needs a purpose"),
        (set("version", "aws-crypto-x"), "belong to the message format"),
        (set("version", "tenant = \"t\", object = \"o\", version"), "leave object out"),
        (keys(&twin), "the same context"),
        (keys(&token.replace("[keys.token]", "[keys.Token]")), "not a key name"),
        (keys(&format!("{token}kms = \"{other}\"\n")), "is not in [kms] keys"),
        (two_keys(keys(token)), "say which one"),
        (keys(&format!("{token}rotate = true\n")), "unknown field `rotate`"),
        (
            GOOD.replace("as = \"mask\", keep_last = 4", "as = \"token\", key = \"token\""),
            "needs [keys.token], which is not there",
        ),
    ] {
        assert!(problem(&text).contains(expected), "{expected}: {}", problem(&text));
    }
    let twin_elsewhere =
        format!("{}kms = \"{arn}\"\n{}kms = \"{other}\"\n", token, token.replace("keys.token", "keys.twin"));
    assert_eq!(Policy::parse(two_keys(keys(&twin_elsewhere)).as_bytes()).unwrap().keys.len(), 2);
}

#[test]
fn destinations_are_strict_and_of_the_policy_region() {
    let rule = |rest: &str| format!("{GOOD}\n[[release]]\nrequester = \"billing\"\n{rest}\n");
    let arn = "arn:aws:kms:eu-west-1:444455556666:key/1";
    for to in [AGE, arn] {
        let policy = Policy::parse(rule(&format!("to = \"{to}\"\npad = true")).as_bytes());
        assert!(policy.is_ok_and(|policy| policy.release[2].pad), "{to}");
    }
    let elsewhere = arn.replace("eu-west-1", "us-east-1");
    for (text, expected) in [
        (rule(&format!("to = \"{elsewhere}\"")), "is not in the region eu-west-1 of [kms]"),
        (rule(&format!("to = \"{}\"", AGE.replacen("t7", "7t", 1))), "checksum"),
        (rule("to = \"alias/partner\""), "an alias is not a key"),
        (rule("to = \"s3://bucket\""), "not a destination"),
        (rule("to = \"parent\"\nreveal = true\npad = true"), "the parent reads the result itself"),
        (rule(&format!("to = \"{AGE}\"\ndigest = true\npad = true")), "a digest has one length"),
        (rule(&format!("to = [\"{AGE}\", \"{AGE}\"]")), "expected a string"),
    ] {
        assert!(problem(&text).contains(expected), "{expected}: {}", problem(&text));
    }
}
