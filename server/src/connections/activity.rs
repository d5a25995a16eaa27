//! This module records the activity on a connection, so that the server can close the connections of clients that use
//! the server's resources without making calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::frames::Frames;

/// Interval at which the server looks at each connection. A client has between one and two intervals (5 to 10 s) to
/// complete the start of a connection, a frame, or the headers of a call.
const INTERVAL: Duration = Duration::from_secs(5);
/// Number of intervals (30 s) in which a client must accept some of the data that the server has for the client. Linux
/// reports accepted data only when a third of the socket's send buffer is free, so a client that reads only some
/// kilobytes per second from a large buffer can be late too.
const UNREAD_INTERVALS: u32 = 6;
/// Maximum number of small frames that a client may send within `INTERVAL` without making a call and without receiving
/// a part of a response. The limit is far above the needs of clients: a client that makes 1,024 calls at once sends
/// about 1,024 small frames after the calls, and a client that receives a part of a response sends about two frames.
const MAX_FRAMES_WITHOUT_CALL: u32 = 10_000;

/// The activity on one connection.
pub struct Activity {
    /// Number of frames that the client has completed.
    frames: AtomicU64,
    /// Number of small frames since the client last made a call or received a part of a response, or since the latest
    /// interval began.
    frames_without_call: AtomicU32,
    /// Whether the start of the connection, a frame or the headers of a call are incomplete.
    is_incomplete: AtomicBool,
    /// Number of times that the server has written bytes to the connection.
    writes: AtomicU64,
    /// Whether the server waits until the client reads, before the server can write more bytes.
    is_write_blocked: AtomicBool,
    /// Whether the client has made a call.
    is_used: AtomicBool,
    /// Number of calls and streams that are open.
    open_calls: AtomicU32,
    eviction: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            frames: AtomicU64::new(0),
            frames_without_call: AtomicU32::new(0),
            // A new connection is incomplete until its client has sent the start of the connection.
            is_incomplete: AtomicBool::new(true),
            writes: AtomicU64::new(0),
            is_write_blocked: AtomicBool::new(false),
            is_used: AtomicBool::new(false),
            open_calls: AtomicU32::new(0),
            eviction: Notify::new(),
        }
    }
}

/// A call or a stream that is open.
pub struct OpenCall(Arc<Activity>);

impl OpenCall {
    /// Returns the activity on the connection of the call.
    pub fn activity(&self) -> &Activity {
        &self.0
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.0.open_calls.fetch_sub(1, Relaxed);
    }
}

/// The reason why the server closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The client did not complete the start of the connection, a frame, or the headers of a call in time.
    #[error("the client did not complete the start of the connection, a frame or the headers of a call in time")]
    Incomplete,
    /// The client did not read.
    #[error("the client accepted no data for {} s", (UNREAD_INTERVALS * INTERVAL).as_secs())]
    Unread,
    /// The server closed the connection to accept a new connection.
    #[error("the server has too many connections, and this connection has no open call")]
    Evicted,
    /// The client sent too many small frames without making a call.
    #[error("the client sent more than {MAX_FRAMES_WITHOUT_CALL} small frames without making a call")]
    FramesWithoutCall,
}

impl Activity {
    /// Records what the client has sent. Fails if the client has sent too many small frames without making a call.
    pub fn record_received(&self, frames: &Frames, is_incomplete: bool) -> Result<(), CloseReason> {
        self.is_incomplete.store(is_incomplete, Relaxed);
        self.frames.fetch_add(u64::from(frames.count), Relaxed);
        if frames.calls > 0 {
            self.is_used.store(true, Relaxed);
            self.frames_without_call.store(0, Relaxed);
            return Ok(());
        }
        let frames_without_call =
            self.frames_without_call.fetch_add(frames.small, Relaxed).saturating_add(frames.small);
        if frames_without_call > MAX_FRAMES_WITHOUT_CALL { Err(CloseReason::FramesWithoutCall) } else { Ok(()) }
    }

    /// Records that the server sends a part of a response. The client may answer with frames, so these frames do
    /// not count as frames without a call.
    pub fn record_sent(&self) {
        self.frames_without_call.store(0, Relaxed);
    }

    /// Records that the server has written bytes to the connection, or that the server can't write because the client
    /// does not read.
    pub fn record_write(&self, is_blocked: bool) {
        self.is_write_blocked.store(is_blocked, Relaxed);
        if !is_blocked {
            self.writes.fetch_add(1, Relaxed);
        }
    }

