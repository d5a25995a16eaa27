-- If a claim over all runs finds no task, the server reads the runs that have not ended to explain the result. The
-- index runs_paused contains the PAUSED runs (status 3).
CREATE INDEX runs_paused ON runs (key) WHERE status = 3;
