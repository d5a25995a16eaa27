-- These conventions apply to all tables.
-- - `key` is the internal id to which other tables refer. The writer takes each key from counters.last_key, so keys
--   ascend in the order of insertion.
-- - `id` is the public id, which is opaque text. Imported rows keep their ids.
-- - Columns named *_time contain microseconds since 1970-01-01T00:00:00Z.
-- - `status` and `verdict` contain the number of the value in the API's enum.
-- - Columns with the comment JSON contain JSON text: a payload from a call, or a list of strings.

-- The table counters has one row, which contains the last position and the last key that the writer has assigned. The
-- writer never assigns a position or a key twice.
CREATE TABLE counters (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last_position INTEGER NOT NULL,
    last_key      INTEGER NOT NULL,
    -- The id of this database's log. A cursor is valid only in the log with the cursor's log_id.
    log_id        TEXT    NOT NULL
) STRICT;

CREATE TABLE runs (
    key             INTEGER NOT NULL PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    goal            TEXT    NOT NULL,
    repo_path       TEXT    NOT NULL,
    -- The labels of the run, as a JSON object whose values are strings.
    labels          TEXT    NOT NULL,
    status          INTEGER NOT NULL,
    summary         TEXT,
    cycle_count     INTEGER NOT NULL,
    replan_count    INTEGER NOT NULL,
    plan_version    INTEGER NOT NULL,
    -- The id of the current task. The column contains no key, because an imported run may name a task that no longer
    -- exists.
    current_task_id TEXT,
    revision        INTEGER NOT NULL,
    create_time     INTEGER NOT NULL,
    update_time     INTEGER NOT NULL
) STRICT;

-- The table run_counters contains the last seq and the last ordinal that the writer has assigned in each run. last_seq
-- changes with every event, and a separate table avoids rewriting the wider rows of the table runs.
CREATE TABLE run_counters (
    run_key      INTEGER NOT NULL PRIMARY KEY REFERENCES runs (key),
    last_seq     INTEGER NOT NULL,
    last_ordinal INTEGER NOT NULL,
    -- The key of the attempt that the run's last claim opened, or 0 before the first claim. If tasks have equal
    -- priority, a claim over all runs prefers the run with the smallest last_served.
    last_served  INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
    run_key            INTEGER NOT NULL REFERENCES runs (key),
    role               TEXT    NOT NULL,
    session_id         TEXT,
    turns              INTEGER NOT NULL,
    rotation_count     INTEGER NOT NULL,
    last_prompt_path   TEXT,
    last_response_path TEXT,
    revision           INTEGER NOT NULL,
    update_time        INTEGER NOT NULL,
    PRIMARY KEY (run_key, role)
) STRICT;

