//! The primary crashes under load, and a standby takes its place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use runhub_test_postgres::Postgres;

use super::load::{Done, Load};
use super::{SERVERS, rounds, start_postgres};
use crate::support::database::TestDatabase;
use crate::support::fleet::Fleet;
use crate::support::print_figures;

const ROUNDS: usize = 1;
/// Longest time between the promotion of the standby and the first answer to a call that had waited. On a quiet machine,
/// the time is far shorter than a second.
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);

/// A primary and its standby, with servers that know the addresses of both.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    /// The database on the standby.
    database: TestDatabase,
    servers: Fleet,
}

impl Pair {
    fn start() -> Self {
        let primary = start_postgres();
        let name = primary.create_named_database();
        let standby = primary.start_standby();
        let hosts = format!("{},{}", primary.folder().display(), standby.folder().display());
        let url = format!("postgres://runhub@/{name}?host={hosts}&port=5432,5432");
        let database = TestDatabase::Postgres(standby.url(&name));
        let servers = Fleet::start(SERVERS, url);
        Self { primary, standby, database, servers }
    }

    /// Crashes the primary, and promotes the standby. Returns the time from the crash to the end of the promotion.
    fn fail_over(&self) -> Duration {
        let begun = Instant::now();
        self.primary.crash();
        if !self.standby.is_running() {
            self.standby.start_again();
        }
        self.standby.promote();
        begun.elapsed()
    }
}

/// A commit waits for the standby, so the standby has everything that was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn promotion_of_a_synchronous_standby_loses_nothing() {
    for _ in 0..rounds(ROUNDS) {
        let pair = Pair::start();
        pair.primary.wait_for_standby_in_commits();
        let load = Load::start(&pair.database, &pair.servers.addresses).await;
        load.go_on().await;
        let promotion = tokio::task::block_in_place(|| pair.fail_over());
        load.go_on().await;
        let done = load.stop().await;
        done.check(&pair.database);
        let positions = done.positions();
        let written = &done.written;
        print_figures(&format!(
            "synchronous standby: {} appends acknowledged, promotion {promotion:?}, longest call {:?}, {} streams",
            written.acknowledged.len(),
            written.longest,
            done.streams()
        ));
        assert!(jump(&positions).is_some(), "no event after the promotion");
        assert!(written.longest < promotion + LONGEST_RECOVERY, "{:?}", written.longest);
    }
}

/// The standby lacks the newest commits. Their positions must not be assigned again, because clients have seen them.
#[tokio::test(flavor = "multi_thread", worker_threads = 16)]
async fn promotion_of_an_outdated_standby_assigns_no_position_twice() {
    for _ in 0..rounds(ROUNDS) {
        let pair = Pair::start();
        let load = Load::start(&pair.database, &pair.servers.addresses).await;
        load.go_on().await;
        tokio::task::block_in_place(|| pair.standby.crash());
        load.go_on().await;
        let promotion = tokio::task::block_in_place(|| pair.fail_over());
        load.go_on().await;
        let done = load.stop().await;
        let lost = done.count_lost(&pair.database);
        let positions = done.positions();
        print_figures(&format!(
            "outdated standby: {} appends acknowledged, {lost} of them lost with the primary, promotion {promotion:?}",
            done.written.acknowledged.len(),
        ));
        assert!(lost > 0, "the standby was up to date, so the test proves nothing");
        assert!(jump(&positions).is_some(), "no event after the promotion");
        assert_streams_continue(&done, &positions);
    }
}

/// Returns the first position after the promotion, which is much higher than the position before it.
fn jump(positions: &BTreeMap<i64, String>) -> Option<i64> {
    let pairs = positions.keys().zip(positions.keys().skip(1));
    pairs.filter(|(before, after)| *after - *before > 1_000_000).map(|(_, after)| *after).next()
}

/// Each watcher gets events from before and after the promotion, in the order of their positions.
fn assert_streams_continue(done: &Done, positions: &BTreeMap<i64, String>) {
    let first_after = jump(positions).unwrap();
    for watcher in &done.watchers {
        let seen: Vec<i64> = watcher.parts.iter().flat_map(|part| part.events()).map(|event| event.position).collect();
        assert!(seen.is_sorted_by(|one, other| one < other), "a stream went back");
        assert!(seen.iter().any(|position| *position < first_after), "nothing from before the promotion");
        assert!(seen.iter().any(|position| *position >= first_after), "nothing from after the promotion");
    }
}
