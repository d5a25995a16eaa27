-- The header of the database file tells whether a server has the database open. The write-ahead log must not contain
-- the mark, because the mark tells whether the log belongs to the file.
ALTER TABLE counters DROP COLUMN is_open;
