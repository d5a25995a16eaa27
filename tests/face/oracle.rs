//! The oracle of the stream finds what is planted in made-up streams, and nothing in true ones.

use std::collections::BTreeSet;

use runhub_client::Reason;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;

use crate::support::calls::*;
use crate::support::oracle::{Log, Part, PartEnd, Rule, violations};
use crate::support::record::{Recorder, keep_everything, whole_log};
use crate::support::{TestServer, channel};

/// Position, run, seq, task, source and kind.
type Row = (i64, &'static str, i64, Option<&'static str>, &'static str, &'static str);

/// Run c is deleted at 8. Position 10 was given, and nothing came of it.
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
        let (run_id, source, kind) = (run_id.into(), source.into(), kind.into());
        Event { position, seq, run_id, task_id, source, kind, ..unset() }
    };
    Log::new(LOG.map(event).into(), 10)
}

fn e(position: i64) -> Message {
    Message::Event(log().at(position).unwrap().clone())
}

fn events<const N: usize>(positions: [i64; N]) -> Vec<Message> {
    positions.map(e).into()
}

fn caught_up(position: i64) -> Message {
    Message::CaughtUp(CaughtUp { position })
}

fn bookmark(position: i64) -> Message {
    Message::Bookmark(Bookmark { position })
}

fn end(reason: EndReason, position: i64) -> Message {
    Message::End(End { reason: reason.into(), position })
}

/// A part of a snapshot; the first has position 0 here, the last has another.
fn snapshot(position: i64) -> Message {
    let run = Some(Run::default()).filter(|_| position == 0);
    Message::Snapshot(RunSnapshot { run, position, ..unset() })
}

fn of(run_id: &str) -> SubscribeEventsRequest {
    SubscribeEventsRequest { run_id: run_id.into(), ..unset() }
}

fn after(run_id: &str, position: i64) -> SubscribeEventsRequest {
    SubscribeEventsRequest { after_position: Some(position), ..of(run_id) }
}

fn from(run_id: &str, start: SubscribeStart) -> SubscribeEventsRequest {
    SubscribeEventsRequest { start: start.into(), ..of(run_id) }
}

/// What a watcher had that stopped by itself.
fn part(request: SubscribeEventsRequest, messages: impl Into<Vec<Message>>) -> Part {
    let (messages, end) = (messages.into(), PartEnd::Cut);
    Part { request, newest_before: 0, removed_before: 0, messages, removed_after: 0, end }
}

fn refused(part: Part, reason: Reason, metadata: &[(&str, &str)]) -> Part {
    let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    Part { end: PartEnd::Refused { reason, metadata }, ..part }
}

/// Retention had removed everything up to a position before the part, and nothing more after it.
fn removed(up_to: i64, part: Part) -> Part {
    Part { removed_before: up_to, removed_after: up_to, newest_before: 10, ..part }
}

/// The rules that a chain breaks.
fn broken(parts: &[Part]) -> BTreeSet<Rule> {
    violations(&log(), parts).iter().map(|violation| violation.rule).collect()
}

#[track_caller]
fn breaks<const N: usize>(rules: [Rule; N], parts: &[Part]) {
    assert_eq!(broken(parts), rules.into(), "{:#?}", violations(&log(), parts));
}

#[track_caller]
fn keeps(parts: &[Part]) {
    breaks([], parts);
}

#[test]
fn a_true_stream_breaks_nothing() {
    let live =
        [events([1, 2, 3, 4, 5, 6]), vec![caught_up(6), bookmark(6)], events([8, 9]), vec![bookmark(10)]].concat();
    keeps(&[part(of(""), live)]);
    keeps(&[part(of("b"), vec![e(2), e(5), caught_up(10), bookmark(10)])]);
    let parts = vec![snapshot(0), snapshot(3), caught_up(8), e(9)];
    keeps(&[Part { newest_before: 3, ..part(from("a", SubscribeStart::FromSnapshot), parts) }]);
    keeps(&[Part { newest_before: 5, ..part(from("", SubscribeStart::FromNow), vec![caught_up(6), e(8), e(9)]) }]);
}

#[test]
fn a_true_filter_breaks_nothing() {
    let kinds = SubscribeEventsRequest { kinds: vec!["note_*".into(), "other".into()], ..of("") };
    keeps(&[part(kinds, [events([3, 5, 6, 9]), vec![caught_up(10)]].concat())]);
    let sources = SubscribeEventsRequest { sources: vec!["agent".into()], task_id: Some("t".into()), ..of("") };
    keeps(&[part(sources, vec![bookmark(2), e(3), caught_up(10)])]);
    keeps(&[part(SubscribeEventsRequest { kinds: vec!["note_".into()], ..of("") }, [caught_up(10)])]);
}

