//! Comments of the protos as Markdown, with links from each name to its section.

use std::collections::{BTreeMap, BTreeSet};

use super::api::Api;
use super::events;

/// The names that have a section on the page, for links.
pub struct Prose {
    /// Services, RPCs and reasons, which are linked wherever they stand.
    names: BTreeMap<String, String>,
    /// Messages and enums. Those of one word (Task, Run) are linked only after "See".
    types: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Prose {
    pub fn new(api: &Api) -> Self {
        let mut names = BTreeMap::new();
        for service in api.services() {
            names.insert(service.name().to_owned(), service.name().to_lowercase());
            for rpc in service.methods() {
                let anchor = rpc.name().to_lowercase();
                names.insert(rpc.name().to_owned(), anchor.clone());
                names.insert(format!("{}.{}", service.name(), rpc.name()), anchor);
            }
        }
        names.extend(api.reasons().into_iter().map(|(reason, _)| (reason.clone(), reason.to_lowercase())));
        let messages = api.messages().into_iter().map(|message| message.name().to_owned());
        let types = messages.chain(api.enums().into_iter().map(|one| one.name().to_owned())).collect();
        let kinds = events::kinds(api).into_iter().map(|kind| kind.name).collect();
        Self { names, types, kinds }
    }

    /// Returns a comment as paragraphs and lists, with a blank line after each.
    pub fn blocks(&self, comment: &str) -> String {
        let blocks = blocks(comment).into_iter();
        blocks.map(|lines| lines.iter().map(|line| self.linked(line) + "\n").collect::<String>() + "\n").collect()
    }

    /// Returns a comment in one line, for a cell of a table.
    pub fn cell(&self, comment: &str) -> String {
        let blocks: Vec<String> = blocks(comment).iter().map(|lines| self.linked(&lines.join(" "))).collect();
        blocks.join("<br>").replace('|', "\\|")
    }

    /// Links the names in a text, and escapes characters that are markup in Markdown.
    pub fn linked(&self, text: &str) -> String {
        let mut linked = String::new();
        for (at, part) in text.split('`').enumerate() {
            if at % 2 == 1 {
                linked += &self.linked_code(part);
            } else {
                linked += &self.linked_words(part);
            }
        }
        linked
    }

    fn linked_code(&self, code: &str) -> String {
        let anchor = self.names.get(code).cloned().or_else(|| self.kinds.contains(code).then(|| code.to_owned()));
        match anchor {
            Some(anchor) => format!("[`{code}`](#{anchor})"),
            None => format!("`{code}`"),
        }
    }

    fn linked_words(&self, text: &str) -> String {
        let mut linked = String::new();
        let mut rest = text;
        while let Some(start) = rest.find(is_of_a_name) {
            let (before, from) = rest.split_at(start);
            let end = from.find(|letter| !is_of_a_name(letter)).unwrap_or(from.len());
            let word = from[..end].trim_end_matches('.');
            linked += &escaped(before);
            rest = &from[word.len()..];
            if word.is_empty() {
                linked.push('.');
                rest = &from[1..];
            } else if rest.starts_with(" / ") || (linked.is_empty() && rest.starts_with(": ")) {
                // A gRPC status, before a reason or at the start of a reason's comment. INTERNAL and DEADLINE_EXCEEDED
                // are also the names of reasons.
                linked += word;
            } else {
                linked += &self.linked_word(word, linked.ends_with("See ") || linked.ends_with("see "));
            }
        }
        linked + &escaped(rest)
    }

    fn linked_word(&self, word: &str, is_after_see: bool) -> String {
        if let Some(anchor) = self.names.get(word) {
            let is_reason = !word.contains(|letter: char| letter.is_lowercase());
            return if is_reason { format!("[`{word}`](#{anchor})") } else { format!("[{word}](#{anchor})") };
        }
        let name = word.split('.').next().unwrap_or(word);
        let words = name.chars().filter(|letter| letter.is_uppercase()).count();
        if self.types.contains(name) && (words > 1 || is_after_see || word.contains('.')) {
            return format!("[{word}](#{})", name.to_lowercase());
        }
        word.to_owned()
    }
}

/// The anchor of the section of events.
pub const EVENTS: &str = "events-by-kind";

fn is_of_a_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == '.'
}

fn escaped(text: &str) -> String {
    text.replace('*', "\\*").replace('<', "&lt;")
}

/// Splits a comment into paragraphs of one line each, and lists of one line an entry.
fn blocks(comment: &str) -> Vec<Vec<String>> {
    let mut blocks: Vec<Vec<String>> = Vec::new();
    for paragraph in comment.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        let mut lines: Vec<String> = Vec::new();
        for line in paragraph.lines() {
            let line = line.trim();
            let is_entry = line.starts_with("- ");
            match lines.last_mut() {
                Some(last) if !is_entry => *last = format!("{last} {line}"),
                Some(last) if !last.starts_with("- ") => {
                    blocks.push(std::mem::take(&mut lines));
                    lines.push(line.to_owned());
                }
                _ => lines.push(line.to_owned()),
            }
        }
        blocks.push(lines);
    }
    blocks
}

/// Returns the first sentence of a comment.
pub fn first_sentence(comment: &str) -> String {
    let first = blocks(comment).into_iter().next().map(|lines| lines.join(" ")).unwrap_or_default();
    let ends = first.match_indices(". ").map(|(at, _)| at);
    // A full stop before a small letter is part of an abbreviation.
    let end = ends.into_iter().find(|at| first[at + 2..].starts_with(|letter: char| !letter.is_lowercase()));
    end.map_or(first.clone(), |at| first[..=at].to_owned())
}

#[test]
fn a_comment_becomes_paragraphs_and_lists() {
    let comment = "One\nparagraph.\n\nA list:\n- first\n  goes on\n- second";
    let expected = [vec!["One paragraph."], vec!["A list:"], vec!["- first goes on", "- second"]];
    assert_eq!(blocks(comment), expected);
    assert_eq!(first_sentence("It says e.g. this. Then more."), "It says e.g. this.");
}

#[test]
fn names_are_linked_and_markup_is_escaped() {
    let prose = Prose::new(&Api::load());
    assert_eq!(prose.linked("See Run.goal."), "See [Run.goal](#run).");
    assert_eq!(prose.linked("INTERNAL / INTERNAL"), "INTERNAL / [`INTERNAL`](#internal)");
    assert_eq!(prose.linked("INTERNAL: a bug"), "INTERNAL: a bug");
    assert_eq!(prose.linked("RUN_NOT_FOUND; a Run"), "[`RUN_NOT_FOUND`](#run_not_found); a Run");
    assert_eq!(
        prose.linked("`task_*` and * and TaskService.GetTask"),
        "`task_*` and \\* and [TaskService.GetTask](#gettask)"
    );
    assert_eq!(prose.linked("Event: `run_created`."), "Event: [`run_created`](#run_created).");
}
