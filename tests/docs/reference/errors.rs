//! The reasons that errors carry.

use std::collections::BTreeMap;

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
        let rpcs = rpcs_with(api, &reason);
        if rpcs.is_empty() {
            text += "\n\nAny RPC can answer this.\n";
        } else {
            text += &format!("\n\nRPCs: {}.\n", rpcs.join(", "));
        }
    }
    text
}

/// A table of the gRPC status codes, each with its reasons. The comment of a reason begins with its code.
fn by_code(api: &Api) -> String {
    let mut codes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (reason, value) in api.reasons() {
        let code = api.comment(&value).split(':').next().unwrap_or_default().to_owned();
        codes.entry(code).or_default().push(format!("[`{reason}`](#{})", reason.to_lowercase()));
    }
    let rows = codes.into_iter().map(|(code, reasons)| format!("| {code} | {} |\n", reasons.join(", ")));
    format!("| gRPC status | Reasons |\n|---|---|\n{}", rows.collect::<String>())
}

/// Returns links to the RPCs whose comments name a reason.
fn rpcs_with(api: &Api, reason: &str) -> Vec<String> {
    let names = |comment: &str| {
        comment.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == reason)
    };
    let rpcs = api.rpcs().into_iter().filter(|rpc| names(api.comment(rpc)));
    rpcs.map(|rpc| format!("[{}](#{})", rpc.name(), rpc.name().to_lowercase())).collect()
}
