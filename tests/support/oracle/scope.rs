//! The scope and the filters of a request. This repeats the server's matching, because that matching is under test.

use runhub_client::v1::{Event, SubscribeEventsRequest, SubscribeStart};

/// Where a part starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    After(i64),
    Beginning,
    Now,
    Snapshot,
}

/// Returns where a request starts. A cursor overrides `start`.
pub fn begin(request: &SubscribeEventsRequest) -> Begin {
    match (request.after_position, request.start()) {
        (Some(position), _) => Begin::After(position),
        (None, SubscribeStart::FromNow) => Begin::Now,
        (None, SubscribeStart::FromSnapshot) => Begin::Snapshot,
        (None, SubscribeStart::FromBeginning | SubscribeStart::Unspecified) => Begin::Beginning,
    }
}

pub fn covers_all_runs(request: &SubscribeEventsRequest) -> bool {
    request.run_id.is_empty()
}

/// Returns true if the event's run matches, whatever the other filters are.
pub fn is_in_scope(request: &SubscribeEventsRequest, event: &Event) -> bool {
    covers_all_runs(request) || event.run_id == request.run_id
}

/// Returns true if the event matches the run and all filters.
pub fn matches(request: &SubscribeEventsRequest, event: &Event) -> bool {
    is_in_scope(request, event)
        && (request.kinds.is_empty() || request.kinds.iter().any(|pattern| matches_kind(pattern, &event.kind)))
        && (request.sources.is_empty() || request.sources.contains(&event.source))
        && (request.task_id.is_none() || request.task_id == event.task_id)
}

fn matches_kind(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |beginning| kind.starts_with(beginning))
}

/// Returns true if both requests ask for the same events.
pub fn have_equal_filters(one: &SubscribeEventsRequest, other: &SubscribeEventsRequest) -> bool {
    (&one.run_id, &one.kinds, &one.sources, &one.task_id)
        == (&other.run_id, &other.kinds, &other.sources, &other.task_id)
}
