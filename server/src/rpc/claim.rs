//! A claim that may wait: it listens, looks, and listens again, until it finds a task or its time is over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::OptionFuture;
use prost::Message;
use runhub_api::v1;
use tonic::{Response, Status};

use super::Hub;
use super::convert::duration_to_proto;
use super::mutate::{Again, CallId};
use crate::actions::claim::{self, Claimed, Wanted};
use crate::actions::{Outcome, end_task};
use crate::domain::limits;
use crate::error::{Error, Result};
use crate::store::{Tx, runs};
use crate::wake::{ClaimsFor, Waiter, Wakeup};

type Answer = Result<Response<v1::ClaimTaskResponse>, Status>;

impl Hub {
    /// Gives out a task, as soon as there is one to give.
    pub async fn claim(&self, call: CallId, wanted: Wanted, wait: Duration) -> Answer {
        let mut answer = self.claim_now(call.clone(), wanted.clone()).await?;
        if answer.get_ref().claim.is_none() && !wait.is_zero() {
            answer = self.claim_within(call, &wanted, wait).await?;
        }
        if answer.get_ref().claim.is_none() {
            let overlaps = Arc::clone(&self.overlaps);
            let count = move |tx: &mut dyn Tx| claim::count_obstacles(tx, &wanted, &overlaps);
            let counted = match wait.is_zero() {
                true => self.store.read(count).await?,
                false => self.store.read_exempt(count).await?,
            };
            answer.get_mut().unclaimable = Some(counted.into());
        }
        Ok(answer)
    }

    async fn claim_now(&self, call: CallId, wanted: Wanted) -> Answer {
        let overlaps = Arc::clone(&self.overlaps);
        self.mutate_or_refuse(call, refuse_if_stale, move |tx| {
            let claimed = claim::claim(tx, &wanted, &overlaps)?;
            Ok(Outcome::Done(v1::ClaimTaskResponse { claim: claimed.map(shown), unclaimable: None }))
        })
        .await
    }

    async fn claim_within(&self, call: CallId, wanted: &Wanted, wait: Duration) -> Answer {
        let end = self.clock.now().plus(wait);
        // Under load those who have waited longest must not be those who are refused.
        let call = call.let_in();
        let waits_for = self.claims_for(wanted.clone()).await?;
        let waiter = self.waiters.claims.register(waits_for);
        let duplicate = call.identity().map(|identity| self.waiters.duplicates.register(identity));
        let mut draining = self.draining.clone();
        let mut woken: Option<Wakeup<_>> = None;
        loop {
            // Before the look: what is committed after it rings.
            let ring = waiter.notified();
            let duplicate_notified = OptionFuture::from(duplicate.as_ref().map(Waiter::notified));
            let answer = self.claim_now(call.clone(), wanted.clone()).await?;
            if let Some(claim) = &answer.get_ref().claim {
                let has_paths = claim.task.as_ref().is_some_and(|task| !task.allowed_paths.is_empty());
                // What its duplicate was given leaves the task that was rung for to somebody else.
                if answer.extensions().get::<Again>().is_none() {
                    woken.take().into_iter().for_each(|woken| woken.found(has_paths));
                }
                return Ok(answer);
            }
            woken.take().into_iter().for_each(Wakeup::found_nothing);
            if self.clock.now() >= end {
                return Ok(answer);
            }
            tokio::select! {
                () = ring => woken = Some(waiter.woken()),
                Some(()) = duplicate_notified => {}
                _ = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining.into()),
            }
        }
    }

    async fn claims_for(&self, wanted: Wanted) -> Result<ClaimsFor> {
        let capabilities = wanted.capabilities.into_iter().collect();
        let Some(run_id) = wanted.run_id else { return Ok(ClaimsFor { run: None, capabilities }) };
        let run = self.store.read(move |tx| runs::get(tx, &run_id)).await?;
        Ok(ClaimsFor { run: Some((run.key, run.repo_path)), capabilities })
    }
}

fn shown(claimed: Claimed) -> v1::Claim {
    let Claimed { task, lease, previous_attempt } = claimed;
    let mut claim = v1::Claim {
        attempt_number: task.attempt_count,
        lease_token: lease.token,
        lease_duration: duration_to_proto(lease.duration),
        lease_expire_time: Some(lease.expire_time.into()),
        previous_attempt: previous_attempt.map(Into::into),
        task: Some(task.into()),
    };
    // What a client could not take would be a task that nobody knows it has. The rest of the answer is some bytes.
    if claim.encoded_len() + 64 > limits::REQUEST_BYTES {
        claim.previous_attempt = None;
    }
    claim
}

/// A claim is given again only while it is good: never another task, never a token that is refused.
fn refuse_if_stale(tx: &mut dyn Tx, response: &v1::ClaimTaskResponse) -> Result<Option<Error>> {
    let Some(claim) = &response.claim else { return Ok(None) };
    let task_id = claim.task.as_ref().map(|task| task.id.as_str()).unwrap_or_default();
    end_task::refuse_if_stale(tx, task_id, &claim.lease_token)
}
