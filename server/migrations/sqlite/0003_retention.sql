-- The log loses events: those of a deleted run, and those that are older than events are kept.

-- Without references: an event may outlive its run, and a deletion would look through the whole log for each row.
CREATE TABLE events_from_now_on (
    position       INTEGER NOT NULL PRIMARY KEY,
    run_key        INTEGER NOT NULL,
    -- Only of run_deleted, whose run is not there any more to have it.
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

-- The newest position that was removed because of its age: of any run, and of each. What a deletion takes is none.
ALTER TABLE counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;
ALTER TABLE run_counters ADD COLUMN compacted_position INTEGER NOT NULL DEFAULT 0;

-- For deleting a run: what refers to a task, and who else has its paths.
CREATE INDEX approvals_by_task ON approvals (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX artifacts_by_task ON artifacts (task_key) WHERE task_key IS NOT NULL;
CREATE INDEX tasks_by_path_set ON tasks (path_set_key) WHERE path_set_key IS NOT NULL;
