//! This module defines path globs, and decides whether two globs match a common path.
//!
//! A glob is a list of segments, and a segment is a list of tokens. The overlap check walks two globs side by side,
//! like the product of two automata. The globs match a common path if and only if the walk can reach the ends of both
//! globs together. Simpler rules give wrong results, for example for `src/*.rs` and `src/foo*`, which both match
//! `src/foo.rs`.

/// Represents a pattern that matches paths relative to the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
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
        Ok(Self { segments })
    }

    /// Returns whether there is a path that both globs match.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Most pairs of globs differ in the first segment. Comparing the first segments decides such pairs without the
        // slower walk.
        if let (Some(Segment::Literal(a)), Some(Segment::Literal(b))) = (self.segments.first(), other.segments.first())
            && a != b
        {
            return false;
        }
        can_reach_both_ends(&self.segments, &other.segments, |segment| *segment == Segment::Any, segments_overlap)
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

fn segments_overlap(a: &Segment, b: &Segment) -> bool {
    use Segment::{Any, Literal, Pattern};
    match (a, b) {
        (Any, _) | (_, Any) => true,
        (Literal(a), Literal(b)) => a == b,
        (Literal(a) | Pattern(a), Literal(b) | Pattern(b)) => {
            can_reach_both_ends(a, b, |token| *token == Token::Many, tokens_overlap)
        }
    }
}

fn tokens_overlap(a: &Token, b: &Token) -> bool {
    match (a, b) {
        (Token::Is(a), Token::Is(b)) => a == b,
        _ => true,
    }
}

/// Walks two lists of segments or tokens side by side. Returns whether the walk can reach the ends of both lists
/// together.
///
/// A step is one path segment or one character. `repeats` returns whether an item of a list matches any number of
/// steps, including none. `meet` returns whether two items can match a common step. The walk fills a table of reachable
/// pairs of positions row by row, with one row for each position in `a`.
fn can_reach_both_ends<T>(a: &[T], b: &[T], repeats: impl Fn(&T) -> bool, meet: impl Fn(&T, &T) -> bool) -> bool {
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    skip_repeats(&mut row, b, &repeats);
    for at_a in a {
        let mut next = vec![false; b.len() + 1];
        for (place, reached) in row.iter().enumerate() {
            if !reached {
                continue;
            }
            // If the item of `a` repeats, the item can match nothing, so the walk can stay at the position in `b`. If
            // both items can match a common step, the walk can advance in `b`, and can also stay if the item of `b`
            // repeats.
            next[place] |= repeats(at_a);
            if let Some(at_b) = b.get(place)
                && meet(at_a, at_b)
            {
                next[place] |= repeats(at_b);
                next[place + 1] = true;
            }
        }
        if repeats(at_a) {
            // A repeating item of `a` can also match any number of further items of `b`.
            (0..b.len()).for_each(|place| next[place + 1] |= next[place]);
        }
        skip_repeats(&mut next, b, &repeats);
        row = next;
    }
    row[b.len()]
}

/// Marks the positions in `b` that the walk reaches without a step, because a repeating item can match nothing.
fn skip_repeats<T>(row: &mut [bool], b: &[T], repeats: &impl Fn(&T) -> bool) {
    for (place, at_b) in b.iter().enumerate() {
        row[place + 1] |= row[place] && repeats(at_b);
    }
}

/// Returns the indexes of the first overlapping pair, with one glob from `a` and one glob from `b`. Returns None if
/// no pair overlaps.
pub fn first_overlap(a: &[Glob], b: &[Glob]) -> Option<(usize, usize)> {
    for (at_a, one) in a.iter().enumerate() {
        if let Some(at_b) = b.iter().position(|other| one.overlaps(other)) {
            return Some((at_a, at_b));
        }
    }
    None
}

#[cfg(test)]
mod tests;
