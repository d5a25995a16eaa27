//! The rules of the house: what a file may import, and how long a file and a function may be.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 60;

/// Every Rust file of the project.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for folder in ["build", "proto", "bench", "server", "client/rust", "client/scenarios", "tests"] {
        collect(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the sources were found");
    found
}

fn collect(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(read(&path));
        }
    }
}

fn read(path: &Path) -> (PathBuf, String) {
    (path.strip_prefix(root()).unwrap().to_owned(), fs::read_to_string(path).unwrap())
}

/// What is written by hand in the other languages: generated, compiled and installed things live in these folders.
const NOT_BY_HAND: &[&str] =
    &["node_modules", "dist", "build", "src/gen", "runhubv1", "runhub/v1", "__pycache__", "venv", ".venv"];

const LONGEST_ORCHESTRATOR: usize = 99;

fn of_other_languages(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !NOT_BY_HAND.iter().any(|name| path.ends_with(name)) {
            of_other_languages(&path, found);
        } else if path.extension().is_some_and(|extension| ["py", "ts", "go"].iter().any(|one| extension == *one)) {
            found.push(read(&path));
        }
    }
}

#[test]
fn files_are_under_400_lines() {
    let mut all = sources();
    let of_rust = all.len();
    of_other_languages(&root().join("client"), &mut all);
    assert!(all.len() > of_rust + 50, "the clients were found");
    for (path, text) in all {
        let lines = text.lines().count();
        assert!(lines < LONGEST_FILE, "{} has {lines} lines", path.display());
    }
}

#[test]
fn functions_are_at_most_60_lines() {
    for (path, text) in sources() {
        for (name, lines) in functions(&text) {
            assert!(lines <= LONGEST_FUNCTION, "{}: {name} has {lines} lines", path.display());
        }
    }
}

/// The same small program in four languages: it shows how little it takes.
#[test]
fn the_orchestrators_are_under_100_lines() {
    let mut all = sources();
    of_other_languages(&root().join("client"), &mut all);
    let found = all.iter().filter(|(path, _)| path.to_str().unwrap().contains("/examples/orchestrator"));
    let lengths: Vec<usize> = found.map(|(_, text)| text.lines().count()).collect();
    assert_eq!(lengths.len(), 4, "one for each language");
    assert!(lengths.iter().all(|lines| *lines <= LONGEST_ORCHESTRATOR), "{lengths:?}");
}

/// Each function with its length. rustfmt puts the closing brace under the first word.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(name) = words.iter().take(5).position(|word| *word == "fn").and_then(|at| words.get(at + 1)) else {
            continue;
        };
        if line.trim_start().starts_with("//") || line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let closing = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let length = lines[at..].iter().position(|line| **line == closing).unwrap_or(0) + 1;
        found.push(((*name).to_owned(), length));
    }
    found
}

#[test]
fn the_length_of_a_function_is_counted() {
    let text =
        "impl X {\n    pub async fn a(&self)\n    where\n    {\n        b();\n    }\n    fn c() {}\n}\nfn d() {\n}\n";
    assert_eq!(functions(text), [("a(&self)".to_owned(), 5), ("d()".to_owned(), 2)]);
}

const SQL: &[&str] = &["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "];

/// The parts of the server from the bottom up: none uses what stands after it.
const FLOORS: [&str; 11] =
    ["domain", "store", "actions", "wake", "watch", "rpc", "sweeper", "housekeeping", "config", "server", "cli"];

/// The libraries that a part must not use.
const FORBIDDEN: [(&str, &[&str]); 8] = [
    ("server/src/domain/", &["tonic", "tokio", "rusqlite", "r2d2", "runhub_api", "runhub_client"]),
    ("server/src/actions/", &["tonic", "tokio", "rusqlite", "r2d2", "runhub_api", "runhub_client"]),
    ("server/src/store/", &["tonic", "runhub_api", "runhub_client"]),
    ("server/src/rpc/", &["rusqlite", "r2d2", "runhub_client"]),
    ("server/src/cli/", &["rusqlite", "r2d2"]),
    ("bench/", &["runhub_server"]),
    ("client/", &["runhub_server", "rusqlite"]),
    ("proto/", &["runhub_server", "runhub_client", "tokio"]),
];

