//! The house rules: imports between parts, lengths of files and functions, and claims in the docs.

mod docs;
mod layers;
mod printing;
mod protos;
mod sizes;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// Folders with Rust files, from the root of the checkout.
const RUST_FOLDERS: [&str; 7] = ["bench", "build", "proto", "server", "client/rust", "client/scenarios", "tests"];

/// The folder with the clients in other languages, and the extensions of their files.
const CLIENTS_FOLDER: &str = "client";
const CLIENT_EXTENSIONS: [&str; 3] = ["py", "ts", "go"];

/// Folders of the clients with generated, compiled or installed files, which the rules do not cover.
const NOT_HAND_WRITTEN: &[&str] =
    &["node_modules", "dist", "build", "src/gen", "runhubv1", "runhub/v1", "__pycache__", "venv", ".venv"];

/// A file of the project.
struct Source {
    /// From the root of the checkout.
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        Self { path: path.strip_prefix(root()).unwrap().to_owned(), text }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

/// Returns every Rust file of the project.
fn rust_sources() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in RUST_FOLDERS {
        collect(&root().join(folder), &["rs"], &["target"], &mut found);
    }
    assert!(found.len() > 50, "the Rust files were not found");
    found
}

/// Returns every hand-written file of the clients in other languages.
fn client_sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join(CLIENTS_FOLDER), &CLIENT_EXTENSIONS, NOT_HAND_WRITTEN, &mut found);
    assert!(found.len() > 50, "the files of the clients were not found");
    found
}

fn collect(folder: &Path, extensions: &[&str], skipped: &[&str], found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !skipped.iter().any(|name| path.ends_with(name)) {
                collect(&path, extensions, skipped, found);
            }
        } else if extensions.iter().any(|extension| path.extension().is_some_and(|own| own == *extension)) {
            found.push(Source::read(&path));
        }
    }
}