CREATE TABLE tasks (
    key                    INTEGER NOT NULL PRIMARY KEY,
    id                     TEXT    NOT NULL UNIQUE,
    run_key                INTEGER NOT NULL REFERENCES runs (key),
    ordinal                INTEGER NOT NULL,
    title                  TEXT    NOT NULL,
    objective              TEXT    NOT NULL,
    -- acceptance_criteria, verification_steps, allowed_paths, depends_on and required_capabilities contain JSON lists
    -- of strings.
    acceptance_criteria    TEXT    NOT NULL,
    verification_steps     TEXT    NOT NULL,
    allowed_paths          TEXT    NOT NULL,
    -- The ids of the tasks on which the task depends. Only responses use this column: the server enforces the
    -- dependencies in the table task_dependencies. The dependencies of a task never change.
    depends_on             TEXT    NOT NULL,
    required_capabilities  TEXT    NOT NULL,
    priority               INTEGER NOT NULL,
    -- The labels of the task, as a JSON object whose values are strings.
    labels                 TEXT    NOT NULL,
    max_attempts           INTEGER NOT NULL,
    not_before_time        INTEGER,
    status                 INTEGER NOT NULL,
    attempt_count          INTEGER NOT NULL,
    failure_count          INTEGER NOT NULL,
    implementation_summary TEXT,
    blocker_signature      TEXT,
    agent_id               TEXT,
    -- The token of the task's lease. If the task has no lease, the column is NULL. Only the response to the claim
    -- contains the token.
    lease_token            TEXT,
    -- The number of the task's dependencies that are not COMPLETED. The number never rises, because COMPLETED is a
    -- final status.
    open_dependencies      INTEGER NOT NULL,
    plan_version           INTEGER NOT NULL,
    revision               INTEGER NOT NULL,
    create_time            INTEGER NOT NULL,
    update_time            INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tasks_by_plan ON tasks (run_key, ordinal);
CREATE INDEX tasks_by_status ON tasks (run_key, status, ordinal);
-- Claims use the index tasks_ready to read the ready tasks in claim order. Status 1 is PENDING.
CREATE INDEX tasks_ready ON tasks (run_key, priority DESC, ordinal) WHERE status = 1 AND open_dependencies = 0;

CREATE TABLE task_dependencies (
    task_key       INTEGER NOT NULL REFERENCES tasks (key),
    depends_on_key INTEGER NOT NULL REFERENCES tasks (key),
    PRIMARY KEY (task_key, depends_on_key)
) STRICT;

CREATE INDEX task_dependents ON task_dependencies (depends_on_key, task_key);

CREATE TABLE task_attempts (
    key               INTEGER NOT NULL PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
    run_key           INTEGER NOT NULL REFERENCES runs (key),
    task_key          INTEGER NOT NULL REFERENCES tasks (key),
    attempt_number    INTEGER NOT NULL,
    agent_id          TEXT,
    status            INTEGER NOT NULL,
    summary           TEXT    NOT NULL,
    blocker_signature TEXT,
    -- JSON.
    result            TEXT    NOT NULL,
    -- The token of the claim that opened the attempt, or NULL if an orchestrator recorded the attempt. The token
    -- remains after the end of the attempt, so that a STALE_LEASE error can name the attempt for which a stale token
    -- was issued.
    lease_token       TEXT,
    create_time       INTEGER NOT NULL,
    end_time          INTEGER
) STRICT;

CREATE INDEX task_attempts_by_task ON task_attempts (task_key, key);
CREATE INDEX task_attempts_by_run ON task_attempts (run_key, key);

CREATE TABLE events (
    position    INTEGER NOT NULL PRIMARY KEY,
    run_key     INTEGER NOT NULL REFERENCES runs (key),
    seq         INTEGER NOT NULL,
    task_key    INTEGER REFERENCES tasks (key),
    source      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    -- JSON.
    payload     TEXT    NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_run ON events (run_key, position);

CREATE TABLE approvals (
    key         INTEGER NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    run_key     INTEGER NOT NULL REFERENCES runs (key),
    task_key    INTEGER REFERENCES tasks (key),
    source      TEXT    NOT NULL,
    verdict     INTEGER NOT NULL,
    rationale   TEXT    NOT NULL,
    -- JSON.
    payload     TEXT    NOT NULL,
    decide_time INTEGER,
    revision    INTEGER NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

CREATE INDEX approvals_by_run ON approvals (run_key, key);
CREATE INDEX approvals_latest ON approvals (run_key, source, decide_time, key) WHERE decide_time IS NOT NULL;

CREATE TABLE checkpoints (
    key         INTEGER NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    run_key     INTEGER NOT NULL REFERENCES runs (key),
    status      INTEGER NOT NULL,
    -- JSON.
    payload     TEXT    NOT NULL,
    -- The position of the run's newest event at the time of the checkpoint.
    position    INTEGER NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

CREATE INDEX checkpoints_by_run ON checkpoints (run_key, key);

CREATE TABLE artifacts (
    key         INTEGER NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    run_key     INTEGER NOT NULL REFERENCES runs (key),
    task_key    INTEGER REFERENCES tasks (key),
    role        TEXT,
    kind        TEXT    NOT NULL,
    path        TEXT    NOT NULL,
    -- JSON.
    metadata    TEXT    NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;

CREATE INDEX artifacts_by_run ON artifacts (run_key, key);
CREATE INDEX artifacts_by_role ON artifacts (run_key, role, key);

-- The stored responses to calls with a request_id. If the server receives a duplicate request, the server returns the
-- stored response.
CREATE TABLE requests (
    key         INTEGER NOT NULL PRIMARY KEY,
    rpc         TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    -- The SHA-256 of the request's content.
    fingerprint BLOB    NOT NULL,
    -- If `answer` is the encoded response, the value is 0. If `answer` is the encoded google.rpc.Status of a rejection
    -- that wrote an event, the value is 1.
    refused     INTEGER NOT NULL,
    answer      BLOB    NOT NULL,
    create_time INTEGER NOT NULL,
    UNIQUE (rpc, request_id)
) STRICT;

-- The completed imports. The digests prevent a second import of the same content.
CREATE TABLE imports (
    -- The SHA-256 of the imported content, as hexadecimal digits.
    digest      TEXT    NOT NULL PRIMARY KEY,
    -- The name of the importer that read the content.
    kind        TEXT    NOT NULL,
    run_count   INTEGER NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;
