//! Backups of a server under load: nothing that was acknowledged before a backup began is missing, and a restored
//! database is the backup, row by row.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use runhub_client::Client;
use rusqlite::Connection;
use tokio::task::JoinSet;

use crate::support::binary::{Binary, runhub};
use crate::support::calls::*;
use crate::support::dump::{dump, integrity};
use crate::support::until;

const BACKUPS: usize = 5;
const WRITERS: usize = 6;
const AGENTS: usize = 4;

/// Number of acknowledged writes between two backups.
const WRITES_BETWEEN: usize = 200;

/// The ids of the acknowledged writes: kinds of events, and ids of completed tasks.
#[derive(Default)]
struct Acknowledged {
    kinds: Mutex<BTreeSet<String>>,
    completed: Mutex<BTreeSet<String>>,
}

impl Acknowledged {
    fn copy(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (self.kinds.lock().unwrap().clone(), self.completed.lock().unwrap().clone())
    }

    fn count(&self) -> usize {
        self.kinds.lock().unwrap().len() + self.completed.lock().unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn backup_under_load_has_every_acknowledged_write_and_is_restored_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("runhub.db");
    let server = Binary::start(&db, &[]);
    server.terminate();
    assert!(server.wait().await);
    fill(&db);
    let server = Binary::start(&db, &[]);
    let run_id = new_run(&server.connect().await).await.id;
    let acknowledged = Arc::new(Acknowledged::default());
    let mut load = JoinSet::new();
    for writer in 0..WRITERS {
        load.spawn(append_forever(server.connect().await, run_id.clone(), writer, Arc::clone(&acknowledged)));
    }
    for _ in 0..AGENTS {
        load.spawn(complete_forever(server.connect().await, run_id.clone(), Arc::clone(&acknowledged)));
    }
    let mut missed = 0;
    for number in 0..BACKUPS {
        let begun_with = acknowledged.count();
        until(|| async { acknowledged.count() >= begun_with + WRITES_BETWEEN }).await;
        let before = acknowledged.copy();
        let backup = folder.path().join(format!("backup {number}.db"));
        run(&["backup", backup.to_str().unwrap(), "--db", db.to_str().unwrap()]).await;
        missed += acknowledged.count() - before.0.len() - before.1.len();
        check_backup(&backup, &before);
        let restored = folder.path().join(format!("restored {number}.db"));
        run(&["restore", backup.to_str().unwrap(), "--db", restored.to_str().unwrap()]).await;
        check_restored(&restored, &backup);
    }
    assert!(missed > 0, "no write was acknowledged during a backup");
    load.shutdown().await;
    server.kill();
    check_log(folder.path(), &db);
}

/// Enlarges the database, so that a backup takes longer than many commits. No server may have the database open.
fn fill(db: &Path) {
    let sql = "CREATE TABLE filler (bytes BLOB); INSERT INTO filler VALUES (zeroblob(64000000))";
    Connection::open(db).unwrap().execute_batch(sql).unwrap();
}

/// Returns every row of a database without the filler, whose text would be several times as large as the database.
/// Removes the filler from the database, which no server may have open.
fn rows(db: &Path) -> Vec<String> {
    Connection::open(db).unwrap().execute_batch("DROP TABLE IF EXISTS filler").unwrap();
    dump(db)
}

async fn append_forever(client: Client, run_id: String, writer: usize, acknowledged: Arc<Acknowledged>) {
    for at in 0.. {
        let kind = format!("{writer}.{at}");
        append(&client, &run_id, vec![event(&kind)]).await;
        acknowledged.kinds.lock().unwrap().insert(kind);
    }
}

async fn complete_forever(client: Client, run_id: String, acknowledged: Arc<Acknowledged>) {
    loop {
        add_task(&client, &run_id, draft("t")).await;
        let Some(claim) = claim(&client, &run_id).await else { continue };
        let task = complete(&client, &claim).await;
        acknowledged.completed.lock().unwrap().insert(task.id);
    }
}

/// Runs a command without blocking the clients of the test. Fails unless the command succeeds.
async fn run(args: &[&str]) {
    let mut command = runhub(args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn check_backup(backup: &Path, (kinds, completed): &(BTreeSet<String>, BTreeSet<String>)) {
    let conn = Connection::open(backup).unwrap();
    let found = |sql: &str| -> BTreeSet<String> {
        conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let in_backup = found("SELECT kind FROM events");
    assert!(in_backup.is_superset(kinds), "missing: {:?}", kinds.difference(&in_backup).collect::<Vec<_>>());
    let in_backup = found("SELECT id FROM tasks WHERE status = 3");
    assert!(in_backup.is_superset(completed), "missing: {:?}", completed.difference(&in_backup).collect::<Vec<_>>());
    assert_eq!(integrity(backup), "ok");
    assert!(!conn.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
    let events: (i64, i64, i64) = conn
        .query_row("SELECT MIN(position), MAX(position), COUNT(*) FROM events", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!(events, (1, events.2, events.2), "the log of the backup has a gap");
}

fn check_restored(restored: &Path, backup: &Path) {
    let (of_backup, of_restored) = (rows(backup), rows(restored));
    assert_eq!(of_restored.len(), of_backup.len());
    for (restored, backup) in of_restored.into_iter().zip(of_backup) {
        assert!(restored == backup || restored.starts_with("counters: "), "{restored}\nin the backup: {backup}");
    }
    assert_eq!(integrity(restored), "ok");
    let conn = Connection::open(restored).unwrap();
    assert!(!conn.prepare("PRAGMA foreign_key_check").unwrap().exists([]).unwrap());
    conn.execute("ATTACH $1 AS backup", [backup.to_str().unwrap()]).unwrap();
    let counters = "SELECT r.last_position - b.last_position, r.last_key - b.last_key, r.log_id <> b.log_id
        FROM counters r, backup.counters b";
    let counters: (i64, i64, bool) =
        conn.query_row(counters, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(counters, (1 << 32, 0, true));
}

/// Each backup has the first events of the server's log, and no other.
fn check_log(folder: &Path, db: &Path) {
    let events =
        |db: &Path| -> Vec<String> { rows(db).into_iter().filter(|row| row.starts_with("events: ")).collect() };
    let log = events(db);
    for number in 0..BACKUPS {
        let in_backup = events(&folder.join(format!("backup {number}.db")));
        assert!(in_backup.len() < log.len() && log.starts_with(&in_backup), "backup {number}");
    }
}
