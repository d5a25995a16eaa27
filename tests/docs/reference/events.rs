//! The kinds of events that the server appends. The comment of the message Event lists them.

use super::api::Api;
use super::text::Prose;

/// The message whose comment lists the kinds.
pub const MESSAGE: &str = "Event";

/// One kind of event, and a description of its payload.
pub struct EventKind {
    pub name: String,
    pub payload: String,
}

/// Reads the list in the comment: an entry is a kind and its payload, and an indented line that is no entry continues it.
pub fn kinds(api: &Api) -> Vec<EventKind> {
    let mut kinds: Vec<EventKind> = Vec::new();
    for line in api.comment(&api.message(MESSAGE)).lines() {
        match (entry(line), kinds.last_mut()) {
            (Some(kind), _) => kinds.push(kind),
            (None, Some(last)) if line.starts_with(INDENT) => {
                last.payload = format!("{} {}", last.payload, line.trim())
            }
            _ => {}
        }
    }
    assert!(kinds.len() > 25, "the comment of the message Event lists {} kinds of events", kinds.len());
    kinds
}

/// Returns the comment without the list of kinds.
pub fn without_kinds(comment: &str) -> String {
    let lines = comment.lines().filter(|line| entry(line).is_none() && !line.starts_with(INDENT));
    lines.collect::<Vec<_>>().join("\n")
}

const INDENT: &str = "  ";

/// Reads "  kind   payload", or the same as an entry of a Markdown list: "- `kind`: payload".
fn entry(line: &str) -> Option<EventKind> {
    let text = line.strip_prefix("- ").or_else(|| line.strip_prefix(INDENT))?;
    let (name, payload) = text.split_once("  ").or_else(|| text.split_once(": "))?;
    let name = name.trim_matches('`');
    let is_kind = name.contains('_') && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    is_kind.then(|| EventKind { name: name.to_owned(), payload: payload.trim().to_owned() })
}

#[test]
fn an_entry_is_a_kind_and_its_payload() {
    for line in ["  run_paused    reason, statusBefore", "- `run_paused`: reason, statusBefore"] {
        let kind = entry(line).unwrap();
        assert_eq!((kind.name.as_str(), kind.payload.as_str()), ("run_paused", "reason, statusBefore"), "{line}");
    }
    assert!(entry("                 cycleCount, replanCount").is_none());
    assert!(entry("Keys are only added: never removed.").is_none());
}

pub fn section(api: &Api, prose: &Prose) -> String {
    let mut text = "\
## Events by kind

The server appends these events, with the source `system`, in the transaction of the change that they report. Agents append
their own kinds with [AppendEvents](#appendevents). The names in a payload are the JSON names of the fields that they show.

| Kind | Payload | See |
|---|---|---|
"
    .to_owned();
    for kind in kinds(api) {
        let payload = prose.cell(&kind.payload);
        text += &format!("| `{}` | {payload} | {} |\n", kind.name, items_that_name(api, &kind.name).join(", "));
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
