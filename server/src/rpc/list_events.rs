//! ListEvents, at once or as a long poll.

use std::sync::Arc;
use std::time::Duration;

use runhub_api::v1;

use super::{Hub, field, page};
use crate::actions::log::{self, RunState};
use crate::domain::event::{Event, EventFilter};
use crate::domain::limits;
use crate::error::{Error, Resource, Result};
use crate::store::events::{Scan, ScanEnd};
use crate::store::{Limit, Tx};
use crate::watch::GrowthWaiter;

/// What a caller wants to see.
#[derive(Clone)]
pub struct ListEvents {
    run_id: Option<String>,
    after: Option<i64>,
    before: Option<i64>,
    filter: EventFilter,
    limit: Limit,
    wait: Duration,
}

impl ListEvents {
    /// Parses a request.
    pub fn parse(request: &v1::ListEventsRequest) -> Result<Self> {
        Ok(Self {
            run_id: field::id_or_any("run_id", &request.run_id)?,
            after: field::counter("after_position", request.after_position)?,
            before: field::counter("before_position", request.before_position)?,
            filter: field::event_filter(&request.kinds, &request.sources, request.task_id.as_deref())?,
            limit: page::newest("limit", request.limit, limits::DEFAULT_EVENTS)?,
            wait: field::wait("wait", request.wait.as_ref())?,
        })
    }

    /// Checks the scope and the cursor; returns what to look through, and the last position of that. What is
    /// committed from now on stands behind it: the reads that follow see no more than this one.
    fn begin(&self, tx: &mut dyn Tx) -> Result<(Scan, i64)> {
        let run_key = log::check_scope(tx, self.run_id.as_deref(), self.filter.task_id.as_deref())?;
        let newest = log::check_cursor(tx, run_key, self.after)?;
        let (after, newest_first) = (self.after.unwrap_or(0), self.after.is_none());
        let last = self.before.map_or(newest, |before| newest.min(before - 1)).max(after);
        let before = Some(last.saturating_add(1));
        Ok((Scan { run_key, after, before, newest_first, filter: self.filter.clone() }, last))
    }

    /// The answer: what fits of what was found, and the position up to which everything was looked at.
    fn answer(&self, found: Vec<Event>, end: ScanEnd, last: i64) -> v1::ListEventsResponse {
        if self.after.is_none() {
            return v1::ListEventsResponse { events: page::newest_fitting(found), next_position: last };
        }
        let all = found.len();
        let events: Vec<v1::Event> = page::fitting(found);
        let next_position = match (end, events.last()) {
            (_, Some(shown)) if events.len() < all => shown.position,
            (ScanEnd::Exhausted, _) => last,
            (ScanEnd::Full(at) | ScanEnd::Checked(at), _) => at,
        };
        v1::ListEventsResponse { events, next_position }
    }

    /// What is committed from now on can be an answer.
    fn can_wait(&self, next_position: i64) -> bool {
        let takes_new = self.before.is_none_or(|before| before - 1 > next_position);
        !self.wait.is_zero() && self.after.is_some() && takes_new
    }
}

impl Hub {
    /// A list; one after a cursor that finds nothing is held as long as its caller waits.
    pub async fn list(&self, list: ListEvents) -> Result<v1::ListEventsResponse> {
        let list = Arc::new(list);
        let begun = Arc::clone(&list);
        let (scan, last) = self.store.read(move |tx| begun.begin(tx)).await?;
        let answer = self.list_from(&list, scan, last).await?;
        if answer.events.is_empty() && list.can_wait(answer.next_position) {
            return self.list_within(ListEvents::clone(&list), answer.next_position).await;
        }
        Ok(answer)
    }

    async fn list_within(&self, mut list: ListEvents, mut after: i64) -> Result<v1::ListEventsResponse> {
        let end = self.clock.now().plus(list.wait);
        let mut waiter = self.tail.register(list.run_id.clone());
        let mut draining = self.draining.clone();
        loop {
            list.after = Some(after);
            let begun = list.clone();
            let (scan, last) = self.store.read_exempt(move |tx| begun.begin(tx)).await?;
            let answer = self.list_from(&list, scan, last).await?;
            after = answer.next_position;
            if !answer.events.is_empty() || !list.can_wait(after) || self.clock.now() >= end {
                return Ok(answer);
            }
            tokio::select! {
                () = self.more_than(&mut waiter, &list, &mut after) => {}
                () = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining),
            }
        }
    }

    /// Until there may be something for this list, or can't be any more. What the tail knows to be of no interest moves
    /// its cursor.
    async fn more_than(&self, waiter: &mut GrowthWaiter, list: &ListEvents, after: &mut i64) {
        while list.can_wait(*after) {
            waiter.wait_past(*after).await;
            match self.tail.after(*after, *after, list.run_id.as_deref(), &list.filter) {
                Some(part) if part.events.is_empty() => {
                    *after = list.before.map_or(part.up_to, |before| part.up_to.min(before - 1));
                }
                _ => return,
            }
        }
    }

    /// In reads of a bounded length: a filter that lets little pass does not keep others waiting.
    async fn list_from(&self, list: &ListEvents, mut scan: Scan, last: i64) -> Result<v1::ListEventsResponse> {
        let mut events = Vec::new();
        loop {
            let limit = Limit { rows: list.limit.rows - events.len(), ..list.limit };
            let part = scan.clone();
            let cursor = list.after.map(|_| scan.after);
            let look = self.store.read_exempt(move |tx| log::look(tx, &part, cursor, limit)).await?;
            if let (RunState::Deleted, Some(run_id)) = (look.run, &list.run_id) {
                return Err(Error::not_found(Resource::Run, run_id));
            }
            events.extend(look.found.events);
            let bytes: usize = events.iter().map(|event| event.payload.text().len()).sum();
            match look.found.end {
                ScanEnd::Checked(at) if events.len() < list.limit.rows && bytes < list.limit.bytes => {
                    scan.continue_from(at);
                }
                end => return Ok(list.answer(events, end, last)),
            }
        }
    }
}
