//! The commands of `runhub` that the pages show are valid, and the operations page has every flag of the server.

use crate::pages::{page, pages};

/// The ways in which a command of the binary begins on a page.
const BINARIES: [&str; 5] =
    ["runhub", "../release/runhub", "target/release/runhub", "cargo run --release --", "cargo run --"];

/// The blocks that show commands.
const SHELL: [&str; 3] = ["sh", "console", "text"];

#[test]
fn every_command_that_a_page_shows_is_valid() {
    let mut problems = Vec::new();
    let mut count = 0;
    for page in pages() {
        let shown = page.blocks.iter().filter(|block| SHELL.contains(&block.info.as_str()));
        for line in shown.flat_map(|block| block.text.lines()) {
            let Some(arguments) = arguments(line) else { continue };
            count += 1;
            if let Some(problem) = problem(&arguments) {
                problems.push(format!("{}: {line}\n{problem}", page.path));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 15, "only {count} commands were found");
}

/// Returns the arguments if a line is a command of the binary.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    let rest = BINARIES
        .iter()
        .find_map(|binary| line.strip_prefix(binary).filter(|rest| rest.is_empty() || rest.starts_with(' ')))?;
    let mut arguments = vec!["runhub".to_owned()];
    let mut word = None::<String>;
    let mut quote = None;
    for letter in rest.chars() {
        match (letter, quote) {
            ('\'' | '"', None) => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('#' | '|' | '&' | ';' | '>', None) if word.is_none() => break,
            (' ', None) => arguments.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    arguments.extend(word);
    Some(arguments)
}

/// Returns what is wrong with a command line, or None.
fn problem(arguments: &[String]) -> Option<String> {
    let error = runhub_server::cli::command().try_get_matches_from(arguments).err()?;
    error.use_stderr().then(|| error.to_string())
}

#[test]
fn the_operations_page_has_every_flag_of_the_server() {
    let page = page("docs/operations.md");
    let command = runhub_server::cli::command();
    let serve = command.find_subcommand("serve").unwrap();
    for argument in serve.get_arguments() {
        let flag = format!("--{}", argument.get_long().unwrap());
        assert!(page.inline_code.contains(&flag), "{} does not have {flag}", page.path);
        let variable = argument.get_env().unwrap().to_str().unwrap().to_owned();
        assert!(page.inline_code.contains(&variable), "{} does not have {variable}", page.path);
    }
}

#[test]
fn invalid_commands_are_found() {
    for line in [
        "runhub",
        "runhub watch --kind 'task_*' | jq .",
        "cargo run -- approve \"$ID\" --because \"It reads well\"  # why",
    ] {
        assert_eq!(problem(&arguments(line).unwrap()), None, "{line}");
    }
    for line in ["runhub no-such-command", "runhub watch --no-such-flag", "target/release/runhub approve"] {
        assert!(problem(&arguments(line).unwrap()).is_some(), "{line}");
    }
    assert_eq!(arguments("runhubs"), None);
}
