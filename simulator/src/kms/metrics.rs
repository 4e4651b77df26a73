//! Counters for a monitoring system: how many calls ended how, and how long they took.
//!
//! Names of operations and of errors only. No account, no key, no caller.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the latency buckets, in microseconds, and as Prometheus writes them.
const BUCKETS: [(u128, &str); 6] = [
    (1_000, "0.001"),
    (5_000, "0.005"),
    (25_000, "0.025"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (2_500_000, "2.5"),
];

#[derive(Default)]
pub(super) struct Metrics(Mutex<Counters>);

#[derive(Default)]
struct Counters {
    /// By operation and error; the names are the code's own, so there is an end to them.
    calls: BTreeMap<(&'static str, &'static str), u64>,
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: Duration,
}

impl Metrics {
    /// Counts one call; an empty name is an operation that does not exist.
    pub(super) fn count(&self, operation: &'static str, error: Option<&'static str>, took: Duration) {
        let operation = if operation.is_empty() { "unknown" } else { operation };
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.calls.entry((operation, error.unwrap_or("ok"))).or_default() += 1;
        if let Some(place) = BUCKETS.iter().position(|(end, _)| took.as_micros() <= *end) {
            counters.buckets[place] += 1;
        }
        counters.count += 1;
        counters.sum = counters.sum.saturating_add(took);
    }

    /// Text in the format that Prometheus reads.
    pub(super) fn text(&self, keys: u64, connections: usize) -> String {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        head(&mut text, "adyton_kms_calls_total", "counter", "Calls by operation and result.");
        for ((operation, result), count) in &counters.calls {
            line(
                &mut text,
                &format!("adyton_kms_calls_total{{operation=\"{operation}\",result=\"{result}\"}}"),
                count,
            );
        }
        head(&mut text, "adyton_kms_throttled_total", "counter", "Calls that ended in ThrottlingException.");
        let throttled = counters.calls.iter().filter(|((_, result), _)| *result == "ThrottlingException");
        line(&mut text, "adyton_kms_throttled_total", &throttled.map(|(_, count)| count).sum::<u64>());
        let name = "adyton_kms_call_seconds";
        head(&mut text, name, "histogram", "Time from a complete request to its answer.");
        let mut sum = 0;
        for ((_, end), count) in BUCKETS.iter().zip(counters.buckets) {
            sum += count;
            line(&mut text, &format!("{name}_bucket{{le=\"{end}\"}}"), &sum);
        }
        line(&mut text, &format!("{name}_bucket{{le=\"+Inf\"}}"), &counters.count);
        line(&mut text, &format!("{name}_sum"), &counters.sum.as_secs_f64());
        line(&mut text, &format!("{name}_count"), &counters.count);
        head(&mut text, "adyton_kms_keys", "gauge", "Keys in all accounts and regions.");
        line(&mut text, "adyton_kms_keys", &keys);
        head(&mut text, "adyton_kms_connections", "gauge", "Open connections.");
        line(&mut text, "adyton_kms_connections", &connections);
        text
    }
}

// Writing into a text does not fail.

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, value: &dyn std::fmt::Display) {
    let _ = writeln!(text, "{name} {value}");
}
