//! Text patterns of policies: `*`, `?` and policy variables.
//!
//! What a variable stands for is taken literally, so that a tag or a user name
//! with a `*` in it widens nothing.

use super::context::ConditionContext;

/// A text of a policy, with its wildcards and variables told apart from its letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Letter(char),
    /// `?`: one character.
    One,
    /// `*`: any number of characters.
    Any,
    /// `${key}` or `${key, 'default'}`.
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// Whether `${..}` means something: only in version 2012-10-17 and only in some elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variables {
    Read,
    Literal,
}

/// Whether letters are compared with regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Case {
    Exact,
    Ignored,
}

/// Whether `*` and `?` are wildcards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wildcards {
    Read,
    Literal,
}

impl Pattern {
    /// Reads a pattern; `None` for a `${` without its end.
    pub(super) fn parse(source: &str, variables: Variables) -> Option<Self> {
        let mut parts = Vec::with_capacity(source.len());
        let mut rest = source;
        while let Some(letter) = rest.chars().next() {
            if let (Variables::Read, Some(inside)) = (variables, rest.strip_prefix("${")) {
                let (name, after) = inside.split_once('}')?;
                parts.push(variable(name)?);
                rest = after;
                continue;
            }
            parts.push(match letter {
                '*' => Part::Any,
                '?' => Part::One,
                other => Part::Letter(other),
            });
            rest = rest.split_at_checked(letter.len_utf8())?.1;
        }
        Some(Self { source: source.to_owned(), parts })
    }

    /// The text in the policy.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The pattern with its variables replaced; `None` if one has no value in this request.
    pub(super) fn resolve(&self, context: &ConditionContext, wildcards: Wildcards) -> Option<Glob> {
        let mut tokens = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            match part {
                Part::Letter(letter) => tokens.push(Token::Letter(*letter)),
                Part::One if wildcards == Wildcards::Read => tokens.push(Token::One),
                Part::Any if wildcards == Wildcards::Read => tokens.push(Token::Any),
                Part::One => tokens.push(Token::Letter('?')),
                Part::Any => tokens.push(Token::Letter('*')),
                Part::Variable { key, default } => {
                    // A key with several values cannot be a variable (IAM User Guide, "Variables").
                    let value = match context.values(key) {
                        [one] => one,
                        _ => default.as_ref()?,
                    };
                    tokens.extend(value.chars().map(Token::Letter));
                }
            }
        }
        Some(Glob(tokens))
    }
}

fn variable(inside: &str) -> Option<Part> {
    // `${*}`, `${?}` and `${$}` are the characters themselves.
    match inside {
        "*" => return Some(Part::Variable { key: String::new(), default: Some("*".into()) }),
        "?" => return Some(Part::Variable { key: String::new(), default: Some("?".into()) }),
        "$" => return Some(Part::Letter('$')),
        _ => {}
    }
    let (key, default) = match inside.split_once(',') {
        None => (inside, None),
        Some((key, default)) => {
            let default = default.trim().strip_prefix('\'')?.strip_suffix('\'')?;
            (key, Some(default.to_owned()))
        }
    };
    let key = key.trim();
    (!key.is_empty()).then(|| Part::Variable { key: key.to_owned(), default })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Letter(char),
    One,
    Any,
}

/// A pattern without variables, ready to be compared.
#[derive(Debug, Clone)]
pub(super) struct Glob(Vec<Token>);

impl Glob {
    /// Whether the whole text matches.
    pub(super) fn matches(&self, text: &str, case: Case) -> bool {
        matches(&self.0, &text.chars().collect::<Vec<_>>(), case)
    }

    /// As [`Glob::matches`], but for ARNs: each of the six parts by itself, so that a `*`
    /// in the region does not swallow the account (IAM User Guide, "ARN condition operators").
    pub(super) fn matches_arn(&self, text: &str) -> bool {
        let patterns = self.0.splitn(6, |token| *token == Token::Letter(':')).collect::<Vec<_>>();
        let parts = text.splitn(6, ':').collect::<Vec<_>>();
        patterns.len() == 6
            && parts.len() == 6
            && patterns
                .iter()
                .zip(parts)
                .all(|(pattern, part)| matches(pattern, &part.chars().collect::<Vec<_>>(), Case::Exact))
    }
}

