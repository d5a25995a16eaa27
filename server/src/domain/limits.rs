//! The limits on what the server takes. ServerService.GetServerInfo returns them.

use std::time::Duration;

/// Maximum size of an id or a request_id, in bytes.
pub const ID_BYTES: usize = 128;
/// Maximum size of a name (role, source, kind, agent_id, capability, label key, draft key), in bytes.
pub const NAME_BYTES: usize = 256;
/// Maximum size of a label's value, in bytes.
pub const LABEL_VALUE_BYTES: usize = 1024;
/// Maximum size of a path, in bytes.
pub const PATH_BYTES: usize = 4 * 1024;
/// Maximum size of the allowed_paths of a task together, in bytes.
pub const GLOBS_BYTES: usize = 32 * 1024;
/// Maximum size of a task draft, in bytes of its protobuf encoding.
pub const TASK_BYTES: usize = 3 * 1024 * 1024;
/// Maximum size of any other text, in bytes.
pub const TEXT_BYTES: usize = 64 * 1024;
/// Maximum size of a JSON value, in bytes of its protobuf encoding.
pub const VALUE_BYTES: usize = 1024 * 1024;
/// Maximum nesting of lists and objects in a JSON value. prost itself stops decoding a little deeper.
pub const VALUE_DEPTH: usize = 24;
/// Maximum number of labels of a run or task.
pub const LABELS: usize = 64;
/// Maximum number of entries in a list of a task, or in a list of names.
pub const LIST_ENTRIES: usize = 256;
/// Maximum number of tasks, events or heartbeats in one call.
pub const BATCH_ENTRIES: usize = 1_000;
/// Maximum number of LIMITED calls in service. The highest rate needs half of it, and the server answers that many calls
/// within some tens of milliseconds.
pub const CALLS_IN_SERVICE: usize = 512;
/// Maximum size of a request, in bytes.
pub const REQUEST_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of entries in a page or list.
pub const PAGE_SIZE: usize = 1_000;
/// Size at which a page or list ends, in bytes. gRPC clients accept 4 MiB by default.
pub const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Maximum size of a run's snapshot, in bytes.
pub const SNAPSHOT_BYTES: usize = 16 * 1024 * 1024;
/// Maximum `wait` of a call. A longer wait is cut to this.
pub const WAIT: Duration = Duration::from_secs(5 * 60);
/// Maximum `retry_delay` and `ttl`.
pub const DELAY: Duration = Duration::from_secs(365 * 24 * 3600);
/// The grace of a cancelled run if the call sets none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// Maximum grace of a cancelled run.
pub const GRACE: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of pending tasks that an empty claim reads to count obstacles.
pub const UNCLAIMABLE_TASKS: usize = 1_000;

/// The `page_size` if the call sets none.
pub const DEFAULT_PAGE_SIZE: usize = 100;
/// The number of events in a list or a snapshot if the call sets no limit.
pub const DEFAULT_EVENTS: usize = 50;
/// The number of attempts in a list or a snapshot if the call sets no limit.
pub const DEFAULT_ATTEMPTS: usize = 12;
