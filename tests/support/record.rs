//! Input for the oracle: the committed events, read from the database, and the messages that a watcher got.

use std::sync::Arc;
use std::time::Duration;

use runhub_client::v1::event_service_client::EventServiceClient;
use runhub_client::v1::subscribe_events_response::Message;
use runhub_client::v1::*;
use runhub_client::{Client, Error, Json, Reason, Subscription, Update};
use runhub_server::clock::SystemClock;
use runhub_server::store::Store;
use tonic::transport::Channel;

use super::database::{TestDatabase, TextRow};
use super::oracle::{Log, Part, PartEnd, assert_no_violations};

/// Query for the log as stored in the server's tables.
const EVENTS: &str = "SELECT e.position, e.seq, COALESCE(r.id, e.deleted_run_id) AS run_id, t.id AS task_id, e.source, e.kind, e.message,
    e.payload, e.create_time
    FROM events e LEFT JOIN runs r ON r.key = e.run_key LEFT JOIN tasks t ON t.key = e.task_key";

/// Creates a database, and lets the database copy each event that is inserted, for `committed_log`, because retention
/// and deletions may remove it. No server may have the database open.
pub async fn archive_events(db: &TestDatabase) {
    let store = Store::open_at(&db.location(), Arc::new(SystemClock::new()), Box::new(|_| {})).unwrap();
    store.close().await;
    let trigger = match db {
        TestDatabase::File(_) => format!(
            "CREATE TRIGGER keep_every_event AFTER INSERT ON events BEGIN
                INSERT INTO every_event {EVENTS} WHERE e.position = NEW.position;
            END;"
        ),
        TestDatabase::Postgres(_) => format!(
            "CREATE FUNCTION keep_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO every_event {EVENTS} WHERE e.position = NEW.position;
                RETURN NULL;
            END $$;
            CREATE TRIGGER keep_every_event AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION keep_event();"
        ),
    };
    db.execute(&format!("BEGIN; CREATE TABLE every_event AS {EVENTS}; {trigger} COMMIT;"));
}

/// Returns the committed events: all since `archive_events`, or else those that are stored.
pub fn committed_log(db: impl Into<TestDatabase>) -> Log {
    let database = db.into();
    let is_kept = database.tables().iter().any(|table| table == "every_event");
    // Read in one transaction, so that the newest position belongs to these events.
    let events = if is_kept { "SELECT * FROM every_event" } else { EVENTS };
    let [events, newest] = database.query_together([events, NEWEST]);
    Log::new(events.into_iter().map(event).collect(), number(&newest).unwrap_or(0))
}

fn event(row: TextRow) -> Event {
    let mut columns = row.into_iter();
    let mut next = || columns.next().unwrap();
    let position = next().unwrap().parse().unwrap();
    let seq = next().unwrap().parse().unwrap();
    let run_id = next().unwrap();
    let task_id = next();
    let source = next().unwrap();
    let kind = next().unwrap();
    let message = next().unwrap();
    let payload = Some(Json::parse(&next().unwrap()).unwrap());
    let micros: i64 = next().unwrap().parse().unwrap();
    let nanos = (micros.rem_euclid(1_000_000) * 1_000) as i32;
    let create_time = Some(prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos });
    Event { position, seq, run_id, task_id, source, kind, message, payload, create_time }
}

/// Query for the newest committed position.
const NEWEST: &str = "SELECT last_position FROM counters";

/// Returns the number in the first column of the first row.
fn number(rows: &[TextRow]) -> Option<i64> {
    rows.first()?.first()?.as_ref()?.parse().ok()
}

/// Returns the newest position, and the position up to which everything was removed.
pub fn newest_and_removed(db: impl Into<TestDatabase>) -> (i64, i64) {
    let [oldest, newest] = db.into().query_together(["SELECT min(position) FROM events", NEWEST]);
    let newest = number(&newest).unwrap_or(0);
    (newest, number(&oldest).map_or(newest, |oldest| oldest - 1))
}

impl Part {
    /// Creates a part that is about to start.
    fn before(db: &TestDatabase, request: SubscribeEventsRequest) -> Self {
        let (newest_before, removed_before) = newest_and_removed(db);
        let messages = Vec::new();
        let removed_after = removed_before;
        let end = PartEnd::Cut;
        Self { request, newest_before, removed_before, messages, removed_after, end }
    }

    /// Sets how the part ended: with a status, or by the network.
    fn end_with(&mut self, result: Result<(), Error>) {
        self.end = match result {
            Ok(()) => PartEnd::Finished,
            Err(error) if error.is_temporary() => PartEnd::Cut,
            Err(Error::Refused { reason, metadata, .. }) => PartEnd::Refused { reason, metadata },
            Err(error) => panic!("unexpected end of a stream: {error}"),
        };
    }
}

/// How long a watcher reads, and how fast.
pub struct ReadLimits {
    /// It disconnects after this many messages …
    pub messages: usize,
    /// … or after this time.
    pub max_duration: Duration,
    /// Pause between two messages.
    pub pause: Duration,
    /// Pause after the first message.
    pub first_pause: Duration,
}

impl ReadLimits {
    /// Reads everything, as fast as possible.
    pub const NONE: Self = Self {
        messages: usize::MAX,
        max_duration: Duration::from_secs(600),
        pause: Duration::ZERO,
        first_pause: Duration::ZERO,
    };
}