/// Steps back to the last `*` only, so the time is bounded by the product of the lengths.
fn matches(pattern: &[Token], text: &[char], case: Case) -> bool {
    let (mut p, mut t) = (0_usize, 0_usize);
    let mut last_any: Option<(usize, usize)> = None;
    while let Some(letter) = text.get(t) {
        match pattern.get(p) {
            Some(Token::Any) => {
                last_any = Some((p, t));
                p = p.saturating_add(1);
                continue;
            }
            Some(token) if fits(*token, *letter, case) => {
                (p, t) = (p.saturating_add(1), t.saturating_add(1));
                continue;
            }
            _ => {}
        }
        let Some((any, from)) = last_any else { return false };
        let from = from.saturating_add(1);
        last_any = Some((any, from));
        (p, t) = (any.saturating_add(1), from);
    }
    pattern.iter().skip(p).all(|token| *token == Token::Any)
}

fn fits(token: Token, letter: char, case: Case) -> bool {
    match token {
        Token::One => true,
        Token::Any => false,
        Token::Letter(own) => match case {
            Case::Exact => own == letter,
            Case::Ignored => own == letter || own.to_lowercase().eq(letter.to_lowercase()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(source: &str) -> Glob {
        Pattern::parse(source, Variables::Read)
            .unwrap()
            .resolve(&ConditionContext::default(), Wildcards::Read)
            .unwrap()
    }

    #[test]
    fn stars_and_question_marks_match_whole_texts() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*a*a*b", "aaaaab", true),
            ("*a*a*b", "aaaaac", false),
            ("a?c", "äbc", false),
            ("a?c", "aßc", true),
            ("a?", "a", false),
            ("", "", true),
            ("", "a", false),
            ("a**", "a", true),
        ] {
            assert_eq!(glob(pattern).matches(text, Case::Exact), expected, "{pattern} {text}");
        }
        assert!(glob("KMS:decrypt*").matches("kms:Decrypt", Case::Ignored));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_the_product_of_the_lengths() {
        let pattern = "*a".repeat(2_000);
        assert!(!glob(&pattern).matches(&"a".repeat(1_999), Case::Exact));
    }

    #[test]
    fn a_star_in_one_part_of_an_arn_does_not_reach_into_the_next() {
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/1";
        for (pattern, expected) in [
            ("arn:aws:kms:*:111122223333:key/*", true),
            ("arn:aws:kms:*:444455556666:key/*", false),
            ("arn:aws:kms:*", false),
            ("arn:*:key/1", false),
            ("*:*:*:*:*:*", true),
            ("*", false),
        ] {
            assert_eq!(glob(pattern).matches_arn(arn), expected, "{pattern}");
        }
    }

    #[test]
    fn what_a_variable_stands_for_is_never_a_wildcard() {
        let mut context = ConditionContext::default();
        context.add("aws:username", "*");
        let pattern = Pattern::parse("/${aws:UserName}/${*}/${$}{x}", Variables::Read).unwrap();
        let glob = pattern.resolve(&context, Wildcards::Read).unwrap();
        assert!(glob.matches("/*/*/${x}", Case::Exact));
        assert!(!glob.matches("/alice/*/${x}", Case::Exact));
        let fallback = Pattern::parse("${aws:PrincipalTag/team, 'none'}", Variables::Read).unwrap();
        assert!(fallback.resolve(&context, Wildcards::Read).unwrap().matches("none", Case::Exact));
        let unknown = Pattern::parse("${aws:PrincipalTag/team}", Variables::Read).unwrap();
        assert!(unknown.resolve(&context, Wildcards::Read).is_none());
        assert!(Pattern::parse("${aws:username", Variables::Read).is_none());
        assert!(Pattern::parse("${aws:username", Variables::Literal).is_some());
    }
}
