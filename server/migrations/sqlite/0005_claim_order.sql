-- What is in the way of a claim is looked for in claim order: beside tasks_ready, in what is not; 1 is PENDING. For a while
-- 0004 made it too.
CREATE INDEX IF NOT EXISTS tasks_waiting ON tasks (run_key, priority DESC, ordinal)
    WHERE status = 1 AND open_dependencies > 0;
