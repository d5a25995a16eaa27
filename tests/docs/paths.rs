//! File names that the pages mention exist.

use std::path::Path;

use crate::markdown::Page;
use crate::pages::{pages, resolve};
use crate::root;

/// A name with one of these at its end is a file of the project.
const EXTENSIONS: [&str; 12] = ["rs", "proto", "md", "sql", "toml", "json", "py", "ts", "go", "mjs", "svg", "yaml"];

/// The architecture page names the server's files without this.
const SERVER: &str = "server/src";

/// A name that begins so is built, or made by the reader.
const NOT_COMMITTED: [&str; 2] = ["target", "."];

#[test]
fn every_file_that_a_page_names_exists() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        for name in page.inline_code.iter().filter(|name| is_path(&page, name)) {
            count += 1;
            if !exists(&page, name) {
                problems.push(format!("{}: `{name}` does not exist", page.path));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 30, "only {count} file names were found");
}

/// Returns whether inline code is a path: it has a slash, and a known folder at its beginning or a known extension at its end.
fn is_path(page: &Page, name: &str) -> bool {
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./".contains(letter));
    let Some((first, _)) = name.split_once('/').filter(|(first, _)| is_plain && !first.is_empty()) else {
        return false;
    };
    let is_of_a_program = page.blocks.iter().any(|block| block.info.ends_with(&format!(" {name}")));
    if NOT_COMMITTED.contains(&first) || is_of_a_program {
        return false;
    }
    let is_folder = [root().join(first), root().join(SERVER).join(first)].iter().any(|folder| folder.is_dir());
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    is_folder || extension.is_some_and(|extension| EXTENSIONS.contains(&extension))
}

fn exists(page: &Page, name: &str) -> bool {
    let of_the_page = resolve(&page.path, name);
    [root().join(name), root().join(of_the_page), root().join(SERVER).join(name)].iter().any(|path| path.exists())
}

#[test]
fn paths_are_distinguished_from_other_code() {
    let page = Page::parse("docs/a.md", "");
    for name in ["server/src/main.rs", "proto/runhub/v1/", "no/such.rs", "../client/rust", "store/no_such_file"] {
        assert!(is_path(&page, name), "{name}");
    }
    for name in ["/repo", "text/plain", "runhub.v1.TaskService/ClaimTask", "target/release/runhub", "a.rs", "src/**/x"]
    {
        assert!(!is_path(&page, name), "{name}");
    }
    assert!(exists(&page, "server/src/main.rs") && exists(&page, "store/mod.rs") && !exists(&page, "no/such.rs"));
}
