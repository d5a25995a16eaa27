//! The limits as GetServerInfo shows them.

use runhub_api::v1;

use super::convert::duration_to_proto;
use std::time::Duration;

use crate::domain::{lease, limits};

/// All of them.
pub fn shown(default_lease: Duration) -> v1::Limits {
    let shown = |limit: usize| i32::try_from(limit).unwrap_or(i32::MAX);
    v1::Limits {
        id_bytes: shown(limits::ID_BYTES),
        name_bytes: shown(limits::NAME_BYTES),
        label_value_bytes: shown(limits::LABEL_VALUE_BYTES),
        path_bytes: shown(limits::PATH_BYTES),
        task_bytes: shown(limits::TASK_BYTES),
        globs_bytes: shown(limits::GLOBS_BYTES),
        text_bytes: shown(limits::TEXT_BYTES),
        value_bytes: shown(limits::VALUE_BYTES),
        value_depth: shown(limits::VALUE_DEPTH),
        labels: shown(limits::LABELS),
        list_entries: shown(limits::LIST_ENTRIES),
        batch_entries: shown(limits::BATCH_ENTRIES),
        request_bytes: shown(limits::REQUEST_BYTES),
        page_size: shown(limits::PAGE_SIZE),
        page_bytes: shown(limits::PAGE_BYTES),
        snapshot_bytes: shown(limits::SNAPSHOT_BYTES),
        min_lease_duration: duration_to_proto(lease::SHORTEST),
        max_lease_duration: duration_to_proto(lease::LONGEST),
        default_lease_duration: duration_to_proto(default_lease),
        max_wait: duration_to_proto(limits::WAIT),
        max_delay: duration_to_proto(limits::DELAY),
        max_grace: duration_to_proto(limits::GRACE),
    }
}
