use std::collections::BTreeSet;

use super::*;

fn parse_glob(pattern: &str) -> Glob {
    Glob::parse(pattern).unwrap_or_else(|problem| panic!("the pattern {pattern:?} is refused: {problem}"))
}

/// Returns whether two globs match a common path, without a limit on the work.
fn decide_exactly(a: &Glob, b: &Glob) -> bool {
    a.overlaps(b, &mut StepLimit::new(usize::MAX)).unwrap()
}

fn globs_overlap(a: &str, b: &str) -> bool {
    let [a, b] = [parse_glob(a), parse_glob(b)];
    let overlap = decide_exactly(&a, &b);
    assert_eq!(overlap, decide_exactly(&b, &a), "the overlap of {a:?} and {b:?} depends on the order");
    overlap
}

fn new_set(patterns: impl IntoIterator<Item = impl AsRef<str>>) -> GlobSet {
    GlobSet::new(patterns.into_iter().map(|pattern| parse_glob(pattern.as_ref())).collect())
}

#[test]
fn overlap_is_correct_where_simple_rules_are_wrong() {
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
        assert!(globs_overlap(a, b), "{a} and {b} must overlap");
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
        assert!(!globs_overlap(a, b), "{a} and {b} must not overlap");
    }
}

#[test]
fn pattern_without_wildcard_matches_everything_below_the_folder() {
    for folder in ["src", "src/"] {
        assert!(globs_overlap(folder, "src"));
        assert!(globs_overlap(folder, "src/a/b.rs"));
        assert!(globs_overlap(folder, "**/deep.rs"));
        assert!(!globs_overlap(folder, "src2"));
        assert!(!globs_overlap(folder, "a/src"));
    }
}

#[test]
fn invalid_pattern_is_refused() {
    let bad = ["", " ", "/a", "/", "a//b", "a//", ".", "./a", "a/..", "a/../b", "a/**b", "**a", "a/b***", "*/", "a?/"];
    for pattern in bad {
        assert!(Glob::parse(pattern).is_err(), "the invalid pattern {pattern:?} was accepted");
    }
    for pattern in ["a b", "...", ".git", "[a]", "{a,b}", "a\\*", "é", "**", "a/**/b/*"] {
        assert!(Glob::parse(pattern).is_ok(), "the valid pattern {pattern:?} was refused");
    }
}

#[test]
fn overlap_of_the_longest_patterns_is_decided_quickly() {
    let a = "*a".repeat(2_000);
    let b = "*b".repeat(2_000);
    assert!(globs_overlap(&format!("{a}*"), &format!("{b}*")));
    assert!(!globs_overlap(&a, &b));
    assert!(globs_overlap("**/a", &["*/**"; 800].join("/")));
}

#[test]
fn first_overlap_of_two_sets_is_found() {
    let find = |a: &[&str], b: &[&str]| new_set(a).find_first_overlap(&new_set(b), &mut StepLimit::new(1_000));
    assert_eq!(find(&["a", "b/*"], &["c", "b/x"]), Overlap::Pair(1, 1));
    assert_eq!(find(&["a"], &["b"]), Overlap::None);
    assert_eq!(find(&["a"], &[]), Overlap::None);
}

/// Compares the decisions about sets with decisions about each pair of globs, for the random globs of the test below.
#[test]
fn random_sets_overlap_if_and_only_if_two_of_their_globs_overlap() {
    let patterns = random_patterns(450);
    let mut random = RandomNumbers(11);
    let mut overlapping = 0;
    for _ in 0..2_000 {
        let mut draw = |count: usize| -> Vec<&String> {
            (0..=random.next_below(count)).map(|_| &patterns[random.next_below(patterns.len())]).collect()
        };
        let [a, b] = [draw(3), draw(3)];
        let is_any = a.iter().any(|one| b.iter().any(|other| globs_overlap(one, other)));
        let found = new_set(&a).find_overlap(&new_set(&b));
        assert_eq!(found != Overlap::None, is_any, "overlap of {a:?} and {b:?}");
        if let Overlap::Pair(at_a, at_b) = found {
            assert!(globs_overlap(a[at_a], b[at_b]), "the pair {} and {} does not overlap", a[at_a], b[at_b]);
        }
        overlapping += usize::from(is_any);
    }
    assert!(overlapping > 200 && overlapping < 1_950, "{overlapping} of 2,000 pairs of sets overlap");
}

