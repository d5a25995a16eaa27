//! This module ends the responses that a client does not read. HTTP/2 lets a client stop the server from sending a
//! response for any time, so without this module a client could keep responses in the server's memory forever.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

/// Maximum time for which a response waits until the client reads a part of it. After this time, the server resets the
/// call.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// The parts of a response that the server has begun to send.
#[derive(Default)]
struct Progress {
    parts: AtomicU32,
    has_more: AtomicBool,
}

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// Records, in the Tokio task of a call, that the server begins to send a part of the response. `has_more` states
/// whether more parts follow. If the client then reads nothing, the executor ends the task.
pub fn record_part(has_more: bool) {
    // Ignore the error. Outside a connection, as in some tests, there is no progress to record.
    let _ = PROGRESS.try_with(|progress| {
        progress.parts.fetch_add(1, Relaxed);
        progress.has_more.store(has_more, Relaxed);
    });
}

/// The executor of the calls of a connection. The executor ends the Tokio task of a call whose response is not read.
#[derive(Clone)]
pub struct CallExecutor;

impl<F> Executor<F> for CallExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        tokio::spawn(TimedCall { call, progress: Arc::default(), deadline: None });
    }
}

pin_project! {
    /// A call that ends when the client does not read the call's response.
    struct TimedCall<F> {
        #[pin]
        call: F,
        progress: Arc<Progress>,
        deadline: Option<(u32, Pin<Box<Sleep>>)>,
    }
}

impl<F: Future<Output = ()>> Future for TimedCall<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<()> {
        let this = self.project();
        let call = this.call;
        if PROGRESS.sync_scope(Arc::clone(this.progress), || call.poll(context)).is_ready() {
            return Poll::Ready(());
        }
        if !this.progress.has_more.load(Relaxed) {
            return Poll::Pending;
        }
        let parts = this.progress.parts.load(Relaxed);
        let (parts_before, timer) = this.deadline.get_or_insert_with(|| (parts, Box::pin(sleep(UNREAD_TIMEOUT))));
        if *parts_before != parts {
            *parts_before = parts;
            timer.as_mut().reset(Instant::now() + UNREAD_TIMEOUT);
        }
        let timed_out = timer.as_mut().poll(context);
        if timed_out.is_ready() {
            tracing::debug!(timeout_s = UNREAD_TIMEOUT.as_secs(), "resetting a call whose response is not read");
        }
        timed_out
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::sync::oneshot;

    use super::*;

    /// Runs a call that sends `parts` parts, one every 20 s, and then waits forever. Returns the time after which the
    /// executor ended the call.
    async fn time_until_end(parts: u32) -> Duration {
        let start = Instant::now();
        let (running, ended) = oneshot::channel::<()>();
        CallExecutor.execute(async move {
            for _ in 0..parts {
                record_part(true);
                sleep(Duration::from_secs(20)).await;
            }
            record_part(true);
            pending::<()>().await;
            drop(running);
        });
        ended.await.unwrap_err();
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn call_ends_when_no_part_of_its_response_is_read() {
        assert_eq!(time_until_end(0).await, UNREAD_TIMEOUT);
        assert_eq!(time_until_end(5).await, Duration::from_secs(100) + UNREAD_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn call_that_has_sent_nothing_or_everything_continues() {
        for has_sent in [false, true] {
            let (done, ended) = oneshot::channel();
            CallExecutor.execute(async move {
                if has_sent {
                    record_part(true);
                    record_part(false);
                }
                sleep(20 * UNREAD_TIMEOUT).await;
                done.send(()).unwrap();
            });
            ended.await.unwrap();
        }
        poll_fn(|_| Poll::Ready(())).await;
    }
}
