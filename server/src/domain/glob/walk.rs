//! This module walks two globs side by side, like the product of two automata. The globs match a common path if and
//! only if the walk can reach the ends of both globs together.

use super::{Segment, Token};

/// A limit on the work of overlap decisions. The work for two globs grows with the product of their lengths, so without
/// a limit the longest legal globs would keep a thread busy for seconds.
#[derive(Debug, Clone, Copy)]
pub struct StepLimit {
    steps_left: usize,
}

impl StepLimit {
    /// Returns a limit of `steps` steps. A step compares two segments or two tokens, and takes a few nanoseconds.
    pub fn new(steps: usize) -> Self {
        Self { steps_left: steps }
    }

    /// Uses `steps` steps. Returns None if fewer steps are left.
    pub fn spend(&mut self, steps: usize) -> Option<()> {
        self.steps_left = self.steps_left.checked_sub(steps)?;
        Some(())
    }
}

/// Returns whether the globs with the segments `a` and `b` match a common path. Returns None if `limit` is used up
/// before the decision.
pub(super) fn overlap(a: &[Segment], b: &[Segment], limit: &mut StepLimit) -> Option<bool> {
    can_reach_both_ends(a, b, limit, |segment| *segment == Segment::Any, segments_overlap)
}

fn segments_overlap(a: &Segment, b: &Segment, limit: &mut StepLimit) -> Option<bool> {
    use Segment::{Any, Literal, Pattern};
    match (a, b) {
        (Any, _) | (_, Any) => Some(true),
        (Literal(a), Literal(b)) => {
            // Comparing sixteen equal tokens takes about as long as one step.
            limit.spend(a.len().min(b.len()) / 16)?;
            Some(a == b)
        }
        (Literal(a) | Pattern(a), Literal(b) | Pattern(b)) => {
            can_reach_both_ends(a, b, limit, |token| *token == Token::Many, |a, b, _| Some(tokens_overlap(a, b)))
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
/// together, or None if `limit` is used up before the decision.
///
/// A step is one path segment or one character. `repeats` returns whether an item of a list matches any number of
/// steps, including none. `meet` returns whether two items can match a common step. The walk fills a table of reachable
/// pairs of positions row by row, with one row for each position in `a`.
fn can_reach_both_ends<T>(
    a: &[T],
    b: &[T],
    limit: &mut StepLimit,
    repeats: impl Fn(&T) -> bool,
    meet: impl Fn(&T, &T, &mut StepLimit) -> Option<bool>,
) -> Option<bool> {
    let mut row = vec![false; b.len() + 1];
    row[0] = true;
    skip_repeats(&mut row, b, &repeats);
    for at_a in a {
        limit.spend(b.len() + 1)?;
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
                && meet(at_a, at_b, limit)?
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
    Some(row[b.len()])
}

/// Marks the positions in `b` that the walk reaches without a step, because a repeating item can match nothing.
fn skip_repeats<T>(row: &mut [bool], b: &[T], repeats: &impl Fn(&T) -> bool) {
    for (place, at_b) in b.iter().enumerate() {
        row[place + 1] |= row[place] && repeats(at_b);
    }
}