/// Two tasks, each with the longest legal `allowed_paths`, would need a billion steps.
#[test]
fn sets_that_need_too_much_work_count_as_overlapping() {
    let longest = |letter: &str| (0..8).map(|_| format!("*{letter}").repeat(2_000) + "*").collect::<Vec<_>>();
    let [a, b] = [new_set(longest("a")), new_set(longest("b"))];
    assert!(matches!(a.find_overlap(&b), Overlap::Cut(..)));
    assert!(matches!(a.find_first_overlap(&b, &mut StepLimit::new(1_000_000)), Overlap::Cut(..)));
}

#[test]
fn decision_about_realistic_sets_is_not_cut() {
    let set = |task: usize| {
        new_set((0..256).map(|number| format!("packages/*/src/**/part-{}*.tsx", 1_000_000 + task * 1_000 + number)))
    };
    assert_eq!(set(1).find_overlap(&set(2)), Overlap::None);
    assert!(matches!(set(1).find_overlap(&new_set(["packages/ui/**"])), Overlap::Pair(..)));
}

/// Compares `overlaps` with a brute-force check for all pairs of 450 random globs. The brute-force check computes the
/// AND of two bit sets. Each bit set has one bit for every path with up to 4 segments of up to 3 letters.
///
/// If two globs match a common path, the two globs also match a common path with at most 4 segments of at most 3
/// letters, because the globs are short. A glob has at most two segments besides `**`. A segment with a `*` has at most
/// one letter before, between and after the wildcards.
#[test]
fn random_globs_overlap_if_and_only_if_they_match_a_common_path() {
    let paths = all_paths();
    let patterns = random_patterns(450);
    let sets: Vec<Vec<u64>> = patterns.iter().map(|pattern| matching_paths(pattern, &paths)).collect();
    let globs: Vec<Glob> = patterns.iter().map(|pattern| parse_glob(pattern)).collect();
    let mut overlapping = 0;
    for (at, a) in globs.iter().enumerate() {
        for (other, b) in globs.iter().enumerate() {
            let common = sets[at].iter().zip(&sets[other]).any(|(a, b)| a & b != 0);
            assert_eq!(decide_exactly(a, b), common, "overlap of {} and {}", patterns[at], patterns[other]);
            overlapping += usize::from(common);
        }
    }
    let pairs = globs.len() * globs.len();
    assert!(overlapping > pairs / 10 && overlapping < pairs * 9 / 10, "{overlapping} of {pairs} pairs overlap");
}

const LETTERS: [&str; 2] = ["a", "b"];

/// Returns every path with up to 4 segments of up to 3 letters, each path as a list of segments.
fn all_paths() -> Vec<Vec<String>> {
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
    let mut random = RandomNumbers(7);
    let mut patterns = BTreeSet::new();
    while patterns.len() < count {
        let mut segments: Vec<String> = (0..=random.next_below(2)).map(|_| random_segment(&mut random)).collect();
        for place in (0..=segments.len()).rev() {
            if random.next_below(4) == 0 {
                segments.insert(place, "**".to_owned());
            }
        }
        patterns.insert(segments.join("/"));
    }
    patterns.into_iter().collect()
}

fn random_segment(random: &mut RandomNumbers) -> String {
    let letter = |random: &mut RandomNumbers| ["a", "b", "?"][random.next_below(3)];
    let maybe = |random: &mut RandomNumbers| if random.next_below(2) == 0 { "" } else { letter(random) };
    match random.next_below(3) {
        0 => (0..=random.next_below(3)).map(|_| letter(random)).collect(),
        1 => format!("{}*{}", maybe(random), maybe(random)),
        _ => format!("*{}*", letter(random)),
    }
}

/// Returns a bit set of the paths that the pattern matches. The function shares no code with `Glob`, so that an error
/// in `Glob` can't affect the expected results.
fn matching_paths(pattern: &str, paths: &[Vec<String>]) -> Vec<u64> {
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

/// Generates the same sequence of pseudo-random numbers in each test run.
struct RandomNumbers(u64);

impl RandomNumbers {
    fn next_below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % end as u64) as usize
    }
}
