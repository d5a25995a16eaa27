-- This migration lets the server continue durations when the clock of the machine is set. The server moves the ends of
-- leases, grace periods, retry delays and ttls by the step of the clock. A time that a caller passed as a time stays
-- unchanged.

-- If the server computed not_before_time from the retry_delay of a failed attempt, the value is 1. Otherwise, the value
-- is 0.
ALTER TABLE tasks ADD COLUMN has_retry_delay INTEGER NOT NULL DEFAULT 0;
-- A delayed task that was attempted before has a retry delay, because a delay that the planner set has ended before the
-- first attempt. Status 1 is PENDING.
UPDATE tasks SET has_retry_delay = 1 WHERE status = 1 AND is_delayed = 1 AND attempt_count > 0;

-- If the server computed expire_time from the ttl of the request, the value is 1. Otherwise, the value is 0. For older
-- approvals the server does not know the ttl.
ALTER TABLE approvals ADD COLUMN has_ttl INTEGER NOT NULL DEFAULT 0;

-- The time of the newest commit, in microseconds since the Unix epoch. If the server starts at an earlier time, the
-- clock was set back while no server ran.
ALTER TABLE counters ADD COLUMN last_commit_time INTEGER NOT NULL DEFAULT 0;
