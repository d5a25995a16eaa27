//! This module implements ClaimTask. Whenever a task may have become claimable, a call with `wait` tries again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::OptionFuture;
use prost::Message;
use runhub_api::v1;
use tonic::{Response, Status};

use super::convert::duration_to_proto;
use super::write::{Answer, Call, find_stored_answer};
use super::{Hub, Reply};
use crate::actions::claim::{self, Claim, ClaimRequest};
use crate::actions::idle_claims::Validity;
use crate::actions::obstacle::{self, PathCounter, Unclaimable};
use crate::actions::{Outcome, task};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::{Tx, counters, due, runs};
use crate::wake::{ClaimCriteria, Waiter, Wakeup};

impl Hub {
    /// Claims a task. If no task is claimable, the function waits for a claimable task for at most the time `wait`. A
    /// response without a claim contains the number of tasks with each obstacle. Fails if the transaction fails, or if
    /// the server shuts down while the call waits.
    pub async fn claim(&self, call: Call, request: ClaimRequest, wait: Duration) -> Reply<v1::ClaimTaskResponse> {
        let answer = self.try_claim(call.clone(), request.clone()).await?;
        let mut response = answer.result?;
        if response.claim.is_none() && !wait.is_zero() {
            response = self.wait_for_claim(call, &request, wait).await?;
        }
        if response.claim.is_none() {
            response.unclaimable = Some(self.count_obstacles(request, wait).await?.into());
        }
        Ok(Response::new(response))
    }

    async fn try_claim(&self, call: Call, request: ClaimRequest) -> Result<Answer<v1::ClaimTaskResponse>> {
        let known = self.idle_claims.find_version_without_task(&request, self.clock.now());
        if known.is_some() && known == Some(self.store.claim_version().await?) {
            return self.answer_without_task(call).await;
        }
        let index = Arc::clone(&self.claim_index);
        let idle = Arc::clone(&self.idle_claims);
        let tries = AtomicUsize::new(0);
        self.answer(call, check_repeat, move |tx| {
            let outcome = claim::claim(tx, &request, &index, tries.fetch_add(1, Ordering::Relaxed))?;
            if matches!(outcome, Outcome::Done(None)) {
                let validity = Validity { version: tx.claim_version()?, until: index.next_delay_end() };
                idle.cache_no_task(&request, validity);
            }
            Ok(outcome.map(|claim| v1::ClaimTaskResponse { claim: claim.map(to_proto), unclaimable: None }))
        })
        .await
    }

    /// Answers a claim that would find no task, without the writer. A duplicate request gets the stored response. Fails
    /// if the earlier call had different content, or if `check_repeat` does not allow the stored response.
    async fn answer_without_task(&self, call: Call) -> Result<Answer<v1::ClaimTaskResponse>> {
        if call.identity().is_some() {
            let stored = self.store.read_exempt(move |tx| find_stored_answer(tx, &call, &check_repeat)).await?;
            if let Some(result) = stored {
                return Ok(Answer { result, is_duplicate: true });
            }
        }
        Ok(Answer { result: Ok(v1::ClaimTaskResponse::default()), is_duplicate: false })
    }

    /// Tries to claim a task until the claim succeeds or the time `wait` has passed. Fails if the server shuts down.
    async fn wait_for_claim(
        &self,
        call: Call,
        request: &ClaimRequest,
        wait: Duration,
    ) -> Result<v1::ClaimTaskResponse, Status> {
        let end = self.clock.uptime() + wait;
        // Exempt the call from the limits of the writer's queue, because a call that has already waited must not be
        // refused under load.
        let call = call.exempt();
        let accepted = self.read_claim_criteria(request.clone()).await?;
        let waiter = self.waiters.claims.register(accepted);
        let duplicate = call.identity().map(|identity| self.waiters.duplicates.register(identity));
        let mut draining = self.draining.clone();
        let mut wakeup: Option<Wakeup<_>> = None;
        loop {
            // Enable the notifications before the transaction. Otherwise this call would miss a change that commits
            // directly after the transaction.
            let notified = waiter.notified();
            let duplicate_notified = OptionFuture::from(duplicate.as_ref().map(Waiter::notified));
            let answer = self.try_claim(call.clone(), request.clone()).await?;
            let response = answer.result?;
            if let Some(claim) = &response.claim {
                // A duplicate request receives the stored claim and claims no further task. Drop the wake-up of a
                // duplicate request, so that another waiter is woken for the task that may have become claimable.
                if let Some(wakeup) = wakeup.take().filter(|_| !answer.is_duplicate) {
                    wakeup.report_task(has_paths(claim));
                }
                return Ok(response);
            }
            if let Some(wakeup) = wakeup.take() {
                wakeup.report_no_task();
            }
            if self.clock.uptime() >= end {
                return Ok(response);
            }
            tokio::select! {
                () = notified => wakeup = Some(waiter.receive_wakeup()),
                Some(()) = duplicate_notified => {}
                _ = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining.into()),
            }
        }
    }

    async fn read_claim_criteria(&self, request: ClaimRequest) -> Result<ClaimCriteria> {
        let capabilities = request.capabilities.into_iter().collect();
        let Some(run_id) = request.run_id else { return Ok(ClaimCriteria { run: None, capabilities }) };
        let run = self.store.read(move |tx| runs::get(tx, &run_id)).await?;
        Ok(ClaimCriteria { run: Some((run.key, run.repo_path)), capabilities })
    }

    async fn count_obstacles(&self, request: ClaimRequest, wait: Duration) -> Result<Unclaimable> {
        // Calls with equal criteria that wait for a permit share the result.
        let _permit = self.counting.acquire().await.map_err(Error::internal)?;
        let position = *self.store.log_growth().borrow();
        if let Some(counted) = self.idle_claims.find_obstacles(&request, position, self.clock.now()) {
            return Ok(counted);
        }
        let overlaps = Arc::clone(&self.overlaps);
        let idle = Arc::clone(&self.idle_claims);
        let paths = Mutex::new(PathCounter::default());
        let count = move |tx: &mut dyn Tx| {
            let mut paths = paths.lock().unwrap_or_else(PoisonError::into_inner);
            let outcome = obstacle::count(tx, request.run_id.as_deref(), &request.capabilities, &overlaps, &mut paths)?;
            if let Outcome::Done(counted) = &outcome {
                let validity = Validity { version: counters::newest_position(tx)?, until: due::next_delay_end(tx)? };
                idle.cache_obstacles(&request, validity, *counted);
            }
            Ok(outcome)
        };
        // A call that was admitted and has waited must not be refused now.
        let is_exempt = !wait.is_zero();
        self.read_until_done(is_exempt, count).await
    }
}

