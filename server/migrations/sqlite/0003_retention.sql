-- Retention removes old events from the log, and the deletion of a run removes its events.

-- Without foreign keys: an event may outlive its run, and with foreign keys each deleted row would cause a scan of the log.
CREATE TABLE events_from_now_on (
    position       INTEGER NOT NULL PRIMARY KEY,
    run_key        INTEGER NOT NULL,
    -- Set only in a run_deleted event, because the run that had the id no longer exists.
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

-- The newest position that retention has removed, of all runs and of each run. Events removed by the deletion of a run do
-- not count.
ALTER TABLE counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run_counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;

-- For the deletion of a run: the rows that refer to a task, and the other tasks with the same path set.
CREATE INDEX approvals_by_task ON approvals (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX artifacts_by_task ON artifacts (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX tasks_by_path_set ON tasks (path_set_key) WHERE path_set_key IS NOT NULL;
