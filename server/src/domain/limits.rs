//! This module defines the limits and default values of the API. ServerService.GetServerInfo returns the limits that
//! callers need to know.

use std::time::Duration;

/// Maximum size of an id or a request_id, in bytes.
pub const ID_BYTES: usize = 128;
/// Maximum size of a name (role, source, kind, agent_id, capability, label key, draft key), in bytes.
pub const NAME_BYTES: usize = 256;
/// Maximum size of a label's value, in bytes.
pub const LABEL_VALUE_BYTES: usize = 1024;
/// Maximum size of a path, in bytes.
pub const PATH_BYTES: usize = 4 * 1024;
/// Maximum total size of the `allowed_paths` of one task, in bytes.
pub const GLOBS_BYTES: usize = 32 * 1024;
/// Maximum size of a task draft, in bytes of its protobuf encoding.
pub const TASK_BYTES: usize = 3 * 1024 * 1024;
/// Maximum size of a text that has no limit of its own, in bytes.
pub const TEXT_BYTES: usize = 64 * 1024;
/// Maximum size of a JSON value, in bytes of its protobuf encoding.
pub const VALUE_BYTES: usize = 1024 * 1024;
/// Maximum depth of nested arrays and objects in a JSON value. The limit is lower than the depth at which prost, the
/// protobuf library, refuses to decode a message.
pub const VALUE_DEPTH: usize = 24;
/// Maximum number of labels of a run or a task.
pub const LABELS: usize = 64;
/// Maximum number of entries in a list field of a task, or in a list of names in a request.
pub const LIST_ENTRIES: usize = 256;
/// Maximum number of tasks, events or heartbeats in one call.
pub const BATCH_ENTRIES: usize = 1_000;
/// Maximum number of calls of the admission class LIMITED that the server serves at the same time. The server reaches
/// its highest call rate with half of this number of calls.
pub const CALLS_IN_SERVICE: usize = 512;
/// Maximum number of open calls and streams per connection. A client that needs more must open another connection.
pub const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Maximum size of a request, in bytes.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Maximum time between two parts of a request, and maximum time for a whole request: 10 s. A request has 1 s more for
/// each 64 KiB that has arrived.
pub const REQUEST_TIME: Duration = Duration::from_secs(10);
/// Maximum number of entries in a page or a list of a response.
pub const PAGE_SIZE: usize = 1_000;
/// Maximum size of a page or a list of a response, in bytes. If the page or list has only one entry, the size can be
/// larger. gRPC clients accept responses of at most 4 MiB by default.
pub const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Maximum size of the snapshot that GetRunSnapshot returns, in bytes.
pub const SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;
/// Maximum time in which the server reads a snapshot for a subscription: 10 s. SQLite keeps in the WAL all changes
/// since the oldest open read transaction, so a longer read could fill the disk. GetRunSnapshot needs no such limit,
/// because its snapshot is small.
pub const SNAPSHOT_TIME: Duration = Duration::from_secs(10);
/// Maximum size of the events in a run's snapshot, and of the attempts in a run's snapshot, in bytes: 1 MiB each. If
/// the list has only one entry, the size can be larger.
pub const RECENT_BYTES: usize = 1024 * 1024;
/// Maximum `wait` of a call: 5 minutes. The server shortens a longer `wait` to this duration.
pub const WAIT: Duration = Duration::from_secs(5 * 60);
/// Maximum `retry_delay` of a failed task and maximum `ttl` of an approval: 365 days.
pub const DELAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// The default grace period of a run that is being cancelled: 30 s.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Maximum grace period of a run that is being cancelled: 24 h.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of tasks of a run that DeleteRun deletes before its response, and maximum number of tasks or pending
/// approvals that CancelRun changes in one transaction. The server cancels or deletes a larger run after the response.
pub const CHANGED_TASKS: usize = 1_000;
/// Maximum number of rows of a run that DeleteRun deletes before its response.
pub const CHANGED_ROWS: usize = 10_000;
/// Maximum number of pending tasks that the server reads to count obstacles for a claim that finds no claimable task.
pub const UNCLAIMABLE_TASKS: usize = 1_000;

/// The default `page_size` of a list call.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The default maximum number of events in a response with a list or a snapshot.
pub const DEFAULT_EVENTS: usize = 50;
/// The default maximum number of attempts in a response with a list or a snapshot.
pub const DEFAULT_ATTEMPTS: usize = 12;
