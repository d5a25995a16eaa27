-- What is in the way of a claim is looked for in claim order. Over all runs: in those that live, not in all there ever
-- were; 3 is PAUSED.
CREATE INDEX runs_paused ON runs (key) WHERE status = 3;
-- Beside tasks_ready, what is not: 1 is PENDING.
CREATE INDEX tasks_waiting ON tasks (run_key, priority DESC, ordinal) WHERE status = 1 AND open_dependencies > 0;
