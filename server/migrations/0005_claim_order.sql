-- If a claim finds no task, the server reads the pending tasks to explain the result. The index tasks_waiting contains
-- the pending tasks with open dependencies, in claim order. Status 1 is PENDING. The statement uses IF NOT EXISTS,
-- because an earlier version of migration 0004 also created the index.
CREATE INDEX IF NOT EXISTS tasks_waiting ON tasks (run_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies > 0;
