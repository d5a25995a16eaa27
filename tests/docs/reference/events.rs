//! The kinds of events that the server appends. The comment of the message Event lists them.

use super::api::Api;
use super::text::Prose;

/// The message whose comment lists the kinds.
pub const MESSAGE: &str = "Event";

/// One kind of event, and what its payload has.
pub struct EventKind {
    pub name: String,
    pub payload: String,
}

/// Reads the list in the comment: an entry is an indented line of a kind, two spaces or more, and the payload. A line that
/// is indented further continues it.
pub fn kinds(api: &Api) -> Vec<EventKind> {
    let mut kinds: Vec<EventKind> = Vec::new();
    for line in api.comment(&api.message(MESSAGE)).lines() {
        match (entry(line), kinds.last_mut()) {
            (Some((name, payload)), _) => kinds.push(EventKind { name, payload }),
            (None, Some(last)) if line.starts_with("    ") => {
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
    let lines = comment.lines().filter(|line| entry(line).is_none() && !line.starts_with("    "));
    lines.collect::<Vec<_>>().join("\n")
}

fn entry(line: &str) -> Option<(String, String)> {
    let line = line.strip_prefix("  ").filter(|line| !line.starts_with(' '))?;
    let (name, payload) = line.split_once("  ")?;
    let is_kind = name.contains('_') && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_');
    is_kind.then(|| (name.to_owned(), payload.trim().to_owned()))
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
