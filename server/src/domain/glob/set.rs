//! This module decides whether two sets of globs overlap, without comparing each glob of one set with each glob of the
//! other set.

use super::{Glob, StepLimit};

/// Maximum number of steps of the decision about two sets, which takes a few milliseconds. Sets of realistic patterns
/// need less than a hundredth of this number.
const STEPS_PER_DECISION: usize = 1_000_000;

/// The globs of one task, with indexes of the globs' literal parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobSet {
    globs: Vec<Glob>,
    /// The globs that end with `**`, by the literal prefix of their paths.
    open_by_prefix: Vec<Entry>,
    /// The other globs, by the literal prefix of their paths.
    closed_by_prefix: Vec<Entry>,
    /// The globs in `closed_by_prefix`, by the literal start of the last segment.
    closed_by_last: Vec<Entry>,
}

/// A literal part, and the index of the glob that has this part. The lists of entries are sorted.
type Entry = (String, usize);

/// The decision whether two sets of globs overlap. The indexes name a glob of the first set and a glob of the second
/// set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// No path matches globs of both sets.
    None,
    /// Both globs match a common path.
    Pair(usize, usize),
    /// The decision about the two globs needed too much work. The sets count as overlapping.
    Cut(usize, usize),
}

impl GlobSet {
    /// Returns the set of the globs `globs`.
    pub fn new(globs: Vec<Glob>) -> Self {
        let (mut open, mut closed, mut by_last) = (Vec::new(), Vec::new(), Vec::new());
        for (at, glob) in globs.iter().enumerate() {
            let entry = (glob.literals.prefix.clone(), at);
            match &glob.literals.last {
                Some(last) => {
                    closed.push(entry);
                    by_last.push((last.start.clone(), at));
                }
                None => open.push(entry),
            }
        }
        for entries in [&mut open, &mut closed, &mut by_last] {
            entries.sort_unstable();
        }
        Self { globs, open_by_prefix: open, closed_by_prefix: closed, closed_by_last: by_last }
    }

    /// Returns whether the sets overlap, with one pair of overlapping globs. The function compares only globs whose
    /// literal parts are compatible.
    pub fn find_overlap(&self, other: &Self) -> Overlap {
        let mut limit = StepLimit::new(STEPS_PER_DECISION);
        let lists = [
            (&self.open_by_prefix, &other.open_by_prefix),
            (&self.open_by_prefix, &other.closed_by_prefix),
            (&self.closed_by_prefix, &other.open_by_prefix),
            (&self.closed_by_last, &other.closed_by_last),
        ];
        for (own, others) in lists {
            let found = find_compatible(own, others, |a, b| self.decide(a, other, b, &mut limit));
            if let Some(found) = found {
                return found;
            }
        }
        Overlap::None
    }

    /// Returns the first overlapping pair in the order of the globs. Slower than `find_overlap`.
    pub fn find_first_overlap(&self, other: &Self, limit: &mut StepLimit) -> Overlap {
        for a in 0..self.globs.len() {
            for b in 0..other.globs.len() {
                if let Some(found) = self.decide(a, other, b, limit) {
                    return found;
                }
            }
        }
        Overlap::None
    }

    /// Returns the overlap of two globs, or None if the globs do not overlap.
    fn decide(&self, a: usize, other: &Self, b: usize, limit: &mut StepLimit) -> Option<Overlap> {
        let overlaps = limit.spend(1).and_then(|()| self.globs[a].overlaps(&other.globs[b], limit));
        match overlaps {
            Some(false) => None,
            Some(true) => Some(Overlap::Pair(a, b)),
            None => Some(Overlap::Cut(a, b)),
        }
    }
}

/// Passes to `decide` each pair of an entry of `a` and an entry of `b` of which one text starts with the other text.
/// Returns the first decision.
///
/// The function walks both sorted lists in their common order. A text that starts with another text follows the other
/// text, and only texts with the same start are between the two. A stack of texts, each of which is the start of the
/// next, therefore contains every text with which the current text starts.
fn find_compatible<T>(a: &[Entry], b: &[Entry], mut decide: impl FnMut(usize, usize) -> Option<T>) -> Option<T> {
    let mut rest_a = a;
    let mut rest_b = b;
    let mut starts: Vec<(&Entry, bool)> = Vec::new();
    loop {
        let is_from_a = match (rest_a.first(), rest_b.first()) {
            (Some(a), Some(b)) => a.0 <= b.0,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return None,
        };
        let rest = if is_from_a { &mut rest_a } else { &mut rest_b };
        let (current, following) = rest.split_first()?;
        *rest = following;
        while starts.pop_if(|(start, _)| !current.0.starts_with(&start.0)).is_some() {}
        for (start, _) in starts.iter().filter(|(_, start_is_from_a)| *start_is_from_a != is_from_a) {
            let found = if is_from_a { decide(current.1, start.1) } else { decide(start.1, current.1) };
            if found.is_some() {
                return found;
            }
        }
        starts.push((current, is_from_a));
    }
}
