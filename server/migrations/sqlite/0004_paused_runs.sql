-- What is in the way of a claim over all runs is looked for in those that live, not in all there ever were: 3 is PAUSED.
CREATE INDEX runs_paused ON runs (key) WHERE status = 3;
