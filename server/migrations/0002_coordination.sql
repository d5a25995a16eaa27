-- This migration adds leases, path exclusion, run control and requested approvals. Columns named *_duration contain
-- microseconds.

ALTER TABLE runs ADD COLUMN status_reason TEXT NOT NULL DEFAULT '';
-- The status of a PAUSED run before the pause. A resumed run returns to this status. If the run is not PAUSED, or was
-- imported as PAUSED, the column is NULL.
ALTER TABLE runs ADD COLUMN status_before_pause INTEGER;
-- The time at which the grace period for lease holders of a CANCELLING run ends. If the run has no grace period, the
-- column is NULL.
ALTER TABLE runs ADD COLUMN grace_end_time INTEGER;

-- Claims over all runs use the index runs_giving_out to find the runs whose tasks can be claimed. Status 1 is PLANNING,
-- 2 is RUNNING, and 4 is BLOCKED.
CREATE INDEX runs_giving_out ON runs (key) WHERE status IN (1, 2, 4);
-- The sweeper uses the index runs_cancelling to find the runs whose grace period has ended. Status 5 is CANCELLING.
CREATE INDEX runs_cancelling ON runs (grace_end_time) WHERE status = 5;

-- This table contains the path sets: the distinct sets of allowed_paths of tasks. A set is stored once per repository,
-- because the server checks whole sets for overlap.
CREATE TABLE path_sets (
    key       INTEGER NOT NULL PRIMARY KEY,
    repo_path TEXT    NOT NULL,
    -- The SHA-256 of repo_path and paths.
    digest    BLOB    NOT NULL UNIQUE,
    -- The path patterns, as a sorted JSON list without duplicates.
    paths     TEXT    NOT NULL
) STRICT;

-- The key of the task's path set. If the task declares no paths, or the path_policy of the task's run is off, the
-- column is NULL.
ALTER TABLE tasks ADD COLUMN path_set_key INTEGER REFERENCES path_sets (key);
-- lease_duration and lease_expire_time are set together with lease_token. If a task has a token but is not IN_PROGRESS,
-- the lease of the task has expired, and no call has claimed the task or changed the task's status since the expiry.
ALTER TABLE tasks ADD COLUMN lease_duration INTEGER;
ALTER TABLE tasks ADD COLUMN lease_expire_time INTEGER;

-- A heartbeat uses the index tasks_by_lease to find the task, because the heartbeat names only the lease token.
CREATE UNIQUE INDEX tasks_by_lease ON tasks (lease_token) WHERE lease_token IS NOT NULL;
-- The sweeper uses tasks_by_lease_end to find expired leases, and tasks_by_time to find tasks whose not_before_time has
-- passed. Status 2 is IN_PROGRESS, and 1 is PENDING.
CREATE INDEX tasks_by_lease_end ON tasks (lease_expire_time) WHERE status = 2;
CREATE INDEX tasks_by_time ON tasks (not_before_time) WHERE status = 1 AND not_before_time IS NOT NULL;
-- The index tasks_holding_paths contains the path sets of IN_PROGRESS tasks. Status 2 is IN_PROGRESS.
CREATE INDEX tasks_holding_paths ON tasks (path_set_key) WHERE status = 2 AND path_set_key IS NOT NULL;
-- If the paths of a run's first 32 ready tasks overlap with the paths of IN_PROGRESS tasks, a claim uses the index
-- tasks_ready_by_paths to check one path set after another. Status 1 is PENDING.
CREATE INDEX tasks_ready_by_paths ON tasks (run_key, path_set_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies = 0;

-- JSON.
ALTER TABLE task_attempts ADD COLUMN progress TEXT NOT NULL DEFAULT 'null';

ALTER TABLE approvals ADD COLUMN title TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN requested_by TEXT NOT NULL DEFAULT '';
ALTER TABLE approvals ADD COLUMN subject_digest TEXT NOT NULL DEFAULT '';
-- The number of the policy in the API's enum ExpiryPolicy. Policy 1 is REJECT.
ALTER TABLE approvals ADD COLUMN on_expiry INTEGER NOT NULL DEFAULT 1;
ALTER TABLE approvals ADD COLUMN expire_time INTEGER;
-- If the approval has expired and the server has applied the policy in on_expiry, the value is 1. Otherwise, the value
-- is 0.
ALTER TABLE approvals ADD COLUMN has_expired INTEGER NOT NULL DEFAULT 0;
ALTER TABLE approvals ADD COLUMN consume_time INTEGER;

-- The index approvals_pending contains the approvals that wait for a decision. Verdict 1 is PENDING.
CREATE INDEX approvals_pending ON approvals (key) WHERE verdict = 1;
-- The sweeper uses approvals_by_expiry to find expired approvals. When a run ends, the server uses
-- approvals_pending_of_run to find the run's pending approvals. Verdict 1 is PENDING.
CREATE INDEX approvals_by_expiry ON approvals (expire_time) WHERE verdict = 1 AND has_expired = 0;
CREATE INDEX approvals_pending_of_run ON approvals (run_key, key) WHERE verdict = 1;

-- Tasks that were claimed before this migration get a lease of the default duration, 10 minutes.
UPDATE tasks SET lease_duration = 600000000, lease_expire_time = update_time + 600000000
    WHERE status = 2 AND lease_token IS NOT NULL;
