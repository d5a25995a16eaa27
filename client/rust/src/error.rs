//! Errors by reason.

use std::collections::BTreeMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Of the ErrorInfo of every refusal by a Runhub server.
const DOMAIN: &str = "runhub";

/// Why a call did not do what it was for.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused it.
    #[error("{reason}: {message}")]
    Refused {
        /// What to match on.
        reason: Reason,
        /// gRPC's code.
        code: Code,
        /// For people only.
        message: String,
        /// The particulars that the reason documents.
        metadata: BTreeMap<String, String>,
        /// The fields that could not be taken, each with the problem.
        fields: Vec<(String, String)>,
        /// When to make the same call again, if the server has said so.
        retry_delay: Option<Duration>,
    },
    /// It never reached a handler, or its answer got lost.
    #[error("{code:?}: {message}")]
    Lost {
        /// gRPC's code.
        code: Code,
        /// For people only.
        message: String,
    },
    /// Nobody answers at the address.
    #[error("can't connect: {0}")]
    Unreachable(String),
    /// The address is none.
    #[error("{0:?} is no address of a server: it takes http://HOST:PORT, HOST:PORT or unix:PATH")]
    Address(String),
    /// The server has another database than when the subscription began, in which its cursor means nothing.
    #[error("the server's log is another one now: a cursor of the old one means nothing in it")]
    OtherLog,
}

macro_rules! reasons {
    ($($variant:ident $name:literal,)+) => {
        /// Why the server refused a call. The protos say which RPC gives which.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        #[allow(missing_docs)]
        pub enum Reason {
            $($variant,)+
            /// One that this client does not know yet.
            Other(String),
        }

        impl Reason {
            /// As it stands in the ErrorInfo.
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)+
                    Self::Other(name) => name,
                }
            }

            fn from_name(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }
    };
}

reasons! {
    InvalidField "INVALID_FIELD",
    DependencyCycle "DEPENDENCY_CYCLE",
    RequestIdReused "REQUEST_ID_REUSED",
    RunNotFound "RUN_NOT_FOUND",
    TaskNotFound "TASK_NOT_FOUND",
    ApprovalNotFound "APPROVAL_NOT_FOUND",
    CheckpointNotFound "CHECKPOINT_NOT_FOUND",
    StaleLease "STALE_LEASE",
    LeaseRequired "LEASE_REQUIRED",
    WrongStatus "WRONG_STATUS",
    RunEnded "RUN_ENDED",
    AlreadyDecided "ALREADY_DECIDED",
    NotApproved "NOT_APPROVED",
    AlreadyConsumed "ALREADY_CONSUMED",
    DigestMismatch "DIGEST_MISMATCH",
    SnapshotTooLarge "SNAPSHOT_TOO_LARGE",
    RevisionMismatch "REVISION_MISMATCH",
    PlanVersionMismatch "PLAN_VERSION_MISMATCH",
    PositionInFuture "POSITION_IN_FUTURE",
    PositionCompacted "POSITION_COMPACTED",
    Overloaded "OVERLOADED",
    Draining "DRAINING",
    StoreBusy "STORE_BUSY",
    Internal "INTERNAL",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(self.name())
    }
}

impl Error {
    /// There was no answer, and the same call may well have one later.
    pub(crate) fn unanswered(message: &str) -> Self {
        Self::Lost { code: Code::Unavailable, message: message.to_owned() }
    }

    /// Why the server refused it, if it was the server.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// gRPC's code; UNAVAILABLE when nobody answers.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } | Self::Lost { code, .. } => *code,
            Self::Unreachable(_) => Code::Unavailable,
            Self::Address(_) => Code::InvalidArgument,
            Self::OtherLog => Code::FailedPrecondition,
        }
    }

    /// How long the server wants the same call to be waited for.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_delay, .. } => *retry_delay,
            _ => None,
        }
    }

    /// The same call may well succeed later: the server is away, shutting down or too busy, or the connection broke.
    /// What changes something is repeated with the same request_id.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { reason, code, .. } => *code == Code::Unavailable || *reason == Reason::Overloaded,
            // A broken connection shows as one of several codes.
            Self::Lost { code, .. } => {
                matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted)
            }
            Self::Unreachable(_) => true,
            Self::Address(_) | Self::OtherLog => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let (code, message) = (status.code(), status.message().to_owned());
        let Some(info) = details.error_info().filter(|info| info.domain == DOMAIN) else {
            return Self::Lost { code, message };
        };
        let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Self::Refused {
            reason: Reason::from_name(&info.reason),
            code,
            message,
            metadata: info.metadata.clone().into_iter().collect(),
            fields: violations.iter().map(|one| (one.field.clone(), one.description.clone())).collect(),
            retry_delay: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

impl From<tonic::transport::Error> for Error {
    fn from(error: tonic::transport::Error) -> Self {
        // The outermost error says only "transport error": the cause is what helps.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::Unreachable(cause.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str, code: Code) -> Error {
        let (reason, message) = (Reason::from_name(reason), String::new());
        let (metadata, fields) = (BTreeMap::new(), Vec::new());
        Error::Refused { reason, code, message, metadata, fields, retry_delay: None }
    }

    #[test]
    fn what_is_unavailable_passes_whatever_the_reason_and_what_is_exhausted_only_by_load() {
        for reason in ["DRAINING", "STORE_BUSY", "ONE_OF_TOMORROW"] {
            assert!(refused(reason, Code::Unavailable).is_passing(), "{reason}");
        }
        assert!(refused("OVERLOADED", Code::ResourceExhausted).is_passing());
        assert!(!refused("ONE_OF_TOMORROW", Code::ResourceExhausted).is_passing());
        assert!(!refused("INTERNAL", Code::Internal).is_passing());
        // Larger than 16 MiB: it stays so.
        assert!(!Error::from(Status::resource_exhausted("too large")).is_passing());
        assert!(Error::from(Status::unavailable("away")).is_passing());
    }
}
