//! The one writer: a thread that owns the writing connection and commits in groups.
//!
//! It takes all the waiting bodies, runs them one after the other in one transaction, commits, then answers all: as many
//! calls as are waiting share one fsync.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use super::counters::{self, Counters};
use super::queue::Queue;
use super::sqlite::{Counted, OpenError, SqliteTx, sql_error};
use super::{JobOptions, Limit, Listener, Signal, Tx};
use crate::clock::{Clock, Ids};
use crate::error::{Error, Result};

/// More than this in one transaction would only make the first of them wait, and whoever comes next: no more a second
/// are committed then.
const LARGEST_GROUP: Limit = Limit { rows: 128, bytes: 1024 * 1024 };

/// How often a group is undone at most because somebody has left meanwhile.
const LOOKS: usize = 2;

/// The handle of the writer thread.
pub(super) struct Writer {
    queue: Arc<Queue<Box<dyn Job>>>,
    growth: watch::Receiver<i64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread.
    pub fn start(
        conn: Connection,
        clock: Arc<dyn Clock>,
        counters: Counters,
        listener: Listener,
    ) -> Result<Self, OpenError> {
        let queue = Arc::new(Queue::new());
        let waiting = Arc::clone(&queue);
        let counted = Counted { position: counters.last_position, key: counters.last_key };
        let (grown, growth) = watch::channel(counted.position);
        let (answers, done) = mpsc::unbounded_channel();
        tokio::spawn(answer_all(done));
        let group = Group { conn, clock, ids: Ids::new(), counted: Cell::new(counted), grown, listener, answers };
        let thread = std::thread::Builder::new().name("writer".to_owned()).spawn(move || group.serve(&waiting));
        let thread = thread.map_err(|cause| OpenError::at("the writer thread".as_ref(), cause))?;
        Ok(Self { queue, growth, thread: Mutex::new(Some(thread)) })
    }

    /// Runs a body in the next group and waits for its commit.
    pub async fn transact<T, F>(&self, ticket: JobOptions, body: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(&mut dyn Tx) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Call { body, outcome: None, reply };
        self.queue.push(Box::new(job), ticket)?;
        // Dropped unanswered: the thread or the runtime is gone.
        answer.await.unwrap_or(Err(Error::Draining))
    }

    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    pub fn log_growth(&self) -> watch::Receiver<i64> {
        self.growth.clone()
    }

    /// Waits until all that was taken is committed.
    pub async fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

/// A store that is dropped without having been closed ends its thread too.
impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// However the thread ends, nobody waits for it any more.
struct Ending<'a>(&'a Queue<Box<dyn Job>>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the writer has ended: nothing is written any more until the server is started again");
        }
        self.0.abandon();
    }
}

/// A waiting call, whatever it returns.
trait Job: Send {
    /// Somebody still waits for the answer.
    fn is_wanted(&self) -> bool;
    /// Runs the body and keeps what it returns; says whether that is to be committed.
    fn run(&mut self, tx: &mut dyn Tx) -> bool;
    /// Its body has run, and what it did is to be committed.
    fn has_done(&self) -> bool;
    /// Replaces what the body returned.
    fn fail(&mut self, error: Error);
    /// Gives the answer.
    fn answer(self: Box<Self>);
}

struct Call<T, F> {
    body: F,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Job for Call<T, F>
where
    T: Send,
    F: Fn(&mut dyn Tx) -> Result<T> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run(&mut self, tx: &mut dyn Tx) -> bool {
        // A panic is one call's bug: the writer lives on, and what was half done is undone.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.body)(tx)));
        let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("a body panicked")));
        self.outcome.insert(outcome).is_ok()
    }

    fn has_done(&self) -> bool {
        matches!(self.outcome, Some(Ok(_)))
    }

    fn fail(&mut self, error: Error) {
        self.outcome = Some(Err(error));
    }

    fn answer(self: Box<Self>) {
        if let Some(outcome) = self.outcome {
            // Nobody may be waiting any more; it is committed all the same.
            let _ = self.reply.send(outcome);
        }
    }
}

/// Gives the answers of whole groups. The writer thread waiters one task for each group, not one for each call: to wake
/// a task from outside the runtime takes as long as some of the calls.
async fn answer_all(mut groups: mpsc::UnboundedReceiver<Vec<Box<dyn Job>>>) {
    while let Some(group) = groups.recv().await {
        group.into_iter().for_each(Job::answer);
    }
}

/// Why a group was not committed.
enum Failure {
    /// A body's own statement made SQLite undo everything (a full disk, say); its error is its answer.
    InBody,
    /// Somebody it was run for is gone.
    Unwanted,
    /// A body failed after it had written something, and what it wrote could not be undone alone.
    HalfDone,
    /// It could not begin or not commit.
    Around(Error),
}

/// How a group is run.
#[derive(Debug, Clone, Copy)]
struct Pass {
    /// What a body wrote before it failed can be undone alone. Otherwise that undoes the group: hardly any body fails
    /// then, and a savepoint for each took a third of this thread's time, most of it for copies of pages.
    with_savepoints: bool,
    /// How often it may still be undone because somebody has left meanwhile.
    looks: usize,
}

/// What the bodies of a group have said.
#[derive(Default)]
struct Said {
    has_written: bool,
    signals: Vec<Signal>,
}

/// What the thread owns.
struct Group {
    conn: Connection,
    clock: Arc<dyn Clock>,
    ids: Ids,
    counted: Cell<Counted>,
    grown: watch::Sender<i64>,
    listener: Listener,
    answers: mpsc::UnboundedSender<Vec<Box<dyn Job>>>,
}

