//! What a job comes down to: what leaves, where each part of it comes from, and what was done to it.
//!
//! Provenance is followed by the field, never by its name: a release rule speaks of fields of the
//! payload, and what a job calls them later changes nothing. It is made once, at admission; the
//! compute stage works from it.

use super::fields::{Change, Fields, Taken, Treatment, Unusable};
use super::{
    Aggregate, Condition, ConditionError, DigestAlgorithm, Expression, FieldPath, Function, Input, Job,
    JobError, Keyed, Mask, Quantile, Rename, Segment, Step,
};
use crate::limits::{MAX_FIELDS, MAX_FIGURES, MAX_FILTER_NODES, MAX_JOB_STEPS};

/// Where in a job a field is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The step, from 1.
    pub step: u16,
    /// The field in the step's list, from 1.
    pub field: u16,
}

/// What a job that makes sense comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the plaintext is.
    pub input: Input,
    /// What leaves if the job succeeds.
    pub leaving: Leaving,
    /// Every field that the job names.
    pub fields: Fields,
    /// Each place at which the job names a field, with the field's node.
    pub named: Vec<(usize, Place)>,
    /// The values that filters and the aggregate read.
    pub reads: Vec<Read>,
    /// The filters, in order.
    pub filters: Vec<Filter>,
}

/// A value that a step reads in order to decide or to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The field's node.
    pub node: usize,
    /// What it is at this point, and what was done to it before.
    pub field: Field,
    /// Where the job names it.
    pub place: Place,
}

/// A step that lets records pass or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Position in the job, from 1.
    pub step: u16,
    /// What must hold.
    pub condition: Expression,
    /// What the condition's fields are, in [`Outcome::reads`].
    pub reads: Vec<usize>,
}

/// The result of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Position in the job, from 1.
    pub step: u16,
    /// What makes groups: names in the result, and values in [`Outcome::reads`].
    pub by: Vec<(String, usize)>,
    /// Whether records are counted.
    pub count: bool,
    /// What is said of each group.
    pub figures: Vec<Figure>,
}

/// One figure about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in the result.
    pub name: String,
    /// What it is.
    pub function: Function,
    /// Which quantile, if it is one.
    pub at: Option<Quantile>,
    /// Of what, in [`Outcome::reads`].
    pub read: usize,
}

/// What leaves if a job succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The payload as it is, byte for byte.
    Bytes,
    /// One digest of the payload.
    Digest(DigestAlgorithm),
    /// Records with exactly these fields.
    Records(Vec<Field>),
    /// Records with whatever fields they have.
    Open,
    /// Figures about groups of records.
    Aggregate(Groups),
}

/// A field of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Where it comes from: its path in the payload.
    pub origin: FieldPath,
    /// What it is called in the result.
    pub name: FieldPath,
    /// What was done to it, in order.
    pub treatments: Vec<Treatment>,
}

impl Outcome {
    pub(super) fn of(job: &Job) -> Result<Self, JobError> {
        if job.version != 1 {
            return Err(JobError::Version(job.version));
        }
        if job.steps.len() > MAX_JOB_STEPS {
            return Err(JobError::TooManySteps(job.steps.len()));
        }
        let mut state = State {
            input: job.input,
            digest: None,
            fields: Fields::new(),
            named: Vec::new(),
            selected: None,
            reads: Vec::new(),
            filters: Vec::new(),
            parts: 0,
            groups: None,
            step: 0,
        };
        for step in &job.steps {
            state.step = state.step.saturating_add(1);
            state.apply(step)?;
        }
        let leaving = state.leaving();
        let State { input, fields, named, reads, filters, .. } = state;
        Ok(Self { input, leaving, fields, named, reads, filters })
    }
}

/// A job up to one of its steps.
struct State {
    input: Input,
    digest: Option<DigestAlgorithm>,
    fields: Fields,
    named: Vec<(usize, Place)>,
    selected: Option<Vec<usize>>,
    reads: Vec<Read>,
    filters: Vec<Filter>,
    /// Parts of all filters so far.
    parts: usize,
    groups: Option<Groups>,
    step: usize,
}

