//! Maps RunStore's status words to statuses.

use std::fmt;
use std::str::FromStr;

use crate::domain::approval::ApprovalVerdict;
use crate::domain::attempt::AttemptStatus;
use crate::domain::run::RunStatus;
use crate::domain::task::TaskStatus;
use crate::error::{Error, Result};

/// The option `--map-status KIND:OLD=NEW`: the status that a word means.
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
        write!(to, "{} {} became {}", self.kind, self.old, self.new)
    }
}

const KINDS: [&str; 4] = ["run", "task", "attempt", "approval"];

/// The mappings that the user gave.
#[derive(Debug, Default)]
pub struct Statuses(Vec<Mapping>);

/// An enum whose values RunStore wrote as words.
pub trait Word: Copy + Sized + 'static {
    /// The kind in a mapping.
    const KIND: &'static str;
    /// The prefix of the names in the API.
    const PREFIX: &'static str;
    /// Returns every value with its name in the API.
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
    /// Returns statuses with mappings for unknown words.
    pub fn new(mappings: Vec<Mapping>) -> Self {
        Self(mappings)
    }

    /// Returns the status that a word means. Fails if the word is unknown; the error names `column`, where the word was found.
    pub fn parse<T: Word>(&self, column: &str, word: &str) -> Result<T> {
        let mapped = self.0.iter().find(|mapping| mapping.kind == T::KIND && mapping.old == word);
        let word = mapped.map_or(word, |mapping| &mapping.new);
        let mut names = Vec::new();
        for (value, api_name) in T::all() {
            let name = api_name.trim_start_matches(T::PREFIX).to_lowercase();
            if name.eq_ignore_ascii_case(word) {
                return Ok(value);
            }
            names.push(name);
        }
        let problem = format!(
            "has the unknown status {word:?}: pass --map-status '{}:{word}=NEW', where NEW is one of {}",
            T::KIND,
            names.join(", ")
        );
        Err(Error::field(column, problem))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_word_is_parsed() {
        assert_eq!(Statuses::default().parse("task t", "in_progress"), Ok(TaskStatus::InProgress));
        assert_eq!(Statuses::default().parse("approval a", "changes_requested"), Ok(ApprovalVerdict::ChangesRequested));
    }

    #[test]
    fn unknown_word_is_refused_with_the_option_that_maps_it() {
        let refused = Statuses::default().parse::<TaskStatus>("task t", "parked");
        let Err(Error::InvalidField { field, problem }) = refused else { panic!("{refused:?}") };
        assert_eq!(field, "task t");
        assert!(problem.contains("--map-status 'task:parked=NEW'") && problem.contains("blocked"), "{problem}");
    }

    #[test]
    fn mapping_applies_to_its_kind_only() {
        let statuses = Statuses::new(vec!["task:parked=blocked".parse().unwrap()]);
        assert_eq!(statuses.parse("task t", "parked"), Ok(TaskStatus::Blocked));
        assert!(statuses.parse::<RunStatus>("run r", "parked").is_err());
        assert!("tusk:a=b".parse::<Mapping>().is_err());
        assert!("task:a".parse::<Mapping>().is_err());
    }
}
