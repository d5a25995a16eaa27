//! Which calls come before others when there are more than can be served.

/// What keeps agents at their work, ends some, stops it, or is what a person has said: always let in, and served before
/// the rest.
const FIRST: [&str; 12] = [
    "Heartbeat",
    "CompleteTask",
    "FailTask",
    "ReleaseTask",
    "BlockTask",
    "AbandonTask",
    "RecordTaskAttempt",
    "PauseRun",
    "ResumeRun",
    "CancelRun",
    "DecideApproval",
    "CancelApproval",
];

/// What may wait for long, and does nothing meanwhile, and what asks nothing of the store: always let in. The store
/// refuses what is too much of it.
const LET_IN: [&str; 5] = ["ClaimTask", "WaitApproval", "ListEvents", "SubscribeEvents", "GetServerInfo"];

/// Is served before the rest.
pub fn goes_first(rpc: &str) -> bool {
    FIRST.contains(&rpc)
}

/// Is refused when too many calls are in service.
pub fn is_limited(rpc: &str) -> bool {
    !FIRST.contains(&rpc) && !LET_IN.contains(&rpc)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn each_is_an_rpc() {
        let set = FileDescriptorSet::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
        let services = set.file.iter().flat_map(|file| &file.service);
        let rpcs: BTreeSet<&str> = services.flat_map(|service| &service.method).map(|rpc| rpc.name()).collect();
        for rpc in FIRST.iter().chain(&LET_IN) {
            assert!(rpcs.contains(rpc), "{rpc}");
        }
    }
}
