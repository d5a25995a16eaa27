use std::collections::BTreeSet;

use super::*;

fn glob(pattern: &str) -> Glob {
    Glob::parse(pattern).unwrap_or_else(|problem| panic!("{pattern:?} {problem}"))
}

fn overlap(a: &str, b: &str) -> bool {
    let overlap = glob(a).overlaps(&glob(b));
    assert_eq!(overlap, glob(b).overlaps(&glob(a)), "{a} and {b}: the order makes a difference");
    overlap
}

#[test]
fn overlaps_that_simple_rules_get_wrong_are_decided() {
    let overlapping = [
        ("src/*.rs", "src/foo*"),
        ("**/t.rs", "src/**"),
        ("src/a*/x", "src/*b/x"),
        ("**", "a"),
        ("a/**/b", "a/b"),
        ("a/**/c", "a/b/**"),
        ("*a*", "b*b"),
        ("a?c", "?b?"),
        ("**/**", "**"),
        ("é*", "?"),
    ];
    for (a, b) in overlapping {
        assert!(overlap(a, b), "{a} and {b} share a path");
    }
    let disjoint = [
        ("src/*.rs", "src/*.md"),
        ("src/*", "src/a/b"),
        ("**/t.rs", "src/*.md"),
        ("a*b", "b*"),
        ("?", "ab"),
        ("a", "A"),
        ("a/**/b", "?"),
        ("*/x", "x/*/x"),
    ];
    for (a, b) in disjoint {
        assert!(!overlap(a, b), "{a} and {b} share nothing");
    }
}

#[test]
fn pattern_without_wildcard_covers_everything_below_it() {
    for folder in ["src", "src/"] {
        assert!(overlap(folder, "src"));
        assert!(overlap(folder, "src/a/b.rs"));
        assert!(overlap(folder, "**/deep.rs"));
        assert!(!overlap(folder, "src2"));
        assert!(!overlap(folder, "a/src"));
    }
}

#[test]
fn invalid_pattern_is_refused() {
    let bad = ["", " ", "/a", "/", "a//b", "a//", ".", "./a", "a/..", "a/../b", "a/**b", "**a", "a/b***", "*/", "a?/"];
    for pattern in bad {
        assert!(Glob::parse(pattern).is_err(), "{pattern:?} was taken");
    }
    for pattern in ["a b", "...", ".git", "[a]", "{a,b}", "a\\*", "é", "**", "a/**/b/*"] {
        assert!(Glob::parse(pattern).is_ok(), "{pattern:?} was refused");
    }
}

#[test]
fn longest_patterns_are_decided_quickly() {
    let a = "*a".repeat(2_000);
    let b = "*b".repeat(2_000);
    assert!(overlap(&format!("{a}*"), &format!("{b}*")));
    assert!(!overlap(&a, &b));
    assert!(overlap("**/a", &["*/**"; 800].join("/")));
}

#[test]
fn first_overlap_of_two_sets_is_found() {
    let set = |patterns: &[&str]| patterns.iter().map(|pattern| glob(pattern)).collect::<Vec<_>>();
    assert_eq!(first_overlap(&set(&["a", "b/*"]), &set(&["c", "b/x"])), Some((1, 1)));
    assert_eq!(first_overlap(&set(&["a"]), &set(&["b"])), None);
    assert_eq!(first_overlap(&set(&["a"]), &[]), None);
}

/// Compares all pairs of 450 random globs with the AND of two bit sets over every path of up to 4 segments of up to 3
/// letters.
///
/// The globs are short enough that a common path, if there is one, is among these paths: they have at most two segments
/// besides `**`, and a segment with a `*` has at most one letter before, between and after.
#[test]
fn random_globs_overlap_exactly_if_they_match_a_common_path() {
    let paths = paths();
    let patterns = random_patterns(450);
    let sets: Vec<Vec<u64>> = patterns.iter().map(|pattern| matching(pattern, &paths)).collect();
    let globs: Vec<Glob> = patterns.iter().map(|pattern| glob(pattern)).collect();
    let mut overlapping = 0;
    for (at, a) in globs.iter().enumerate() {
        for (other, b) in globs.iter().enumerate() {
            let common = sets[at].iter().zip(&sets[other]).any(|(a, b)| a & b != 0);
            assert_eq!(a.overlaps(b), common, "{} and {}", patterns[at], patterns[other]);
            overlapping += usize::from(common);
        }
    }
    let pairs = globs.len() * globs.len();
    assert!(overlapping > pairs / 10 && overlapping < pairs * 9 / 10, "{overlapping} of {pairs} overlap");
}

const LETTERS: [&str; 2] = ["a", "b"];

/// Returns every path, as its segments.
fn paths() -> Vec<Vec<String>> {
    let mut segments = Vec::new();
    let mut longest = vec![String::new()];
    for _ in 0..3 {
        longest = longest.iter().flat_map(|begin| LETTERS.map(|letter| format!("{begin}{letter}"))).collect();
        segments.extend(longest.clone());
    }
    let mut paths = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..4 {
        let longer = |path: &Vec<String>| {
            segments.iter().map(|segment| [path.as_slice(), std::slice::from_ref(segment)].concat()).collect::<Vec<_>>()
        };
        longest = longest.iter().flat_map(longer).collect();
        paths.extend(longest.clone());
    }
    paths
}

fn random_patterns(count: usize) -> Vec<String> {
    let mut random = Random(7);
    let mut patterns = BTreeSet::new();
    while patterns.len() < count {
        let mut segments: Vec<String> = (0..=random.below(2)).map(|_| random_segment(&mut random)).collect();
        for place in (0..=segments.len()).rev() {
            if random.below(4) == 0 {
                segments.insert(place, "**".to_owned());
            }
        }
        patterns.insert(segments.join("/"));
    }
    patterns.into_iter().collect()
}

fn random_segment(random: &mut Random) -> String {
    let letter = |random: &mut Random| ["a", "b", "?"][random.below(3)];
    let maybe = |random: &mut Random| if random.below(2) == 0 { "" } else { letter(random) };
    match random.below(3) {
        0 => (0..=random.below(3)).map(|_| letter(random)).collect(),
        1 => format!("{}*{}", maybe(random), maybe(random)),
        _ => format!("*{}*", letter(random)),
    }
}

/// Matches by brute force on texts, and shares nothing with the code under test.
fn matching(pattern: &str, paths: &[Vec<String>]) -> Vec<u64> {
    let mut segments: Vec<&str> = pattern.split('/').collect();
    if !pattern.contains(['*', '?']) {
        segments.push("**");
    }
    let mut set = vec![0; paths.len().div_ceil(64)];
    for (at, path) in paths.iter().enumerate() {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        set[at / 64] |= u64::from(path_matches(&segments, &path)) << (at % 64);
    }
    set
}

fn path_matches(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], path) => path.is_empty(),
        (["**", rest @ ..], path) => (0..=path.len()).any(|skipped| path_matches(rest, &path[skipped..])),
        ([_, ..], []) => false,
        ([first, rest @ ..], [segment, under @ ..]) => {
            text_matches(first.as_bytes(), segment.as_bytes()) && path_matches(rest, under)
        }
    }
}

fn text_matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], text) => (0..=text.len()).any(|skipped| text_matches(rest, &text[skipped..])),
        ([b'?', rest @ ..], [_, under @ ..]) => text_matches(rest, under),
        ([first, rest @ ..], [letter, under @ ..]) => first == letter && text_matches(rest, under),
        _ => false,
    }
}

/// A generator of the same pseudo-random numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }
}
