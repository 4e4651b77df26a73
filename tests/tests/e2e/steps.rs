//! Attacks with jobs: what somebody who may send them tries in order to see more than the rules say.

use adyton_shared::ErrorCode;
use adyton_shared::job::{Aggregate, Input, Job, Rename, Step};
use adyton_tests::client::{claims, code, job, mask_job, path};
use adyton_tests::message::Recipe;
use adyton_tests::world::World;

const RECORDS: &[u8] = b"\
{\"id\":1,\"email\":\"a@example.com\",\"pay\":10.10}
{\"id\":2,\"email\":\"b@example.com\",\"pay\":20.20}
{\"id\":3,\"email\":\"c@example.com\",\"pay\":30.30}
";

fn with_aggregates(policy: String) -> String {
    policy
        + "\n[[release]]\nrequester = \"billing\"\nto = \"parent\"\n\
           aggregate = { minimum_group = 2, budget = 3, fields = [\"pay\"], functions = [\"count\", \"sum\"] }\n"
}

fn filter(condition: &str) -> Step {
    Step::Filter(condition.to_owned())
}

fn sum(filters: &[&str]) -> Job {
    let aggregate = Aggregate { count: true, sum: vec![path("pay")], ..Aggregate::default() };
    let filters = filters.iter().map(|condition| filter(condition));
    job(Input::Ndjson, filters.chain([Step::Aggregate(Box::new(aggregate))]).collect())
}

#[tokio::test]
async fn an_aggregate_over_one_record_vanishes_and_differencing_uses_the_budget_up() {
    let world = World::start().await;
    let enclave = world.enclave(with_aggregates).await;
    let _parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &enclave.key, RECORDS).await;
    let run = |job: Job| requester.run("a", job, &message.bytes);

    // What the rule does not list is refused before it costs anything.
    for (name, job) in [
        ("another field", {
            let aggregate = Aggregate { sum: vec![path("id")], ..Aggregate::default() };
            job(Input::Ndjson, vec![Step::Aggregate(Box::new(aggregate))])
        }),
        ("another function", {
            let aggregate = Aggregate { max: vec![path("pay")], ..Aggregate::default() };
            job(Input::Ndjson, vec![Step::Aggregate(Box::new(aggregate))])
        }),
    ] {
        assert_eq!(code(run(job).await), ErrorCode::ReleaseFieldRefused, "{name}");
    }
    let all = run(sum(&[])).await.expect("done");
    assert_eq!(all.output, b"{\"count\":3,\"sum_pay\":60.60}\n");
    assert_eq!(all.receipt.receipt.records_out, Some(1));
    // One record is not a group, whatever singles it out.
    let one = run(sum(&["email == 'b@example.com'"])).await.expect("done");
    assert_eq!(one.output, b"");
    // A job that fails has asked all the same.
    assert_eq!(code(run(sum(&["pay == 'x'"])).await), ErrorCode::FilterUndecided);
    // The other half of a difference comes too late.
    let other = run(sum(&["email != 'b@example.com'"])).await;
    assert_eq!(code(other), ErrorCode::AggregateBudgetSpent);
    // Another object has its own budget; other kinds of jobs are not counted.
    let other = Recipe::of("b").seal(&owner, &enclave.key, RECORDS).await;
    assert!(requester.run("b", sum(&[]), &other.bytes).await.is_ok());
    assert!(run(mask_job(Input::Ndjson)).await.is_ok());
    world.stop().await;
}

// K-5, X-7
#[tokio::test]
async fn a_budget_belongs_to_the_object_that_is_read_and_not_to_what_a_request_calls_it() {
    let world = World::start().await;
    // A floor instead of a signature: a request may claim any lower number, or none.
    let floor = |policy: String| {
        let changed = policy.replace("object = { signed = true }", "object = { minimum = 1 }");
        assert_ne!(changed, policy);
        with_aggregates(changed)
    };
    let enclave = world.enclave(floor).await;
    let _parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let message = Recipe::of("7").seal(&owner, &enclave.key, RECORDS).await;
    let id = requester.enclave().await;
    let run = async |object: Option<&str>| {
        let mut claimed = claims("");
        claimed.remove("object");
        claimed.extend(object.map(|object| ("object".to_owned(), object.to_owned())));
        let (request, signed) = requester.sign_claims(id, claimed, sum(&[]));
        requester.carry(&request, signed, &*message.bytes, requester.dial().await).await
    };
    // A request for something else costs its object nothing, nor does it make the enclave remember it.
    for _ in 0..3 {
        assert_eq!(code(run(Some("8")).await), ErrorCode::VersionTooOld);
    }
    for object in [None, Some("7"), Some("6")] {
        assert!(run(object).await.is_ok(), "{object:?}");
    }
    for object in [None, Some("7"), Some("6"), Some("5")] {
        assert_eq!(code(run(object).await), ErrorCode::AggregateBudgetSpent, "{object:?}");
    }
    world.stop().await;
}

// The world's rules let out `id` and the masked `email`, and figures by country or brand.
#[tokio::test]
async fn a_filter_cannot_tell_about_a_field_that_may_not_leave_and_a_name_changes_nothing() {
    let world = World::start().await;
    let requester = world.requester();
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &world.key(), RECORDS).await;
    let run = |steps: Vec<Step>| requester.run("a", job(Input::Ndjson, steps), &message.bytes);
    let masked = || mask_job(Input::Ndjson).steps;
    let rename = |from: &str, to: &str| Step::Rename(Rename { from: path(from), to: path(to) });
    let select = |name: &str| Step::Select(vec![path(name)]);

    for (name, steps) in [
        ("a field of no rule", vec![filter("pay > 15"), select("id")]),
        ("a field that must be masked, in clear", [vec![filter("email < 'b'")], masked()].concat()),
        ("whether there is one", vec![filter("has(record.pay)"), select("id")]),
        (
            "an unmasked field under an allowed name",
            vec![rename("id", "x"), rename("email", "id"), select("id")],
        ),
        (
            "a field of no rule under an allowed name",
            vec![rename("id", "x"), rename("pay", "id"), select("id")],
        ),
        ("everything", vec![]),
        ("everything but something", vec![Step::Drop(vec![path("pay")])]),
    ] {
        assert_eq!(code(run(steps).await), ErrorCode::ReleaseFieldRefused, "{name}");
    }
    // A group for each record would be the records.
    let figures = Aggregate { by: vec![path("email")], count: true, ..Aggregate::default() };
    let figures = run(vec![Step::Aggregate(Box::new(figures))]).await;
    assert_eq!(code(figures), ErrorCode::ReleaseFieldRefused);

    let renamed =
        run([masked(), vec![rename("email", "who"), filter("id > 2")]].concat()).await.expect("done");
    assert_eq!(renamed.output, b"{\"id\":3,\"who\":\"*************\"}\n");
    world.stop().await;
}

#[tokio::test]
async fn a_result_over_the_limit_ends_the_job_and_nothing_of_it_can_be_read() {
    let world = World::start().await;
    let small = |policy: String| with_aggregates(policy).replace("[limits]", "[limits]\nresult = \"64 B\"");
    let enclave = world.enclave(small).await;
    let _parent = world.parent(&enclave.socket).await;
    let requester = world.requester_at(&enclave.socket);
    let owner = world.kms("owner").await;
    let message = Recipe::of("a").seal(&owner, &enclave.key, RECORDS).await;
    let refused = requester.run("a", mask_job(Input::Ndjson), &message.bytes).await;
    assert_eq!(code(refused), ErrorCode::ResultTooLarge);
    assert!(requester.run("a", sum(&[]), &message.bytes).await.is_ok());
    world.stop().await;
}