#[test]
fn a_true_chain_breaks_nothing() {
    let drained = refused(part(of("a"), [e(1), end(EndReason::Draining, 2)]), Reason::Draining, &[]);
    let away = refused(part(after("a", 2), []), Reason::Draining, &[]);
    let ended = part(after("a", 2), [e(3), e(9), caught_up(9), end(EndReason::RunEnded, 10)]);
    keeps(&[drained, away, Part { end: PartEnd::Finished, ..ended }, part(after("a", 10), [])]);
    // A snapshot that is broken off before its position begins anew.
    let request = || from("a", SubscribeStart::FromSnapshot);
    keeps(&[part(request(), [snapshot(0)]), part(request(), [snapshot(0), snapshot(9), caught_up(10)])]);
}

#[test]
fn a_gap_is_seen() {
    breaks([Rule::Reliable], &[part(of(""), events([1, 3]))]);
    breaks([Rule::Resumable], &[part(of(""), events([1])), part(after("", 1), events([3]))]);
    breaks([Rule::Resumable], &[part(from("a", SubscribeStart::FromSnapshot), [snapshot(0), snapshot(1), e(9)])]);
}

#[test]
fn a_duplicate_is_seen() {
    breaks([Rule::Unique], &[part(of(""), events([1, 2, 2]))]);
    breaks([Rule::Unique], &[part(of(""), events([1, 2])), part(after("", 2), events([2, 3]))]);
}

#[test]
fn a_swap_is_seen() {
    breaks([Rule::Ordered, Rule::Reliable], &[part(of(""), events([1, 3, 2]))]);
    breaks([Rule::Ordered], &[part(of("b"), [e(2), caught_up(4), bookmark(3)])]);
    breaks([Rule::Ordered, Rule::Bookmarkable], &[part(of("b"), [e(2), bookmark(5), e(5)])]);
}

#[test]
fn a_position_that_comes_too_early_is_seen() {
    breaks([Rule::Bookmarkable], &[part(of(""), [e(1), bookmark(2)])]);
    breaks([Rule::Bookmarkable], &[part(of(""), [e(1), caught_up(2)])]);
    breaks([Rule::Bookmarkable], &[part(of(""), [e(1), end(EndReason::Draining, 2)])]);
    // As far as it goes it is true, but more was stored.
    let early = Part { newest_before: 5, ..part(of(""), [e(1), caught_up(1), e(2)]) };
    breaks([Rule::CaughtUp], &[early]);
    breaks([Rule::CaughtUp], &[part(of("b"), [e(2), caught_up(2), caught_up(3)])]);
}

#[test]
fn a_wrong_filter_is_seen() {
    let kinds = vec!["note_*".into()];
    breaks([Rule::Filter], &[part(SubscribeEventsRequest { kinds, ..of("") }, events([3, 5, 6, 9]))]);
    let kinds = vec!["x*".into(), "run_".into()];
    breaks([Rule::Filter], &[part(SubscribeEventsRequest { kinds, ..of("a") }, events([3]))]);
    let sources = vec!["agent".into()];
    breaks([Rule::Filter], &[part(SubscribeEventsRequest { sources, ..of("a") }, events([1, 3]))]);
    let task_id = Some("t".into());
    breaks([Rule::Filter], &[part(SubscribeEventsRequest { task_id, ..of("a") }, events([1, 3]))]);
    breaks([Rule::Filter], &[part(of("a"), events([1, 2, 3]))]);
}

#[test]
fn an_event_that_is_not_so_in_the_log_is_seen() {
    let event = log().at(3).unwrap().clone();
    let changed = |event: Event| part(of("a"), [e(1), Message::Event(event), e(9)]);
    breaks([Rule::True], &[changed(Event { message: "changed".into(), ..event.clone() })]);
    breaks([Rule::True], &[changed(Event { payload: value(serde_json::json!(1)), ..event.clone() })]);
    let unknown = Message::Event(Event { position: 7, seq: 3, ..event.clone() });
    breaks([Rule::True], &[part(of("a"), [e(1), e(3), unknown])]);
    breaks([Rule::True, Rule::Ordered], &[changed(Event { seq: 1, ..event })]);
}

#[test]
fn what_is_beyond_the_log_is_seen() {
    breaks([Rule::Committed], &[part(after("", 9), [caught_up(10), bookmark(11)])]);
}