    /// Returns whether the client has made a call on the connection.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Relaxed)
    }

    /// Counts a call as open until the returned value is dropped.
    pub fn open_call(self: &Arc<Self>) -> OpenCall {
        self.open_calls.fetch_add(1, Relaxed);
        OpenCall(Arc::clone(self))
    }

    /// Returns whether no call or stream is open.
    pub fn is_idle(&self) -> bool {
        self.open_calls.load(Relaxed) == 0
    }

    /// Asks the task of the connection to close the connection.
    pub fn evict(&self) {
        self.eviction.notify_one();
    }

    /// Waits until the server must close the connection, and returns the reason.
    pub async fn wait_for_close(&self) -> CloseReason {
        tokio::select! {
            reason = self.wait_until_late() => reason,
            () = self.eviction.notified() => CloseReason::Evicted,
        }
    }

    /// Waits until a part of the connection has been incomplete for a whole interval in which the client has completed
    /// no frame, or until the client has read nothing for `UNREAD_INTERVALS`.
    async fn wait_until_late(&self) -> CloseReason {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut incomplete = Stall::default();
        let mut unread = Stall::default();
        loop {
            ticks.tick().await;
            self.frames_without_call.store(0, Relaxed);
            let is_incomplete = self.is_incomplete.load(Relaxed);
            if incomplete.count_intervals(is_incomplete, self.frames.load(Relaxed)) == 1 {
                return CloseReason::Incomplete;
            }
            let is_write_blocked = self.is_write_blocked.load(Relaxed);
            if unread.count_intervals(is_write_blocked, self.writes.load(Relaxed)) == UNREAD_INTERVALS {
                return CloseReason::Unread;
            }
        }
    }
}

/// Counts the intervals in which a client must make progress and makes none.
#[derive(Default)]
struct Stall {
    /// The progress at the end of the latest interval. If the client did not have to make progress, the value is None.
    before: Option<u64>,
    intervals: u32,
}

impl Stall {
    /// Returns the number of intervals without progress, after one more interval. `must_progress` states whether the
    /// client must make progress now.
    fn count_intervals(&mut self, must_progress: bool, progress: u64) -> u32 {
        let now = Some(progress).filter(|_| must_progress);
        self.intervals = if now.is_some() && now == self.before { self.intervals + 1 } else { 0 };
        self.before = now;
        self.intervals
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    const PING: Frames = Frames { count: 1, calls: 0, small: 1 };
    const CALL: Frames = Frames { count: 1, calls: 1, small: 1 };

    #[test]
    fn calls_and_sent_responses_allow_further_frames() {
        let activity = Activity::default();
        let fill = || (0..MAX_FRAMES_WITHOUT_CALL).all(|_| activity.record_received(&PING, false).is_ok());
        assert!(fill() && !activity.is_used());
        assert_eq!(activity.record_received(&CALL, false), Ok(()));
        assert!(fill() && activity.is_used());
        activity.record_sent();
        assert!(fill());
        assert_eq!(activity.record_received(&PING, false), Err(CloseReason::FramesWithoutCall));
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_completes_nothing_is_late_after_two_intervals() {
        let activity = Activity::default();
        let start = Instant::now();
        assert_eq!(activity.wait_for_close().await, CloseReason::Incomplete);
        assert_eq!(start.elapsed(), 2 * INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_and_progressing_clients_are_never_late() {
        let activity = Activity::default();
        activity.record_received(&PING, false).unwrap();
        assert!(timeout(20 * INTERVAL, activity.wait_for_close()).await.is_err());
        let progress = async {
            for _ in 0..20 {
                activity.record_received(&PING, true).unwrap();
                tokio::time::sleep(INTERVAL / 2).await;
            }
        };
        tokio::select! {
            () = progress => {}
            reason = activity.wait_for_close() => panic!("closed: {reason}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pings_at_a_low_rate_are_allowed_forever() {
        let activity = Activity::default();
        let pings = async {
            for _ in 0..100 {
                (0..MAX_FRAMES_WITHOUT_CALL / 4).for_each(|_| activity.record_received(&PING, false).unwrap());
                tokio::time::sleep(INTERVAL / 2).await;
            }
        };
        tokio::select! {
            () = pings => {}
            reason = activity.wait_for_close() => panic!("closed: {reason}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_reads_nothing_is_late_and_slow_client_is_not() {
        let activity = Activity::default();
        activity.record_received(&PING, false).unwrap();
        let slow = async {
            for _ in 0..20 {
                activity.record_write(false);
                activity.record_write(true);
                tokio::time::sleep((UNREAD_INTERVALS - 1) * INTERVAL).await;
            }
        };
        tokio::select! {
            () = slow => {}
            reason = activity.wait_for_close() => panic!("closed: {reason}"),
        }
        let start = Instant::now();
        assert_eq!(activity.wait_for_close().await, CloseReason::Unread);
        assert_eq!(start.elapsed(), (UNREAD_INTERVALS + 1) * INTERVAL);
    }
}
