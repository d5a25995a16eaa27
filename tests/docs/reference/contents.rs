//! The list of contents.

use super::api::Api;
use super::limits;

pub fn section(api: &Api) -> String {
    let mut text = "## Contents\n\n".to_owned();
    for service in api.services() {
        let rpcs: Vec<String> = service.methods().map(|rpc| link(rpc.name())).collect();
        text += &format!("- {}: {}\n", link(service.name()), rpcs.join(", "));
    }
    let messages = api.messages().into_iter().filter(|message| message.name() != limits::MESSAGE);
    let messages: Vec<String> = messages.map(|message| link(message.name())).collect();
    text += &format!("- {}: {}\n", link("Messages"), messages.join(", "));
    let enums = api.enums().into_iter().filter(|one| one.name() != "ErrorReason");
    text += &format!("- {}: {}\n", link("Enums"), enums.map(|one| link(one.name())).collect::<Vec<_>>().join(", "));
    let reasons: Vec<String> = api.reasons().iter().map(|(reason, _)| link(reason)).collect();
    text += &format!("- {}: {}\n", link("Errors"), reasons.join(", "));
    text + "- [Events by kind](#events-by-kind)\n- [Limits](#limits)\n"
}

fn link(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}