#[test]
fn from_now_that_does_not_begin_now_is_seen() {
    let now = |messages: Vec<Message>| Part { newest_before: 5, ..part(from("a", SubscribeStart::FromNow), messages) };
    breaks([Rule::Start], &[now(vec![e(3), caught_up(5)])]);
    breaks([Rule::Start], &[now(vec![caught_up(4)])]);
    breaks([Rule::Start], &[now(vec![e(9), caught_up(9)])]);
    breaks([Rule::Start], &[now(vec![snapshot(0), caught_up(5)])]);
}

#[test]
fn a_snapshot_that_is_none_is_seen() {
    let snapshots = |messages: Vec<Message>| {
        let request = from("a", SubscribeStart::FromSnapshot);
        Part { newest_before: 3, ..part(request, messages) }
    };
    breaks([Rule::Start], &[snapshots(vec![e(9)])]);
    breaks([Rule::Start], &[snapshots(vec![snapshot(0), caught_up(8)])]);
    breaks([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(0), snapshot(3)])]);
    breaks([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(3), snapshot(3)])]);
    breaks([Rule::Start], &[snapshots(vec![snapshot(0), snapshot(2)])]);
}

/// What is left of it when the watcher comes by is its last event.
#[test]
fn a_deleted_run_leaves_run_deleted_in_place_of_the_rest() {
    keeps(&[part(of(""), events([1, 2, 3, 5, 8, 9]))]);
    keeps(&[part(of(""), events([1, 2, 3, 4, 5, 8, 9]))]);
    breaks([Rule::Reliable], &[part(of(""), events([1, 2, 3, 4, 5, 6, 9]))]);
    // It went all at once: what comes after a hole was never gone.
    breaks([Rule::Reliable], &[part(of(""), events([1, 2, 3, 5, 6, 8]))]);
    let deleted = |position| vec![e(4), end(EndReason::RunDeleted, position)];
    keeps(&[Part { end: PartEnd::Finished, ..part(of("c"), deleted(8)) }]);
    breaks([Rule::End], &[Part { end: PartEnd::Finished, ..part(of("c"), deleted(7)) }]);
    breaks([Rule::End], &[part(of("b"), [e(2), e(5), end(EndReason::RunDeleted, 10)])]);
    breaks([Rule::Bookmarkable], &[part(of("c"), [e(4), bookmark(7)])]);
}

#[test]
fn an_end_that_is_none_is_seen() {
    let ended = || part(of("b"), [e(2), e(5), caught_up(5), end(EndReason::RunEnded, 9)]);
    keeps(&[Part { end: PartEnd::Finished, ..ended() }]);
    breaks([Rule::End], &[refused(ended(), Reason::Draining, &[])]);
    breaks([Rule::End], &[part(of("b"), [ended().messages, vec![bookmark(9)]].concat())]);
    breaks([Rule::End], &[Part { end: PartEnd::Finished, ..part(of("b"), [e(2)]) }]);
    let drained = part(of("b"), [e(2), end(EndReason::Draining, 2)]);
    breaks([Rule::End], &[Part { end: PartEnd::Finished, ..drained }]);
    breaks([Rule::CaughtUp], &[part(of("b"), [e(2), e(5), end(EndReason::RunEnded, 9)])]);
    breaks([Rule::End], &[part(after("", 9), [caught_up(10), end(EndReason::RunEnded, 10)])]);
}

#[test]
fn a_silent_skip_is_seen() {
    // Also when the filter would have hidden what is lost.
    let hidden = SubscribeEventsRequest { kinds: vec!["never".into()], ..after("b", 2) };
    breaks([Rule::Compacted], &[removed(5, part(hidden, [caught_up(10)]))]);
    breaks([Rule::Compacted, Rule::Resumable], &[removed(2, part(after("", 1), events([3])))]);
    breaks([Rule::Compacted], &[removed(3, part(of("a"), events([3, 9])))]);
    // Nothing of its scope was removed: a run of its own, or one that was deleted.
    keeps(&[removed(4, part(after("b", 2), events([5])))]);
    keeps(&[removed(6, part(after("", 5), events([8, 9])))]);
    // From the beginning means: of what is kept.
    keeps(&[removed(3, part(of("a"), [e(9), caught_up(10)]))]);
    breaks([Rule::Reliable], &[removed(2, part(of("a"), events([9])))]);
}

