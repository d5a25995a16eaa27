//! The commands print through the module `cli::out`, which makes the texts of agents printable.

use super::rust_sources;

const COMMANDS: &str = "server/src/cli/";

/// The files that may use the standard output, the standard error and the libraries for them. The log makes the texts of
/// callers printable itself.
const EXEMPT: [&str; 2] = ["server/src/cli/out/", "server/src/cli/log.rs"];

/// Words with which a command could print in another way.
const WORDS: [&str; 7] = ["stdout(", "stderr(", "println!", "print!(", "writeln!", "anstream", "comfy_table"];

/// `Out::stdout`, `Out::stderr` and the colors of `out` are allowed.
fn without_out(line: &str) -> String {
    line.replace("Out::stdout(", "").replace("Out::stderr(", "")
}

#[test]
fn commands_print_only_through_the_module_that_makes_texts_printable() {
    let sources = rust_sources();
    for exempt in EXEMPT {
        assert!(sources.iter().any(|source| source.name().starts_with(exempt)), "{exempt} does not exist");
    }
    let commands = sources.iter().filter(|source| source.name().starts_with(COMMANDS));
    for source in commands.filter(|source| !EXEMPT.iter().any(|exempt| source.name().starts_with(exempt))) {
        let mut code = source.text.lines().filter(|line| !line.trim_start().starts_with("//")).map(without_out);
        let found = code.find(|line| WORDS.iter().any(|word| line.contains(word)));
        assert_eq!(found, None, "{}: print with `Out`", source.name());
    }
}
