//! A server that does not hear of the commits of other servers learns of them in another way.

use std::time::{Duration, Instant};

use runhub_client::v1::*;

use super::{CUT_NOTIFICATIONS, SERVERS, start_postgres};
use crate::support::calls::*;
use crate::support::fleet::Fleet;
use crate::support::{print_figures, soon};

const ROUNDS: usize = 10;

/// A claim waits on one server, and another server adds the task while nobody receives notifications.
#[tokio::test(flavor = "multi_thread")]
async fn waiting_claim_is_woken_after_its_notification_is_lost() {
    let postgres = start_postgres();
    let servers = Fleet::start(SERVERS, postgres.create_database());
    let one = servers.connect(0).await;
    let other = servers.connect(1).await;
    let run = new_run(&one).await;
    let mut longest = Duration::ZERO;
    for _ in 0..ROUNDS {
        let waiting = ClaimTaskRequest { wait: seconds(60), ..claim_request(&run.id, "waiting") };
        let client = other.clone();
        let waiting = tokio::spawn(async move { client.claim_task(waiting).await.unwrap().claim.unwrap() });
        // Usually, the claim waits by then. If not, it finds the task at once.
        tokio::time::sleep(Duration::from_millis(50)).await;
        postgres.run_sql("postgres", CUT_NOTIFICATIONS);
        add_task(&one, &run.id, draft("t")).await;
        let begun = Instant::now();
        let claim = soon(waiting).await.unwrap();
        longest = longest.max(begun.elapsed());
        complete(&other, &claim).await;
    }
    print_figures(&format!("woken without a notification: longest {longest:?}"));
}
