//! This module collects the repairs that the import makes to an invalid ledger.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};

/// Maximum number of line numbers that the description of a repair lists.
const LISTED_LINES: usize = 10;

/// Contains the repairs of a ledger. Equal repairs of one field form a group with the numbers of the repaired lines.
#[derive(Default)]
pub struct Repairs(BTreeMap<(String, &'static str), Vec<usize>>);

impl Repairs {
    /// Records a repair of a field in a line.
    pub fn add(&mut self, line: usize, field: &str, repair: &'static str) {
        self.0.entry((field.to_owned(), repair)).or_default().push(line);
    }

    /// Returns the number of repairs.
    pub fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Returns one text for each group of repairs, with the field, the repair and the numbers of the repaired lines.
    pub fn describe(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|((field, repair), lines)| format!("{field}: {repair}: {}", describe_lines(lines)))
    }

    /// Fails with an error that describes the repairs if the ledger needs a repair.
    pub fn refuse(&self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = self.describe().collect();
        let problem = format!(
            "--strict refuses the ledger, which needs these repairs: correct the lines, or import without --strict\n  {}",
            groups.join("\n  ")
        );
        Err(Error::field("file", problem))
    }
}

/// Returns the numbers of the lines, each once, although a line can need the same repair several times.
fn describe_lines(lines: &[usize]) -> String {
    let lines: BTreeSet<&usize> = lines.iter().collect();
    let listed: Vec<String> = lines.iter().take(LISTED_LINES).map(ToString::to_string).collect();
    let rest = lines.len() - listed.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{} {}{more}", if lines.len() == 1 { "line" } else { "lines" }, listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_repairs_of_a_field_are_described_together() {
        let mut repairs = Repairs::default();
        repairs.add(7, "title", "shortened");
        repairs.add(7, "title", "shortened");
        for line in 1..=12 {
            repairs.add(line, "parent", "left out");
        }
        let described: Vec<String> = repairs.describe().collect();
        assert_eq!(
            described,
            ["parent: left out: lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more", "title: shortened: line 7"]
        );
        assert_eq!(repairs.count(), 14);
        assert!(repairs.refuse().unwrap_err().to_string().contains("title: shortened: line 7"));
        assert_eq!(Repairs::default().refuse(), Ok(()));
    }
}
