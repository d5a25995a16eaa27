-- This migration lets retention remove old events from the log, and lets the deletion of a run remove the run's events.

-- The new table for events has no foreign keys. An event may remain after the deletion of its run, and a foreign key
-- would make SQLite scan the log for each deleted row.
CREATE TABLE events_from_now_on (
    position       INTEGER NOT NULL PRIMARY KEY,
    run_key        INTEGER NOT NULL,
    -- The id of the deleted run. The column is set only in a run_deleted event, because the row of the run no longer
    -- exists.
    deleted_run_id TEXT,
    seq            INTEGER NOT NULL,
    task_key       INTEGER,
    source         TEXT    NOT NULL,
    kind           TEXT    NOT NULL,
    message        TEXT    NOT NULL,
    -- JSON.
    payload        TEXT    NOT NULL,
    create_time    INTEGER NOT NULL
) STRICT;

INSERT INTO events_from_now_on
    SELECT position, run_key, NULL, seq, task_key, source, kind, message, payload, create_time FROM events;
DROP TABLE events;
ALTER TABLE events_from_now_on RENAME TO events;
CREATE INDEX events_by_run ON events (run_key, position);

-- The position of the newest event that retention has removed, or 0 if retention has removed no event. The table
-- counters contains the position for all runs, and the table run_counters contains the position for each run. Events
-- that the deletion of a run removed do not count.
ALTER TABLE counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run_counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;

-- When a run is deleted, the server uses approvals_by_task and artifacts_by_task to find the rows that refer to a task,
-- and tasks_by_path_set to find the tasks that share a path set.
CREATE INDEX approvals_by_task ON approvals (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX artifacts_by_task ON artifacts (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX tasks_by_path_set ON tasks (path_set_key) WHERE path_set_key IS NOT NULL;
