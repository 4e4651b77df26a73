//! Text of others on a terminal: what would move the cursor, hide or reorder is shown as an escape.
//!
//! Policies, job files and error messages quote what somebody else wrote. A field's name with an escape
//! sequence could erase the line that says what may leave, one with a line feed could add a line.

use std::fmt::Write as _;

/// The text as one line.
pub fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// The text with its lines.
pub fn lines(text: &str) -> String {
    escaped(text, |c| c == '\n')
}

fn escaped(text: &str, allowed: impl Fn(char) -> bool) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if (c.is_control() || is_invisible(c)) && !allowed(c) {
            // Writing into a text cannot fail.
            let _ = write!(shown, "{}", c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// Marks of direction, joiners, separators of lines and paragraphs, tags (Unicode, general category Cf, Zl, Zp).
const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_the_cursor_hides_or_reorders() {
        assert_eq!(
            line("id\n- \u{1b}[2Kall\u{9b}0m\u{202e}x\u{200b}"),
            "id\\u{a}- \\u{1b}[2Kall\\u{9b}0m\\u{202e}x\\u{200b}"
        );
        assert_eq!(lines("a\n\tb\r"), "a\n\\u{9}b\\u{d}");
        for text in ["Straße, 名前, 🙂", "", "C:\\x"] {
            assert_eq!((line(text), lines(text)), (text.to_owned(), text.to_owned()));
        }
    }
}