/// Reads the database of another program, about which the store knows nothing. It is the only file outside `store/` that may
/// use rusqlite and SQL.
const RUNSTORE_READER: &str = "server/src/cli/import/runstore/reader.rs";

/// Everything that a file must not use.
fn forbidden_in(name: &str) -> Vec<String> {
    let applies = |folder: &str| name.starts_with(folder) && name != RUNSTORE_READER;
    let libraries = FORBIDDEN.iter().filter(|(folder, _)| applies(folder)).flat_map(|(_, words)| *words);
    let is_in =
        |part: &str| name.starts_with(&format!("server/src/{part}/")) || name == format!("server/src/{part}.rs");
    let above = FLOORS.iter().position(|part| is_in(part)).map_or(&[] as &[&str], |floor| &FLOORS[floor + 1..]);
    let above = above.iter().map(|part| format!("crate::{part}"));
    libraries.map(|word| (*word).to_owned()).chain(above).collect()
}

#[test]
fn imports_go_one_way() {
    for (path, text) in sources() {
        let name = path.to_str().unwrap();
        for word in forbidden_in(name) {
            if let Some(line) = text.lines().find(|line| uses(line, &word)) {
                panic!("{name} must not use {word}: {line}");
            }
        }
        if name.starts_with("server/src/") && text.lines().any(|line| line.starts_with("use crate::{")) {
            panic!("{name}: one `use crate::part` a line, so that this test sees what is used");
        }
    }
}

/// The table of promises names tests that are there.
#[test]
fn what_happens_when_is_proved_by_tests_that_exist() {
    let text = fs::read_to_string(root().join("docs/what-happens-when.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| when"));
    let (sources, mut count) = (sources(), 0);
    for row in rows {
        let last = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap();
        let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row} names no test");
        for name in names {
            assert!(sources.iter().any(|(path, text)| has_test(path, text, name)), "{name} is no test");
        }
        count += 1;
    }
    assert!(count > 25, "{count} rows");
}

/// The module is a file or a folder, the test a function in it that cargo runs.
fn has_test(path: &Path, text: &str, name: &str) -> bool {
    let (module, test) = name.rsplit_once("::").unwrap();
    let stem = path.with_extension("").to_str().unwrap().replace("/mod", "");
    let head = format!("fn {test}(");
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains(&head));
    stem.ends_with(&module.replace("::", "/"))
        && at.is_some_and(|at| {
            lines[..at].iter().rev().take(3).any(|line| line.contains("test]") || line.contains("::test("))
        })
}

#[test]
fn only_the_store_speaks_sql() {
    let elsewhere = |name: &str| {
        name.starts_with("server/src/") && !name.starts_with("server/src/store/") && name != RUNSTORE_READER
    };
    for (path, text) in sources().iter().filter(|(path, _)| elsewhere(path.to_str().unwrap())) {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let sql = code.clone().find(|line| SQL.iter().any(|word| line.contains(word)));
        assert_eq!(sql, None, "{}", path.display());
    }
}

/// A `use` or a path; comments may say anything.
fn uses(line: &str, word: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with("//") && (code.contains(&format!("{word}::")) || code.contains(&format!("use {word};")))
}

#[test]
fn a_forbidden_import_is_seen() {
    assert!(uses("use tonic::Status;", "tonic"));
    assert!(uses("use crate::store;", "crate::store"));
    assert!(uses("    crate::store::runs::get(tx)", "crate::store"));
    assert!(!uses("// as tonic::Status does", "tonic"));
}

#[test]
fn the_protos_are_half_comment() {
    for entry in fs::read_dir(root().join("proto/runhub/v1")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let comments = text.lines().filter(|line| line.trim_start().starts_with("//")).count();
        let code = text.lines().filter(|line| !line.trim().is_empty()).count() - comments;
        assert!(comments * 5 >= code * 2, "{}: {comments} lines of comment, {code} of proto", path.display());
    }
}
