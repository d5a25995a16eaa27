//! The oracle of the event stream detects violations planted in made-up streams, and reports none in correct ones.

use std::collections::BTreeSet;

use runhub_client::Reason;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;

use crate::support::calls::*;
use crate::support::oracle::{Log, Part, PartEnd, Rule, violations};
use crate::support::record::{Recorder, committed_log};
use crate::support::{TestServer, channel};

/// Position, run, seq, task, source and kind.
type Row = (i64, &'static str, i64, Option<&'static str>, &'static str, &'static str);

/// Run c is deleted at position 8. Position 10 was assigned without an event.
const LOG: [Row; 8] = [
    (1, "a", 1, None, "system", "run_created"),
    (2, "b", 1, None, "system", "run_created"),
    (3, "a", 2, Some("t"), "agent", "note_x"),
    (4, "c", 1, None, "system", "run_created"),
    (5, "b", 2, None, "agent", "note_y"),
    (6, "c", 2, None, "agent", "note_z"),
    (8, "c", 3, None, "system", "run_deleted"),
    (9, "a", 3, Some("t"), "human", "other"),
];

fn log() -> Log {
    let event = |(position, run_id, seq, task_id, source, kind): Row| {
        let task_id = task_id.map(Into::into);
        let run_id = run_id.into();
        let source = source.into();
        let kind = kind.into();
        Event { position, seq, run_id, task_id, source, kind, ..unset() }
    };
    Log::new(LOG.map(event).into(), 10)
}

/// Returns the message with the event at a position.
fn e(position: i64) -> Message {
    Message::Event(log().at(position).unwrap().clone())
}

fn events<const N: usize>(positions: [i64; N]) -> Vec<Message> {
    positions.map(e).into()
}

fn caught_up(position: i64) -> Message {
    Message::CaughtUp(CaughtUp { position, ..unset() })
}

fn bookmark(position: i64) -> Message {
    Message::Bookmark(Bookmark { position })
}

fn end(reason: EndReason, position: i64) -> Message {
    Message::End(End { reason: reason.into(), position })
}

/// Returns a part of a snapshot: the first part has position 0 here, the last has another.
fn snapshot(position: i64) -> Message {
    let run = Some(Run::default()).filter(|_| position == 0);
    Message::Snapshot(RunSnapshot { run, position, ..unset() })
}

fn scope(run_id: &str) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), ..unset() }
}

fn after(run_id: &str, position: i64) -> SubscribeEventsRequest {
    SubscribeEventsRequest { after_position: Some(position), ..scope(run_id) }
}

fn from(run_id: &str, start: SubscribeStart) -> SubscribeEventsRequest {
    SubscribeEventsRequest { start: start.into(), ..scope(run_id) }
}

/// Returns a part whose watcher stopped by itself.
fn part(request: SubscribeEventsRequest, messages: impl Into<Vec<Message>>) -> Part {
    let messages = messages.into();
    let end = PartEnd::Cut;
    Part { request, newest_before: 0, removed_before: 0, messages, removed_after: 0, end }
}

fn refused(part: Part, reason: Reason, metadata: &[(&str, &str)]) -> Part {
    let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Part { end: PartEnd::Refused { reason, metadata }, ..part }
}

/// Returns a part before which retention had removed everything up to a position. Nothing more was removed later.
fn removed(up_to: i64, part: Part) -> Part {
    Part { removed_before: up_to, removed_after: up_to, newest_before: 10, ..part }
}

/// Returns the rules that a chain violates.
fn violated_rules(parts: &[Part]) -> BTreeSet<Rule> {
    violations(&log(), parts).iter().map(|violation| violation.rule).collect()
}

#[track_caller]
fn violates<const N: usize>(rules: [Rule; N], parts: &[Part]) {
    assert_eq!(violated_rules(parts), rules.into(), "{:#?}", violations(&log(), parts));
}

#[track_caller]
fn passes(parts: &[Part]) {
    violates([], parts);
}

#[test]
fn correct_stream_has_no_violations() {
    let live =
        [events([1, 2, 3, 4, 5, 6]), vec![caught_up(6), bookmark(6)], events([8, 9]), vec![bookmark(10)]].concat();
    passes(&[part(scope(""), live)]);
    passes(&[part(scope("b"), vec![e(2), e(5), caught_up(10), bookmark(10)])]);
    let parts = vec![snapshot(0), snapshot(3), caught_up(8), e(9)];
    passes(&[Part { newest_before: 3, ..part(from("a", SubscribeStart::FromSnapshot), parts) }]);
    passes(&[Part { newest_before: 5, ..part(from("", SubscribeStart::FromNow), vec![caught_up(6), e(8), e(9)]) }]);
}

