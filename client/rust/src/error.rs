//! Errors by reason.

use std::collections::BTreeMap;
use std::time::Duration;

use runhub_api::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The `domain` in the ErrorInfo of every error that a Runhub server returns.
const DOMAIN: &str = "runhub";

/// The prefix of the enum values in the proto. An ErrorInfo has the reason without it.
const REASON_PREFIX: &str = "ERROR_REASON_";

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The server refused the call.
    #[error("{reason}: {message}")]
    Refused {
        /// Why the server refused the call.
        reason: Reason,
        /// The gRPC status code.
        code: Code,
        /// An explanation for people. Programs must not parse it.
        message: String,
        /// Further facts about the error, as [`ErrorReason`] documents them.
        metadata: BTreeMap<String, String>,
        /// The invalid fields of the request, each with what is wrong with it.
        fields: Vec<(String, String)>,
        /// How long to wait before repeating the call. None if the server gives no delay.
        retry_delay: Option<Duration>,
    },
    /// The call did not reach the server's handler, or its answer was lost.
    #[error("{code:?}: {message}")]
    Lost {
        /// The gRPC status code.
        code: Code,
        /// An explanation for people. Programs must not parse it.
        message: String,
    },
    /// No server answers at the address.
    #[error("can't connect: {0}")]
    Unreachable(String),
    /// The address has none of the valid forms.
    #[error("{0:?} is not a valid server address: use http://HOST:PORT, HOST:PORT or unix:PATH")]
    Address(String),
    /// The server's log is not the one that the subscription follows, so the subscription's cursor is not valid in it.
    #[error("the server's log_id has changed, so the subscription's cursor is not valid: subscribe without a cursor")]
    OtherLog,
}

/// Declares [`Reason`] with a variant for each value of [`ErrorReason`]. If a value is missing here, `known` does not compile.
macro_rules! reasons {
    ($($reason:ident)+) => {
        /// Why the server refused a call: a value of [`ErrorReason`], which documents the reasons. The protos list the reasons
        /// of each RPC.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $(
                #[doc = concat!("[`ErrorReason::", stringify!($reason), "`]")]
                $reason,
            )+
            /// A reason that this client does not know, as the server sent it.
            Other(String),
        }

        impl Reason {
            /// Returns the reason as an ErrorInfo has it, such as `STALE_LEASE`.
            pub fn name(&self) -> &str {
                let reason = match self {
                    $(Self::$reason => ErrorReason::$reason,)+
                    Self::Other(name) => return name,
                };
                let name = reason.as_str_name();
                name.strip_prefix(REASON_PREFIX).unwrap_or(name)
            }

            /// Returns the variant for an enum value; None for UNSPECIFIED, which the server never sends.
            fn known(reason: ErrorReason) -> Option<Self> {
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
}

impl Reason {
    /// Returns the reason for the text of an ErrorInfo.
    fn from_name(name: &str) -> Self {
        let reason = ErrorReason::from_str_name(&format!("{REASON_PREFIX}{name}"));
        reason.and_then(Self::known).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, to: &mut std::fmt::Formatter) -> std::fmt::Result {
        to.write_str(self.name())
    }
}

impl Error {
    /// Returns an error for a call without an answer, which may be repeated.
    pub(crate) fn unanswered(message: &str) -> Self {
        Self::Lost { code: Code::Unavailable, message: message.to_owned() }
    }

    /// Returns why the server refused the call; None if the error does not come from the server.
    pub fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// Returns the gRPC status code; UNAVAILABLE if no server answers.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused { code, .. } | Self::Lost { code, .. } => *code,
            Self::Unreachable(_) => Code::Unavailable,
            Self::Address(_) => Code::InvalidArgument,
            Self::OtherLog => Code::FailedPrecondition,
        }
    }

    /// Returns how long to wait before repeating the call; None if the server gives no delay.
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_delay, .. } => *retry_delay,
            _ => None,
        }
    }

    /// Returns whether the same call may succeed later: the server is down, shutting down or overloaded, or the connection
    /// broke. A call that changes state must be repeated with the same request_id.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused { reason, code, .. } => *code == Code::Unavailable || *reason == Reason::Overloaded,
            // tonic reports a broken connection under any of these codes.
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
        // The outermost error is only "transport error"; the innermost one has the cause.
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
        for reason in ["DRAINING", "STORE_BUSY", "REASON_OF_A_NEWER_SERVER"] {
            assert!(refused(reason, Code::Unavailable).is_passing(), "{reason}");
        }
        assert!(refused("OVERLOADED", Code::ResourceExhausted).is_passing());
        assert!(!refused("REASON_OF_A_NEWER_SERVER", Code::ResourceExhausted).is_passing());
        assert!(!refused("INTERNAL", Code::Internal).is_passing());
        // tonic returns this for a message over 16 MiB, which a further try does not make smaller.
        assert!(!Error::from(Status::resource_exhausted("too large")).is_passing());
        assert!(Error::from(Status::unavailable("down")).is_passing());
    }
}
