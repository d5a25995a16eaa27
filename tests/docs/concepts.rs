//! The concepts page shows every state that the API has.

use std::fs;

use crate::reference::api::Api;
use crate::root;

const PAGE: &str = "docs/concepts.md";

/// The enums whose values are states.
const STATES: [&str; 6] = ["RunStatus", "TaskStatus", "AttemptStatus", "LeaseState", "ApprovalVerdict", "ExpiryPolicy"];

#[test]
fn the_concepts_page_shows_every_state() {
    let text = fs::read_to_string(root().join(PAGE)).unwrap();
    let words: Vec<&str> = text.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_').collect();
    let api = Api::load();
    let states: Vec<_> = api.enums().into_iter().filter(|one| STATES.contains(&one.name())).collect();
    assert_eq!(states.len(), STATES.len());
    for value in states.iter().flat_map(|one| one.values().skip(1).collect::<Vec<_>>()) {
        let unspecified = value.parent_enum().get_value(0).unwrap().name().to_owned();
        let state = value.name().strip_prefix(unspecified.trim_end_matches("UNSPECIFIED")).unwrap();
        assert!(words.contains(&state), "{PAGE} does not show {}", value.name());
    }
}