#[test]
fn a_compaction_that_is_none_is_seen() {
    let compacted = |cursor, oldest, newest| {
        let metadata = [("oldest_position", oldest), ("newest_position", newest)];
        [refused(removed(3, part(after("a", cursor), [])), Reason::PositionCompacted, &metadata)]
    };
    keeps(&compacted(1, "4", "10"));
    keeps(&compacted(1, "9", "10"));
    breaks([Rule::Compacted], &compacted(3, "4", "10"));
    breaks([Rule::Compacted], &compacted(1, "3", "10"));
    breaks([Rule::Compacted], &compacted(1, "10", "10"));
    breaks([Rule::Compacted], &compacted(1, "4", "9"));
    breaks([Rule::Compacted], &compacted(1, "4", ""));
    breaks([Rule::Compacted], &compacted(1, "4", "11"));
    let known_late = |part: Part| Part { removed_before: 0, newest_before: 0, ..part };
    breaks([Rule::Compacted], &compacted(1, "1", "10").map(known_late));
    breaks([Rule::Compacted], &compacted(1, "9", "7").map(known_late));
    let [cursorless] = compacted(1, "4", "10").map(|part| Part { request: of("a"), ..part });
    breaks([Rule::Compacted], &[cursorless]);
}

#[test]
fn a_refusal_without_a_cause_is_seen() {
    let in_future = |cursor, newest| {
        let cursor = Part { newest_before: 9, ..part(after("", cursor), []) };
        [refused(cursor, Reason::PositionInFuture, &[("newest_position", newest)])]
    };
    keeps(&in_future(10, "9"));
    breaks([Rule::Refusal], &in_future(9, "9"));
    breaks([Rule::Refusal], &in_future(9, "8"));
    breaks([Rule::Refusal], &in_future(12, "11"));
    breaks([Rule::Refusal], &in_future(11, ""));
    keeps(&[refused(part(of("c"), []), Reason::RunNotFound, &[])]);
    keeps(&[refused(part(of("nobody"), []), Reason::RunNotFound, &[])]);
    breaks([Rule::Refusal], &[refused(part(of("a"), []), Reason::RunNotFound, &[])]);
    breaks([Rule::Refusal], &[refused(part(of("c"), [e(4)]), Reason::RunNotFound, &[])]);
    breaks([Rule::Refusal], &[refused(part(of("a"), [e(1)]), Reason::StoreBusy, &[])]);
    breaks([Rule::Refusal], &[refused(part(of("a"), []), Reason::Internal, &[])]);
}

#[test]
fn a_chain_that_is_none_is_seen() {
    breaks([Rule::Harness], &[part(of(""), events([1, 2])), part(after("", 1), events([2]))]);
    breaks([Rule::Harness], &[part(of(""), events([1])), part(of(""), events([1]))]);
    breaks([Rule::Harness], &[part(of("a"), events([1])), part(after("b", 1), events([2]))]);
}

#[test]
fn a_log_with_a_hole_is_seen() {
    let holed = log().events().iter().filter(|event| event.position != 3).cloned().collect();
    let found = violations(&Log::new(holed, 9), &[]);
    assert_eq!(found.iter().map(|violation| violation.rule).collect::<Vec<_>>(), [Rule::Numbered]);
}

/// A recorded stream of a real server, cut and resumed; and the log, past the server.
#[tokio::test]
async fn what_is_recorded_is_what_was_sent() {
    let server = TestServer::start().await;
    let client = server.client.clone();
    let run = new_run(&client).await;
    keep_everything(&server.db());
    let task = add_task(&client, &run.id, draft("t")).await;
    let payload = value(serde_json::json!({"a": [1, 2.5, null]}));
    append(&client, &run.id, vec![EventDraft { payload, task_id: Some(task.id), ..event("x") }, event("y")]).await;
    assert_eq!(whole_log(&server.db()).events(), crate::support::calls::log(&client, &run.id).await);

    let mut recorder = Recorder::new(&server.db(), of(&run.id));
    recorder.record(channel(&server.url).await, |message| matches!(message, Message::Event(two) if two.seq == 2)).await;
    drop(client);
    // It goes on under the next server.
    let server = server.restart().await;
    set_status(&server.client, &run.id, RunStatus::Completed).await;
    let rest = recorder.record(channel(&server.url).await, |_| false).await;
    assert_eq!((rest.messages.len(), &rest.end), (5, &PartEnd::Finished));
    recorder.check();
    // What is removed from now on stays known.
    rusqlite::Connection::open(server.db()).unwrap().execute("DELETE FROM events WHERE seq < 3", []).unwrap();
    assert_eq!(whole_log(&server.db()).events().len(), 5);
    recorder.check();
}
