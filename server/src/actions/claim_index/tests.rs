use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::actions::claim::{self, Claim, ClaimRequest};
use crate::actions::task::{self, EndTask};
use crate::actions::{plan, run};
use crate::clock::SystemClock;
use crate::domain::run::{Run, RunDraft};
use crate::domain::task::{Caller, EndStatus, Ending, TaskDraft, TaskSpec};
use crate::store::{RowHandler, SqlValue, delegate_state, sqlite_plans};

/// Runs a transaction body on a new database that has a run, and an index of its tasks.
fn in_transaction(body: impl FnOnce(&mut dyn Tx, &Run, &ClaimIndex) -> Result<()>) {
    let folder = tempfile::tempdir().unwrap();
    sqlite_plans::explain(&folder.path().join("db"), &SystemClock::new(), |tx| {
        let run = run::create(tx, &RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() })?;
        let index = ClaimIndex::new(Arc::default());
        let mut loading = Loading::default();
        while !index.load_page(tx, &mut loading)? {}
        body(tx, &run, &index)
    });
}

/// Adds a task without paths, and returns the id of the task.
fn add(tx: &mut dyn Tx, run: &Run, title: &str, priority: i32) -> Result<String> {
    let spec = TaskSpec { title: title.into(), priority, ..TaskSpec::default() };
    let added = plan::add(tx, &run.id, &[TaskDraft { key: title.into(), spec, depends_on: vec![] }])?;
    Ok(added[0].id.clone())
}

fn claim_next(tx: &mut dyn Tx, run: &Run, index: &ClaimIndex) -> Result<Outcome<Option<Claim>>> {
    let run_id = Some(run.id.clone());
    let lease_duration = Duration::from_secs(60);
    let request = ClaimRequest { run_id, agent_id: "a".into(), capabilities: vec![], lease_duration };
    claim::claim(tx, &request, index, 0)
}

/// Claims a task, and returns its title. The search for a task can end early on a slow machine, and is then repeated.
fn claim_title(tx: &mut dyn Tx, run: &Run, index: &ClaimIndex) -> Result<Option<String>> {
    loop {
        if let Outcome::Done(claim) = claim_next(tx, run, index)? {
            return Ok(claim.map(|claim| claim.task.spec.title));
        }
    }
}

fn abandon(tx: &mut dyn Tx, task_id: String) -> Result<()> {
    let ending = Ending::new(EndStatus::Abandoned);
    task::end(tx, &EndTask { rpc: "R", task_id, caller: Caller::Operator, ending }).map(drop)
}

/// A transaction in which each query takes longer than a claim may search.
struct SlowTx<'a> {
    tx: &'a mut dyn Tx,
}

impl Tx for SlowTx<'_> {
    delegate_state!();

    fn execute(&mut self, sql: &'static str, params: &[SqlValue]) -> Result<u64> {
        self.tx.execute(sql, params)
    }

    fn query(&mut self, sql: &'static str, params: &[SqlValue], handler: RowHandler) -> Result<()> {
        std::thread::sleep(SLICE + Duration::from_millis(1));
        self.tx.query(sql, params, handler)
    }
}

/// The read of a task of 3 MiB, or of any task across a slow network, can take longer than a claim may search. If the claim
/// then read the task again, the claim would never end.
#[test]
fn claim_uses_a_task_whose_read_took_long() {
    in_transaction(|tx, run, index| {
        add(tx, run, "large", 0)?;
        let claimed = claim_next(&mut SlowTx { tx }, run, index)?;
        assert!(matches!(claimed, Outcome::Done(Some(_))), "{claimed:?}");
        Ok(())
    });
}

/// A claim reads the tasks for the next claims of the transaction ahead. Their order must include the changes that the
/// transaction makes afterwards.
#[test]
fn claims_see_the_changes_of_their_transaction_although_tasks_are_read_ahead() {
    for expected_claims in [0, 6] {
        in_transaction(|tx, run, index| {
            tx.cache().start_reading_ahead(HashMap::from([(run.key, expected_claims)]));
            let mut ids = Vec::new();
            for title in ["a", "b", "c", "d", "e"] {
                ids.push(add(tx, run, title, 0)?);
            }
            let claimed = |tx: &mut dyn Tx| claim_title(tx, run, index);
            assert_eq!(claimed(tx)?.as_deref(), Some("a"));
            assert_eq!(claimed(tx)?.as_deref(), Some("b"));
            add(tx, run, "urgent", 10)?;
            assert_eq!(claimed(tx)?.as_deref(), Some("urgent"));
            assert_eq!(claimed(tx)?.as_deref(), Some("c"));
            abandon(tx, ids.remove(3))?;
            assert_eq!(claimed(tx)?.as_deref(), Some("e"));
            assert_eq!(claimed(tx)?, None);
            Ok(())
        });
    }
}