impl Group {
    fn serve(self, queue: &Queue<Box<dyn Job>>) {
        let _ending = Ending(queue);
        while queue.wait().is_some() {
            // Who is about to call may do so first: a third fewer commits under load, and no wait when there is none.
            std::thread::yield_now();
            self.commit(queue.take(LARGEST_GROUP));
        }
    }

    fn commit(&self, mut group: Vec<Box<dyn Job>>) {
        let mut pass = Pass { with_savepoints: false, looks: LOOKS };
        let done = loop {
            // Whoever is gone before the commit leaves nothing behind: the others once more, without it. Not for ever:
            // where callers leave faster than that, the last look was the last.
            group.retain(|job| job.is_wanted());
            if group.is_empty() {
                return;
            }
            match self.run_together(&mut group, pass) {
                Err(Failure::Unwanted) => pass.looks -= 1,
                Err(Failure::HalfDone) if !pass.with_savepoints => pass.with_savepoints = true,
                done => break done,
            }
        };
        match done {
            Ok(()) => {}
            // Nothing can begin now: neither would it alone.
            Err(Failure::Around(Error::StoreBusy)) => group.iter_mut().for_each(|job| job.fail(Error::StoreBusy)),
            Err(_) => self.run_one_by_one(&mut group),
        }
        self.announce();
        if let Err(refused) = self.answers.send(group) {
            // The runtime that the store was opened in is gone; whoever waits does so in another.
            refused.0.into_iter().for_each(Job::answer);
        }
    }

    fn announce(&self) {
        let newest = self.counted.get().position;
        self.grown.send_if_modified(|position| std::mem::replace(position, newest) != newest);
    }

    fn run_one_by_one(&self, group: &mut [Box<dyn Job>]) {
        for job in group.chunks_mut(1) {
            if let Err(Failure::Around(error)) = self.run_together(job, Pass { with_savepoints: false, looks: 0 }) {
                job.iter_mut().for_each(|job| job.fail(error.clone()));
            }
        }
    }

    fn run_together(&self, jobs: &mut [Box<dyn Job>], pass: Pass) -> Result<(), Failure> {
        let before = self.counted.get();
        match self.try_together(jobs, pass) {
            Ok(signals) => {
                (self.listener)(&signals);
                Ok(())
            }
            Err(failure) => {
                self.give_back(before);
                if !self.conn.is_autocommit() {
                    // If even this fails, the next BEGIN says so.
                    let _ = self.run_sql("ROLLBACK");
                }
                Err(failure)
            }
        }
    }

    fn try_together(&self, jobs: &mut [Box<dyn Job>], pass: Pass) -> Result<Vec<Signal>, Failure> {
        self.run_sql("BEGIN IMMEDIATE").map_err(Failure::Around)?;
        let mut said = Said::default();
        for job in jobs.iter_mut() {
            match pass.with_savepoints {
                true => self.run_in_savepoint(job.as_mut(), &mut said)?,
                false if self.run_body(job.as_mut(), &mut said)? => {}
                false => return Err(Failure::HalfDone),
            }
        }
        if said.has_written {
            self.save_counters().map_err(Failure::Around)?;
        }
        if pass.looks > 0 && jobs.iter().any(|job| job.has_done() && !job.is_wanted()) {
            return Err(Failure::Unwanted);
        }
        self.run_sql("COMMIT").map_err(Failure::Around)?;
        Ok(said.signals)
    }

    /// Positions are given again when what had them is undone. Keys are not: what was decided about a key outlives that.
    fn give_back(&self, before: Counted) {
        self.counted.set(Counted { position: before.position, key: self.counted.get().key });
    }

    fn run_in_savepoint(&self, job: &mut dyn Job, said: &mut Said) -> Result<(), Failure> {
        self.run_sql("SAVEPOINT body").map_err(Failure::Around)?;
        if !self.run_body(job, said)? {
            self.run_sql("ROLLBACK TO body").map_err(Failure::Around)?;
        }
        self.run_sql("RELEASE body").map_err(Failure::Around)
    }

    /// Says whether all of it is to stay: false if it failed and has written before that.
    fn run_body(&self, job: &mut dyn Job, said: &mut Said) -> Result<bool, Failure> {
        let counted = self.counted.get();
        let mut tx = self.tx();
        let is_done = job.run(&mut tx);
        // Whatever the body made of it: nothing of the group is there any more.
        if self.conn.is_autocommit() {
            self.give_back(counted);
            if is_done {
                job.fail(Error::internal("its transaction was undone under it"));
            }
            return Err(Failure::InBody);
        }
        if is_done {
            said.has_written |= tx.has_written() || self.counted.get() != counted;
            said.signals.extend(tx.into_signals());
            return Ok(true);
        }
        // What it only counted is given back; what it wrote is not undone by that.
        self.give_back(counted);
        Ok(!tx.has_written())
    }

    fn tx(&self) -> SqliteTx<'_> {
        SqliteTx::new(&self.conn, self.clock.as_ref(), &self.ids, Some(&self.counted))
    }

    fn save_counters(&self) -> Result<()> {
        let Counted { position, key } = self.counted.get();
        counters::save(&mut self.tx(), position, key)
    }

    fn run_sql(&self, sql: &str) -> Result<()> {
        let mut statement = self.conn.prepare_cached(sql).map_err(sql_error)?;
        statement.raw_execute().map(drop).map_err(sql_error)
    }
}

#[cfg(test)]
mod tests;
