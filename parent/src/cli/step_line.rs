//! Finds the line of a job file on which a step begins, so that an error can show it.
//!
//! The parsers of the three formats do not say where a value was. Steps are a list at the top of the
//! file in each of them, so their beginnings can be found by indentation and brackets. Only for people:
//! nothing depends on it, and a file that is written in an unusual way has no line.

/// The line, from 1, of the step of this number, from 1.
pub(super) fn step_line(text: &str, extension: &str, step: usize) -> Option<usize> {
    let nth = step.checked_sub(1)?;
    match extension {
        "toml" => toml(text).nth(nth),
        "yaml" | "yml" => yaml(text, nth),
        "json" => json(text, nth),
        _ => None,
    }
}

/// `[[step]]`
fn toml(text: &str) -> impl Iterator<Item = usize> {
    let header = |line: &str| {
        let inside = line.trim().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
        inside.is_some_and(|(name, _)| name.trim() == "step")
    };
    text.lines().zip(1..).filter(move |(line, _)| header(line)).map(|(_, number)| number)
}

/// Dashes below `step:`, all as far to the right as the first.
fn yaml(text: &str, nth: usize) -> Option<usize> {
    let mut lines =
        text.lines().zip(1..).skip_while(|(line, _)| !line.starts_with("step:")).skip(1).peekable();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let is_item = |line: &str| line.trim_start().starts_with("- ");
    while lines
        .next_if(|(line, _)| !is_item(line) && !line.starts_with(|c: char| c.is_alphabetic()))
        .is_some()
    {}
    let first = indent(lines.peek()?.0);
    lines
        .take_while(|(line, _)| line.is_empty() || line.starts_with([' ', '-', '#']))
        .filter(|(line, _)| is_item(line) && indent(line) == first)
        .nth(nth)
        .map(|(_, number)| number)
}

/// Objects in the array of the member `step` of the outermost object.
fn json(text: &str, nth: usize) -> Option<usize> {
    let (mut line, mut depth, mut found) = (1, 0_usize, 0);
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    let mut word = String::new();
    for character in text.chars() {
        line += usize::from(character == '\n');
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                if quoted {
                    word.clear();
                }
            }
            _ if quoted => word.push(character),
            '{' | '[' => {
                inside |= depth == 1 && character == '[' && word == "step";
                if inside && depth == 2 {
                    if found == nth {
                        return Some(line);
                    }
                    found += 1;
                }
                depth += 1;
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                inside &= depth > 1;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_steps_in_all_three_formats() {
        let toml =
            "version = 1\n\n[[step]]\nselect = [\"a\"]\n# [[step]]\n [[ step ]] # second\ndrop = [\"b\"]\n";
        assert_eq!([1, 2, 3].map(|n| step_line(toml, "toml", n)), [Some(3), Some(6), None]);
        let yaml = "version: 1\nstep:\n  # first\n  - select:\n      - a\n\n  - mask:\n      fields: [a]\nto: parent\n";
        assert_eq!([1, 2, 3].map(|n| step_line(yaml, "yaml", n)), [Some(4), Some(7), None]);
        let flush = "step:\n- select: [a]\n- drop:\n  - b\nto: parent\n";
        assert_eq!([1, 2, 3].map(|n| step_line(flush, "yml", n)), [Some(2), Some(3), None]);
        let json = "{\"to\": \"step\", \"x\": [[{}]],\n\"step\": [\n {\"filter\": \"a == '}\\\"'\"},\n\n {\"select\": [\"a\"]}]}";
        assert_eq!([1, 2, 3].map(|n| step_line(json, "json", n)), [Some(3), Some(5), None]);
        assert_eq!(step_line("", "toml", 0), None);
    }
}