impl State {
    fn apply(&mut self, step: &Step) -> Result<(), JobError> {
        if self.digest.is_some() {
            return self.misplaced("records or bytes", "a digest");
        }
        if self.groups.is_some() {
            return self.misplaced("records or bytes", "figures");
        }
        match step {
            Step::Digest(algorithm) if self.step == 1 => {
                self.digest = Some(*algorithm);
                return Ok(());
            }
            // A digest of treated records would be a digest of something that nobody can name.
            Step::Digest(_) => return self.misplaced("the whole payload", "treated records"),
            _ if self.input == Input::Raw => return self.misplaced("records", "bytes"),
            _ => {}
        }
        match step {
            Step::Select(paths) => {
                let numbers: Vec<_> = self.list(paths)?.into_iter().map(|(number, _)| number).collect();
                self.fields.select(&numbers);
                self.selected = Some(numbers);
            }
            Step::Drop(paths) => {
                for (number, place) in self.list(paths)? {
                    self.fields.node_mut(number).dropped = Some(place);
                }
            }
            Step::Rename(rename) => self.rename(rename)?,
            Step::Filter(text) => self.filter(text)?,
            Step::Aggregate(aggregate) => self.aggregate(aggregate)?,
            Step::Mask(Mask { fields, keep_last }) => {
                self.treat(fields, &Treatment::Mask { keep_last: *keep_last })?;
            }
            Step::Token(Keyed { fields, key }) => {
                self.treat(fields, &Treatment::Token { key: key.clone() })?;
            }
            Step::Hash(Keyed { fields, key }) => self.treat(fields, &Treatment::Hash { key: key.clone() })?,
            Step::Digest(_) => {}
        }
        Ok(())
    }

    fn misplaced<T>(&self, needs: &'static str, has: &'static str) -> Result<T, JobError> {
        Err(JobError::Misplaced { step: self.step, needs, has })
    }

    fn treat(&mut self, paths: &[FieldPath], treatment: &Treatment) -> Result<(), JobError> {
        for (number, place) in self.list(paths)? {
            self.fields.node_mut(number).changes.push(Change { treatment: treatment.clone(), place });
        }
        Ok(())
    }

    fn rename(&mut self, Rename { from, to }: &Rename) -> Result<(), JobError> {
        let step = self.step;
        let (number, at) = self.one(from)?;
        match (from.split_last(), to.split_last()) {
            (Some((place, old)), Some((same, new))) if place == same && old != new => {
                let taken = |Taken| JobError::Taken { step, path: to.clone() };
                self.fields.rename(number, &Segment::Key(new.to_owned()), at).map_err(taken)
            }
            _ => Err(JobError::Rename { step, from: from.clone(), to: to.clone() }),
        }
    }

    fn filter(&mut self, text: &str) -> Result<(), JobError> {
        let unusable = |problem| JobError::Condition { step: self.step, problem };
        let Condition { root, fields, parts } = Condition::parse(text).map_err(unusable)?;
        // A record costs all of them.
        self.parts = self.parts.saturating_add(parts);
        if self.parts > MAX_FILTER_NODES {
            return Err(unusable(ConditionError::TooManyParts));
        }
        let reads =
            fields.iter().zip(1..).map(|(path, nth)| self.read(path, nth)).collect::<Result<_, _>>()?;
        self.filters.push(Filter { step: self.number(), condition: root, reads });
        Ok(())
    }

    fn aggregate(&mut self, aggregate: &Aggregate) -> Result<(), JobError> {
        let step = self.step;
        let count = aggregate.figures().count().saturating_add(usize::from(aggregate.count));
        if count == 0 || count > MAX_FIGURES || aggregate.by.len() > MAX_FIELDS {
            return Err(JobError::FigureCount { step, count });
        }
        let (mut by, mut figures) = (Vec::new(), Vec::new());
        let mut nth = 0;
        for path in &aggregate.by {
            nth = u16::saturating_add(nth, 1);
            by.push((path.to_string(), self.read(path, nth)?));
        }
        for (function, path, at) in aggregate.figures() {
            nth = nth.saturating_add(1);
            let read = self.read(path, nth)?;
            figures.push(Figure { name: function.column(path, at), function, at, read });
        }
        let count = aggregate.count.then_some("count");
        let names = by.iter().map(|(name, _)| name.as_str());
        let mut columns: Vec<_> = names.chain(figures.iter().map(|f| f.name.as_str())).chain(count).collect();
        columns.sort_unstable();
        if let Some([name, _]) =
            columns.windows(2).find_map(|two| <[&str; 2]>::try_from(two).ok().filter(|[a, b]| a == b))
        {
            return Err(JobError::ColumnTwice { step, name: name.to_owned() });
        }
        self.groups = Some(Groups { step: self.number(), by, count: aggregate.count, figures });
        Ok(())
    }