/// Records a chain of subscriptions with the bare stub, without the Rust client in between.
pub struct Recorder {
    db: TestDatabase,
    request: SubscribeEventsRequest,
    pub parts: Vec<Part>,
}

impl Recorder {
    pub fn new(db: impl Into<TestDatabase>, request: SubscribeEventsRequest) -> Self {
        Self { db: db.into(), request, parts: Vec::new() }
    }

    /// Subscribes from where the previous part ended, until `stop_at` accepts a message or the stream ends. An `end`
    /// message is followed to its status.
    pub async fn record(&mut self, channel: Channel, stop_at: impl FnMut(&Message) -> bool) -> &Part {
        self.record_with(channel, ReadLimits::NONE, stop_at).await
    }

    /// Subscribes from where the previous part ended, until one of the limits is reached.
    pub async fn record_limited(&mut self, channel: Channel, limits: ReadLimits) -> &Part {
        self.record_with(channel, limits, |_| false).await
    }

    async fn record_with(
        &mut self,
        channel: Channel,
        limits: ReadLimits,
        stop_at: impl FnMut(&Message) -> bool,
    ) -> &Part {
        let mut part = Part::before(&self.db, self.request.clone());
        let receiving = receive(&mut part.messages, part.request.clone(), channel, &limits, stop_at);
        if let Ok(Some(result)) = tokio::time::timeout(limits.max_duration, receiving).await {
            part.end_with(result);
        }
        part.removed_after = newest_and_removed(&self.db).1;
        self.request.after_position = part.last_position().or(self.request.after_position);
        self.parts.push(part);
        &self.parts[self.parts.len() - 1]
    }

    /// Checks all parts with the oracle.
    pub fn check(&self) {
        assert_no_violations(&committed_log(&self.db), &self.parts);
    }
}

/// Receives messages. Returns None if it stopped by itself.
async fn receive(
    messages: &mut Vec<Message>,
    request: SubscribeEventsRequest,
    channel: Channel,
    limits: &ReadLimits,
    mut stop_at: impl FnMut(&Message) -> bool,
) -> Option<Result<(), Error>> {
    let mut stub = EventServiceClient::new(channel).max_decoding_message_size(runhub_api::MAX_RESPONSE_BYTES);
    let mut stream = match stub.subscribe_events(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Some(Err(status.into())),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(response)) => response.message.unwrap(),
            Ok(None) => return Some(Ok(())),
            Err(status) => return Some(Err(status.into())),
        };
        let stops = (stop_at(&message) || messages.len() + 1 >= limits.messages) && !matches!(message, Message::End(_));
        messages.push(message);
        if stops {
            return None;
        }
        let rest = if messages.len() == 1 { limits.first_pause } else { limits.pause };
        if !rest.is_zero() {
            tokio::time::sleep(rest).await;
        }
    }
}

/// A subscription of the Rust client that hands its messages to the oracle when it is dropped. The client resumes by
/// itself, so everything is one part.
pub struct Watcher {
    subscription: Subscription,
    db: TestDatabase,
    part: Part,
}

impl Watcher {
    pub fn new(client: &Client, db: impl Into<TestDatabase>, request: SubscribeEventsRequest) -> Self {
        let db = db.into();
        let part = Part::before(&db, request.clone());
        Self { subscription: client.subscribe(request), db, part }
    }

    pub fn position(&self) -> Option<i64> {
        self.subscription.position()
    }

    pub async fn next(&mut self) -> Option<Result<Update, Error>> {
        let next = self.subscription.next().await;
        match &next {
            Some(Ok(update)) => self.part.messages.push(message(update)),
            // The server of another log sent this error, and the oracle knows only one log.
            Some(Err(error)) if error.reason() == Some(&Reason::LogChanged) => {}
            Some(Err(error)) => self.part.end_with(Err(error.clone())),
            None if matches!(self.part.messages.last(), Some(Message::End(_))) => self.part.end_with(Ok(())),
            None => {}
        }
        next
    }

    /// Returns the next event and skips other updates.
    pub async fn next_event(&mut self) -> Event {
        loop {
            match self.next().await.unwrap().unwrap() {
                Update::Event(event) => return *event,
                Update::End(reason, _) => panic!("the stream ended: {reason:?}"),
                Update::Snapshot(_) | Update::CaughtUp(_) | Update::Bookmark(_) => {}
            }
        }
    }

    /// Reads until the first update that is not an event. Returns the kinds of the events, and that update.
    pub async fn read_events(&mut self) -> (Vec<String>, Update) {
        let mut kinds = Vec::new();
        loop {
            match self.next().await.unwrap().unwrap() {
                Update::Event(event) => kinds.push(event.kind),
                other => return (kinds, other),
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // A test that already fails reports its own cause.
        if !std::thread::panicking() {
            self.part.removed_after = newest_and_removed(&self.db).1;
            assert_no_violations(&committed_log(&self.db), std::slice::from_ref(&self.part));
        }
    }
}

/// Returns the message that an update came from. A snapshot is complete, not split into parts.
fn message(update: &Update) -> Message {
    match update {
        Update::Snapshot(snapshot) => Message::Snapshot((**snapshot).clone()),
        Update::Event(event) => Message::Event((**event).clone()),
        Update::CaughtUp(position) => Message::CaughtUp(CaughtUp { position: *position, ..CaughtUp::default() }),
        Update::Bookmark(position) => Message::Bookmark(Bookmark { position: *position }),
        Update::End(reason, position) => Message::End(End { reason: (*reason).into(), position: *position }),
    }
}
