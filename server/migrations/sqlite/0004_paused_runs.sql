-- For explaining a claim over all runs that finds nothing: only runs that have not ended are searched. 3 is PAUSED.
CREATE INDEX runs_paused ON runs (key) WHERE status = 3;
