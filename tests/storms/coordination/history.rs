//! A checker over the events of a run. It knows the design's promises and nothing of how the server works.

use std::collections::{BTreeMap, BTreeSet};

use runhub_client::v1::{Event, Task};
use serde_json::Value;

use crate::support::calls::json;

/// A broken rule. Each is one sentence of the design's C1 to C7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Two attempts of a task are live at once.
    TwoLiveAttempts,
    /// Two tasks with overlapping paths are in progress at once.
    OverlappingPaths,
    /// A task is claimed or completed before a task that it depends on.
    OpenDependency,
    /// The number of an attempt does not follow the previous one.
    AttemptNumbers,
    /// A report is accepted although another attempt followed, or somebody else moved the task.
    StaleWriteAccepted,
    /// A rejected write is missing from the log, or the log has one that no agent made.
    StaleWriteNotLogged,
    /// The events of a lease are in an impossible order.
    LeaseOutOfOrder,
    /// The log does not explain a task's final state.
    FinalStateUnexplained,
}

/// The traces of one run.
#[derive(Debug, Clone)]
pub struct History {
    /// The tasks in their final state.
    pub tasks: BTreeMap<String, Task>,
    pub log: Vec<Event>,
    /// Task and attempt of each completion that an agent was told was accepted.
    pub accepted: Vec<(String, i64)>,
    /// Task and attempt of each rejection that an agent was given.
    pub rejected: Vec<(String, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Live,
    /// The lease expired, and nobody has moved the task since.
    Expired,
    Completed,
    Blocked,
}

struct Replay<'a> {
    history: &'a History,
    states: BTreeMap<&'a str, (State, i64)>,
    completions: Vec<(String, i64)>,
    logged_rejections: Vec<(String, i64)>,
    broken: BTreeSet<(Rule, String)>,
}

/// Returns every broken rule, with the task for which it was broken.
pub fn check(history: &History) -> BTreeSet<(Rule, String)> {
    let states = history.tasks.keys().map(|id| (id.as_str(), (State::Pending, 0))).collect();
    let completions = Vec::new();
    let logged_rejections = Vec::new();
    let mut replay = Replay { history, states, completions, logged_rejections, broken: BTreeSet::new() };
    for event in &history.log {
        if let Some(task_id) = event.task_id.as_deref() {
            replay.step(task_id, &event.kind, &json(&event.payload));
        }
    }
    replay.end();
    replay.broken
}

impl History {
    /// Returns the figures of the run as text.
    pub fn figures(&self) -> String {
        let count = |kind: &str| self.log.iter().filter(|event| event.kind == kind).count();
        let claims = count("task_claimed");
        let expiries = count("lease_expired");
        let accepted = self.accepted.len();
        format!("{claims} claims, {accepted} completed, {expiries} leases expired, {} rejected", self.rejected.len())
    }
}

/// Returns the task of the first entry that the sorted lists do not share.
fn first_difference(logged: &[(String, i64)], received: &[(String, i64)]) -> Option<String> {
    let mut logged = logged.to_vec();
    let mut received = received.to_vec();
    logged.sort();
    received.sort();
    let differs = |at: &usize| logged.get(*at) != received.get(*at);
    let at = (0..logged.len().max(received.len())).find(differs)?;
    logged.get(at).or(received.get(at)).map(|(id, _)| id.clone())
}

/// Returns the folder of a task's path. Two paths of this test overlap exactly if their folders are equal.
fn group(task: &Task) -> Option<&str> {
    task.allowed_paths.first().and_then(|path| path.split('/').next())
}

impl<'a> Replay<'a> {
    fn report(&mut self, rule: Rule, task_id: &str) {
        self.broken.insert((rule, task_id.to_owned()));
    }

