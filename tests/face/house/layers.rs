//! Imports between the parts of the project.

use super::rust_sources;

/// The folder of the server's parts.
const SERVER: &str = "server/src";

/// The parts of the server, from the lowest to the highest. A part uses only itself and lower parts.
const LAYERS: [&str; 12] = [
    "domain",
    "store",
    "actions",
    "wake",
    "watch",
    "connections",
    "rpc",
    "sweeper",
    "housekeeping",
    "config",
    "server",
    "cli",
];

/// Libraries that the files in a folder must not use.
const FORBIDDEN: [(&str, &[&str]); 8] = [
    ("bench/", &["runhub_server"]),
    ("server/src/domain/", &["tonic", "tokio", "rusqlite", "r2d2", "runhub_api", "runhub_client"]),
    ("server/src/actions/", &["tonic", "tokio", "rusqlite", "r2d2", "runhub_api", "runhub_client"]),
    ("server/src/store/", &["tonic", "runhub_api", "runhub_client"]),
    ("server/src/rpc/", &["rusqlite", "r2d2", "runhub_client"]),
    ("server/src/cli/", &["rusqlite", "r2d2"]),
    ("client/", &["runhub_server", "rusqlite"]),
    ("proto/", &["runhub_server", "runhub_client", "tokio"]),
];

/// Reads the database of another program, which the store does not know. It is the only file outside `store/` that may
/// use rusqlite and SQL.
const RUNSTORE_READER: &str = "server/src/cli/import/runstore/reader.rs";

/// The only folder of the server with SQL of its own, and the words by which SQL is found.
const STORE: &str = "server/src/store/";
const SQL: [&str; 4] = ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "];

#[test]
fn imports_go_from_higher_to_lower_layers() {
    for source in rust_sources() {
        let name = source.name();
        for word in forbidden_in(name) {
            if let Some(line) = source.text.lines().find(|line| uses(line, &word)) {
                panic!("{name} must not use {word}: {line}");
            }
        }
        let has_grouped_import = source.text.lines().any(|line| line.starts_with("use crate::{"));
        assert!(
            !name.starts_with(SERVER) || !has_grouped_import,
            "{name}: write one `use crate::part` a line, so that this test sees what is used"
        );
    }
}

/// Returns every library and every layer that a file must not use.
fn forbidden_in(name: &str) -> Vec<String> {
    let mut forbidden = Vec::new();
    for (folder, libraries) in FORBIDDEN {
        if name.starts_with(folder) && name != RUNSTORE_READER {
            forbidden.extend(libraries.iter().map(|library| (*library).to_owned()));
        }
    }
    if let Some(layer) = LAYERS.iter().position(|part| is_in_part(name, part)) {
        forbidden.extend(LAYERS[layer + 1..].iter().map(|part| format!("crate::{part}")));
    }
    forbidden
}

/// Returns true if the file is the part's own file or in its folder.
fn is_in_part(name: &str, part: &str) -> bool {
    name == format!("{SERVER}/{part}.rs") || name.starts_with(&format!("{SERVER}/{part}/"))
}

/// Returns true if a line uses a module in a `use` or a path. Comments do not count.
fn uses(line: &str, word: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with("//") && (code.contains(&format!("{word}::")) || code.contains(&format!("use {word};")))
}

#[test]
fn forbidden_import_is_detected() {
    assert!(uses("use tonic::Status;", "tonic"));
    assert!(uses("use crate::store;", "crate::store"));
    assert!(uses("    crate::store::runs::get(tx)", "crate::store"));
    assert!(!uses("// as tonic::Status does", "tonic"));
}

/// A part that was renamed or moved would otherwise escape its rules.
#[test]
fn every_layer_and_every_folder_with_a_rule_exists() {
    let sources = rust_sources();
    for part in LAYERS {
        assert!(sources.iter().any(|source| is_in_part(source.name(), part)), "{SERVER}/{part} does not exist");
    }
    for (folder, _) in FORBIDDEN {
        assert!(sources.iter().any(|source| source.name().starts_with(folder)), "{folder} does not exist");
    }
}

#[test]
fn only_the_store_contains_sql() {
    for source in rust_sources() {
        let is_exempt = source.name().starts_with(STORE) || source.name() == RUNSTORE_READER;
        if !source.name().starts_with(SERVER) || is_exempt {
            continue;
        }
        let mut code = source.text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let sql = code.find(|line| SQL.iter().any(|word| line.contains(word)));
        assert_eq!(sql, None, "{}", source.name());
    }
}
