//! What RunStore's status words mean here.

use std::fmt;
use std::str::FromStr;

use crate::domain::approval::ApprovalVerdict;
use crate::domain::attempt::AttemptStatus;
use crate::domain::run::RunStatus;
use crate::domain::task::TaskStatus;
use crate::error::{Error, Result};

/// What the caller says a word means: KIND:OLD=NEW.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    kind: String,
    old: String,
    new: String,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(kind, rest)| Some((kind, rest.split_once('=')?)));
        let Some((kind, (old, new))) = parts.filter(|(kind, _)| KINDS.contains(kind)) else {
            return Err(format!("{text:?} is not KIND:OLD=NEW with a KIND of {}", KINDS.join(", ")));
        };
        Ok(Self { kind: kind.to_owned(), old: old.to_owned(), new: new.to_owned() })
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        write!(to, "{} {} is {} here", self.kind, self.old, self.new)
    }
}

const KINDS: [&str; 4] = ["run", "task", "attempt", "approval"];

/// How words become statuses.
#[derive(Debug, Default)]
pub struct Statuses(Vec<Mapping>);

/// An enum whose values RunStore wrote as words.
pub trait Word: Copy + Sized + 'static {
    /// As in a Mapping.
    const KIND: &'static str;
    /// Of the names on the wire.
    const PREFIX: &'static str;
    /// Every value with its name on the wire.
    fn all() -> Vec<(Self, &'static str)>;
}

macro_rules! words {
    ($($name:ident $kind:literal $prefix:literal,)+) => {$(
        impl Word for $name {
            const KIND: &'static str = $kind;
            const PREFIX: &'static str = $prefix;

            fn all() -> Vec<(Self, &'static str)> {
                Self::ALL.iter().map(|value| (*value, value.name())).collect()
            }
        }
    )+};
}

words! {
    RunStatus "run" "RUN_STATUS_",
    TaskStatus "task" "TASK_STATUS_",
    AttemptStatus "attempt" "ATTEMPT_STATUS_",
    ApprovalVerdict "approval" "APPROVAL_VERDICT_",
}

impl Statuses {
    /// With what the caller says of unknown words.
    pub fn new(mappings: Vec<Mapping>) -> Self {
        Self(mappings)
    }

    /// The status a word means; `row` is whose it is, for the error.
    pub fn of<T: Word>(&self, row: &str, word: &str) -> Result<T> {
        let mapped = self.0.iter().find(|mapping| mapping.kind == T::KIND && mapping.old == word);
        let word = mapped.map_or(word, |mapping| &mapping.new);
        let known: Vec<(T, String)> = T::all()
            .into_iter()
            .map(|(value, name)| (value, name.trim_start_matches(T::PREFIX).to_lowercase()))
            .collect();
        if let Some((value, _)) = known.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)) {
            return Ok(*value);
        }
        let names: Vec<&str> = known.iter().map(|(_, name)| name.as_str()).collect();
        let problem = format!(
            "the status {word:?} is not known; say what it means with --map-status '{}:{word}=NEW', NEW one of {}",
            T::KIND,
            names.join(", ")
        );
        Err(Error::field(row, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_word_is_a_status() {
        assert_eq!(Statuses::default().of("task t", "in_progress"), Ok(TaskStatus::InProgress));
        assert_eq!(Statuses::default().of("approval a", "changes_requested"), Ok(ApprovalVerdict::ChangesRequested));
    }

    #[test]
    fn an_unknown_word_is_named_with_the_way_to_map_it() {
        let refused = Statuses::default().of::<TaskStatus>("task t", "parked");
        let Err(Error::InvalidField { field, problem }) = refused else { panic!("{refused:?}") };
        assert_eq!(field, "task t");
        assert!(problem.contains("--map-status 'task:parked=NEW'") && problem.contains("blocked"), "{problem}");
    }

    #[test]
    fn a_mapping_is_for_its_kind_only() {
        let statuses = Statuses::new(vec!["task:parked=blocked".parse().unwrap()]);
        assert_eq!(statuses.of("task t", "parked"), Ok(TaskStatus::Blocked));
        assert!(statuses.of::<RunStatus>("run r", "parked").is_err());
        assert!("tusk:a=b".parse::<Mapping>().is_err());
        assert!("task:a".parse::<Mapping>().is_err());
    }
}
