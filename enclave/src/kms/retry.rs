//! Waiting between attempts: exponential, with full jitter, inside a deadline.
//!
//! Full jitter (a wait drawn evenly from nothing to the ceiling) spreads the attempts of many
//! enclaves that were throttled together. <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

const FIRST_CEILING: Duration = Duration::from_millis(100);
const LAST_CEILING: Duration = Duration::from_secs(5);
/// Shortest time after which a caller is told to try again.
const SHORTEST_HINT: Duration = Duration::from_secs(1);

/// The attempts of one call.
pub(super) struct Attempts {
    deadline: Instant,
    ceiling: Duration,
}

impl Attempts {
    pub(super) fn within(limit: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now.checked_add(limit).unwrap_or(now), ceiling: FIRST_CEILING }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Waits before the next attempt; `false` if there is no time for one.
    pub(super) async fn another(&mut self) -> bool {
        let wait = self.ceiling.mul_f64(fraction());
        self.ceiling = self.ceiling.saturating_mul(2).min(LAST_CEILING);
        match Instant::now().checked_add(wait) {
            Some(then) if then < self.deadline => {
                sleep_until(then).await;
                true
            }
            _ => false,
        }
    }

    /// When a caller should try again: not sooner than this call would have.
    pub(super) fn hint(&self) -> Duration {
        self.ceiling.max(SHORTEST_HINT)
    }
}

/// An even draw from [0, 1).
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the full ceiling is waited: slower, never faster.
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        return 1.0;
    }
    f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_end_before_the_deadline_and_hints_grow() {
        let mut attempts = Attempts::within(Duration::from_millis(200));
        assert_eq!(attempts.hint(), SHORTEST_HINT);
        while attempts.another().await {
            assert!(attempts.ceiling <= LAST_CEILING);
        }
        for _ in 0..10 {
            assert!(!Attempts::within(Duration::ZERO).another().await);
            attempts.another().await;
        }
        assert_eq!(attempts.hint(), LAST_CEILING);
    }

    #[test]
    fn a_draw_is_below_one() {
        assert!((0..1000).map(|_| fraction()).all(|draw| (0.0..1.0).contains(&draw)));
    }
}