    /// A value that the step reads as it is at this point.
    fn read(&mut self, path: &FieldPath, nth: u16) -> Result<usize, JobError> {
        let step = self.step;
        if path.segments().contains(&Segment::Each) {
            return Err(JobError::Several { step, path: path.clone() });
        }
        self.fields.list();
        let (node, place) = self.find(path, nth)?;
        self.reads.push(Read { node, field: self.field(node), place });
        Ok(self.reads.len().saturating_sub(1))
    }

    /// The position of this step; there are few.
    fn number(&self) -> u16 {
        u16::try_from(self.step).unwrap_or(u16::MAX)
    }

    /// The fields of a list that names no field twice.
    fn list(&mut self, paths: &[FieldPath]) -> Result<Vec<(usize, Place)>, JobError> {
        if paths.is_empty() || paths.len() > MAX_FIELDS {
            return Err(JobError::FieldCount { step: self.step, count: paths.len() });
        }
        self.fields.list();
        paths.iter().zip(1..).map(|(path, nth)| self.find(path, nth)).collect()
    }

    fn one(&mut self, path: &FieldPath) -> Result<(usize, Place), JobError> {
        self.fields.list();
        self.find(path, 1)
    }

    fn find(&mut self, path: &FieldPath, nth: u16) -> Result<(usize, Place), JobError> {
        let step = self.step;
        let place = Place { step: self.number(), field: nth };
        let number = self.fields.find(path).map_err(|why| match why {
            Unusable::Overlap => JobError::Overlap { step, path: path.clone() },
            Unusable::Gone => JobError::Gone { step, path: path.clone() },
        })?;
        if self.fields.is_inside_of_text(number) {
            return Err(JobError::Inside { step, path: path.clone() });
        }
        self.named.push((number, place));
        Ok((number, place))
    }

    fn leaving(&mut self) -> Leaving {
        if let Some(groups) = self.groups.take() {
            return Leaving::Aggregate(groups);
        }
        if let Some(algorithm) = self.digest {
            return Leaving::Digest(algorithm);
        }
        if self.input == Input::Raw {
            return Leaving::Bytes;
        }
        let Some(selected) = &self.selected else { return Leaving::Open };
        let leaves = selected.iter().filter(|number| !self.fields.is_dropped(**number));
        Leaving::Records(leaves.map(|number| self.field(*number)).collect())
    }

