//! What the enclave says about itself: events of a closed list, never free text.
//!
//! No field can hold anything of a payload, a key or a request's text. What a peer can trigger is
//! limited to a number of lines a second, so that nobody can drown the rest.

use std::sync::{Mutex, PoisonError};

use adyton_shared::ErrorCode;
use tokio::time::{Duration, Instant};

/// Lines that peers can trigger in one second.
const LINES_A_SECOND: u32 = 20;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The enclave listens.
    Listening,
    /// The enclave stops.
    Stopping,
    /// A connection could not be accepted.
    AcceptFailed,
    /// A conversation ended in a refusal.
    Refused(ErrorCode),
    /// A job ended well.
    JobDone {
        /// Records read.
        records_in: u64,
        /// Length of the encrypted payload in bytes.
        input_bytes: u64,
    },
    /// A part of the program failed in a way that it should not.
    Panicked,
    /// The clock was corrected by so many milliseconds.
    ClockCorrected(u64),
    /// The NSM's time went back by so many milliseconds; the clock did not follow (C-3).
    ClockWentBack(u64),
    /// The identity document could not be renewed; the last one is still used while it is fresh.
    IdentityNotRenewed,
    /// Lines that the limit left out.
    LinesLeftOut(u32),
}

impl Event {
    /// Whether a peer can make it happen as often as it likes.
    const fn is_triggered_by_peers(self) -> bool {
        matches!(self, Self::AcceptFailed | Self::Refused(_) | Self::JobDone { .. } | Self::Panicked)
    }
}

/// Where events go.
pub trait Events: Send + Sync + 'static {
    /// Takes one event.
    fn emit(&self, event: Event);
}

/// Writes events to standard error as JSON, one line each, within the limit.
#[derive(Debug, Default)]
pub struct StderrEvents {
    window: Mutex<Option<Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    since: Instant,
    lines: u32,
}

impl StderrEvents {
    /// Whether the event is within the limit; and how many were left out in the second before.
    fn admit(&self, event: Event) -> (bool, u32) {
        if !event.is_triggered_by_peers() {
            return (true, 0);
        }
        let mut guard = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let window = guard.get_or_insert(Window { since: now, lines: 0 });
        let mut left_out = 0;
        if now.duration_since(window.since) >= Duration::from_secs(1) {
            left_out = window.lines.saturating_sub(LINES_A_SECOND);
            *window = Window { since: now, lines: 0 };
        }
        window.lines = window.lines.saturating_add(1);
        (window.lines <= LINES_A_SECOND, left_out)
    }
}

impl Events for StderrEvents {
    fn emit(&self, event: Event) {
        let (admitted, left_out) = self.admit(event);
        if left_out > 0 {
            write(Event::LinesLeftOut(left_out));
        }
        if admitted {
            write(event);
        }
    }
}

fn write(event: Event) {
    use std::io::Write as _;
    let line = match event {
        Event::Listening => r#"{"event":"listening"}"#.to_owned(),
        Event::Stopping => r#"{"event":"stopping"}"#.to_owned(),
        Event::AcceptFailed => r#"{"event":"accept_failed"}"#.to_owned(),
        Event::Refused(code) => {
            format!(r#"{{"event":"refused","code":{},"name":"{}"}}"#, code.number(), code.name())
        }
        Event::JobDone { records_in, input_bytes } => {
            format!(r#"{{"event":"job_done","records_in":{records_in},"input_bytes":{input_bytes}}}"#)
        }
        Event::Panicked => r#"{"event":"conversation_panicked"}"#.to_owned(),
        Event::ClockCorrected(millis) => format!(r#"{{"event":"clock_corrected","ms":{millis}}}"#),
        Event::ClockWentBack(millis) => format!(r#"{{"event":"clock_went_back","ms":{millis}}}"#),
        Event::IdentityNotRenewed => r#"{"event":"identity_not_renewed"}"#.to_owned(),
        Event::LinesLeftOut(lines) => format!(r#"{{"event":"lines_left_out","lines":{lines}}}"#),
    };
    // A console that is gone must not end a job.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_cannot_drown_the_log() {
        let events = StderrEvents::default();
        let refused = Event::Refused(ErrorCode::Busy);
        let admitted = (0..100).filter(|_| events.admit(refused).0).count();
        assert_eq!(admitted, 20);
        assert_eq!(events.admit(Event::Stopping), (true, 0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(events.admit(refused), (true, 80));
    }
}
