//! Path globs: what they match, and whether two of them have a path in common (C7).
//!
//! A pattern is a row of segments, each a row of tokens; both are walked in pairs, as one walks the product of two
//! automata: a pair of places is reachable or not, and there is a common path exactly if the pair of ends is. That
//! decides it; a rule of thumb is wrong somewhere (`src/*.rs` and `src/foo*` share `src/foo.rs`).

/// A pattern of repo-relative paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    /// `**`: any number of segments.
    Any,
    /// One segment, which has no wildcard or some.
    Literal(Vec<Token>),
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
    /// Reads a pattern, or says what is wrong with it.
    pub fn parse(pattern: &str) -> Result<Self, &'static str> {
        if pattern.starts_with('/') {
            return Err("is absolute: paths are relative to the repository");
        }
        if pattern.trim().is_empty() {
            return Err("is blank");
        }
        let is_plain = !pattern.contains(['*', '?']);
        let pattern = if is_plain { pattern.strip_suffix('/').unwrap_or(pattern) } else { pattern };
        let mut segments = pattern.split('/').map(parse_segment).collect::<Result<Vec<_>, _>>()?;
        if is_plain {
            // A file or a folder, and then everything under it.
            segments.push(Segment::Any);
        }
        Ok(Self { segments })
    }

    /// Some path matches both.
    pub fn overlaps(&self, other: &Self) -> bool {
        // Most pairs part at the first folder.
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
        "" => Err("has an empty segment"),
        "." | ".." => Err("has a segment . or .."),
        "**" => Ok(Segment::Any),
        _ if text.contains("**") => Err("has ** beside something else in a segment"),
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

/// Walks two patterns side by side, row by row of the table of pairs of places: can both be at their end?
///
/// What `repeats` takes any number of steps, also none; `meet` says whether one step can be taken by both.
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
            // `a` takes no step at all, or it is done with its step together with one of `b`.
            next[place] |= repeats(at_a);
            if let Some(at_b) = b.get(place)
                && meet(at_a, at_b)
            {
                next[place] |= repeats(at_b);
                next[place + 1] = true;
            }
        }
        if repeats(at_a) {
            // It takes one step after the other with `b`.
            (0..b.len()).for_each(|place| next[place + 1] |= next[place]);
        }
        skip_repeats(&mut next, b, &repeats);
        row = next;
    }
    row[b.len()]
}

/// Where `b` may be without a step.
fn skip_repeats<T>(row: &mut [bool], b: &[T], repeats: &impl Fn(&T) -> bool) {
    for (place, at_b) in b.iter().enumerate() {
        row[place + 1] |= row[place] && repeats(at_b);
    }
}

/// The first pair of patterns, one of each set, that have a path in common.
pub fn first_overlap(a: &[Glob], b: &[Glob]) -> Option<(usize, usize)> {
    let pairs =
        a.iter().enumerate().flat_map(|(at, one)| b.iter().enumerate().map(move |(other, two)| (at, one, other, two)));
    pairs.into_iter().find_map(|(at, one, other, two)| one.overlaps(two).then_some((at, other)))
}

#[cfg(test)]
mod tests;
