//! How the demo speaks: a line for each step with its time, or JSON.

use std::time::Instant;

use serde_json::json;

/// Says each step in a line, with the time that it took.
pub(super) struct Teller {
    json: bool,
    since: Instant,
    started: Instant,
}

impl Teller {
    pub(super) fn new(json: bool) -> Self {
        Self { json, since: Instant::now(), started: Instant::now() }
    }

    pub(super) fn heading(&self, text: &str) {
        if !self.json {
            println!("\n{text}");
        }
    }

    pub(super) fn step(&mut self, text: &str) {
        let seconds = self.since.elapsed().as_secs_f64();
        self.since = Instant::now();
        if self.json {
            println!("{}", json!({ "step": text, "seconds": seconds }));
        } else {
            println!("  {seconds:>6.2} s  {text}");
        }
    }

    pub(super) fn show(&self, label: &str, text: &str) {
        if self.json {
            println!("{}", json!({ "show": label, "text": text }));
        } else {
            println!("            {label:<9}{text}");
        }
    }

    pub(super) fn end(&self) {
        if !self.json {
            println!(
                "\ndone in {:.1} s. `adyton-sim up` leaves it all running, to try your own data and policy.",
                self.started.elapsed().as_secs_f64()
            );
        }
    }
}
