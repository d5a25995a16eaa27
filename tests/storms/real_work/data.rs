//! The data: recorded if it is available, else generated.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::real_work;

/// A ledger, and its known figures.
pub struct Ledger {
    pub file: PathBuf,
    pub tasks: usize,
    pub completed: usize,
    pub blocked: usize,
    pub dependencies: usize,
    pub claimable: usize,
}

impl Ledger {
    /// Returns the recorded ledger, or generates one in the folder.
    pub fn find(folder: &Path) -> Self {
        match real_work() {
            Some(data) => {
                let file = data.join("beads/issues.jsonl");
                Self { file, tasks: 704, completed: 403, blocked: 291, dependencies: 356, claimable: 10 }
            }
            None => Self::make(folder),
        }
    }

    /// Generates layers of ten issues, of which the first two are completed. Each issue depends on two of the layer
    /// before. An open epic waits for an issue of the second open layer, and has an open child. One issue is in progress,
    /// one is a wisp, one is deleted.
    fn make(folder: &Path) -> Self {
        let mut lines = Vec::new();
        for layer in 0..LAYERS {
            for at in 0..WIDTH {
                let on = [at, (at + 1) % WIDTH].map(|other| format!("m-{}-{other}", layer.wrapping_sub(1)));
                let links = on.map(|id| json!({ "depends_on_id": id, "type": "blocks" }));
                let links = if layer == 0 { json!([]) } else { json!(links) };
                let status = if layer < DONE { "closed" } else { "open" };
                let title = format!("{layer}.{at}");
                let id = format!("m-{layer}-{at}");
                lines.push(
                    json!({ "id": id, "title": title, "status": status, "issue_type": "task", "dependencies": links }),
                );
            }
        }
        let blockers = json!([{ "depends_on_id": format!("m-{}-0", DONE + 1), "type": "blocks" }]);
        lines.extend([
            json!({ "id": "epic", "title": "epic", "status": "open", "issue_type": "epic", "dependencies": blockers }),
            json!({ "id": "child", "title": "child", "status": "open", "issue_type": "task", "parent": "epic" }),
            json!({ "id": "held", "title": "held", "status": "in_progress", "issue_type": "task" }),
            json!({ "id": "wisp", "title": "wisp", "status": "open", "issue_type": "task", "ephemeral": true }),
            json!({ "id": "deleted", "title": "deleted", "status": "tombstone", "issue_type": "task" }),
        ]);
        let file = folder.join("issues.jsonl");
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        fs::write(&file, lines.join("\n")).unwrap();
        // The epic and its child depend on the same issue.
        let dependencies = (LAYERS - 1) * WIDTH * 2 + 2;
        Self { file, tasks: LAYERS * WIDTH + 4, completed: DONE * WIDTH, blocked: 3, dependencies, claimable: WIDTH }
    }
}

const LAYERS: usize = 40;
const WIDTH: usize = 10;
const DONE: usize = 2;

/// Returns the steps of each recording.
pub fn recorded_steps() -> Vec<Vec<Value>> {
    let Some(data) = real_work() else { return vec![made_steps()] };
    let mut recordings = Vec::new();
    for entry in fs::read_dir(data.join("trajectories")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let recording: Value = serde_json::from_str(&text).unwrap();
        let steps = recording["trajectory"].as_array().unwrap().clone();
        assert!(!steps.is_empty());
        recordings.push(steps);
    }
    assert_eq!(recordings.len(), 3);
    recordings
}

fn made_steps() -> Vec<Value> {
    let step = |at: i32| json!({ "thought": format!("step {at}\n\u{1b}[1m"), "state": { "at": at, "open": null }, "time": 0.1 });
    (0..50).map(step).collect()
}