#[test]
fn correct_filter_has_no_violations() {
    let kinds = SubscribeEventsRequest { kinds: vec!["note_*".into(), "other".into()], ..scope("") };
    passes(&[part(kinds, [events([3, 5, 6, 9]), vec![caught_up(10)]].concat())]);
    let sources = SubscribeEventsRequest { sources: vec!["agent".into()], task_id: Some("t".into()), ..scope("") };
    passes(&[part(sources, vec![bookmark(2), e(3), caught_up(10)])]);
    passes(&[part(SubscribeEventsRequest { kinds: vec!["note_".into()], ..scope("") }, [caught_up(10)])]);
}

#[test]
fn correct_chain_has_no_violations() {
    let drained = refused(part(scope("a"), [e(1), end(EndReason::Draining, 2)]), Reason::Draining, &[]);
    let away = refused(part(after("a", 2), []), Reason::Draining, &[]);
    let ended = part(after("a", 2), [e(3), e(9), caught_up(9), end(EndReason::RunEnded, 10)]);
    passes(&[drained, away, Part { end: PartEnd::Finished, ..ended }, part(after("a", 10), [])]);
    // A snapshot that breaks off before its last part starts over.
    let request = || from("a", SubscribeStart::FromSnapshot);
    passes(&[part(request(), [snapshot(0)]), part(request(), [snapshot(0), snapshot(9), caught_up(10)])]);
}

#[test]
fn gap_is_detected() {
    violates([Rule::Reliable], &[part(scope(""), events([1, 3]))]);
    violates([Rule::Resumable], &[part(scope(""), events([1])), part(after("", 1), events([3]))]);
    violates([Rule::Resumable], &[part(from("a", SubscribeStart::FromSnapshot), [snapshot(0), snapshot(1), e(9)])]);
}

#[test]
fn duplicate_is_detected() {
    violates([Rule::Unique], &[part(scope(""), events([1, 2, 2]))]);
    violates([Rule::Unique], &[part(scope(""), events([1, 2])), part(after("", 2), events([2, 3]))]);
}

#[test]
fn wrong_order_is_detected() {
    violates([Rule::Ordered, Rule::Reliable], &[part(scope(""), events([1, 3, 2]))]);
    violates([Rule::Ordered], &[part(scope("b"), [e(2), caught_up(4), bookmark(3)])]);
    violates([Rule::Ordered, Rule::Bookmarkable], &[part(scope("b"), [e(2), bookmark(5), e(5)])]);
}

#[test]
fn early_position_is_detected() {
    violates([Rule::Bookmarkable], &[part(scope(""), [e(1), bookmark(2)])]);
    violates([Rule::Bookmarkable], &[part(scope(""), [e(1), caught_up(2)])]);
    violates([Rule::Bookmarkable], &[part(scope(""), [e(1), end(EndReason::Draining, 2)])]);
    // The position is right for the events sent so far, but more was stored before the call.
    let early = Part { newest_before: 5, ..part(scope(""), [e(1), caught_up(1), e(2)]) };
    violates([Rule::CaughtUp], &[early]);
    violates([Rule::CaughtUp], &[part(scope("b"), [e(2), caught_up(2), caught_up(3)])]);
}

#[test]
fn wrong_filter_is_detected() {
    let kinds = vec!["note_*".into()];
    violates([Rule::Filter], &[part(SubscribeEventsRequest { kinds, ..scope("") }, events([3, 5, 6, 9]))]);
    let kinds = vec!["x*".into(), "run_".into()];
    violates([Rule::Filter], &[part(SubscribeEventsRequest { kinds, ..scope("a") }, events([3]))]);
    let sources = vec!["agent".into()];
    violates([Rule::Filter], &[part(SubscribeEventsRequest { sources, ..scope("a") }, events([1, 3]))]);
    let task_id = Some("t".into());
    violates([Rule::Filter], &[part(SubscribeEventsRequest { task_id, ..scope("a") }, events([1, 3]))]);
    violates([Rule::Filter], &[part(scope("a"), events([1, 2, 3]))]);
}

#[test]
fn event_that_differs_from_the_log_is_detected() {
    let event = log().at(3).unwrap().clone();
    let changed = |event: Event| part(scope("a"), [e(1), Message::Event(event), e(9)]);
    violates([Rule::True], &[changed(Event { message: "changed".into(), ..event.clone() })]);
    violates([Rule::True], &[changed(Event { payload: value(serde_json::json!(1)), ..event.clone() })]);
    let unknown = Message::Event(Event { position: 7, seq: 3, ..event.clone() });
    violates([Rule::True], &[part(scope("a"), [e(1), e(3), unknown])]);
    violates([Rule::True, Rule::Ordered], &[changed(Event { seq: 1, ..event })]);
}