    /// A field as it is at this point.
    fn field(&self, number: usize) -> Field {
        let changes = &self.fields.node(number).changes;
        Field {
            origin: self.fields.origin(number),
            name: self.fields.name(number),
            treatments: changes.iter().map(|change| change.treatment.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Destination;
    use super::*;

    fn path(text: &str) -> FieldPath {
        FieldPath::parse(text).unwrap()
    }

    fn job(input: Input, steps: Vec<Step>) -> Job {
        Job { version: 1, input, steps, to: Destination::Parent }
    }

    fn select(paths: &[&str]) -> Step {
        Step::Select(paths.iter().map(|p| path(p)).collect())
    }

    fn drop(p: &str) -> Step {
        Step::Drop(vec![path(p)])
    }

    fn mask(p: &str) -> Step {
        Step::Mask(Mask { fields: vec![path(p)], keep_last: 4 })
    }

    fn rename(from: &str, to: &str) -> Step {
        Step::Rename(Rename { from: path(from), to: path(to) })
    }

    fn fields(steps: Vec<Step>) -> Vec<(String, String, usize)> {
        let Leaving::Records(fields) = job(Input::Ndjson, steps).outcome().unwrap().leaving else {
            panic!("no records")
        };
        let of = |f: Field| (f.origin.to_string(), f.name.to_string(), f.treatments.len());
        fields.into_iter().map(of).collect()
    }

    fn field(origin: &str, name: &str, treatments: usize) -> (String, String, usize) {
        (origin.to_owned(), name.to_owned(), treatments)
    }

    #[test]
    fn a_mask_before_or_after_the_selection_counts() {
        let both = select(&["id", "card.pan"]);
        for steps in [vec![mask("card.pan"), both.clone()], vec![both, mask("card.pan")]] {
            assert_eq!(fields(steps), [field("id", "id", 0), field("card.pan", "card.pan", 1)]);
        }
    }

    #[test]
    fn a_field_is_followed_through_its_names() {
        let steps = vec![
            mask("card.pan"),
            rename("card.pan", "card.number"),
            rename("card", "c"),
            rename("c.exp", "c.pan"),
            select(&["c.number", "c.pan"]),
            mask("c.number"),
            rename("c.number", "c.n"),
        ];
        assert_eq!(fields(steps), [field("card.pan", "c.n", 2), field("card.exp", "c.pan", 0)]);
        let swapped =
            vec![mask("a"), rename("a", "x"), rename("b", "a"), rename("x", "b"), select(&["a", "b"])];
        assert_eq!(fields(swapped), [field("b", "a", 0), field("a", "b", 1)]);
    }

    #[test]
    fn what_is_left_open_says_so() {
        let leaving = |input, steps| job(input, steps).outcome().unwrap().leaving;
        assert_eq!(leaving(Input::Raw, vec![]), Leaving::Bytes);
        assert_eq!(leaving(Input::Json, vec![]), Leaving::Open);
        assert_eq!(leaving(Input::Csv, vec![drop("a"), mask("b")]), Leaving::Open);
        let digest = Step::Digest(DigestAlgorithm::Sha256);
        assert_eq!(leaving(Input::Raw, vec![digest]), Leaving::Digest(DigestAlgorithm::Sha256));
        assert_eq!(leaving(Input::Csv, vec![select(&["a"]), drop("a")]), Leaving::Records(vec![]));
    }

    #[test]
    fn refuses_steps_that_contradict_each_other() {
        let digest = Step::Digest(DigestAlgorithm::Sha256);
        let gone = |step, p| JobError::Gone { step, path: path(p) };
        let cases = [
            (vec![drop("a"), select(&["a.b"])], gone(2, "a.b")),
            (vec![select(&["a"]), select(&["b"])], gone(2, "b")),
            (vec![select(&["a.b"]), mask("a")], gone(2, "a")),
            (vec![mask("a"), select(&["a.b"])], JobError::Inside { step: 2, path: path("a.b") }),
            (vec![rename("a", "b"), mask("a")], gone(2, "a")),
            (vec![rename("a", "b"), mask("a.c")], gone(2, "a.c")),
            (vec![select(&["b"]), rename("a", "c")], gone(2, "a")),
            (vec![select(&["a", "a.b"])], JobError::Overlap { step: 1, path: path("a.b") }),
            (vec![select(&["a.b", "a"])], JobError::Overlap { step: 1, path: path("a") }),
            (vec![Step::Select(vec![])], JobError::FieldCount { step: 1, count: 0 }),
            (vec![select(&["a", "b"]), rename("a", "b")], JobError::Taken { step: 2, path: path("b") }),
            (vec![select(&["a", "b.c"]), rename("a", "b")], JobError::Taken { step: 2, path: path("b") }),
            (vec![rename("a.b", "c.b")], JobError::Rename { step: 1, from: path("a.b"), to: path("c.b") }),
            (vec![rename("a", "a")], JobError::Rename { step: 1, from: path("a"), to: path("a") }),
            (vec![rename("a[]", "b")], JobError::Rename { step: 1, from: path("a[]"), to: path("b") }),
            (
                vec![select(&["a"]), digest.clone()],
                JobError::Misplaced { step: 2, needs: "the whole payload", has: "treated records" },
            ),
            (
                vec![digest, select(&["a"])],
                JobError::Misplaced { step: 2, needs: "records or bytes", has: "a digest" },
            ),
        ];
        for (steps, error) in cases {
            assert_eq!(job(Input::Ndjson, steps).outcome(), Err(error));
        }
        // What a record costs is bounded for all filters together.
        // 62 names, 61 additions, a number and a comparison.
        let long = || Step::Filter(format!("{} == 1", ["a"; 62].join("+")));
        assert!(job(Input::Ndjson, vec![long(), long()]).outcome().is_ok());
        let problem = ConditionError::TooManyParts;
        assert_eq!(
            job(Input::Ndjson, vec![long(), long(), long()]).outcome(),
            Err(JobError::Condition { step: 3, problem })
        );
        let raw = job(Input::Raw, vec![select(&["a"])]);
        assert!(matches!(raw.outcome(), Err(JobError::Misplaced { step: 1, .. })));
    }
}
