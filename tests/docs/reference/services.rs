//! The services: an overview of each, then its RPCs with request, response and errors.

use prost_reflect::{MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use runhub_api::Rpc;

use super::api::Api;
use super::text::{Prose, first_sentence};
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
        let name = rpc.name();
        let anchor = name.to_lowercase();
        let summary = prose.cell(&first_sentence(api.comment(&rpc)));
        let mutates = yes(facts.mutates);
        let paged = yes(facts.paged);
        text += &format!("| [{name}](#{anchor}) | {summary} | {mutates} | {paged} | {} |\n", admission(facts));
    }
    for rpc in service.methods() {
        text += &format!("\n{}", rpc_section(api, prose, &rpc));
    }
    text
}

fn rpc_section(api: &Api, prose: &Prose, rpc: &MethodDescriptor) -> String {
    let mut text = format!("### {}\n\n`{}`\n\n{}\n\n", rpc.name(), signature(rpc), facts_line(api, rpc));
    text += &prose.blocks(&without_errors(api.comment(rpc)));
    text += &message(api, prose, "Request", &rpc.input());
    text += &message(api, prose, "Response", &rpc.output());
    text += &error_list(prose, &api.errors(rpc));
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
    format!("{changes}{paged}{streams} · admission [{}](#admission)", admission(facts))
}

/// Returns the admission class without the prefix of its enum.
fn admission(facts: &Rpc) -> &'static str {
    facts.admission.as_str_name().trim_start_matches("ADMISSION_")
}

/// Returns a comment without the paragraph that lists the errors.
fn without_errors(comment: &str) -> String {
    let rest = comment.split("\n\n").filter(|paragraph| !paragraph.starts_with("Errors:"));
    rest.collect::<Vec<_>>().join("\n\n")
}

fn message(api: &Api, prose: &Prose, heading: &str, message: &MessageDescriptor) -> String {
    if message.fields().len() == 0 {
        return format!("**{heading}** `{}`: no fields.\n\n", message.name());
    }
    let comment = api.comment(message);
    // One sentence only says which RPC the message belongs to.
    let comment = if first_sentence(comment).len() < comment.len() { prose.blocks(comment) } else { String::new() };
    format!("**{heading}** `{}`\n\n{comment}{}\n", message.name(), field_table(api, prose, message))
}

/// Shows the errors as a list, one reason an entry.
fn error_list(prose: &Prose, errors: &[String]) -> String {
    if errors.is_empty() {
        return "**Errors**: only those that [every RPC](#runservice) can answer.\n".to_owned();
    }
    let lines: String = errors.iter().map(|entry| format!("- {}\n", prose.linked(entry))).collect();
    format!("**Errors**\n\n{lines}")
}
