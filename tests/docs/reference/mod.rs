//! `docs/reference.md`, generated from the compiled protos with their comments.

pub mod api;
mod contents;
mod errors;
mod events;
mod limits;
mod services;
mod text;
mod types;

use std::collections::BTreeSet;
use std::fs;

use self::api::Api;
use self::text::Prose;
use crate::markdown::Page;
use crate::root;

const PAGE: &str = "docs/reference.md";
const COMMAND: &str = "RUNHUB_UPDATE_DOCS=1 cargo test -p runhub-server --test docs reference";

const INTRODUCTION: &str = "\
# Reference

Every service, RPC, message, field, error, event and limit of the API, package `runhub.v1`. A test generates this page from
the comments in `proto/runhub/v1/`, so it can't differ from what the server was built from. A running server shows the
same text: `grpcurl -plaintext 127.0.0.1:50051 describe runhub.v1.TaskService.ClaimTask`.

How to read the tables:

- *Type*: `optional` means that the field can be absent, and that absence differs from an empty value. `repeated` is a list.
- `Timestamp`, `Duration`, `Value` (any JSON) and `FieldMask` are the types of the package `google.protobuf`. In JSON a
  timestamp is `\"2026-01-31T12:00:00Z\"`, a duration `\"2.5s\"`, and an int64 a string.
- *Changes state*: the RPC takes a `request_id`, so a repeated call has one effect. Heartbeat takes none, because repeating it does
  no harm.
- *Paged*: the request has `page_size` and `page_token`; the response has `next_page_token`.
- *Admission*: what the server does with the RPC when it is overloaded. See [Admission](#admission).
";

/// Returns the whole page.
fn generate() -> String {
    let api = Api::load();
    let prose = Prose::new(&api);
    let sections = [
        format!("<!-- Generated from proto/runhub/v1. Do not edit: run `{COMMAND}`. -->\n"),
        INTRODUCTION.to_owned(),
        contents::section(&api),
        services::sections(&api, &prose),
        types::messages(&api, &prose),
        types::enums(&api, &prose),
        errors::section(&api, &prose),
        events::section(&api, &prose),
        limits::section(&api, &prose),
    ];
    sections.join("\n")
}

#[test]
fn the_reference_is_current() {
    let path = root().join(PAGE);
    let generated = generate();
    if std::env::var_os("RUNHUB_UPDATE_DOCS").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let mut lines = generated.lines().zip(committed.lines());
    let line = lines.position(|(new, old)| new != old).unwrap_or(committed.lines().count()) + 1;
    assert!(
        generated == committed,
        "{PAGE} differs from what the protos generate, from line {line} on. Renew it and commit it:\n  {COMMAND}"
    );
}

#[test]
fn the_reference_names_everything_in_the_api() {
    let api = Api::load();
    let text = generate();
    for name in api.all_names() {
        assert!(text.contains(&name), "{PAGE} does not name {name}");
    }
}

/// Two headings with the same anchor would make links lead to the wrong one.
#[test]
fn each_heading_of_the_reference_has_an_anchor_of_its_own() {
    let page = Page::parse(PAGE, &generate());
    let distinct: BTreeSet<&String> = page.headings.iter().collect();
    assert_eq!(distinct.len(), page.headings.len());
    assert!(page.anchors.iter().all(|anchor| page.headings.contains(anchor)), "an anchor was numbered");
}
