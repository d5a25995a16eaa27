//! Plans whose tasks depend on each other and have paths.

use std::collections::BTreeMap;

use runhub_client::Client;
use runhub_client::v1::*;

use crate::support::calls::*;
use crate::support::random::Random;

const PATH_GROUPS: usize = 60;

/// Patterns of one folder. Each matches `gN/f.rs`, so any two of a folder overlap, and none of two folders do.
const PATTERNS: [&str; 5] = ["gN", "gN/**", "gN/*.rs", "gN/f*", "gN/?.rs"];

/// Returns a plan with `tasks` tasks, of which one in a hundred permits only two attempts.
pub fn generate_plan(tasks: usize, random: &mut Random) -> Vec<TaskDraft> {
    (0..tasks)
        .map(|at| {
            let depends_on =
                (0..random.below(3)).filter(|_| at > 0).map(|_| random.below(at.min(200))).collect::<Vec<_>>();
            // Dependencies reach back at most 200 tasks, so that a blocked task holds up only a part of the plan.
            let depends_on = depends_on.into_iter().map(|back| format!("k{}", at - 1 - back));
            let pattern = PATTERNS[random.below(PATTERNS.len())].replace('N', &random.below(PATH_GROUPS).to_string());
            TaskDraft {
                key: format!("k{at}"),
                title: format!("task {at}"),
                depends_on: depends_on.collect(),
                allowed_paths: if random.percent(50) { vec![pattern] } else { vec![] },
                priority: i32::try_from(random.below(3)).unwrap(),
                max_attempts: if random.percent(1) { 2 } else { 0 },
                ..unset()
            }
        })
        .collect()
}

/// Adds the plan in calls of 1,000 tasks. A dependency on a task of an earlier call is given by id.
pub async fn add_plan(client: &Client, run_id: &str, drafts: Vec<TaskDraft>) {
    let mut ids = BTreeMap::new();
    for chunk in drafts.chunks(1_000) {
        let mut chunk = chunk.to_vec();
        for name in chunk.iter_mut().flat_map(|draft| &mut draft.depends_on) {
            if let Some(id) = ids.get(name) {
                String::clone_from(name, id);
            }
        }
        let keys: Vec<String> = chunk.iter().map(|draft| draft.key.clone()).collect();
        let added = add_tasks(client, run_id, chunk).await;
        ids.extend(keys.into_iter().zip(added.into_iter().map(|task| task.id)));
    }
}
