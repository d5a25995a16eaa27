//! What a request asks for, written down a second time: the server's own matching is what is tested.

use runhub_client::v1::{Event, SubscribeEventsRequest, SubscribeStart};

/// Where a part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    After(i64),
    Beginning,
    Now,
    Snapshot,
}

/// A cursor overrides the start.
pub fn begin(request: &SubscribeEventsRequest) -> Begin {
    match (request.after_position, request.start()) {
        (Some(position), _) => Begin::After(position),
        (None, SubscribeStart::FromNow) => Begin::Now,
        (None, SubscribeStart::FromSnapshot) => Begin::Snapshot,
        (None, SubscribeStart::FromBeginning | SubscribeStart::Unspecified) => Begin::Beginning,
    }
}

pub fn is_of_all_runs(request: &SubscribeEventsRequest) -> bool {
    request.run_id.is_empty()
}

/// The run, filters aside.
pub fn is_in_scope(request: &SubscribeEventsRequest, event: &Event) -> bool {
    is_of_all_runs(request) || event.run_id == request.run_id
}

/// All of what was asked for.
pub fn matches(request: &SubscribeEventsRequest, event: &Event) -> bool {
    is_in_scope(request, event)
        && (request.kinds.is_empty() || request.kinds.iter().any(|pattern| is_of_kind(pattern, &event.kind)))
        && (request.sources.is_empty() || request.sources.contains(&event.source))
        && (request.task_id.is_none() || request.task_id == event.task_id)
}

fn is_of_kind(pattern: &str, kind: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == kind, |beginning| kind.starts_with(beginning))
}

/// Both ask for the same events.
pub fn ask_for_the_same(one: &SubscribeEventsRequest, other: &SubscribeEventsRequest) -> bool {
    (&one.run_id, &one.kinds, &one.sources, &one.task_id)
        == (&other.run_id, &other.kinds, &other.sources, &other.task_id)
}