#[test]
fn position_beyond_the_log_is_detected() {
    violates([Rule::Committed], &[part(after("", 9), [caught_up(10), bookmark(11)])]);
}

#[test]
fn wrong_start_of_from_now_is_detected() {
    let now = |messages: Vec<Message>| Part { newest_before: 5, ..part(from("a", SubscribeStart::FromNow), messages) };
    violates([Rule::Start], &[now(vec![e(3), caught_up(5)])]);
    violates([Rule::Start], &[now(vec![caught_up(4)])]);
    violates([Rule::Start], &[now(vec![e(9), caught_up(9)])]);
    violates([Rule::Start], &[now(vec![snapshot(0), caught_up(5)])]);
}

#[test]
fn invalid_snapshot_is_detected() {
    let snapshots = |messages: Vec<Message>| {
        let request = from("a", SubscribeStart::FromSnapshot);
        Part { newest_before: 3, ..part(request, messages) }
    };
    violates([Rule::Start], &[snapshots(vec![e(9)])]);
    violates([Rule::Start], &[snapshots(vec![snapshot(0), caught_up(8)])]);
    violates([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(0), snapshot(3)])]);
    violates([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(3), snapshot(3)])]);
    violates([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(2)])]);
}

/// A watcher that reads after the deletion sees only the run's last event.
#[test]
fn run_deleted_replaces_the_events_of_a_deleted_run() {
    passes(&[part(scope(""), events([1, 2, 3, 5, 8, 9]))]);
    passes(&[part(scope(""), events([1, 2, 3, 4, 5, 8, 9]))]);
    violates([Rule::Reliable], &[part(scope(""), events([1, 2, 3, 4, 5, 6, 9]))]);
    // A deletion removes all events at once, so an event after a missing one was not deleted.
    violates([Rule::Reliable], &[part(scope(""), events([1, 2, 3, 5, 6, 8]))]);
    let deleted = |position| vec![e(4), end(EndReason::RunDeleted, position)];
    passes(&[Part { end: PartEnd::Finished, ..part(scope("c"), deleted(8)) }]);
    violates([Rule::End], &[Part { end: PartEnd::Finished, ..part(scope("c"), deleted(7)) }]);
    violates([Rule::End], &[part(scope("b"), [e(2), e(5), end(EndReason::RunDeleted, 10)])]);
    violates([Rule::Bookmarkable], &[part(scope("c"), [e(4), bookmark(7)])]);
}

#[test]
fn invalid_end_is_detected() {
    let ended = || part(scope("b"), [e(2), e(5), caught_up(5), end(EndReason::RunEnded, 9)]);
    passes(&[Part { end: PartEnd::Finished, ..ended() }]);
    violates([Rule::End], &[refused(ended(), Reason::Draining, &[])]);
    violates([Rule::End], &[part(scope("b"), [ended().messages, vec![bookmark(9)]].concat())]);
    violates([Rule::End], &[Part { end: PartEnd::Finished, ..part(scope("b"), [e(2)]) }]);
    let drained = part(scope("b"), [e(2), end(EndReason::Draining, 2)]);
    violates([Rule::End], &[Part { end: PartEnd::Finished, ..drained }]);
    violates([Rule::CaughtUp], &[part(scope("b"), [e(2), e(5), end(EndReason::RunEnded, 9)])]);
    violates([Rule::End], &[part(after("", 9), [caught_up(10), end(EndReason::RunEnded, 10)])]);
}

#[test]
fn silent_skip_is_detected() {
    // A skip is detected even when the filter would have hidden the lost events.
    let hidden = SubscribeEventsRequest { kinds: vec!["never".into()], ..after("b", 2) };
    violates([Rule::Compacted], &[removed(5, part(hidden, [caught_up(10)]))]);
    violates([Rule::Compacted, Rule::Resumable], &[removed(2, part(after("", 1), events([3])))]);
    violates([Rule::Compacted], &[removed(3, part(scope("a"), events([3, 9])))]);
    // The removed events belong to other runs or to a deleted one, so the scope lost nothing.
    passes(&[removed(4, part(after("b", 2), events([5])))]);
    passes(&[removed(6, part(after("", 5), events([8, 9])))]);
    // FROM_BEGINNING means from the oldest event kept.
    passes(&[removed(3, part(scope("a"), [e(9), caught_up(10)]))]);
    violates([Rule::Reliable], &[removed(2, part(scope("a"), events([9])))]);
}

