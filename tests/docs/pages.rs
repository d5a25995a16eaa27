//! Every page is listed, and every link leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::markdown::Page;
use crate::root;

/// The pages outside of the book.
const OTHERS: [&str; 9] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "client/go/README.md",
    "client/python/README.md",
    "client/rust/README.md",
    "client/scenarios/README.md",
    "client/typescript/README.md",
    "examples/cluster/README.md",
];

const SUMMARY: &str = "docs/SUMMARY.md";

/// Returns every page of the project.
pub fn pages() -> Vec<Page> {
    let others = OTHERS.iter().map(|path| (*path).to_owned());
    let pages: Vec<Page> = others.chain(pages_of_the_book()).map(|path| page(&path)).collect();
    assert!(pages.len() > OTHERS.len() + 8, "the pages of the book were found");
    pages
}

pub fn page(path: &str) -> Page {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Page::parse(path, &text)
}

fn pages_of_the_book() -> Vec<String> {
    let files = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<String> =
        pages.map(|path| format!("docs/{}", path.file_name().unwrap().to_str().unwrap())).collect();
    pages.sort();
    pages
}

#[test]
fn the_summary_lists_every_page_and_no_other() {
    let listed: Vec<String> = page(SUMMARY).links.iter().map(|link| format!("docs/{link}")).collect();
    let distinct: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(distinct.len(), listed.len(), "{SUMMARY} lists a page twice");
    for found in pages_of_the_book().iter().filter(|path| *path != SUMMARY) {
        assert!(listed.contains(found), "{SUMMARY} does not list {found}");
    }
    for path in &listed {
        assert!(root().join(path).is_file(), "{SUMMARY} lists {path}, which does not exist");
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<&str, &Vec<String>> = pages.iter().map(|page| (page.path.as_str(), &page.anchors)).collect();
    let mut problems = Vec::new();
    let mut count = 0;
    for page in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            problems.extend(problem(page, link, &anchors).map(|problem| format!("{}: {link} {problem}", page.path)));
            count += 1;
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 100, "only {count} links were found");
}

/// Returns what is wrong with a link, or None.
fn problem(page: &Page, link: &str, anchors: &BTreeMap<&str, &Vec<String>>) -> Option<&'static str> {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.path.clone() } else { resolve(&page.path, file) };
    if !anchors.contains_key(target.as_str()) && !root().join(&target).exists() {
        return Some("leads to a file that does not exist");
    }
    if anchor.is_empty() {
        return None;
    }
    match anchors.get(target.as_str()) {
        Some(anchors) if anchors.iter().any(|one| one == anchor) => None,
        Some(_) => Some("leads to a heading that does not exist"),
        None => Some("has an anchor, but leads to no page of the project"),
    }
}

/// Returns the target of a link on a page, as a path from the root.
pub fn resolve(page: &str, link: &str) -> String {
    let mut path = Path::new(page).parent().unwrap().to_owned();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                path.pop();
            }
            name => path.push(name),
        }
    }
    path.to_str().unwrap().to_owned()
}

#[test]
fn broken_links_are_found() {
    let pages = [Page::parse("docs/a.md", "# Here"), Page::parse("README.md", "# There")];
    let anchors = pages.iter().map(|page| (page.path.as_str(), &page.anchors)).collect();
    for link in ["#here", "../README.md", "../README.md#there"] {
        assert_eq!(problem(&pages[0], link, &anchors), None, "{link}");
    }
    for link in ["#there", "../README.md#here", "no.md", "../build.rs#x"] {
        assert!(problem(&pages[0], link, &anchors).is_some(), "{link}");
    }
}
