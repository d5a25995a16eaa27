//! The operations. A number picks a thing by its index, modulo the number of things.

use proptest::prelude::*;

#[derive(Debug, Clone)]
pub enum Op {
    /// Adds tasks to a run.
    Add {
        run: usize,
        tasks: Vec<NewTask>,
    },
    Replace {
        run: usize,
        tasks: Vec<NewTask>,
        keep: bool,
    },
    /// Claims a task of a run, or of any run for None.
    Claim {
        run: Option<usize>,
        able: bool,
        seconds: i64,
    },
    Beat {
        token: usize,
        seconds: Option<i64>,
    },
    Complete {
        task: usize,
        caller: Caller,
    },
    Fail {
        token: usize,
        delay: Option<i64>,
        signed: bool,
    },
    Release {
        token: usize,
    },
    Block {
        task: usize,
        caller: Caller,
    },
    Abandon {
        task: usize,
        caller: Caller,
    },
    Requeue {
        task: usize,
    },
    RequeueAll {
        run: usize,
    },
    Pause {
        run: usize,
    },
    Resume {
        run: usize,
    },
    Cancel {
        run: usize,
        grace: Option<i64>,
    },
    SetStatus {
        run: usize,
        status: i32,
    },
    Ask {
        run: usize,
        policy: i32,
        seconds: Option<i64>,
    },
    Decide {
        approval: usize,
        verdict: i32,
    },
    CancelApproval {
        approval: usize,
    },
    Consume {
        approval: usize,
        right: bool,
    },
    /// Advances the clock by this many milliseconds.
    Advance(u64),
}

/// The caller that reports on a task.
#[derive(Debug, Clone, Copy)]
pub enum Caller {
    Operator,
    /// The holder of one of the newest tokens, for the token's task.
    Newest,
    /// The holder of an older token.
    Older,
}

#[derive(Debug, Clone)]
pub struct NewTask {
    /// Distances back in the run's plan. A distance beyond its beginning is ignored.
    pub depends_on: Vec<usize>,
    /// Folder of the task: 0 and 1 are disjoint, 2 overlaps with both.
    pub path: Option<u8>,
    pub priority: i32,
    pub max_attempts: i32,
    pub needs_ability: bool,
    /// Seconds from now.
    pub not_before: Option<i64>,
}

fn new_task() -> impl Strategy<Value = NewTask> {
    (
        proptest::collection::vec(0..6_usize, 0..3),
        proptest::option::weighted(0.6, 0..3_u8),
        0..3_i32,
        prop_oneof![2 => Just(0), 1 => 1..3_i32],
        proptest::bool::weighted(0.2),
        proptest::option::weighted(0.15, 1..20_i64),
    )
        .prop_map(|(depends_on, path, priority, max_attempts, needs_ability, not_before)| NewTask {
            depends_on,
            path,
            priority,
            max_attempts,
            needs_ability,
            not_before,
        })
}

fn caller() -> impl Strategy<Value = Caller> {
    prop_oneof![4 => Just(Caller::Newest), 2 => Just(Caller::Operator), 1 => Just(Caller::Older)]
}

const ANY: std::ops::Range<usize> = 0..64;

pub fn op() -> impl Strategy<Value = Op> {
    let run = || 0..2_usize;
    let tasks = || proptest::collection::vec(new_task(), 1..4);
    let plans = prop_oneof![
        4 => (run(), tasks()).prop_map(|(run, tasks)| Op::Add { run, tasks }),
        1 => (run(), tasks(), any::<bool>()).prop_map(|(run, tasks, keep)| Op::Replace { run, tasks, keep }),
    ];
    let leases = prop_oneof![
        5 => (proptest::option::of(run()), any::<bool>(), 1..20_i64)
            .prop_map(|(run, able, seconds)| Op::Claim { run, able, seconds }),
        3 => (ANY, proptest::option::of(1..20_i64)).prop_map(|(token, seconds)| Op::Beat { token, seconds }),
    ];
    let reports = prop_oneof![
        4 => (ANY, caller()).prop_map(|(task, caller)| Op::Complete { task, caller }),
        2 => (ANY, proptest::option::of(1..20_i64), any::<bool>())
            .prop_map(|(token, delay, signed)| Op::Fail { token, delay, signed }),
        1 => ANY.prop_map(|token| Op::Release { token }),
        1 => (ANY, caller()).prop_map(|(task, caller)| Op::Block { task, caller }),
        1 => (ANY, caller()).prop_map(|(task, caller)| Op::Abandon { task, caller }),
        2 => ANY.prop_map(|task| Op::Requeue { task }),
    ];
    let control = prop_oneof![
        1 => run().prop_map(|run| Op::RequeueAll { run }),
        2 => run().prop_map(|run| Op::Pause { run }),
        3 => run().prop_map(|run| Op::Resume { run }),
        1 => (run(), proptest::option::of(0..20_i64)).prop_map(|(run, grace)| Op::Cancel { run, grace }),
        // RUNNING, BLOCKED and COMPLETED.
        2 => (run(), prop_oneof![3 => Just(2), 1 => Just(4), 1 => Just(6)])
            .prop_map(|(run, status)| Op::SetStatus { run, status }),
    ];
    let approvals = prop_oneof![
        2 => (run(), 0..5_i32, proptest::option::of(1..20_i64))
            .prop_map(|(run, policy, seconds)| Op::Ask { run, policy, seconds }),
        3 => (ANY, prop_oneof![2 => Just(2), 1 => 3..5_i32]).prop_map(|(approval, verdict)| Op::Decide { approval, verdict }),
        1 => ANY.prop_map(|approval| Op::CancelApproval { approval }),
        2 => (ANY, proptest::bool::weighted(0.7)).prop_map(|(approval, right)| Op::Consume { approval, right }),
    ];
    let time = prop_oneof![3 => 1..4_000_u64, 1 => 4_000..20_000_u64].prop_map(Op::Advance);
    prop_oneof![3 => plans, 9 => leases, 8 => reports, 3 => control, 3 => approvals, 5 => time]
}
