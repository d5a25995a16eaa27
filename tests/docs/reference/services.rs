//! The services: an overview of each, then its RPCs with request, response and errors.

use prost_reflect::{MessageDescriptor, MethodDescriptor, ServiceDescriptor};

use super::api::Api;
use super::text::{Prose, first_sentence, split_list};
use super::types::field_table;

pub fn sections(api: &Api, prose: &Prose) -> String {
    let sections: Vec<String> = api.services().iter().map(|service| section(api, prose, service)).collect();
    sections.join("\n")
}

fn section(api: &Api, prose: &Prose, service: &ServiceDescriptor) -> String {
    let mut text = format!("## {}\n\n{}", service.name(), prose.blocks(api.comment(service)));
    text += "| RPC | Summary | Changes state | Paged | Admission |\n|---|---|---|---|---|\n";
    for rpc in service.methods() {
        let facts = api.facts(&rpc);
        let yes = |is_so: bool| if is_so { "yes" } else { "" };
        let (name, anchor) = (rpc.name(), rpc.name().to_lowercase());
        let summary = prose.cell(&first_sentence(api.comment(&rpc)));
        let (mutates, paged) = (yes(facts.mutates), yes(facts.paged));
        text += &format!("| [{name}](#{anchor}) | {summary} | {mutates} | {paged} | {} |\n", facts.admission);
    }
    for rpc in service.methods() {
        text += &format!("\n{}", rpc_section(api, prose, &rpc));
    }
    text
}

fn rpc_section(api: &Api, prose: &Prose, rpc: &MethodDescriptor) -> String {
    let (comment, errors) = without_errors(api.comment(rpc));
    let mut text = format!("### {}\n\n`{}`\n\n{}\n\n", rpc.name(), signature(rpc), facts_line(api, rpc));
    text += &prose.blocks(&comment);
    text += &message(api, prose, "Request", &rpc.input());
    text += &message(api, prose, "Response", &rpc.output());
    text += &errors.map(|errors| error_list(prose, &errors)).unwrap_or_default();
    text
}

fn signature(rpc: &MethodDescriptor) -> String {
    let stream = if rpc.is_server_streaming() { "stream " } else { "" };
    format!("rpc {}({}) returns ({stream}{})", rpc.name(), rpc.input().name(), rpc.output().name())
}

fn facts_line(api: &Api, rpc: &MethodDescriptor) -> String {
    let facts = api.facts(rpc);
    let takes_request_id = rpc.input().get_field_by_name("request_id").is_some();
    let changes = match (facts.mutates, takes_request_id) {
        (false, _) => "Changes nothing",
        (true, true) => "Changes state, takes a `request_id`",
        (true, false) => "Changes state, takes no `request_id`",
    };
    let paged = if facts.paged { " · paged" } else { "" };
    let streams = if rpc.is_server_streaming() { " · streams its responses" } else { "" };
    format!("{changes}{paged}{streams} · admission [{}](#admission)", facts.admission)
}

/// Separates the paragraph that lists the errors from the rest.
fn without_errors(comment: &str) -> (String, Option<String>) {
    let is_errors = |paragraph: &&str| paragraph.starts_with("Errors:");
    let rest: Vec<&str> = comment.split("\n\n").filter(|paragraph| !is_errors(paragraph)).collect();
    let errors = comment.split("\n\n").find(is_errors);
    (rest.join("\n\n"), errors.map(|errors| errors.trim_start_matches("Errors:").trim().to_owned()))
}

fn message(api: &Api, prose: &Prose, heading: &str, message: &MessageDescriptor) -> String {
    if message.fields().len() == 0 {
        return format!("**{heading}** `{}`: no fields.\n\n", message.name());
    }
    format!("**{heading}** `{}`\n\n{}\n", message.name(), field_table(api, prose, message))
}

/// Shows the errors as a list, one reason an entry where the comment separates them by semicolons.
fn error_list(prose: &Prose, errors: &str) -> String {
    if errors.starts_with("- ") {
        return format!("**Errors**\n\n{}", prose.blocks(errors).trim_end().to_owned() + "\n");
    }
    let one_line = errors.split_whitespace().collect::<Vec<_>>().join(" ");
    let entries = split_list(one_line.trim_end_matches('.')).into_iter();
    let lines: String = entries.map(|entry| format!("- {}\n", prose.linked(&entry))).collect();
    format!("**Errors**\n\n{lines}")
}
