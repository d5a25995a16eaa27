//! The reasons that errors carry.

use std::collections::BTreeMap;

use prost_reflect::MethodDescriptor;

use super::api::Api;
use super::text::Prose;

const INTRODUCTION: &str = "\
Each reason is a value of the enum `ErrorReason`, whose names have the prefix `ERROR_REASON_`.

";

pub fn section(api: &Api, prose: &Prose) -> String {
    let reasons = api.enums().into_iter().find(|one| one.name() == "ErrorReason").unwrap();
    let mut text = format!("## Errors\n\n{}{INTRODUCTION}", prose.blocks(api.comment(&reasons)));
    text += &by_code(api);
    for (reason, value) in api.reasons() {
        let comment = api.comment(&value);
        text += &format!("\n### {reason}\n\n{}", prose.blocks(comment).trim_end());
        text += &format!("\n\n{}\n", rpcs_with(api, &reason));
    }
    text
}

/// Returns a table of the gRPC status codes, each with its reasons. The comment of a reason begins with its code.
fn by_code(api: &Api) -> String {
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (reason, value) in api.reasons() {
        let code = api.comment(&value).split(':').next().unwrap_or_default().to_owned();
        codes.entry(code).or_default().push(format!("[`{reason}`](#{})", reason.to_lowercase()));
    }
    let rows = codes.into_iter().map(|(code, reasons)| format!("| {code} | {} |\n", reasons.join(", ")));
    format!("| gRPC status | Reasons |\n|---|---|\n{}", rows.collect::<String>())
}

/// Returns a sentence about the RPCs that can answer a reason. The comment of RunService names the reasons that any RPC
/// can answer.
fn rpcs_with(api: &Api, reason: &str) -> String {
    if names(api.comment(&api.services()[0]), reason) && reason != "REQUEST_ID_REUSED" {
        return "Every RPC can answer this.".to_owned();
    }
    let rpcs: Vec<_> = api.rpcs().into_iter().filter(|rpc| names(&errors_of(api, rpc), reason)).collect();
    assert!(!rpcs.is_empty(), "neither RunService nor an RPC names the reason {reason}");
    let takes_id = |rpc: &MethodDescriptor| rpc.input().get_field_by_name("request_id").is_some();
    if rpcs == api.rpcs().into_iter().filter(takes_id).collect::<Vec<_>>() {
        return "Every RPC that takes a `request_id` can answer this.".to_owned();
    }
    let links = rpcs.iter().map(|rpc| format!("[{}](#{})", rpc.name(), rpc.name().to_lowercase()));
    format!("RPCs: {}.", links.collect::<Vec<_>>().join(", "))
}

/// Returns the errors of an RPC as one text.
fn errors_of(api: &Api, rpc: &MethodDescriptor) -> String {
    api.errors(rpc).join("\n")
}

fn names(text: &str, reason: &str) -> bool {
    text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == reason)
}
