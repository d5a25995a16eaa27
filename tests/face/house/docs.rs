//! Rules for the docs.

use std::fs;

use super::{Source, rust_sources};
use crate::support::root;

const PROMISES: &str = "docs/what-happens-when.md";

/// The first cell of the tables' header row.
const HEADER: &str = "| When";

#[test]
fn every_promise_names_a_test_that_exists() {
    let text = fs::read_to_string(root().join(PROMISES)).unwrap();
    let sources = rust_sources();
    let mut count = 0;
    for row in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with(HEADER)) {
        let tests = tests_in(row);
        assert!(!tests.is_empty(), "{row} names no test");
        for test in tests {
            assert!(sources.iter().any(|source| has_test(source, test)), "{test} is not a test");
        }
        count += 1;
    }
    assert!(count > 25, "only {count} rows");
}

/// Returns the names in backticks in the last cell of a row.
fn tests_in(row: &str) -> Vec<&str> {
    let last_cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
    last_cell.split('`').skip(1).step_by(2).collect()
}

/// Returns true if the file is the module of a named test and has that test, as a function that cargo runs.
fn has_test(source: &Source, name: &str) -> bool {
    let (module, test) = name.rsplit_once("::").unwrap();
    let stem = source.path.with_extension("").to_str().unwrap().replace("/mod", "");
    if !stem.ends_with(&module.replace("::", "/")) {
        return false;
    }
    let lines: Vec<&str> = source.text.lines().collect();
    let head = format!("fn {test}(");
    let Some(at) = lines.iter().position(|line| line.contains(&head)) else { return false };
    lines[..at].iter().rev().take(3).any(|line| line.contains("test]") || line.contains("::test("))
}
