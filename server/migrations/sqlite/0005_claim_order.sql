-- For explaining a claim that finds nothing: the pending tasks that are not in tasks_ready, in claim order; 1 is PENDING.
-- An earlier form of 0004 made this index as well, hence IF NOT EXISTS.
CREATE INDEX IF NOT EXISTS tasks_waiting ON tasks (run_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies > 0;
