//! Tells whether an operation takes longer for one class of inputs than for another.
//!
//! The method is that of dudect (Reparaz, Balasch, Verbauwhede 2017): measure both classes in random
//! order on the same buffers, leave out the slowest measurements, which the machine made and not
//! the operation, and compare the means by Welch's t. Nothing is said about how long anything takes.

use std::hint::black_box;
use std::time::Instant;

/// |t| above this is a leak. Without one |t| is 1 to 4; dudect itself calls 10 definite.
const BOUND: f64 = 10.0;
/// A difference below this part of the mean is no leak, however sure it is: where buffers happen to lie makes
/// some nanoseconds in a whole run of the program.
const EFFECT: f64 = 0.015;
/// A loaded machine can spoil a round, so most of so many independent ones decide.
const ROUNDS: usize = 7;
/// Shares of the measurements that are looked at, fastest first.
const SHARES: [f64; 6] = [0.3, 0.5, 0.7, 0.9, 0.97, 1.0];

/// One of two classes of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    A,
    B,
}

/// Whether one class takes longer. `prepare` makes an input of the class, outside of what is
/// measured; `operation` must be the same code for both.
pub(crate) fn leaks<I, O>(
    samples: usize,
    mut prepare: impl FnMut(Class) -> I,
    mut operation: impl FnMut(&mut I) -> O,
) -> bool {
    let (mut leaking, mut clean) = (0, 0);
    while leaking.max(clean) <= ROUNDS / 2 {
        let t = strongest(&mut measure(samples, &mut prepare, &mut operation));
        println!("|t| = {t:.1}");
        *(if t > BOUND { &mut leaking } else { &mut clean }) += 1;
    }
    leaking > clean
}

fn measure<I, O>(
    samples: usize,
    prepare: &mut impl FnMut(Class) -> I,
    operation: &mut impl FnMut(&mut I) -> O,
) -> Vec<(u64, Class)> {
    let mut coins = vec![0; samples];
    aws_lc_rs::rand::fill(&mut coins).expect("randomness");
    let classes = coins.into_iter().map(|coin| if coin & 1 == 0 { Class::A } else { Class::B });
    let measured = classes.map(|class| {
        let mut input = black_box(prepare(class));
        let start = Instant::now();
        let output = operation(&mut input);
        let nanos = start.elapsed().as_nanos();
        black_box((&input, &output));
        (u64::try_from(nanos).expect("below 500 years"), class)
    });
    measured.collect()
}

/// The largest |t| over all shares.
fn strongest(measured: &mut [(u64, Class)]) -> f64 {
    measured.sort_unstable_by_key(|(nanos, _)| *nanos);
    let t = |share: f64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of some thousands"
        )]
        let count = (measured.len() as f64 * share) as usize;
        let bound = measured.get(count).map_or(u64::MAX, |(nanos, _)| *nanos);
        // All measurements of equal length are on the same side, whatever their order.
        let within = || measured.iter().take_while(|(nanos, _)| *nanos < bound);
        let (a, b) = (Moments::of(within(), Class::A), Moments::of(within(), Class::B));
        if (a.mean - b.mean).abs() < EFFECT * a.mean.min(b.mean) { 0.0 } else { welch(&a, &b).abs() }
    };
    SHARES.into_iter().map(t).fold(0.0, f64::max)
}

/// Number, mean and variance of one class.
struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    /// Welford's method.
    fn of<'a>(measured: impl Iterator<Item = &'a (u64, Class)>, class: Class) -> Self {
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for (nanos, _) in measured.filter(|(_, of)| *of == class) {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            let value = *nanos as f64;
            count += 1.0;
            let difference = value - mean;
            mean += difference / count;
            squares += difference * (value - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }
}

fn welch(a: &Moments, b: &Moments) -> f64 {
    let error = (a.variance / a.count + b.variance / b.count).sqrt();
    // Too few measurements of one class, or all of one length: nothing can be told apart.
    if error.is_nan() || error <= 0.0 { 0.0 } else { (a.mean - b.mean) / error }
}

#[test]
fn welchs_t_is_what_the_textbook_says() {
    let class = |values: &[u64], class| values.iter().map(|value| (*value, class)).collect::<Vec<_>>();
    // Two samples whose t is 5 / sqrt(2.5/5 + 2.5/5).
    let (a, b) = (class(&[6, 7, 8, 9, 10], Class::A), class(&[1, 2, 3, 4, 5], Class::B));
    let t = welch(&Moments::of(a.iter(), Class::A), &Moments::of(b.iter(), Class::B));
    assert!((t - 5.0).abs() < 1e-9, "{t}");
    let none = welch(&Moments::of(a.iter(), Class::B), &Moments::of(b.iter(), Class::B));
    assert!(none.abs() < 1e-9);
}
