//! This module extracts the literal parts of a glob. If the literal parts of two globs contradict each other, the globs
//! match no common path.

use super::{Segment, Token};

/// Maximum number of characters of the literal start or end of one segment. The prefix of a path ends with the segment
/// with which the prefix reaches this length. Longer parts would only make the comparison slower.
const PART_CHARS: usize = 64;

/// The literal parts of a glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literals {
    /// The text with which every path that the glob matches starts.
    pub prefix: String,
    /// The literal parts of the last segment. If the glob ends with `**`, the value is None, because the glob says
    /// nothing about the last segment of a path.
    pub last: Option<LastSegment>,
}

/// The literal parts of a glob's last segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastSegment {
    /// The text with which the last segment of every path that the glob matches starts.
    pub start: String,
    /// The characters with which the last segment of every path that the glob matches ends, from the last character to
    /// the first.
    pub reversed_end: String,
}

impl Literals {
    /// Returns the literal parts of the glob with the segments `segments`.
    pub fn of(segments: &[Segment]) -> Self {
        let last = segments.last().and_then(tokens_of).map(|tokens| LastSegment {
            start: literal_start(tokens.iter()),
            reversed_end: literal_start(tokens.iter().rev()),
        });
        Self { prefix: path_prefix(segments), last }
    }

    /// Returns false if no path matches both globs, and true if the literal parts do not decide.
    pub fn may_match_common_path(&self, other: &Self) -> bool {
        if !are_compatible(&self.prefix, &other.prefix) {
            return false;
        }
        let (Some(last), Some(other)) = (&self.last, &other.last) else { return true };
        are_compatible(&last.start, &other.start) && are_compatible(&last.reversed_end, &other.reversed_end)
    }
}

/// Returns whether a text can start with both `a` and `b`.
fn are_compatible(a: &str, b: &str) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn tokens_of(segment: &Segment) -> Option<&[Token]> {
    match segment {
        Segment::Any => None,
        Segment::Literal(tokens) | Segment::Pattern(tokens) => Some(tokens),
    }
}

fn literal_start<'a>(tokens: impl Iterator<Item = &'a Token>) -> String {
    let letters = tokens.map_while(|token| match token {
        Token::Is(letter) => Some(*letter),
        Token::Any | Token::Many => None,
    });
    letters.take(PART_CHARS).collect()
}

/// Returns the literal segments before the first wildcard, and the literal start of the segment with the first
/// wildcard.
fn path_prefix(segments: &[Segment]) -> String {
    let mut prefix = String::new();
    for (at, segment) in segments.iter().enumerate() {
        // The wildcard `**` can match no segment, so a path need not have a separator before the wildcard.
        let Some(tokens) = tokens_of(segment) else { break };
        if at > 0 {
            prefix.push('/');
        }
        prefix.push_str(&literal_start(tokens.iter()));
        let is_complete = matches!(segment, Segment::Literal(_)) && tokens.len() <= PART_CHARS;
        if !is_complete || prefix.len() >= PART_CHARS {
            break;
        }
    }
    prefix
}
