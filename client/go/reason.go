package runhub

import (
	"strings"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// reasonPrefix is the prefix of every value name in the enum ErrorReason. An ErrorInfo contains the reason without this
// prefix.
const reasonPrefix = "ERROR_REASON_"

// Reason is the reason for which the server refused a call. Its text is the name of a [v1.ErrorReason] value without
// the prefix, such as STALE_LEASE. The enum documents the reasons, and the protos list the reasons of each RPC. Match a
// reason with errors.Is(err, runhub.StaleLease). If this client does not know a reason, the Reason contains the
// server's text.
type Reason string

// The variables below are the reasons that this client knows. Each variable stands for one value of [v1.ErrorReason].
var (
	InvalidField        = toReason(v1.ErrorReason_ERROR_REASON_INVALID_FIELD)
	DependencyCycle     = toReason(v1.ErrorReason_ERROR_REASON_DEPENDENCY_CYCLE)
	RequestIDReused     = toReason(v1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
	RunNotFound         = toReason(v1.ErrorReason_ERROR_REASON_RUN_NOT_FOUND)
	TaskNotFound        = toReason(v1.ErrorReason_ERROR_REASON_TASK_NOT_FOUND)
	ApprovalNotFound    = toReason(v1.ErrorReason_ERROR_REASON_APPROVAL_NOT_FOUND)
	CheckpointNotFound  = toReason(v1.ErrorReason_ERROR_REASON_CHECKPOINT_NOT_FOUND)
	StaleLease          = toReason(v1.ErrorReason_ERROR_REASON_STALE_LEASE)
	LeaseRequired       = toReason(v1.ErrorReason_ERROR_REASON_LEASE_REQUIRED)
	WrongStatus         = toReason(v1.ErrorReason_ERROR_REASON_WRONG_STATUS)
	RunEnded            = toReason(v1.ErrorReason_ERROR_REASON_RUN_ENDED)
	AlreadyDecided      = toReason(v1.ErrorReason_ERROR_REASON_ALREADY_DECIDED)
	NotApproved         = toReason(v1.ErrorReason_ERROR_REASON_NOT_APPROVED)
	AlreadyConsumed     = toReason(v1.ErrorReason_ERROR_REASON_ALREADY_CONSUMED)
	DigestMismatch      = toReason(v1.ErrorReason_ERROR_REASON_DIGEST_MISMATCH)
	SnapshotTooLarge    = toReason(v1.ErrorReason_ERROR_REASON_SNAPSHOT_TOO_LARGE)
	RevisionMismatch    = toReason(v1.ErrorReason_ERROR_REASON_REVISION_MISMATCH)
	PlanVersionMismatch = toReason(v1.ErrorReason_ERROR_REASON_PLAN_VERSION_MISMATCH)
	PositionInFuture    = toReason(v1.ErrorReason_ERROR_REASON_POSITION_IN_FUTURE)
	PositionCompacted   = toReason(v1.ErrorReason_ERROR_REASON_POSITION_COMPACTED)
	Overloaded          = toReason(v1.ErrorReason_ERROR_REASON_OVERLOADED)
	Draining            = toReason(v1.ErrorReason_ERROR_REASON_DRAINING)
	StoreBusy           = toReason(v1.ErrorReason_ERROR_REASON_STORE_BUSY)
	Internal            = toReason(v1.ErrorReason_ERROR_REASON_INTERNAL)
	RequestIncomplete   = toReason(v1.ErrorReason_ERROR_REASON_REQUEST_INCOMPLETE)
	DeadlineExceeded    = toReason(v1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED)
	ResponseDropped     = toReason(v1.ErrorReason_ERROR_REASON_RESPONSE_DROPPED)
	StoreFull           = toReason(v1.ErrorReason_ERROR_REASON_STORE_FULL)
	LogChanged          = toReason(v1.ErrorReason_ERROR_REASON_LOG_CHANGED)
)

// Error returns the reason's text. This method makes a Reason an error, so that errors.Is accepts a Reason as its
// target.
func (r Reason) Error() string {
	return string(r)
}

func toReason(value v1.ErrorReason) Reason {
	return Reason(strings.TrimPrefix(value.String(), reasonPrefix))
}
