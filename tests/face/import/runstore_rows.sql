-- Rows as the INSERT statements of the class RunStore write them.
INSERT INTO runs (id, goal, repo_path, status, summary, cycle_count, replan_count, current_task_id, created_at, updated_at)
    VALUES ('run-1', 'Ship it', '/repo', 'planning', NULL, 0, 0, NULL, '2025-03-01T10:00:00.123Z', '2025-03-01T10:00:00.123Z');
INSERT INTO runs (id, goal, repo_path, status, summary, cycle_count, replan_count, current_task_id, created_at, updated_at)
    VALUES ('run-2', 'Another', '/repo', 'planning', NULL, 0, 0, NULL, '2025-03-02T10:00:00.000Z', '2025-03-02T10:00:00.000Z');
UPDATE runs SET status = 'running', summary = 'half way', current_task_id = 'task-b', cycle_count = 3, updated_at = '2025-03-01T11:00:00.000Z' WHERE id = 'run-1';

INSERT INTO events (run_id, ts, source, kind, message, payload_json)
    VALUES ('run-1', '2025-03-01T10:00:00.123Z', 'system', 'run_created', 'Run created.', '{"goal":"Ship it","repoPath":"/repo"}');
INSERT INTO events (run_id, ts, source, kind, message, payload_json)
    VALUES ('run-2', '2025-03-02T10:00:00.000Z', 'system', 'run_created', 'Run created.', '{"goal":"Another","repoPath":"/repo"}');
INSERT INTO events (run_id, ts, source, kind, message, payload_json)
    VALUES ('run-1', '2025-03-01T10:00:02.000Z', 'strategy', 'note', 'Look', '[1,"x",null]');
INSERT INTO events (run_id, ts, source, kind, message, payload_json)
    VALUES ('run-gone', '2025-03-01T10:00:03.000Z', 'strategy', 'note', 'Nobody', 'null');
INSERT INTO events (run_id, ts, source, kind, message, payload_json)
    VALUES ('run-1', '2025-03-01T12:00:00.000Z', 'checker', 'late_note', '', '{}');

INSERT INTO agents (run_id, role, session_id, turns, rotation_count, last_prompt_path, last_response_path, updated_at)
    VALUES ('run-1', 'strategy', 's-1', 4, 1, 'p.md', NULL, '2025-03-01T10:00:05.000Z');

INSERT INTO tasks (id, run_id, title, objective, acceptance_criteria_json, verification_steps_json, allowed_paths_json, status, attempt_count, implementation_summary, blocker_signature, created_at, updated_at)
    VALUES ('task-a', 'run-1', 'A', 'do a', '["it works"]', '[]', '["src/**"]', 'completed', 1, 'done', NULL, '2025-03-01T10:00:01.000Z', '2025-03-01T10:30:00.000Z'),
           ('task-b', 'run-1', 'B', 'do b', '[]', '[]', '[]', 'in_progress', 1, NULL, NULL, '2025-03-01T10:00:01.000Z', '2025-03-01T10:31:00.000Z'),
           ('task-c', 'run-1', 'C', 'do c', '[]', '[]', '[]', 'pending', 0, NULL, NULL, '2025-03-01T10:00:01.000Z', '2025-03-01T10:00:01.000Z');

INSERT INTO task_attempts (id, run_id, task_id, attempt_number, status, summary, blocker_signature, result_json, created_at)
    VALUES ('attempt-1', 'run-1', 'task-a', 1, 'blocked', 'no', 'sig', '{}', '2025-03-01T10:10:00.000Z'),
           ('attempt-2', 'run-1', 'task-a', 1, 'completed', 'yes', NULL, '{"ok":true}', '2025-03-01T10:20:00.000Z');

INSERT INTO artifacts (id, run_id, role, kind, path, created_at, metadata_json)
    VALUES ('artifact-1', 'run-1', 'checker', 'patch', 'a.patch', '2025-03-01T10:20:00.000Z', '{"lines":3}'),
           ('artifact-2', 'run-1', NULL, 'log', 'a.log', '2025-03-01T10:20:00.000Z', 'null');

INSERT INTO checkpoints (id, run_id, status, payload_json, created_at)
    VALUES ('checkpoint-1', 'run-1', 'running', '{"step":1}', '2025-03-01T11:00:00.000Z');

INSERT INTO approvals (id, run_id, source, verdict, rationale, payload_json, created_at)
    VALUES ('approval-1', 'run-1', 'checker', 'changes_requested', 'tests', '{}', '2025-03-01T10:25:00.000Z'),
           ('approval-2', 'run-1', 'human', 'approved', '', '{}', '2025-03-01T10:26:00.000Z');
