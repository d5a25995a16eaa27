//! This module defines path globs, and decides whether two globs match a common path.
//!
//! A glob is a list of segments, and a segment is a list of tokens. The overlap check first compares the literal parts
//! of two globs. If these parts do not decide the pair, the check walks both globs side by side (module `walk`).
//! Simpler rules give wrong results, for example for `src/*.rs` and `src/foo*`, which both match `src/foo.rs`.

mod literals;
mod set;
mod syntax;
mod walk;

use self::literals::Literals;
pub use self::set::{GlobSet, Overlap};
pub use self::syntax::check_syntax;
pub use self::walk::StepLimit;

/// Represents a pattern that matches paths relative to the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
    literals: Literals,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// The wildcard `**`, which matches any number of segments, including none.
    Any,
    /// A segment without wildcards.
    Literal(Vec<Token>),
    /// A segment with at least one wildcard `*` or `?`.
    Pattern(Vec<Token>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// A character that matches only itself.
    Is(char),
    /// The wildcard `?`, which matches exactly one character.
    Any,
    /// The wildcard `*`, which matches any number of characters, including none.
    Many,
}

impl Glob {
    /// Returns the glob for a pattern. If the pattern is invalid, the function fails with an error that describes the
    /// violated rule. The error ends with the pattern, because a long error text is truncated at the end.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.starts_with('/') {
            return Err(format!(
                "the path pattern must be relative to the repository: remove the leading / of {pattern:?}"
            ));
        }
        if pattern.trim().is_empty() {
            return Err("the path pattern must not be blank: pass a pattern such as src/**".to_owned());
        }
        let is_plain = !pattern.contains(['*', '?']);
        let path = if is_plain { pattern.strip_suffix('/').unwrap_or(pattern) } else { pattern };
        let parsed = path.split('/').map(|text| parse_segment(text, pattern));
        let mut segments = parsed.collect::<Result<Vec<_>, _>>()?;
        if is_plain {
            // A pattern without wildcards matches a file, or a folder and everything below the folder.
            segments.push(Segment::Any);
        }
        let literals = Literals::of(&segments);
        Ok(Self { segments, literals })
    }

    /// Returns whether there is a path that both globs match. Returns None if `limit` is used up before the decision.
    pub fn overlaps(&self, other: &Self, limit: &mut StepLimit) -> Option<bool> {
        // Most pairs of globs differ in their literal parts. Comparing these parts decides such pairs without the
        // slower walk.
        if !self.literals.may_match_common_path(&other.literals) {
            return Some(false);
        }
        walk::overlap(&self.segments, &other.segments, limit)
    }
}

/// Returns the segment that `text` describes. If the text is not a valid segment, the function fails with an error that
/// names the whole pattern.
fn parse_segment(text: &str, pattern: &str) -> Result<Segment, String> {
    match text {
        "" => Err(format!("the path pattern must not have an empty segment: remove the extra / of {pattern:?}")),
        "." | ".." => Err(format!("the path pattern must not have the segment {text}: remove {text} from {pattern:?}")),
        "**" => Ok(Segment::Any),
        _ if text.contains("**") => Err(format!(
            "the path pattern must contain ** only as a whole segment, for example src/**: change the segment {text:?} \
             of {pattern:?}"
        )),
        _ if text.contains(['*', '?']) => Ok(Segment::Pattern(text.chars().map(parse_token).collect())),
        _ => Ok(Segment::Literal(text.chars().map(parse_token).collect())),
    }
}

fn parse_token(letter: char) -> Token {
    match letter {
        '*' => Token::Many,
        '?' => Token::Any,
        letter => Token::Is(letter),
    }
}

#[cfg(test)]
mod tests;