fn has_paths(claim: &v1::Claim) -> bool {
    claim.task.as_ref().is_some_and(|task| !task.allowed_paths.is_empty())
}

fn to_proto(claim: Claim) -> v1::Claim {
    /// Maximum size of the response without the claim, in bytes.
    const OVERHEAD: usize = 64;
    let Claim { task, lease, previous_attempt } = claim;
    let mut claim = v1::Claim {
        attempt_number: task.attempt_count,
        lease_token: lease.token,
        lease_duration: duration_to_proto(lease.duration),
        lease_expire_time: Some(lease.expire_time.into()),
        previous_attempt: previous_attempt.map(Into::into),
        task: Some(task.into()),
    };
    // If the response would be larger than a client accepts, omit the previous attempt. Otherwise the task would be
    // leased to an agent that never learns the lease token.
    if claim.encoded_len() + OVERHEAD > limits::REQUEST_BYTES {
        claim.previous_attempt = None;
    }
    claim
}

/// Checks that a duplicate request may receive the stored claim again. Fails with STALE_LEASE if the lease token is
/// stale.
fn check_repeat(tx: &mut dyn Tx, response: &v1::ClaimTaskResponse) -> Result<()> {
    let Some(claim) = &response.claim else { return Ok(()) };
    let task_id = claim.task.as_ref().map(|task| task.id.as_str()).unwrap_or_default();
    task::check_token(tx, task_id, &claim.lease_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::paths::Overlaps;
    use crate::actions::run;
    use crate::clock::SystemClock;
    use crate::domain::run::RunDraft;
    use crate::store::faulty::{self, Fault};
    use crate::store::path_sets;

    /// After a commit that fails, the key of the path set is assigned again, possibly by another server.
    #[tokio::test]
    async fn decision_about_a_rolled_back_path_set_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let (store, faults) = faulty::open(&path, Arc::new(SystemClock::new()), Box::new(|_| {}));
        let committed = store.transact(|tx| {
            let draft = RunDraft { goal: "g".into(), repo_path: "r".into(), labels: Default::default() };
            let run = run::create(tx, &draft)?;
            let sources = path_sets::find_or_insert(tx, &run, &["src/**".to_owned()])?;
            Ok((run, sources.unwrap()))
        });
        let (run, sources) = committed.await.unwrap();
        let overlaps = Arc::new(Overlaps::default());
        let decided = Arc::new(Mutex::new(Vec::new()));
        let decide = |path: &'static str| {
            let run = run.clone();
            let overlaps = Arc::clone(&overlaps);
            let decided = Arc::clone(&decided);
            move |tx: &mut dyn Tx| {
                let key = path_sets::find_or_insert(tx, &run, &[path.to_owned()])?.unwrap();
                decided.lock().unwrap().push((key, overlaps.decide(tx, key, sources)?.overlaps));
                Ok(())
            }
        };
        faults.set(Fault::LostFailure);
        assert_eq!(store.transact(decide("src/a")).await, Err(Error::StoreBusy));
        faults.clear();
        assert_eq!(store.transact(decide("docs/a")).await, Ok(()));
        let key = sources + 1;
        assert_eq!(*decided.lock().unwrap(), [(key, true), (key, false)]);
    }
}
