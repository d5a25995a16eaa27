//! What a log must not say: a checker over the events of a run, which knows nothing of how the server works.

use std::collections::{BTreeMap, BTreeSet};

use runhub_client::v1::{Event, Task};
use serde_json::Value;

use crate::support::calls::json;

/// What is broken. Each rule is one sentence of the design's C1 to C7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Two live attempts of a task.
    TwoLiveAttempts,
    /// Two tasks with overlapping paths in progress together.
    OverlappingPaths,
    /// A task given out or completed before what it depends on.
    BeforeItsDependencies,
    /// An attempt that is not the next one.
    AttemptNumbers,
    /// A report taken from an attempt that another has followed, or of a task that was moved by others.
    StaleWriteTaken,
    /// A stale write that the log does not tell of, or that nobody made.
    StaleWriteNotLogged,
    /// Something that happens to a lease in no order that makes sense.
    LeaseOutOfOrder,
    /// A state at the end that the log does not explain.
    EndNotExplained,
}

/// What one run has left behind.
#[derive(Debug, Clone)]
pub struct History {
    /// As they are at the end.
    pub tasks: BTreeMap<String, Task>,
    pub log: Vec<Event>,
    /// The completions that agents were told were taken: task and attempt.
    pub taken: Vec<(String, i64)>,
    /// The refusals that agents were given: task and attempt.
    pub refused: Vec<(String, i64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending,
    Live,
    /// Its lease ran out, and nobody has moved the task since.
    Expired,
    Completed,
    Blocked,
}

struct Replay<'a> {
    history: &'a History,
    states: BTreeMap<&'a str, (State, i64)>,
    completions: Vec<(String, i64)>,
    logged_refusals: Vec<(String, i64)>,
    broken: BTreeSet<(Rule, String)>,
}

/// Everything that is broken, with the task it happened to.
pub fn check(history: &History) -> BTreeSet<(Rule, String)> {
    let states = history.tasks.keys().map(|id| (id.as_str(), (State::Pending, 0))).collect();
    let (completions, logged_refusals) = (Vec::new(), Vec::new());
    let mut replay = Replay { history, states, completions, logged_refusals, broken: BTreeSet::new() };
    for event in &history.log {
        if let Some(task_id) = event.task_id.as_deref() {
            replay.step(task_id, &event.kind, &json(&event.payload));
        }
    }
    replay.end();
    replay.broken
}

impl History {
    /// What a person wants to know of it.
    pub fn figures(&self) -> String {
        let count = |kind: &str| self.log.iter().filter(|event| event.kind == kind).count();
        let (claims, expiries) = (count("task_claimed"), count("lease_expired"));
        let taken = self.taken.len();
        format!("{claims} claims, {taken} completed, {expiries} leases expired, {} refused", self.refused.len())
    }
}

/// The task of an entry that is in one list and not, or not so often, in the other.
fn first_difference(logged: &[(String, i64)], heard: &[(String, i64)]) -> Option<String> {
    let (mut logged, mut heard) = (logged.to_vec(), heard.to_vec());
    logged.sort();
    heard.sort();
    let differs = |at: &usize| logged.get(*at) != heard.get(*at);
    let at = (0..logged.len().max(heard.len())).find(differs)?;
    logged.get(at).or(heard.get(at)).map(|(id, _)| id.clone())
}

/// The two paths of the storm overlap exactly if they begin with the same folder.
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
                (self.reported(id, state, attempt, number, State::Completed), attempt)
            }
            "task_failed" | "task_released" => {
                let blocked = payload["status"] == "TASK_STATUS_BLOCKED";
                let to = if blocked { State::Blocked } else { State::Pending };
                (self.reported(id, state, attempt, number, to), attempt)
            }
            "stale_write_rejected" => {
                self.logged_refusals.push((task_id.to_owned(), number.unwrap_or(0)));
                (state, attempt)
            }
            _ => (state, attempt),
        };
        self.states.insert(id, next);
    }

    /// A task is given out, or taken up again.
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
        self.look_at_dependencies(id);
    }

    fn look_at_dependencies(&mut self, id: &str) {
        let open = |dependency: &String| self.states[dependency.as_str()].0 != State::Completed;
        if self.history.tasks[id].depends_on.iter().any(open) {
            self.report(Rule::BeforeItsDependencies, id);
        }
    }

    /// A holder's report was taken.
    fn reported(&mut self, id: &str, state: State, attempt: i64, number: Option<i64>, to: State) -> State {
        if !matches!(state, State::Live | State::Expired) || number != Some(attempt) {
            self.report(Rule::StaleWriteTaken, id);
        }
        if to == State::Completed {
            self.look_at_dependencies(id);
        }
        to
    }

    fn end(&mut self) {
        let history = self.history;
        if let Some(id) = first_difference(&self.completions, &history.taken) {
            self.report(Rule::StaleWriteTaken, &id);
        }
        if let Some(id) = first_difference(&self.logged_refusals, &history.refused) {
            self.report(Rule::StaleWriteNotLogged, &id);
        }
        for (id, task) in &history.tasks {
            if !self.explains(id, task) {
                self.report(Rule::EndNotExplained, id);
            }
        }
    }

    /// Completed, blocked for a stated reason, or pending behind something that is.
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
