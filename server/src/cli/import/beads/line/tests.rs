use super::*;

/// Returns the lines of a ledger and the descriptions of the repairs.
fn read(text: &str) -> (Vec<IssueLine>, Vec<String>) {
    let mut repairs = Repairs::default();
    let lines = read_lines(text.as_bytes(), &mut repairs).unwrap_or_else(|error| panic!("{text}: {error}"));
    (lines, repairs.describe().collect())
}

fn refusal(text: &str) -> String {
    read_lines(text.as_bytes(), &mut Repairs::default()).err().unwrap_or_else(|| panic!("accepted {text}")).to_string()
}

fn links(entries: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut lines, repairs) = read(&format!(r#"{{"id":"a","title":"A","dependencies":{entries}}}"#));
    (lines.remove(0).links.into_iter().map(|link| (link.kind, link.target)).collect(), repairs)
}

fn pair(kind: &str, target: &str) -> (String, String) {
    (kind.to_owned(), target.to_owned())
}

#[test]
fn clean_line_needs_no_repair() {
    let (lines, repairs) = read("{\"id\":\"a\",\"title\":\"A\",\"type\":\"gate\"}\n\n{\"id\":\"b\",\"title\":\"B\"}\n");
    assert_eq!(repairs, Vec::<String>::new());
    assert_eq!((lines[0].status.as_str(), lines[0].kind.as_str()), ("open", "gate"));
    assert_eq!((lines[1].number, lines[1].kind.as_str()), (3, ""));
    let (lines, _) = read(r#"{"id":"a","title":"A","type":"x","issue_type":"bug"}"#);
    assert_eq!((lines[0].kind.as_str(), &*lines[0].other_fields), ("bug", &["type".to_owned()][..]));
}

#[test]
fn byte_order_mark_and_crlf_are_repaired() {
    let (lines, repairs) = read("\u{feff}{\"id\":\"a\",\"title\":\"A\"}\r\n{\"id\":\"b\",\"title\":\"B\"}\r\n");
    assert_eq!(lines.len(), 2);
    assert_eq!(
        repairs,
        ["line: read CRLF as the end of the line: lines 1, 2", "line: removed the byte order mark: line 1"]
    );
}

#[test]
fn null_counts_as_no_value_in_every_field() {
    let (lines, repairs) = read(
        r#"{"id":"a","title":"A","status":null,"priority":null,"description":null,"labels":["x",null],"dependencies":[null,{"depends_on_id":"b","type":"blocks","metadata":null}],"pinned":null,"notes":null}"#,
    );
    assert_eq!((lines[0].status.as_str(), lines[0].priority, lines[0].is_pinned), ("open", None, false));
    assert_eq!(lines[0].labels, ["x"]);
    assert_eq!(lines[0].links, [Link { kind: "blocks".into(), target: "b".into() }]);
    assert_eq!(lines[0].other_fields, Vec::<String>::new());
    for field in ["status", "priority", "description", "dependencies.metadata", "pinned", "notes"] {
        assert!(repairs.contains(&format!("{field}: read null as no value: line 1")), "{field}: {repairs:?}");
    }
    assert_eq!(repairs.len(), 8);
    let (lines, _) = read(r#"{"id":"a","title":"A","dependencies":null,"labels":null}"#);
    assert!(lines[0].links.is_empty() && lines[0].labels.is_empty());
}

#[test]
fn lines_after_the_id_of_a_dependency_are_removed() {
    let (found, repairs) = links(
        r#"[{"depends_on_id":"bd-1u9a\n2026-02-16T04:38:43.130820Z  INFO sync: exported=246","type":"blocks"},{"depends_on_id":" b \r\n","type":"tracks"}]"#,
    );
    assert_eq!(found, [pair("blocks", "bd-1u9a"), pair("tracks", "b")]);
    assert_eq!(
        repairs,
        [
            "dependencies.depends_on_id: removed the blanks around the id: line 1",
            "dependencies.depends_on_id: removed the lines after the id: line 1"
        ]
    );
    let (lines, repairs) = read(r#"{"id":"a","title":"A","parent":"p\nINFO x"}"#);
    assert_eq!((lines[0].parent.as_deref(), repairs.len()), (Some("p"), 1));
}

#[test]
fn type_of_a_dependency_is_repaired() {
    let (found, repairs) = links(
        r#"[{"depends_on_id":"b"},{"depends_on_id":"c","type":""},{"depends_on_id":"d","type":"inspired-by"},{"depends_on_id":" ","type":"blocks"},{"type":"blocks"}]"#,
    );
    assert_eq!(found, [pair("blocks", "b"), pair("blocks", "c"), pair("inspired-by", "d")]);
    assert_eq!(
        repairs,
        [
            "dependencies.depends_on_id: left out a dependency without an id: line 1",
            "dependencies.type: kept a dependency of an unknown type as a label: line 1",
            "dependencies.type: read a missing type as blocks: line 1"
        ]
    );
    for kind in LINK_KINDS {
        let (_, repairs) = links(&format!(r#"[{{"depends_on_id":"b","type":"{kind}"}}]"#));
        assert_eq!(repairs, Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn repeated_line_is_left_out_and_different_lines_with_one_id_are_refused() {
    let line = r#"{"id":"a","title":"A"}"#;
    let (lines, repairs) = read(&format!("{line}\n{line}\r\n"));
    assert_eq!((lines.len(), repairs.len()), (1, 2));
    let refused = refusal(&format!("{line}\n{}", r#"{"id":"a","title":"B"}"#));
    assert!(refused.starts_with("line 2: the issue id a must be unique, but line 1 has"), "{refused}");
}

#[test]
fn error_names_the_line_and_the_field() {
    for (line, expected) in [
        ("{", "line 1: the line must be a JSON object"),
        ("<<<<<<< HEAD", "line 1: the line must be a JSON object"),
        ("[]", "line 1: the line must be a JSON object"),
        (r#"{"title":"A"}"#, "line 1: id: the value must not be blank"),
        (r#"{"id":"a"}"#, "line 1: title: the value must not be blank"),
        (r#"{"id":5,"title":"A"}"#, "line 1: id: the value must be a text, but is a number"),
        (r#"{"id":"a\nb","title":"A"}"#, "line 1: id: the name must not contain control characters"),
        (r#"{"id":"a","title":"A","priority":"1"}"#, "line 1: priority: the value must be an integer, but is a text"),
        (r#"{"id":"a","title":"A","pinned":2}"#, "line 1: pinned: the value must be true or false"),
        (r#"{"id":"a","title":"A","labels":["x",1]}"#, "line 1: labels[1]: the value must be a text"),
        (r#"{"id":"a","title":"A","labels":"x"}"#, "line 1: labels: the value must be a list, but is a text"),
        (r#"{"id":"a","title":"A","dependencies":["b"]}"#, "line 1: dependencies[0]: the value must be an object"),
        (
            r#"{"id":"a","title":"A","dependencies":[null,{"depends_on_id":1}]}"#,
            "line 1: dependencies[1].depends_on_id: the value must be a text",
        ),
        (
            r#"{"id":"a","title":"A","dependencies":[{"depends_on_id":"2026 INFO x\nb","type":"blocks"}]}"#,
            "line 1: dependencies[0].depends_on_id: the name must not contain control characters",
        ),
    ] {
        let refused = refusal(line);
        assert!(refused.starts_with(expected), "{line}: {refused}");
    }
    assert!(refusal("\n \n").contains("contains no issues"));
    let refused = read_lines(b"\xff\xfe{", &mut Repairs::default()).err().unwrap().to_string();
    assert!(refused.contains("not UTF-8"), "{refused}");
}
