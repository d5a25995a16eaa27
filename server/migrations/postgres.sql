-- This file adds the tables and columns that only PostgreSQL needs, because several servers can use one PostgreSQL
-- database. The server applies the file once, after the numbered files, when the server creates the tables.

-- The number of the last migration that was applied. A server locks the row before each transaction, so a server learns
-- from the row that a newer server has migrated the database.
ALTER TABLE counters ADD COLUMN schema_version INTEGER NOT NULL DEFAULT 0;
-- The timeline of the database when a server last connected. A new timeline means that a standby was promoted, which may
-- not have the newest transactions. Empty if the database has no timelines.
ALTER TABLE counters ADD COLUMN timeline TEXT NOT NULL DEFAULT '';

-- The servers that use the database. A server that has ended without removing its row has an old alive_time, by the
-- clock of the database.
CREATE TABLE servers (
    -- A UUIDv7, which the server generates when it starts.
    id         TEXT    NOT NULL PRIMARY KEY,
    -- The address at which clients reach the server, or NULL if nobody has configured it.
    address    TEXT,
    version    TEXT    NOT NULL,
    -- The number of the server's newest committed transaction. If the result of a commit is lost, the server looks here
    -- whether the transaction was committed.
    last_group INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    alive_time INTEGER NOT NULL
) STRICT;

-- The roles that only one server has at a time. A server loses a role a second after it has renewed the role last.
CREATE TABLE roles (
    name       TEXT    NOT NULL PRIMARY KEY,
    -- The id of the server that has the role.
    server_id  TEXT    NOT NULL,
    -- The time of the last renewal, by the clock of the database.
    renew_time INTEGER NOT NULL
) STRICT;
