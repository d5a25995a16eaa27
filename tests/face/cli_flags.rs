//! The flags and variables of the commands, their help, and the benchmark.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::binary::{runhub, stdout};

#[test]
fn default_command_serves_and_reads_flags_from_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("from_env.db");
    let mut command = runhub(&[]);
    command.env("RUNHUB_LISTEN", "127.0.0.1:0").env("RUNHUB_DB", &db).env("RUNHUB_LOG", "warn");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let listens = lines.next().unwrap().unwrap();
    let try_it = lines.next().unwrap().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(listens.starts_with("runhub 0.1.0 listens on 127.0.0.1:"), "{listens}");
    assert!(try_it.contains("grpcurl -plaintext 127.0.0.1:"), "{try_it}");
    assert!(db.exists());
}

/// A command ignores the variables of flags that it does not have.
#[test]
fn environment_variables_set_the_flags_of_their_commands() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let mut client = runhub(&["runs"]);
    client.env("RUNHUB_SERVER", "127.0.0.1:1").env("RUNHUB_LISTEN", "127.0.0.1:0").env("RUNHUB_DB", &db);
    assert_eq!(client.output().unwrap().status.code(), Some(3), "the variable names the server");
    for (insecure, code) in [("1", Some(1)), ("false", Some(2))] {
        let mut serve = runhub(&["serve", "--listen", "0.0.0.0:0", "--db", "/nowhere/runhub.db"]);
        assert_eq!(serve.env("RUNHUB_INSECURE", insecure).output().unwrap().status.code(), code, "{insecure}");
    }
}

#[test]
fn help_shows_examples_exit_codes_and_variables() {
    let help = stdout(&["--help"]);
    for expected in ["Examples:", "Exit codes:", "watch", "import", "RUNHUB_DB"] {
        assert!(help.contains(expected), "{expected} in {help}");
    }
}

/// Checks that every row is measured, not how fast the server is.
#[tokio::test(flavor = "multi_thread")]
async fn bench_measures_every_row() {
    let shown = tokio::task::spawn_blocking(|| stdout(&["bench", "--quick", "--json"])).await.unwrap();
    let report: Value = serde_json::from_str(&shown).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 67, "{shown}");
    for row in rows {
        let name = row["name"].as_str().unwrap();
        // On a slow machine the bench may end before the server refuses any call.
        let may_be_none = name.ends_with("a refusal");
        assert!(row["value"].as_f64().map_or(may_be_none, |value| value > 0.0), "{row}");
        assert_eq!(row["target"].is_number(), row["met"].is_boolean() || row["value"].is_null(), "{row}");
        assert_eq!(row["ceiling"].is_number(), row["ratio"].is_number(), "{row}");
    }
    assert_eq!(rows.iter().filter(|row| row["target"].is_number()).count(), 64, "{shown}");
}
