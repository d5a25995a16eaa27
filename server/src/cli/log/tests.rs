use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use super::*;

/// Returns the line that the log writes for an event with texts of a caller.
fn log_line(text: &str, is_colored: bool) -> String {
    let file = Arc::new(tempfile::tempfile().unwrap());
    let log = tracing_subscriber::fmt().with_writer(Arc::clone(&file)).with_ansi(is_colored);
    tracing::subscriber::with_default(log.fmt_fields(TextFields).finish(), || {
        let _span = tracing::info_span!("rpc", path = %text, name = text).entered();
        tracing::warn!(error = %text, agent_id = text, log.file = "lib.rs", count = 7, "failed: {text}");
    });
    let mut line = String::new();
    let mut file: &File = &file;
    file.rewind().unwrap();
    file.read_to_string(&mut line).unwrap();
    line
}

#[test]
fn text_of_a_caller_cannot_control_the_terminal_or_start_a_line() {
    let line = log_line("a\u{1b}[2J\u{202e}\u{200b}\u{2028}\n2026 ERROR b", false);
    assert_eq!(line.lines().count(), 1, "{line}");
    assert_eq!(printable(line.trim_end()), line.trim_end());
    assert!(line.contains("error=a\u{fffd}[2J") && line.contains("count=7"), "{line}");
}

#[test]
fn names_of_fields_have_a_style_only_with_colors() {
    let line = log_line("a", false);
    assert!(
        line.contains("WARN rpc{path=a name=\"a\"}: ") && line.contains("failed: a error=a agent_id=\"a\""),
        "{line}"
    );
    assert!(log_line("a", true).contains("\u{1b}[3merror\u{1b}[0m"));
}

/// The fields name a file of the machine on which the server was built.
#[test]
fn place_of_a_line_in_the_source_code_of_a_library_is_left_out() {
    let line = log_line("a", false);
    assert!(line.ends_with("error=a agent_id=\"a\" count=7\n"), "{line}");
}
