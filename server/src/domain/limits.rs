//! How much of everything the server takes. ServerService.GetServerInfo shows these.

use std::time::Duration;

/// An id or a request_id, in bytes.
pub const ID_BYTES: usize = 128;
/// A name (role, source, kind, agent_id, capability, label key, draft key), in bytes.
pub const NAME_BYTES: usize = 256;
/// A label's value, in bytes.
pub const LABEL_VALUE_BYTES: usize = 1024;
/// A path, in bytes.
pub const PATH_BYTES: usize = 4 * 1024;
/// The allowed_paths of a task together, in bytes.
pub const GLOBS_BYTES: usize = 32 * 1024;
/// A task as a planner writes it down, in bytes of its protobuf encoding.
pub const TASK_BYTES: usize = 3 * 1024 * 1024;
/// Any other text, in bytes.
pub const TEXT_BYTES: usize = 64 * 1024;
/// A JSON value, in bytes of its protobuf encoding.
pub const VALUE_BYTES: usize = 1024 * 1024;
/// How deep lists and objects of a JSON value may nest. prost itself stops decoding a little deeper.
pub const VALUE_DEPTH: usize = 24;
/// Labels of a run or task.
pub const LABELS: usize = 64;
/// Entries in a list of a task, or in a list of names.
pub const LIST_ENTRIES: usize = 256;
/// Tasks or events in one call.
pub const BATCH_ENTRIES: usize = 1_000;
/// Calls in service at once, beyond which what is not urgent is refused: twice as many as it takes for the highest rate, and
/// served within some tens of milliseconds.
pub const CALLS_IN_SERVICE: usize = 512;
/// A request, in bytes.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// The longest page or list, in entries.
pub const PAGE_SIZE: usize = 1_000;
/// Where a page or list ends, in bytes: below the 4 MiB that gRPC clients accept unless told otherwise.
pub const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// A run's snapshot, in bytes.
pub const SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;
/// The longest wait of a call; a longer one is cut to it.
pub const WAIT: Duration = Duration::from_secs(5 * 60);
/// The longest `retry_delay` and `ttl`.
pub const DELAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long holders have to finish when a run is cancelled, when no grace is given.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// The longest grace.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Pending tasks that an empty claim looks at to say what is in the way.
pub const UNCLAIMABLE_TASKS: usize = 1_000;

/// `page_size` when none is given.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// How many events a list or a snapshot shows when no limit is given.
pub const DEFAULT_EVENTS: usize = 50;
/// How many attempts a list or a snapshot shows when no limit is given.
pub const DEFAULT_ATTEMPTS: usize = 12;
