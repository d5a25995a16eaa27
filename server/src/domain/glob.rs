//! Path globs: what they match, and whether two of them have a path in common (C7).
//!
//! A pattern is a list of segments, and a segment is a list of tokens. Two patterns are walked side by side like the
//! product of two automata: they match a common path exactly if the pair of their ends is reachable. Simpler rules are
//! wrong in some cases: `src/*.rs` and `src/foo*` both match `src/foo.rs`.

/// A pattern of repo-relative paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// One segment without wildcards.
    Literal(Vec<Token>),
    /// One segment with wildcards.
    Pattern(Vec<Token>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// This character.
    Is(char),
    /// `?`: one character.
    Any,
    /// `*`: any number of characters.
    Many,
}

impl Glob {
    /// Parses a pattern. The error says what the pattern must be.
    pub fn parse(pattern: &str) -> Result<Self, &'static str> {
        if pattern.starts_with('/') {
            return Err("must be relative to the repository");
        }
        if pattern.trim().is_empty() {
            return Err("must not be blank");
        }
        let is_plain = !pattern.contains(['*', '?']);
        let pattern = if is_plain { pattern.strip_suffix('/').unwrap_or(pattern) } else { pattern };
        let mut segments = pattern.split('/').map(parse_segment).collect::<Result<Vec<_>, _>>()?;
        if is_plain {
            // A pattern without wildcards names a file, or a folder with everything below it.
            segments.push(Segment::Any);
        }
        Ok(Self { segments })
    }

    /// Returns whether some path matches both patterns.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Most pairs of patterns differ in their first folder.
        if let (Some(Segment::Literal(a)), Some(Segment::Literal(b))) = (self.segments.first(), other.segments.first())
            && a != b
        {
            return false;
        }
        walk(&self.segments, &other.segments, |segment| *segment == Segment::Any, segments_overlap)
    }
}

fn parse_segment(text: &str) -> Result<Segment, &'static str> {
    match text {
        "" => Err("must not have an empty segment"),
        "." | ".." => Err("must not have a segment . or .."),
        "**" => Ok(Segment::Any),
        _ if text.contains("**") => Err("must have ** only as a whole segment"),
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
        (Literal(a) | Pattern(a), Literal(b) | Pattern(b)) => walk(a, b, |token| *token == Token::Many, tokens_overlap),
    }
}

fn tokens_overlap(a: &Token, b: &Token) -> bool {
    match (a, b) {
        (Token::Is(a), Token::Is(b)) => a == b,
        _ => true,
    }
}

/// Walks two patterns side by side. Returns whether both can reach their end together.
///
/// An item that `repeats` matches any number of steps, including none. `meet` says whether two items can match the same
/// step. The walk fills a table of pairs of places row by row: one row for each place in `a`.
fn walk<T>(a: &[T], b: &[T], repeats: impl Fn(&T) -> bool, meet: impl Fn(&T, &T) -> bool) -> bool {
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    skip_repeats(&mut row, b, &repeats);
    for at_a in a {
        let mut next = vec![false; b.len() + 1];
        for (place, reached) in row.iter().enumerate() {
            if !reached {
                continue;
            }
            // Either the item of `a` matches nothing, or it matches one step together with the item of `b`.
            next[place] |= repeats(at_a);
            if let Some(at_b) = b.get(place)
                && meet(at_a, at_b)
            {
                next[place] |= repeats(at_b);
                next[place + 1] = true;
            }
        }
        if repeats(at_a) {
            // The item of `a` matches further steps together with further items of `b`.
            (0..b.len()).for_each(|place| next[place + 1] |= next[place]);
        }
        skip_repeats(&mut next, b, &repeats);
        row = next;
    }
    row[b.len()]
}

/// Marks the positions in the pattern `b` that are reached without matching a character: a repeat can match nothing.
fn skip_repeats<T>(row: &mut [bool], b: &[T], repeats: &impl Fn(&T) -> bool) {
    for (place, at_b) in b.iter().enumerate() {
        row[place + 1] |= row[place] && repeats(at_b);
    }
}

/// Returns the indexes of the first two patterns, one of each set, that match a common path.
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