#[test]
fn unjustified_position_compacted_is_detected() {
    let compacted = |cursor, oldest, newest| {
        let metadata = [("oldest_position", oldest), ("newest_position", newest)];
        [refused(removed(3, part(after("a", cursor), [])), Reason::PositionCompacted, &metadata)]
    };
    passes(&compacted(1, "4", "10"));
    passes(&compacted(1, "9", "10"));
    violates([Rule::Compacted], &compacted(3, "4", "10"));
    violates([Rule::Compacted], &compacted(1, "3", "10"));
    violates([Rule::Compacted], &compacted(1, "10", "10"));
    violates([Rule::Compacted], &compacted(1, "4", "9"));
    violates([Rule::Compacted], &compacted(1, "4", ""));
    violates([Rule::Compacted], &compacted(1, "4", "11"));
    let known_late = |part: Part| Part { removed_before: 0, newest_before: 0, ..part };
    violates([Rule::Compacted], &compacted(1, "1", "10").map(known_late));
    violates([Rule::Compacted], &compacted(1, "9", "7").map(known_late));
    let [cursorless] = compacted(1, "4", "10").map(|part| Part { request: scope("a"), ..part });
    violates([Rule::Compacted], &[cursorless]);
}

#[test]
fn refusal_without_a_cause_is_detected() {
    let in_future = |cursor, newest| {
        let cursor = Part { newest_before: 9, ..part(after("", cursor), []) };
        [refused(cursor, Reason::PositionInFuture, &[("newest_position", newest)])]
    };
    passes(&in_future(10, "9"));
    violates([Rule::Refusal], &in_future(9, "9"));
    violates([Rule::Refusal], &in_future(9, "8"));
    violates([Rule::Refusal], &in_future(12, "11"));
    violates([Rule::Refusal], &in_future(11, ""));
    passes(&[refused(part(scope("c"), []), Reason::RunNotFound, &[])]);
    passes(&[refused(part(scope("nobody"), []), Reason::RunNotFound, &[])]);
    violates([Rule::Refusal], &[refused(part(scope("a"), []), Reason::RunNotFound, &[])]);
    violates([Rule::Refusal], &[refused(part(scope("c"), [e(4)]), Reason::RunNotFound, &[])]);
    violates([Rule::Refusal], &[refused(part(scope("a"), [e(1)]), Reason::StoreBusy, &[])]);
    violates([Rule::Refusal], &[refused(part(scope("a"), []), Reason::Internal, &[])]);
}

#[test]
fn broken_chain_is_detected() {
    violates([Rule::Harness], &[part(scope(""), events([1, 2])), part(after("", 1), events([2]))]);
    violates([Rule::Harness], &[part(scope(""), events([1])), part(scope(""), events([1]))]);
    violates([Rule::Harness], &[part(scope("a"), events([1])), part(after("b", 1), events([2]))]);
}

#[test]
fn gap_in_the_log_is_detected() {
    let holed = log().events().iter().filter(|event| event.position != 3).cloned().collect();
    let found = violations(&Log::new(holed, 9), &[]);
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [Rule::Numbered]);
}

/// Records the stream of a real server, interrupted and resumed, and compares it with the log in the database.
#[tokio::test]
async fn recorder_records_what_the_server_sent() {
    let server = TestServer::start_archiving(None).await;
    let client = server.client.clone();
    let run = new_run(&client).await;
    let task = add_task(&client, &run.id, draft("t")).await;
    let payload = value(serde_json::json!({"a": [1, 2.5, null]}));
    append(&client, &run.id, vec![EventDraft { payload, task_id: Some(task.id), ..event("x") }, event("y")]).await;
    assert_eq!(committed_log(server.db()).events(), crate::support::calls::log(&client, &run.id).await);

    let mut recorder = Recorder::new(server.db(), scope(&run.id));
    recorder.record(channel(&server.url).await, |message| matches!(message, Message::Event(two) if two.seq == 2)).await;
    drop(client);
    // The stream resumes under the next server.
    let server = server.restart().await;
    set_status(&server.client, &run.id, RunStatus::Completed).await;
    let rest = recorder.record(channel(&server.url).await, |_| false).await;
    assert_eq!((rest.messages.len(), &rest.end), (5, &PartEnd::Finished));
    recorder.check();
    // The archive still has the events that are removed from now on.
    server.db().execute("DELETE FROM events WHERE seq < 3");
    assert_eq!(committed_log(server.db()).events().len(), 5);
    recorder.check();
}
