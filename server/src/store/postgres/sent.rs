//! This module keeps the statements that were sent to the database, and whose results were not received yet.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio_postgres::Error;

/// Maximum number of statements that are sent before the thread waits for their results.
const MAX_STATEMENTS: usize = 256;

/// Maximum time between the first statement that is sent and the wait for its result. The thread drives the connection
/// only while it waits, and the database ends a transaction in which it hears nothing for a second.
const MAX_TIME: Duration = Duration::from_millis(200);

/// A statement that was sent. The future waits for the result of the statement.
pub(super) type SentStatement = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// The statements that were sent, in their order.
pub(super) struct SentStatements {
    statements: Vec<SentStatement>,
    first_sent_at: Instant,
}

impl SentStatements {
    /// Returns no statements.
    pub fn new() -> Self {
        Self { statements: Vec::new(), first_sent_at: Instant::now() }
    }

    /// Adds a statement that was sent now. Returns whether the thread must wait for the results.
    pub fn add(&mut self, statement: SentStatement) -> bool {
        if self.statements.is_empty() {
            self.first_sent_at = Instant::now();
        }
        self.statements.push(statement);
        self.statements.len() >= MAX_STATEMENTS || self.first_sent_at.elapsed() >= MAX_TIME
    }

    /// Takes all statements. Returns a future that waits for all results and fails with the first failure, or None if there
    /// is no statement.
    pub fn take(&mut self) -> Option<impl Future<Output = Result<(), Error>> + use<>> {
        let statements = std::mem::take(&mut self.statements);
        if statements.is_empty() {
            return None;
        }
        Some(async move {
            let mut first = Ok(());
            for statement in statements {
                first = first.and(statement.await);
            }
            first
        })
    }

    /// Drops all statements without a wait for their results.
    pub fn clear(&mut self) {
        self.statements.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_waits_after_many_statements_and_after_a_long_time() {
        let mut sent = SentStatements::new();
        let add = |sent: &mut SentStatements| sent.add(Box::pin(std::future::pending()));
        for _ in 1..MAX_STATEMENTS {
            assert!(!add(&mut sent));
        }
        assert!(add(&mut sent));
        assert!(sent.take().is_some());
        assert!(!add(&mut sent), "the time begins with the first statement after a wait");
        sent.first_sent_at -= MAX_TIME;
        assert!(add(&mut sent));
    }
}
