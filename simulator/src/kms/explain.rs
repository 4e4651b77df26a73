//! A recorded call in words: which statement or grant decided, and what did not fit.
//!
//! Policies and requests are quoted as one line each, without anything that moves a cursor.

use std::fmt;

use adyton_parent::printable::line;

use super::decisions::{By, CallRecord, Judgement, Traced};

impl fmt::Display for CallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request_id, operation, caller, region, error_code, error_message, judgements, .. } = self;
        let operation = if operation.is_empty() { "an unknown operation" } else { operation };
        let caller = caller.as_deref().unwrap_or("somebody whose signature was not accepted");
        write!(f, "{operation} by {caller}")?;
        if let Some(region) = region {
            write!(f, " in {region}")?;
        }
        writeln!(f, ", request {request_id}")?;
        match (error_code, error_message) {
            (None, _) => writeln!(f, "succeeded")?,
            (Some(code), None) => writeln!(f, "ended in {code}")?,
            (Some(code), Some(message)) => writeln!(f, "ended in {code}: {}", line(message))?,
        }
        if judgements.is_empty() {
            writeln!(f, "no policy was asked")?;
        }
        judgements.iter().try_for_each(|judgement| write!(f, "{judgement}"))
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, resource, allowed: _, by, refusal, traces } = self;
        write!(f, "\n{action}")?;
        if let Some(resource) = resource {
            write!(f, " on {resource}")?;
        }
        writeln!(f)?;
        if let Some(by) = by {
            writeln!(f, "  allowed by {by}")?;
        }
        if let Some(refusal) = refusal {
            writeln!(f, "  refused {refusal}")?;
        }
        traces.iter().try_for_each(|Traced { source, text, .. }| writeln!(f, "  {source}, {}", line(text)))
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, statement, sid, through } = self;
        f.write_str(source)?;
        if let Some(index) = statement {
            write!(f, ", statement {index}")?;
        }
        if let Some(sid) = sid {
            write!(f, " ({})", line(sid))?;
        }
        match through {
            Some(through) => {
                write!(f, "; {} of the key policy leaves it to identity policies", line(through))
            }
            None => Ok(()),
        }
    }
}
