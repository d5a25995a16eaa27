//! This module defines the client's errors and the reasons for which a server refuses calls.

use std::collections::BTreeMap;
use std::time::Duration;

use runhub_api::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The `domain` in the ErrorInfo of every error that a Runhub server returns.
const DOMAIN: &str = "runhub";

/// The prefix of every value name in the enum [`ErrorReason`]. An ErrorInfo contains the reason without this prefix.
const REASON_PREFIX: &str = "ERROR_REASON_";

/// The error of a failed call.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused the call.
    #[error("{reason}: {message}")]
    Refused {
        /// The reason for which the server refused the call.
        reason: Reason,
        /// The gRPC status code of the error.
        code: Code,
        /// An explanation for people. Programs must not parse the text.
        message: String,
        /// Further facts about the error. [`ErrorReason`] documents the keys and values.
        metadata: BTreeMap<String, String>,
        /// The path and the problem of each invalid field of the request. If the server reports no invalid field, the
        /// value is empty.
        fields: Vec<(String, String)>,
        /// Time to wait before the call is retried. If the server specifies no delay, the value is None.
        retry_delay: Option<Duration>,
    },
    /// The call did not reach the server's handler, or the response was dropped.
    #[error("{code:?}: {message}")]
    Lost {
        /// The gRPC status code of the error.
        code: Code,
        /// An explanation for people. Programs must not parse the text.
        message: String,
    },
    /// No server answers at the address. The variant contains the cause.
    #[error("can't connect to the Runhub server ({0}): check the server's address and that the server is running")]
    Unreachable(String),
    /// The server address is not valid. The variant contains the address.
    #[error("{0:?} is not a valid server address: use http://HOST:PORT, HOST:PORT or unix:PATH")]
    Address(String),
}

/// Declares [`Reason`] with a variant for each value of [`ErrorReason`]. If the list of values is incomplete,
/// `from_enum` does not compile.
macro_rules! reasons {
    ($($reason:ident)+) => {
        /// The reason for which the server refused a call. Each reason is a value of [`ErrorReason`], which documents
        /// the reasons. The protos list the reasons of each RPC.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $(
                #[doc = concat!("[`ErrorReason::", stringify!($reason), "`]")]
                $reason,
            )+
            /// A reason that this client does not know. Contains the text that the server sent.
            Other(String),
        }

        impl Reason {
            /// Returns the reason's name in an ErrorInfo, such as `STALE_LEASE`.
            pub fn name(&self) -> &str {
                let reason = match self {
                    $(Self::$reason => ErrorReason::$reason,)+
                    Self::Other(name) => return name,
                };
                let name = reason.as_str_name();
                name.strip_prefix(REASON_PREFIX).unwrap_or(name)
            }

            /// Returns the reason for a value of [`ErrorReason`]. Returns None for UNSPECIFIED, which the server never
            /// sends.
            fn from_enum(reason: ErrorReason) -> Option<Self> {
                match reason {
                    ErrorReason::Unspecified => None,
                    $(ErrorReason::$reason => Some(Self::$reason),)+
                }
            }
        }
    };
}

reasons! {
    InvalidField
    DependencyCycle
    RequestIdReused
    RunNotFound
    TaskNotFound
    ApprovalNotFound
    CheckpointNotFound
    StaleLease
    LeaseRequired
    WrongStatus
    RunEnded
    AlreadyDecided
    NotApproved
    AlreadyConsumed
    DigestMismatch
    SnapshotTooLarge
    RevisionMismatch
    PlanVersionMismatch
    PositionInFuture
    PositionCompacted
    Overloaded
    Draining
    StoreBusy
    Internal
    RequestIncomplete
    DeadlineExceeded
    ResponseDropped
    StoreFull
    LogChanged
}

impl Reason {
    /// Returns the reason that has this name in an ErrorInfo. Returns `Other` if the client does not know the name.
    fn from_name(name: &str) -> Self {
        let reason = ErrorReason::from_str_name(&format!("{REASON_PREFIX}{name}"));
        reason.and_then(Self::from_enum).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(self.name())
    }
}

impl Error {
    /// Returns a temporary error for a call without a response.
    pub(crate) fn unanswered(message: &str) -> Self {
        Self::Lost { code: Code::Unavailable, message: message.to_owned() }
    }

