-- Leases, path exclusion, run control, and requested approvals. Durations (*_duration) are in microseconds.

ALTER TABLE runs ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';
-- The status of a PAUSED run before the pause, which it gets back when it is resumed.
ALTER TABLE runs ADD COLUMN status_before_pause INTEGER;
-- When the grace of the holders of a CANCELLING run ends.
ALTER TABLE runs ADD COLUMN grace_end_time INTEGER;

-- For claims over all runs: the runs whose tasks can be claimed (1 is PLANNING, 2 RUNNING, 4 BLOCKED).
CREATE INDEX runs_giving_out ON runs (key) WHERE status IN (1, 2, 4);
-- For the sweeper: 5 is CANCELLING.
CREATE INDEX runs_cancelling ON runs (grace_end_time) WHERE status = 5;

-- The allowed_paths of tasks. Each distinct set is stored once per repository, because overlap is decided set by set.
CREATE TABLE path_sets (
    key       INTEGER NOT NULL PRIMARY KEY,
    repo_path TEXT    NOT NULL,
    -- SHA-256 of repo_path and paths.
    digest    BLOB    NOT NULL UNIQUE,
    -- JSON list of patterns, sorted, each once.
    paths     TEXT    NOT NULL
) STRICT;

-- NULL if the task declares no paths or the path_policy of its run is off.
ALTER TABLE tasks ADD COLUMN path_set_key INTEGER REFERENCES path_sets (key);
-- Set together with lease_token. If a task has a token and is not IN_PROGRESS, its lease has expired, and nobody has
-- claimed or moved the task since.
ALTER TABLE tasks ADD COLUMN lease_duration INTEGER;
ALTER TABLE tasks ADD COLUMN lease_expire_time INTEGER;

-- A heartbeat names the task only by the token.
CREATE UNIQUE INDEX tasks_by_lease ON tasks (lease_token) WHERE lease_token IS NOT NULL;
-- For the sweeper: 2 is IN_PROGRESS, 1 is PENDING.
CREATE INDEX tasks_by_lease_end ON tasks (lease_expire_time) WHERE status = 2;
CREATE INDEX tasks_by_time ON tasks (not_before_time) WHERE status = 1 AND not_before_time IS NOT NULL;
-- The held paths.
CREATE INDEX tasks_holding_paths ON tasks (path_set_key) WHERE status = 2 AND path_set_key IS NOT NULL;
-- For claims whose first ready tasks overlap with held ones: they go on path set by path set.
CREATE INDEX tasks_ready_by_paths ON tasks (run_key, path_set_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies = 0;

-- JSON.
ALTER TABLE task_attempts ADD COLUMN progress TEXT NOT NULL DEFAULT 'null';

ALTER TABLE approvals ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN requested_by TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN subject_digest TEXT NOT NULL DEFAULT '';
-- The number of the API's ExpiryPolicy; 1 is REJECT.
ALTER TABLE approvals ADD COLUMN on_expiry INTEGER NOT NULL DEFAULT 1;
ALTER TABLE approvals ADD COLUMN expire_time INTEGER;
-- 1 if the policy in on_expiry was applied.
ALTER TABLE approvals ADD COLUMN has_expired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN consume_time INTEGER;

-- The inbox: 1 is PENDING.
CREATE INDEX approvals_pending ON approvals (key) WHERE verdict = 1;
-- For the sweeper, and for the end of a run.
CREATE INDEX approvals_by_expiry ON approvals (expire_time) WHERE verdict = 1 AND has_expired = 0;
CREATE INDEX approvals_pending_of_run ON approvals (run_key, key) WHERE verdict = 1;

-- Claims made before there were leases get a lease of the default duration.
UPDATE tasks SET lease_duration = 600000000, lease_expire_time = update_time + 600000000
    WHERE status = 2 AND lease_token IS NOT NULL;
