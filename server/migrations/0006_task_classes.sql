-- This migration lets a claim find a task without reading the tasks that the agent can't claim. The tasks of a run that
-- require equal capabilities and have equal paths form a class: if an agent can't claim the first task of a class, the
-- agent can't claim any task of the class.

-- This table contains the distinct sets of required_capabilities of tasks.
CREATE TABLE capability_sets (
    key          INTEGER NOT NULL PRIMARY KEY,
    -- The SHA-256 of capabilities.
    digest       BLOB    NOT NULL UNIQUE,
    -- The capabilities, as a sorted JSON array without duplicates.
    capabilities TEXT    NOT NULL
) STRICT;

-- The key of the task's capability set. If the task requires no capabilities, the value is 0.
ALTER TABLE tasks ADD COLUMN capability_set_key INTEGER NOT NULL DEFAULT 0;
-- If not_before_time has delayed the task and the server has not ended the delay yet, the value is 1. Otherwise, the
-- value is 0. The server ends the delay once, so a clock that is set back does not delay the task again.
ALTER TABLE tasks ADD COLUMN is_delayed INTEGER NOT NULL DEFAULT 0;
UPDATE tasks SET is_delayed = 1 WHERE status = 1 AND not_before_time IS NOT NULL;

-- The claim version grows with each change that can make a task claimable, or that starts or ends a path conflict. A
-- server compares the version with the version up to which the server has read the changes, and then reads only the
-- rows with a greater claim_version: the tasks that became pending, the runs whose status changed, and the path sets
-- for which a lease began or ended.
ALTER TABLE counters ADD COLUMN claim_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN claim_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN claim_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE path_sets ADD COLUMN claim_version INTEGER NOT NULL DEFAULT 0;

-- If the deletion of a run has deleted the last task with this path set, and a task with this path set was ever leased,
-- the value is 1. From the row, the claim index of each server reads that the lease has ended. The next start of the
-- server removes the row, unless a task uses the path set again.
ALTER TABLE path_sets ADD COLUMN is_removable INTEGER NOT NULL DEFAULT 0;
CREATE INDEX path_sets_removable ON path_sets (key) WHERE is_removable = 1;

CREATE INDEX tasks_by_claim_version ON tasks (claim_version, key)
    WHERE status = 1 AND open_dependencies = 0 AND is_delayed = 0;
CREATE INDEX runs_by_claim_version ON runs (claim_version, key) WHERE claim_version > 0;
CREATE INDEX path_sets_by_claim_version ON path_sets (claim_version, key) WHERE claim_version > 0;

-- Claims use tasks_ready to find the first ready task of a class. Status 1 is PENDING.
DROP INDEX tasks_ready;
DROP INDEX tasks_ready_by_paths;
CREATE INDEX tasks_ready ON tasks (run_key, capability_set_key, path_set_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies = 0 AND is_delayed = 0;
-- The explanation of a claim that found no task reads the pending tasks in claim order.
DROP INDEX tasks_waiting;
CREATE INDEX tasks_pending ON tasks (run_key, priority DESC, ordinal) WHERE status = 1;
-- The index contains the path sets of leased tasks. The status is the first column, so that SQLite prefers this index
-- to the index of all tasks with a path set. Status 2 is IN_PROGRESS.
DROP INDEX tasks_holding_paths;
CREATE INDEX tasks_leased_paths ON tasks (status, path_set_key)
    WHERE status = 2 AND path_set_key IS NOT NULL AND lease_token IS NOT NULL;
-- The sweeper and claims use tasks_delayed to find the tasks whose not_before_time has passed.
DROP INDEX tasks_by_time;
CREATE INDEX tasks_delayed ON tasks (not_before_time) WHERE status = 1 AND is_delayed = 1;
