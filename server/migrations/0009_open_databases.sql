-- Whether a server has opened the database and has not closed it. If the value is 1 in the database file, the newest
-- commits are in the write-ahead log.
ALTER TABLE counters ADD COLUMN is_open INTEGER NOT NULL DEFAULT 0;
