//! The walk-throughs of the architecture page: each file has the functions named beside it, and no walk has over ten steps.

use std::fs;

use crate::root;

const PAGE: &str = "docs/architecture.md";
const MAX_STEPS: usize = 10;
/// CompleteTask must be possible to follow through this many files.
const MAX_FILES: usize = 9;

#[test]
fn every_step_names_functions_of_its_file() {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    let mut count = 0;
    for step in steps(&text) {
        let files: Vec<&str> = code(&step).into_iter().filter(|name| name.contains('/')).collect();
        for function in code(&step).into_iter().filter_map(|name| name.strip_suffix("()")) {
            count += 1;
            assert!(files.iter().any(|file| defines(file, function)), "{files:?} have no function {function}: {step}");
        }
    }
    assert!(count > 30, "only {count} functions were found");
}

#[test]
fn walks_are_short() {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    for rpc in ["CompleteTask", "ClaimTask with `wait`", "AppendEvents"] {
        let walk = text.split(&format!("### {rpc}\n")).nth(1).unwrap_or_else(|| panic!("no walk of {rpc}"));
        let walk = walk.split("\n#").next().unwrap();
        let steps = steps(walk);
        assert!((5..=MAX_STEPS).contains(&steps.len()), "{rpc} has {} steps", steps.len());
        let mut files: Vec<&str> = steps.iter().flat_map(|step| code(step)).filter(|name| is_file(name)).collect();
        files.sort_unstable();
        files.dedup();
        assert!(
            rpc != "CompleteTask" || files.len() <= MAX_FILES,
            "CompleteTask needs {} files: {files:?}",
            files.len()
        );
    }
}

/// Returns the numbered steps of a text, each in one line.
fn steps(text: &str) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    for line in text.lines() {
        let is_step = line.split_once(". ").is_some_and(|(number, _)| number.parse::<usize>().is_ok());
        match steps.last_mut() {
            _ if is_step => steps.push(line.to_owned()),
            Some(last) if line.starts_with("   ") => *last = format!("{last} {}", line.trim()),
            _ => {}
        }
    }
    steps
}

/// Returns the inline code of a step.
fn code(step: &str) -> Vec<&str> {
    step.split('`').skip(1).step_by(2).collect()
}

fn is_file(name: &str) -> bool {
    name.starts_with("server/") || name.starts_with("proto/")
}

fn defines(file: &str, function: &str) -> bool {
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    [format!("fn {function}("), format!("fn {function}<")].iter().any(|head| text.contains(head.as_str()))
}

#[test]
fn steps_are_read_with_their_continuation() {
    let text = "1. `a/b.rs`: `f()` goes\n   on.\n2. Next.\n\nText.";
    assert_eq!(steps(text), ["1. `a/b.rs`: `f()` goes on.", "2. Next."]);
    assert_eq!(code(&steps(text)[0]), ["a/b.rs", "f()"]);
    assert!(!defines("server/src/lib.rs", "no_such_function"));
}
