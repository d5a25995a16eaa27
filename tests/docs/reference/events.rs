//! The kinds of events that the server appends. The comment of the message Event lists them.

use super::api::Api;
use super::text::Prose;

/// The message whose comment lists the kinds.
pub const MESSAGE: &str = "Event";

/// One kind of event.
pub struct EventKind {
    pub name: String,
    /// When the server appends such an event.
    pub meaning: String,
    /// The keys of the payload, each with its meaning: "`key`: meaning".
    pub keys: Vec<String>,
}

/// Reads the list in the comment: an entry is a kind, the entries below it are the keys of its payload.
pub fn kinds(api: &Api) -> Vec<EventKind> {
    let mut kinds: Vec<EventKind> = Vec::new();
    for line in api.comment(&api.message(MESSAGE)).lines() {
        if let Some(kind) = entry(line) {
            kinds.push(kind);
        } else if let Some(last) = kinds.last_mut().filter(|_| line.starts_with(INDENT)) {
            add_line(last, line.trim());
        }
    }
    assert!(kinds.len() > 25, "the comment of the message Event lists {} kinds of events", kinds.len());
    kinds
}

/// Adds a key of the payload, or continues what the line before says.
fn add_line(kind: &mut EventKind, line: &str) {
    match (line.strip_prefix("- "), kind.keys.last_mut()) {
        (Some(key), _) => kind.keys.push(key.to_owned()),
        (None, Some(key)) => *key = format!("{key} {line}"),
        (None, None) => kind.meaning = format!("{} {line}", kind.meaning),
    }
}

/// Returns the comment without the list of kinds.
pub fn without_kinds(comment: &str) -> String {
    let lines = comment.lines().filter(|line| entry(line).is_none() && !line.starts_with(INDENT));
    lines.collect::<Vec<_>>().join("\n")
}

const INDENT: &str = "  ";

/// Reads "- `kind`: meaning".
fn entry(line: &str) -> Option<EventKind> {
    let (name, meaning) = line.strip_prefix("- `")?.split_once("`: ")?;
    Some(EventKind { name: name.to_owned(), meaning: meaning.to_owned(), keys: Vec::new() })
}

#[test]
fn entry_is_a_kind_and_its_meaning() {
    let kind = entry("- `run_paused`: A run was paused.").unwrap();
    assert_eq!((kind.name.as_str(), kind.meaning.as_str()), ("run_paused", "A run was paused."));
    assert!(entry("  - `reason`: Why it was paused.").is_none());
    assert!(entry("Keys are only added.").is_none());
}

pub fn section(api: &Api, prose: &Prose) -> String {
    let mut text = "\
## Events by kind

The server appends these events, with the source `system`, in the transaction of the change that they report. Agents append
their own kinds with [AppendEvents](#appendevents). The names in a payload are the JSON names of the fields that they show.
"
    .to_owned();
    for kind in kinds(api) {
        text += &format!("\n### {}\n\n{}", kind.name, prose.linked(&kind.meaning));
        let links = items_that_name(api, &kind.name);
        if !links.is_empty() {
            text += &format!(" See {}.", links.join(", "));
        }
        text += "\n";
        if !kind.keys.is_empty() {
            text += "\n| Payload | Meaning |\n|---|---|\n";
        }
        for (key, meaning) in kind.keys.iter().filter_map(|key| key.split_once(": ")) {
            text += &format!("| {key} | {} |\n", prose.cell(meaning));
        }
    }
    text
}

/// Returns links to the RPCs and services whose comments name a kind.
fn items_that_name(api: &Api, kind: &str) -> Vec<String> {
    let code = format!("`{kind}`");
    let link = |name: &str| format!("[{name}](#{})", name.to_lowercase());
    let rpcs = api.rpcs().into_iter().filter(|rpc| api.comment(rpc).contains(&code)).map(|rpc| link(rpc.name()));
    let services = api.services().into_iter().filter(|service| api.comment(service).contains(&code));
    rpcs.chain(services.map(|service| link(service.name()))).collect()
}
