//! This module maps the status words of RunStore to the statuses of Runhub.

use std::fmt;
use std::str::FromStr;

use crate::domain::approval::ApprovalVerdict;
use crate::domain::attempt::AttemptStatus;
use crate::domain::run::RunStatus;
use crate::domain::task::TaskStatus;
use crate::error::{Error, Result};

/// Represents the option `--map-status KIND:OLD=NEW`, which maps the status word OLD to the status NEW.
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
            return Err(format!(
                "the mapping {text:?} must have the form KIND:OLD=NEW, where KIND is one of {}",
                KINDS.join(", ")
            ));
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

/// Contains the mappings that the user passed with `--map-status`.
#[derive(Debug, Default)]
pub struct Statuses(Vec<Mapping>);

/// Provides the values of a status enum that RunStore wrote as words.
pub trait StatusEnum: Copy + Sized + 'static {
    /// The KIND that selects this enum in the option `--map-status`.
    const KIND: &'static str;
    /// The prefix of the enum's value names in the API, for example `TASK_STATUS_`.
    const PREFIX: &'static str;
    /// Returns every value of the enum with its name in the API.
    fn all_values() -> Vec<(Self, &'static str)>;
}

macro_rules! words {
    ($($name:ident $kind:literal $prefix:literal,)+) => {$(
        impl StatusEnum for $name {
            const KIND: &'static str = $kind;
            const PREFIX: &'static str = $prefix;

            fn all_values() -> Vec<(Self, &'static str)> {
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
    /// Returns a parser for status words. The parser applies the mappings before it compares a word with the known
    /// statuses.
    pub fn new(mappings: Vec<Mapping>) -> Self {
        Self(mappings)
    }

    /// Returns the status for a word. Fails if the word is unknown. The error names `column`, which contains the
    /// word.
    pub fn parse<T: StatusEnum>(&self, column: &str, word: &str) -> Result<T> {
        let mapped = self.0.iter().find(|mapping| mapping.kind == T::KIND && mapping.old == word);
        let word = mapped.map_or(word, |mapping| &mapping.new);
        let mut names = Vec::new();
        for (value, api_name) in T::all_values() {
            let name = api_name.trim_start_matches(T::PREFIX).to_lowercase();
            if name.eq_ignore_ascii_case(word) {
                return Ok(value);
            }
            names.push(name);
        }
        let problem = format!(
            "the status {word:?} is unknown: pass --map-status '{}:{word}=NEW', where NEW is one of {}",
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
    fn known_status_word_is_parsed() {
        assert_eq!(Statuses::default().parse("task t", "in_progress"), Ok(TaskStatus::InProgress));
        assert_eq!(Statuses::default().parse("approval a", "changes_requested"), Ok(ApprovalVerdict::ChangesRequested));
    }

    #[test]
    fn error_of_an_unknown_status_word_names_the_mapping_option() {
        let refused = Statuses::default().parse::<TaskStatus>("task t", "parked");
        let Err(Error::InvalidField { field, problem }) = refused else {
            panic!("the unknown status word must give an InvalidField error, not {refused:?}")
        };
        assert_eq!(field, "task t");
        assert!(problem.contains("--map-status 'task:parked=NEW'") && problem.contains("blocked"), "{problem}");
    }

    #[test]
    fn mapping_applies_only_to_its_kind() {
        let statuses = Statuses::new(vec!["task:parked=blocked".parse().unwrap()]);
        assert_eq!(statuses.parse("task t", "parked"), Ok(TaskStatus::Blocked));
        assert!(statuses.parse::<RunStatus>("run r", "parked").is_err());
        assert!("tusk:a=b".parse::<Mapping>().is_err());
        assert!("task:a".parse::<Mapping>().is_err());
    }
}
