//! This module lists the migrations of the database schema, which SQLite and PostgreSQL share.

/// Returns all migrations, oldest first. A released migration must never change, because existing databases have already
/// applied it.
pub(super) const MIGRATIONS: [&str; 10] = [
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_coordination.sql"),
    include_str!("../../migrations/0003_retention.sql"),
    include_str!("../../migrations/0004_paused_runs.sql"),
    include_str!("../../migrations/0005_claim_order.sql"),
    include_str!("../../migrations/0006_task_classes.sql"),
    include_str!("../../migrations/0007_deleted_runs.sql"),
    include_str!("../../migrations/0008_clock_steps.sql"),
    include_str!("../../migrations/0009_open_databases.sql"),
    include_str!("../../migrations/0010_closed_databases.sql"),
];
