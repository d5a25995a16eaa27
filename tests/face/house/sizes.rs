//! Maximum lengths of files and functions.

use super::{client_sources, rust_sources};

const MAX_FILE_LINES: usize = 399;
const MAX_FUNCTION_LINES: usize = 60;
const MAX_ORCHESTRATOR_LINES: usize = 99;

#[test]
fn files_are_under_400_lines() {
    for source in rust_sources().into_iter().chain(client_sources()) {
        let lines = source.text.lines().count();
        assert!(lines <= MAX_FILE_LINES, "{} has {lines} lines", source.name());
    }
}

#[test]
fn functions_have_at_most_60_lines() {
    for source in rust_sources() {
        for (name, lines) in functions(&source.text) {
            assert!(lines <= MAX_FUNCTION_LINES, "{}: {name} has {lines} lines", source.name());
        }
    }
}

/// The example is the same small program in four languages, and shows how little code it takes.
#[test]
fn orchestrator_examples_are_under_100_lines() {
    let mut lengths = Vec::new();
    for source in rust_sources().into_iter().chain(client_sources()) {
        if source.name().contains("/examples/orchestrator") {
            lengths.push(source.text.lines().count());
        }
    }
    assert_eq!(lengths.len(), 4, "one example for each language");
    assert!(lengths.iter().all(|lines| *lines <= MAX_ORCHESTRATOR_LINES), "{lengths:?}");
}

/// Returns the name and the length of each function. Relies on rustfmt, which aligns the closing brace with the first
/// word.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let closing = format!("{indent}}}");
        let length = lines[at..].iter().position(|line| **line == closing).unwrap_or(0) + 1;
        found.push((name, length));
    }
    found
}

/// Returns the name in the first line of a function, or None for other lines and for functions on one line.
fn function_name(line: &str) -> Option<String> {
    if line.trim_start().starts_with("//") || line.ends_with('}') || line.ends_with(';') {
        return None;
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let keyword = words.iter().take(5).position(|word| *word == "fn")?;
    words.get(keyword + 1).map(|name| (*name).to_owned())
}

#[test]
fn lines_of_a_function_are_counted() {
    let text =
        "impl X {\n    pub async fn a(&self)\n    where\n    {\n        b();\n    }\n    fn c() {}\n}\nfn d() {\n}\n";
    assert_eq!(functions(text), [("a(&self)".to_owned(), 5), ("d()".to_owned(), 2)]);
}
