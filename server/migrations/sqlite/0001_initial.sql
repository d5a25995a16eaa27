-- Conventions of all tables:
--   key               the internal id to which other tables refer. The writer takes it from counters.last_key, so keys
--                     ascend in the order of insertion.
--   id                the public id, opaque text. Imported rows keep their ids.
--   *_time            microseconds since 1970-01-01T00:00:00Z
--   status, verdict   the number of the value in the API's enum
--   JSON              columns marked so hold JSON text, as the caller sent it or as a list of strings

-- One row with the last numbers that the writer has taken. No number is used twice.
CREATE TABLE counters (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    last_position INTEGER NOT NULL,
    last_key      INTEGER NOT NULL,
    -- Names this database. A cursor is valid for one log_id.
    log_id        TEXT    NOT NULL
) STRICT;

CREATE TABLE runs (
    key             INTEGER NOT NULL PRIMARY KEY,
    id              TEXT    NOT NULL UNIQUE,
    goal            TEXT    NOT NULL,
    repo_path       TEXT    NOT NULL,
    -- JSON object of strings.
    labels          TEXT    NOT NULL,
    status          INTEGER NOT NULL,
    summary         TEXT,
    cycle_count     INTEGER NOT NULL,
    replan_count    INTEGER NOT NULL,
    plan_version    INTEGER NOT NULL,
    -- The id of a task, not its key: an imported run may name a task that no longer exists.
    current_task_id TEXT,
    revision        INTEGER NOT NULL,
    create_time     INTEGER NOT NULL,
    update_time     INTEGER NOT NULL
) STRICT;

-- The numbers that a run takes. They change with every event, so they are not in the row of the run, which may be wide.
CREATE TABLE run_counters (
    run_key      INTEGER NOT NULL PRIMARY KEY REFERENCES runs (key),
    last_seq     INTEGER NOT NULL,
    last_ordinal INTEGER NOT NULL,
    -- The key of the attempt of the run's last claim. A claim over all runs prefers the run with the smallest.
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
    -- JSON lists of strings, as are the four columns below.
    acceptance_criteria    TEXT    NOT NULL,
    verification_steps     TEXT    NOT NULL,
    allowed_paths          TEXT    NOT NULL,
    -- Task ids, for answers only: task_dependencies is what is enforced. Both are written once.
    depends_on             TEXT    NOT NULL,
    required_capabilities  TEXT    NOT NULL,
    priority               INTEGER NOT NULL,
    -- JSON object of strings.
    labels                 TEXT    NOT NULL,
    max_attempts           INTEGER NOT NULL,
    not_before_time        INTEGER,
    status                 INTEGER NOT NULL,
    attempt_count          INTEGER NOT NULL,
    failure_count          INTEGER NOT NULL,
    implementation_summary TEXT,
    blocker_signature      TEXT,
    agent_id               TEXT,
    -- The token of the live claim. Only the answer of the claim contains it.
    lease_token            TEXT,
    -- The number of dependencies that are not completed. It only falls, because COMPLETED is final.
    open_dependencies      INTEGER NOT NULL,
    plan_version           INTEGER NOT NULL,
    revision               INTEGER NOT NULL,
    create_time            INTEGER NOT NULL,
    update_time            INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX tasks_by_plan ON tasks (run_key, ordinal);
CREATE INDEX tasks_by_status ON tasks (run_key, status, ordinal);
-- For claims: the ready tasks (status 1 is PENDING) in claim order.
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
    -- The token of the claim that opened the attempt, kept after its end to recognize a late holder. NULL if an
    -- orchestrator has recorded the attempt.
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
    -- The position of the run's newest event when the checkpoint was taken.
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

-- The answers to calls with a request_id, so that a duplicate request gets the same answer.
CREATE TABLE requests (
    key         INTEGER NOT NULL PRIMARY KEY,
    rpc         TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    -- SHA-256 of the content of the request.
    fingerprint BLOB    NOT NULL,
    -- 0: `answer` is the encoded response. 1: `answer` is an encoded google.rpc.Status, of a rejection that wrote an event.
    refused     INTEGER NOT NULL,
    answer      BLOB    NOT NULL,
    create_time INTEGER NOT NULL,
    UNIQUE (rpc, request_id)
) STRICT;

-- The completed imports, so that nothing is imported twice.
CREATE TABLE imports (
    -- SHA-256 of the imported content, in hexadecimal digits.
    digest      TEXT    NOT NULL PRIMARY KEY,
    -- The name of the importer.
    kind        TEXT    NOT NULL,
    run_count   INTEGER NOT NULL,
    create_time INTEGER NOT NULL
) STRICT;
