//! This module implements ListEvents, which answers immediately or holds the call until an event commits (long poll).

use std::time::Duration;

use runhub_api::v1;

use super::{Hub, field, page};
use crate::actions::log::{self, EventQuery, RunState};
use crate::domain::event::Event;
use crate::domain::limits;
use crate::error::{Error, Resource, Result};
use crate::store::Limit;
use crate::store::events::{Scan, ScanEnd};
use crate::watch::{GrowthWaiter, TAIL_PART_BYTES};

/// A parsed ListEvents call.
#[derive(Clone)]
pub struct ListEvents {
    /// The log_id of the cursor's log. If the caller has named no log, the value is None.
    log_id: Option<String>,
    query: EventQuery,
    limit: Limit,
    /// The maximum time that the server holds the call while the list is empty.
    wait: Duration,
}

impl ListEvents {
    /// Parses a ListEvents request. Fails if a field is invalid.
    pub fn parse(request: &v1::ListEventsRequest) -> Result<Self> {
        let query = EventQuery {
            run_id: field::id_or_any("run_id", &request.run_id)?,
            after: field::optional_counter("after_position", request.after_position)?,
            before: field::optional_counter("before_position", request.before_position)?,
            filter: field::event_filter(&request.kinds, &request.sources, request.task_id.as_deref())?,
        };
        let limit = page::parse_newest_limit("limit", request.limit, limits::DEFAULT_EVENTS)?;
        let log_id = field::optional_id("log_id", request.log_id.as_deref())?;
        Ok(Self { log_id, query, limit, wait: field::wait(request.wait.as_ref())? })
    }

    /// Returns the response: the events that fit into a message, and the position in the log `log_id` after which the
    /// next call continues.
    fn answer(&self, found: Vec<Event>, end: ScanEnd, last: i64, log_id: String) -> v1::ListEventsResponse {
        if self.query.after.is_none() {
            return v1::ListEventsResponse { events: page::take_newest_fitting(found), next_position: last, log_id };
        }
        let found_count = found.len();
        let events: Vec<v1::Event> = page::take_fitting(found);
        let next_position = match (end, events.last()) {
            (_, Some(event)) if events.len() < found_count => event.position,
            (ScanEnd::Exhausted, _) => last,
            (ScanEnd::Full(at) | ScanEnd::Checked(at), _) => at,
        };
        v1::ListEventsResponse { events, next_position, log_id }
    }

    /// Returns whether the call may wait. If the call has a cursor and a `wait`, and events that commit later can be in
    /// the range of the list, the call may wait.
    fn can_wait(&self, next_position: i64) -> bool {
        let includes_later = self.query.before.is_none_or(|before| before - 1 > next_position);
        !self.wait.is_zero() && self.query.after.is_some() && includes_later
    }
}

impl Hub {
    /// Returns a list of events. If the list has a cursor and is empty, holds the call until an event of the list
    /// commits or the time `wait` has passed. Fails if the cursor belongs to another log, if the run does not exist, if
    /// the cursor is invalid, or if the server shuts down while the call is held.
    pub async fn list(&self, list: ListEvents) -> Result<v1::ListEventsResponse> {
        self.check_log(list.log_id.as_deref())?;
        let query = list.query.clone();
        let (scan, last) = self.store.read(move |tx| log::start_list(tx, &query)).await?;
        let answer = self.scan_list(&list, scan, last).await?;
        if answer.events.is_empty() && list.can_wait(answer.next_position) {
            return self.wait_for_events(list, answer.next_position).await;
        }
        Ok(answer)
    }

    async fn wait_for_events(&self, mut list: ListEvents, mut after: i64) -> Result<v1::ListEventsResponse> {
        let end = self.clock.uptime() + list.wait;
        let mut waiter = self.tail.register(list.query.run_id.clone());
        let mut draining = self.draining.clone();
        loop {
            list.query.after = Some(after);
            let query = list.query.clone();
            let (scan, last) = self.store.read_exempt(move |tx| log::start_list(tx, &query)).await?;
            let answer = self.scan_list(&list, scan, last).await?;
            after = answer.next_position;
            if !answer.events.is_empty() || !list.can_wait(after) || self.clock.uptime() >= end {
                return Ok(answer);
            }
            tokio::select! {
                () = self.wait_for_match(&mut waiter, &list, &mut after) => {}
                () = self.clock.sleep_until(end) => {}
                _ = draining.wait_for(|draining| *draining) => return Err(Error::Draining),
            }
        }
    }

    /// Waits until the log may contain an event for `list`, or until no later event can be in `list`. Advances the
    /// cursor `after` past the events in the tail that `list` does not select.
    async fn wait_for_match(&self, waiter: &mut GrowthWaiter, list: &ListEvents, after: &mut i64) {
        let query = &list.query;
        while list.can_wait(*after) {
            waiter.wait_past(*after).await;
            match self.tail.events_after(*after, *after, query.run_id.as_deref(), &query.filter, TAIL_PART_BYTES) {
                Some(part) if part.events.is_empty() => {
                    *after = query.before.map_or(part.up_to, |before| part.up_to.min(before - 1));
                }
                _ => return,
            }
        }
    }

    /// Scans the log in several short reads and returns the response. If few events match the filter, one long read
    /// would occupy a reader that other calls need. Fails if the run was deleted.
    async fn scan_list(&self, list: &ListEvents, mut scan: Scan, last: i64) -> Result<v1::ListEventsResponse> {
        let mut events = Vec::new();
        loop {
            let limit = Limit { rows: list.limit.rows - events.len(), ..list.limit };
            let part = scan.clone();
            let cursor = list.query.after.map(|_| scan.after);
            let read = self.store.read_exempt(move |tx| log::read(tx, &part, cursor, limit)).await?;
            if let (RunState::Deleted, Some(run_id)) = (read.run, &list.query.run_id) {
                return Err(Error::not_found(Resource::Run, run_id));
            }
            events.extend(read.found.events);
            let bytes: usize = events.iter().map(|event| event.payload.text().len()).sum();
            match read.found.end {
                ScanEnd::Checked(at) if events.len() < list.limit.rows && bytes < list.limit.bytes => {
                    scan.continue_from(at);
                }
                end => return Ok(list.answer(events, end, last, self.store.log_id().to_owned())),
            }
        }
    }
}
