//! This module runs the scenarios that every client must pass, with the Rust client against the real binary.

use std::path::{Path, PathBuf};

use runhub_scenarios::{Scenario, TestServer, run_scenario};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/scenarios");

macro_rules! scenarios {
    ($($name:ident)+) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                passes(stringify!($name)).await;
            }
        )+

        #[test]
        fn every_scenario_is_run() {
            let entries = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
            let files = entries.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
            let mut files: Vec<PathBuf> = files.collect();
            files.sort();
            assert_eq!(files, [$(file(stringify!($name)),)+]);
        }
    };
}

scenarios! {
    approval
    bad_input
    lease_kept
    lease_lost
    lost_answer
    one_run_many_languages
    plan_and_drain
    replan_under_a_worker
    stale_completion
    two_restarts
}

fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name).with_extension("json")
}

async fn passes(name: &str) {
    let test_server = TestServer::open(Path::new(env!("CARGO_BIN_EXE_runhub")), None).await.unwrap();
    let scenario = Scenario::read(&file(name)).unwrap();
    if let Err(why) = run_scenario(&scenario, None, &test_server.into()).await {
        panic!("{}: {why:#}", scenario.about);
    }
}