    /// Returns the reason for which the server refused the call. Returns None if the error does not come from the
    /// server.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Returns the gRPC status code of the error. If no server answers, the code is UNAVAILABLE.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } | Self::Lost { code, .. } => *code,
            Self::Unreachable(_) => Code::Unavailable,
            Self::Address(_) => Code::InvalidArgument,
        }
    }

    /// Returns the time to wait before the call is retried. Returns None if the server specifies no delay.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_delay, .. } => *retry_delay,
            _ => None,
        }
    }

    /// Returns whether a retry of the call may succeed. If the server is down, shutting down or overloaded, or if the
    /// connection broke, the error is temporary. A call that changes state must be retried with the same request_id.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Refused { reason, code, .. } => *code == Code::Unavailable || *reason == Reason::Overloaded,
            // tonic reports a broken connection with any of these codes. If a proxy resets only the stream, the code is
            // INTERNAL, CANCELLED or UNKNOWN. If a proxy answers with an HTML page, the code is INTERNAL, because tonic
            // reads the page as a message. A caller cancels a call by dropping its future, and then gets no error.
            Self::Lost { code, .. } => {
                matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted)
            }
            Self::Unreachable(_) => true,
            Self::Address(_) => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let code = status.code();
        let message = status.message().to_owned();
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
        // The outermost error is only "transport error". The innermost error names the cause.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        Self::Unreachable(cause.to_string())
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn refused(reason: &str, code: Code) -> Error {
        let details = ErrorDetails::with_error_info(reason, DOMAIN, std::collections::HashMap::new());
        Status::with_error_details(code, "", details).into()
    }

    #[test]
    fn every_reason_of_the_enum_is_known_and_keeps_its_name() {
        let reasons: Vec<ErrorReason> = (1..).map_while(|number| ErrorReason::try_from(number).ok()).collect();
        assert!(reasons.contains(&ErrorReason::StaleLease));
        for reason in reasons {
            let name = reason.as_str_name().strip_prefix(REASON_PREFIX).unwrap();
            let error = refused(name, Code::FailedPrecondition);
            let known = error.reason().unwrap();
            assert!(!matches!(known, Reason::Other(_)), "{name}");
            assert_eq!(known.name(), name);
        }
    }

    #[test]
    fn unknown_reason_is_kept_as_text() {
        for name in ["REASON_OF_A_NEWER_SERVER", "UNSPECIFIED", ""] {
            assert_eq!(refused(name, Code::NotFound).reason(), Some(&Reason::Other(name.to_owned())));
        }
    }

    #[test]
    fn unavailable_is_temporary_for_any_reason_and_resource_exhausted_only_if_overloaded() {
        for reason in ["DRAINING", "STORE_BUSY", "STORE_FULL", "REASON_OF_A_NEWER_SERVER"] {
            assert!(refused(reason, Code::Unavailable).is_temporary(), "{reason}");
        }
        assert!(refused("OVERLOADED", Code::ResourceExhausted).is_temporary());
        assert!(!refused("REASON_OF_A_NEWER_SERVER", Code::ResourceExhausted).is_temporary());
        // tonic returns this code for a message over 16 MiB. A retry would not make the message smaller.
        assert!(!Error::from(Status::resource_exhausted("too large")).is_temporary());
    }

    #[test]
    fn error_without_a_reason_is_temporary_if_the_connection_may_have_broken() {
        for number in 1..=16 {
            let code = Code::from_i32(number);
            let is_broken =
                matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted);
            assert_eq!(Error::from(Status::new(code, "from a proxy")).is_temporary(), is_broken, "{code:?}");
            let details = ErrorDetails::with_error_info("NO_ROUTE", "proxy.example", std::collections::HashMap::new());
            let foreign = Error::from(Status::with_error_details(code, "", details));
            assert_eq!(foreign.is_temporary(), is_broken, "{code:?} with the reason of a proxy");
            // A reason shows that the server itself has sent the error.
            let is_unavailable = code == Code::Unavailable;
            assert_eq!(refused("INTERNAL", code).is_temporary(), is_unavailable, "{code:?} with a reason");
        }
    }
}