    fn step(&mut self, task_id: &str, kind: &str, payload: &Value) {
        let Some((id, (state, attempt))) = self.states.get_key_value(task_id).map(|(id, state)| (*id, *state)) else {
            return;
        };
        let number = payload["attemptNumber"].as_i64();
        let next = match kind {
            "task_claimed" => {
                self.begin(id, state);
                if number != Some(attempt + 1) {
                    self.report(Rule::AttemptNumbers, id);
                }
                (State::Live, attempt + 1)
            }
            "lease_resumed" => {
                if (state, number) != (State::Expired, Some(attempt)) {
                    self.report(Rule::LeaseOutOfOrder, id);
                }
                self.begin(id, state);
                (State::Live, attempt)
            }
            "lease_expired" => {
                if (state, number) != (State::Live, Some(attempt)) {
                    self.report(Rule::LeaseOutOfOrder, id);
                }
                (State::Expired, attempt)
            }
            "task_completed" => {
                self.completions.push((task_id.to_owned(), number.unwrap_or(0)));
                (self.accept_report(id, state, attempt, number, State::Completed), attempt)
            }
            "task_failed" | "task_released" => {
                let blocked = payload["status"] == "TASK_STATUS_BLOCKED";
                let to = if blocked { State::Blocked } else { State::Pending };
                (self.accept_report(id, state, attempt, number, to), attempt)
            }
            "stale_write_rejected" => {
                self.logged_rejections.push((task_id.to_owned(), number.unwrap_or(0)));
                (state, attempt)
            }
            _ => (state, attempt),
        };
        self.states.insert(id, next);
    }

    /// Checks a task that is claimed, or whose lease is resumed.
    fn begin(&mut self, id: &'a str, state: State) {
        if state == State::Live {
            self.report(Rule::TwoLiveAttempts, id);
        }
        let history = self.history;
        let task = &history.tasks[id];
        let live = |(other, (state, _)): (&&str, &(State, i64))| *state == State::Live && **other != *id;
        let others: Vec<&str> = self.states.iter().filter(|entry| live(*entry)).map(|(other, _)| *other).collect();
        if group(task).is_some() && others.iter().any(|other| group(&history.tasks[*other]) == group(task)) {
            self.report(Rule::OverlappingPaths, id);
        }
        self.check_dependencies(id);
    }

    fn check_dependencies(&mut self, id: &str) {
        let open = |dependency: &String| self.states[dependency.as_str()].0 != State::Completed;
        if self.history.tasks[id].depends_on.iter().any(open) {
            self.report(Rule::OpenDependency, id);
        }
    }

    /// Checks a holder's accepted report. Returns the state that the task moves to.
    fn accept_report(&mut self, id: &str, state: State, attempt: i64, number: Option<i64>, to: State) -> State {
        if !matches!(state, State::Live | State::Expired) || number != Some(attempt) {
            self.report(Rule::StaleWriteAccepted, id);
        }
        if to == State::Completed {
            self.check_dependencies(id);
        }
        to
    }

    fn end(&mut self) {
        let history = self.history;
        if let Some(id) = first_difference(&self.completions, &history.accepted) {
            self.report(Rule::StaleWriteAccepted, &id);
        }
        if let Some(id) = first_difference(&self.logged_rejections, &history.rejected) {
            self.report(Rule::StaleWriteNotLogged, &id);
        }
        for (id, task) in &history.tasks {
            if !self.explains(id, task) {
                self.report(Rule::FinalStateUnexplained, id);
            }
        }
    }

    /// Returns true if the task is completed, blocked for a stated reason, or pending behind an open dependency.
    fn explains(&self, id: &str, task: &Task) -> bool {
        use runhub_client::v1::TaskStatus::{Blocked, Completed, Pending};
        let (state, attempt) = self.states[id];
        let waits = || task.depends_on.iter().any(|other| self.states[other.as_str()].0 != State::Completed);
        let has_reason = task.blocker_signature.as_ref().is_some_and(|signature| !signature.is_empty());
        let stands = match task.status() {
            Completed => state == State::Completed,
            Blocked => matches!(state, State::Blocked | State::Expired) && has_reason,
            Pending => matches!(state, State::Pending | State::Expired) && waits(),
            _ => false,
        };
        stands && i64::from(task.attempt_count) == attempt
    }
}
