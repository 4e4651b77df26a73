//! Exponential back-off with full jitter inside a deadline.
//!
//! Source: AWS Architecture Blog, "Exponential Backoff And Jitter"; AWS SDKs and Tools Reference
//! Guide, "Retry behavior".

use tokio::time::{Duration, Instant};

const FIRST_CEILING: Duration = Duration::from_millis(50);
const LAST_CEILING: Duration = Duration::from_secs(5);

pub(super) struct Backoff {
    ceiling: Duration,
    deadline: Instant,
}

impl Backoff {
    pub(super) fn within(deadline: Duration) -> Self {
        let now = Instant::now();
        Self { ceiling: FIRST_CEILING, deadline: now.checked_add(deadline).unwrap_or(now) }
    }

    /// Waits before another attempt; `false` at once if it could not begin before the deadline.
    pub(super) async fn wait(&mut self) -> bool {
        let pause = self.ceiling.mul_f64(uniform());
        self.ceiling = self.ceiling.saturating_mul(2).min(LAST_CEILING);
        let Some(until) = Instant::now().checked_add(pause) else { return false };
        if until >= self.deadline {
            return false;
        }
        tokio::time::sleep_until(until).await;
        true
    }
}

/// A random number in `0.0..1.0`; without randomness the longest pause.
fn uniform() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_be_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 1.0,
    }
}
