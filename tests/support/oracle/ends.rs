//! Checks how a stream ends and why it is refused.

use std::collections::BTreeMap;

use runhub_client::Reason;
use runhub_client::v1::{EndReason, Event};

use super::scope::{self, Begin};
use super::walk::Walk;
use super::{PartEnd, Rule};

impl Walk<'_> {
    /// Checks an `end` message.
    pub fn end(&mut self, reason: EndReason, position: i64) {
        let run_id = &self.part.request.run_id;
        let of_one_run = !scope::covers_all_runs(&self.part.request);
        self.progress.end = Some(reason);
        match reason {
            EndReason::Draining => {}
            EndReason::RunEnded if !of_one_run => self.report(Rule::End, "RUN_ENDED of all runs"),
            EndReason::RunEnded if !self.progress.caught_up => {
                self.report(Rule::CaughtUp, "RUN_ENDED without a caught_up before it");
            }
            EndReason::RunEnded => {}
            EndReason::RunDeleted => {
                if !of_one_run || self.log.deleted_at(run_id).is_none_or(|deleted_at| position < deleted_at) {
                    let deleted_at = self.log.deleted_at(run_id);
                    self.report(Rule::End, format!("RUN_DELETED at {position}, and {run_id:?} was at {deleted_at:?}"));
                }
            }
            EndReason::Unspecified => self.report(Rule::End, "an end without a reason"),
        }
    }

    /// Checks the status after the last message. A part that was cut may end anywhere.
    pub fn check_status(&mut self) {
        let part = self.part;
        let end = self.progress.end;
        match (&part.end, end) {
            (PartEnd::Cut, _) | (PartEnd::Finished, Some(EndReason::RunEnded | EndReason::RunDeleted)) => {}
            (PartEnd::Finished, end) => self.report(Rule::End, format!("OK after the end {end:?}")),
            (PartEnd::Refused { reason: Reason::Draining, .. }, Some(EndReason::Draining)) => {}
            (PartEnd::Refused { reason, .. }, Some(end)) => {
                self.report(Rule::End, format!("{reason} after the end {end:?}"));
            }
            (PartEnd::Refused { reason, metadata }, None) => self.refused(reason, metadata),
        }
    }

    fn refused(&mut self, reason: &Reason, metadata: &BTreeMap<String, String>) {
        if !self.part.messages.is_empty() && *reason != Reason::PositionCompacted {
            self.report(Rule::Refusal, format!("{reason} in the middle"));
        }
        match reason {
            Reason::PositionInFuture => self.in_future(metadata),
            Reason::PositionCompacted => self.compacted(metadata),
            Reason::RunNotFound => self.run_not_found(),
            Reason::Internal => self.report(Rule::Refusal, "INTERNAL is a bug"),
            // Other reasons depend on the request alone, or are temporary.
            _ => {}
        }
    }

    fn in_future(&mut self, metadata: &BTreeMap<String, String>) {
        let newest = number(metadata, "newest_position");
        let cursor = self.part.request.after_position;
        let before = self.part.newest_before;
        let is_so = cursor > newest && newest >= Some(before) && newest <= Some(self.log.newest());
        if !is_so {
            self.report(
                Rule::Refusal,
                format!("POSITION_IN_FUTURE of {cursor:?} after {before}, newest_position {newest:?}"),
            );
        }
    }

    fn run_not_found(&mut self) {
        let run_id = &self.part.request.run_id;
        if self.log.deleted_at(run_id).is_none() && self.log.events().iter().any(|event| event.run_id == *run_id) {
            self.report(Rule::Refusal, format!("RUN_NOT_FOUND, and {run_id} was not deleted"));
        }
    }

    fn compacted(&mut self, metadata: &BTreeMap<String, String>) {
        let has_begun = self.part.last_position().is_some() || self.part.request.after_position.is_some();
        let Some(cursor) = self.cursor.filter(|_| has_begun) else {
            return self.report(Rule::Compacted, "POSITION_COMPACTED at the start, without a cursor");
        };
        let lost = self.log.between(cursor, self.part.removed_after);
        if !lost.iter().any(|event| scope::is_in_scope(&self.part.request, event)) {
            self.report(Rule::Compacted, format!("POSITION_COMPACTED, and nothing after {cursor} was removed"));
        }
        let oldest_and_newest = (number(metadata, "oldest_position"), number(metadata, "newest_position"));
        let (Some(oldest), Some(newest)) = oldest_and_newest else {
            return self.report(Rule::Compacted, format!("POSITION_COMPACTED with {metadata:?}"));
        };
        self.check_oldest_position(cursor, oldest, newest);
    }

    /// `oldest_position` - 1 must be a cursor that has lost no more events and skips none that exists.
    fn check_oldest_position(&mut self, cursor: i64, oldest: i64, newest: i64) {
        let part = self.part;
        let figures = format!("POSITION_COMPACTED of {cursor}: oldest_position {oldest}, newest_position {newest}");
        if oldest - 1 < cursor || oldest - 1 > newest || newest < part.newest_before || newest > self.log.newest() {
            self.report(Rule::Compacted, format!("{figures}, asked after {}", part.newest_before));
        }
        if let Some(lost) = self.first_not_deleted(oldest - 1, part.removed_before) {
            self.report(Rule::Compacted, format!("{figures}, but {lost} was removed too"));
        }
        if let Some(kept) = self.first_not_deleted(part.removed_after.max(cursor), oldest - 1) {
            self.report(Rule::Compacted, format!("{figures}, but {kept} was kept"));
        }
    }

    /// A cursor with a loss after it must be refused, even when the filter would have hidden the loss.
    pub fn check_silent_skip(&mut self) {
        let Begin::After(cursor) = scope::begin(&self.part.request) else { return };
        if self.part.messages.is_empty() {
            return;
        }
        if let Some(lost) = self.first_not_deleted(cursor, self.part.removed_before) {
            self.report(Rule::Compacted, format!("{lost} after the cursor {cursor} was removed, without an error"));
        }
    }

    /// Returns the first event of the scope that no deletion can have removed. A run that could be watched, or in which
    /// a cursor was refused, existed at that time, so only retention can have removed an event before.
    fn first_not_deleted(&self, after: i64, up_to: i64) -> Option<i64> {
        let request = &self.part.request;
        let may_be_deleted =
            |event: &Event| scope::covers_all_runs(request) && self.log.was_deleted_with_its_run(event);
        let mut events = self.log.between(after, up_to).iter();
        events.find(|event| scope::is_in_scope(request, event) && !may_be_deleted(event)).map(|event| event.position)
    }
}

fn number(metadata: &BTreeMap<String, String>, key: &str) -> Option<i64> {
    metadata.get(key)?.parse().ok()
}
