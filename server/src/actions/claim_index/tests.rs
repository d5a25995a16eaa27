use std::time::Duration;

use super::*;
use crate::actions::claim::{self, ClaimRequest};
use crate::actions::{plan, run};
use crate::clock::SystemClock;
use crate::domain::run::RunDraft;
use crate::domain::task::{TaskDraft, TaskSpec};
use crate::store::{RowHandler, SqlValue, delegate_state, sqlite_plans};

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
    let folder = tempfile::tempdir().unwrap();
    sqlite_plans::explain(&folder.path().join("db"), &SystemClock::new(), |tx| {
        let run = run::create(tx, &RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() })?;
        let spec = TaskSpec { title: "t".into(), ..TaskSpec::default() };
        plan::add(tx, &run.id, &[TaskDraft { key: "t".into(), spec, depends_on: vec![] }])?;
        let index = ClaimIndex::new(Arc::default());
        let mut loading = Loading::default();
        while !index.load_page(tx, &mut loading)? {}
        let run_id = Some(run.id);
        let lease_duration = Duration::from_secs(60);
        let request = ClaimRequest { run_id, agent_id: "a".into(), capabilities: vec![], lease_duration };
        let claimed = claim::claim(&mut SlowTx { tx }, &request, &index, 0)?;
        assert!(matches!(claimed, Outcome::Done(Some(_))), "{claimed:?}");
        Ok(())
    });
}
