-- This migration adds the runs that the server is deleting in several transactions.

-- The runs for which DeleteRun was answered and whose rows the server has not deleted completely.
CREATE TABLE deleted_runs (
    run_key INTEGER NOT NULL PRIMARY KEY REFERENCES runs (key)
);

-- The runs that callers can see. Every statement that reads for a caller uses this view.
CREATE VIEW live_runs AS
SELECT * FROM runs r WHERE NOT EXISTS (SELECT 1 FROM deleted_runs d WHERE d.run_key = r.key);
