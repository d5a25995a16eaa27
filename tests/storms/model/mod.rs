//! Random calls and clock steps against a small model: every answer and every state must agree.
//!
//! The services are called in this process, without a socket and without a running sweeper, so that a sequence always
//! does the same and a failing one can be shrunk. The model knows the design and nothing of the code.

mod approvals;
mod driver;
mod ends;
mod ops;
mod runs;
mod state;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};

use self::driver::Driver;
use self::ops::{Op, op};
use self::state::{Answer, CallResult, Model};

/// Sequences in each of the two tests, which run in parallel. On PostgreSQL, each sequence creates a database.
const SEQUENCES: u32 = if crate::ON_POSTGRES { 300 } else { 1_000 };
/// Minimum number of times that each outcome must come up.
const FEWEST: usize = if crate::ON_POSTGRES { 1 } else { 5 };
const LENGTH: usize = 60;
const OBSERVE_EVERY: usize = 10;

#[test]
fn server_agrees_with_the_model_seed_1() {
    run_half(1);
}

#[test]
fn server_agrees_with_the_model_seed_2() {
    run_half(2);
}

/// Runs the same sequences each time. Change the seed to try others.
fn run_half(seed: u8) {
    let config = Config {
        cases: SEQUENCES,
        max_shrink_iters: 2_000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let random = proptest::test_runner::TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(config, random);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sequence = proptest::collection::vec(op(), LENGTH);
    let seen = Mutex::new(BTreeMap::new());
    let done = runner.run(&sequence, |ops| runtime.block_on(compare(ops, &seen)));
    if let Err(error) = done {
        panic!("{error}");
    }
    assert_all_outcomes_seen(&seen.into_inner().unwrap());
}

/// How often each call had each outcome.
type Outcomes = Mutex<BTreeMap<String, usize>>;

/// Asserts that every outcome that the design knows came up.
fn assert_all_outcomes_seen(seen: &BTreeMap<String, usize>) {
    let wanted = [
        "Add done",
        "Add RUN_ENDED",
        "Add WRONG_STATUS",
        "Replace done",
        "Claim done",
        "Claim nothing",
        "Claim RUN_ENDED",
        "Beat 1",
        "Beat 2",
        "Beat 3",
        "Beat 4",
        "Beat resumed",
        "Complete done",
        "Complete late",
        "Complete STALE_LEASE",
        "Complete WRONG_STATUS",
        "Complete LEASE_REQUIRED",
        "Fail done",
        "Fail late",
        "Fail STALE_LEASE",
        "Release done",
        "Release WRONG_STATUS",
        "Release STALE_LEASE",
        "Block done",
        "Block late",
        "Block WRONG_STATUS",
        "Abandon done",
        "Abandon late",
        "Abandon STALE_LEASE",
        "Requeue done",
        "Requeue WRONG_STATUS",
        "RequeueAll done",
        "Pause done",
        "Pause RUN_ENDED",
        "Resume done",
        "Cancel done",
        "Cancel RUN_ENDED",
        "SetStatus done",
        "Ask done",
        "Ask RUN_ENDED",
        "Decide done",
        "Decide ALREADY_DECIDED",
        "CancelApproval done",
        "Consume done",
        "Consume NOT_APPROVED",
        "Consume DIGEST_MISMATCH",
        "Consume ALREADY_CONSUMED",
    ];
    for outcome in wanted {
        let count = seen.get(outcome).copied().unwrap_or(0);
        assert!(count >= FEWEST, "{outcome} came up {count} times only");
    }
}

/// Returns the name of a call's outcome. `before` is the model before the call.
fn outcome(op: &Op, before: &Model, answered: &CallResult) -> String {
    let name = format!("{op:?}");
    let name = name.split(' ').next().unwrap_or_default();
    let what = match answered {
        Err(reason) => reason.name().to_owned(),
        Ok(Answer::Claimed(None)) => "nothing".to_owned(),
        Ok(Answer::Beaten(1, _)) if before.is_late(op) => "resumed".to_owned(),
        Ok(Answer::Beaten(state, _)) => state.to_string(),
        Ok(_) if before.is_late(op) => "late".to_owned(),
        Ok(_) => "done".to_owned(),
    };
    format!("{name} {what}")
}

async fn compare(ops: Vec<Op>, seen: &Outcomes) -> Result<(), TestCaseError> {
    let mut driver = Driver::start().await;
    let mut model = Model::default();
    for (at, op) in ops.iter().enumerate() {
        if let Op::Advance(millis) = op {
            driver.advance_clock(Duration::from_millis(*millis)).await;
            model.advance_clock(i64::try_from(*millis).unwrap());
        } else {
            let before = model.clone();
            let expected = model.call(op);
            *seen.lock().unwrap().entry(outcome(op, &before, &expected)).or_default() += 1;
            let answered = driver.call(op, &model).await;
            prop_assert_eq!(&answered, &expected, "step {} of {:?}", at, op);
        }
        // An observation reads everything, so it is made only every few steps. Shrinking narrows a failure down.
        if at % OBSERVE_EVERY == OBSERVE_EVERY - 1 {
            prop_assert_eq!(driver.observe().await, model.observe(), "after step {} of {:?}", at, op);
        }
    }
    driver.end().await;
    Ok(())
}
