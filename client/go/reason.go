package runhub

import (
	"strings"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// The prefix of the values of the enum ErrorReason. An ErrorInfo has the reason without it.
const reasonPrefix = "ERROR_REASON_"

// Reason is why the server refused a call, as an ErrorInfo has it: the name of a value of [v1.ErrorReason] without its
// prefix, such as STALE_LEASE. The enum documents the reasons, and the protos list the reasons of each RPC. Match a reason
// with errors.Is(err, runhub.StaleLease). A reason that this client does not know keeps the server's text.
type Reason string

// The reasons that this client knows: one for each value of [v1.ErrorReason].
var (
	InvalidField        = reasonOf(v1.ErrorReason_ERROR_REASON_INVALID_FIELD)
	DependencyCycle     = reasonOf(v1.ErrorReason_ERROR_REASON_DEPENDENCY_CYCLE)
	RequestIDReused     = reasonOf(v1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED)
	RunNotFound         = reasonOf(v1.ErrorReason_ERROR_REASON_RUN_NOT_FOUND)
	TaskNotFound        = reasonOf(v1.ErrorReason_ERROR_REASON_TASK_NOT_FOUND)
	ApprovalNotFound    = reasonOf(v1.ErrorReason_ERROR_REASON_APPROVAL_NOT_FOUND)
	CheckpointNotFound  = reasonOf(v1.ErrorReason_ERROR_REASON_CHECKPOINT_NOT_FOUND)
	StaleLease          = reasonOf(v1.ErrorReason_ERROR_REASON_STALE_LEASE)
	LeaseRequired       = reasonOf(v1.ErrorReason_ERROR_REASON_LEASE_REQUIRED)
	WrongStatus         = reasonOf(v1.ErrorReason_ERROR_REASON_WRONG_STATUS)
	RunEnded            = reasonOf(v1.ErrorReason_ERROR_REASON_RUN_ENDED)
	AlreadyDecided      = reasonOf(v1.ErrorReason_ERROR_REASON_ALREADY_DECIDED)
	NotApproved         = reasonOf(v1.ErrorReason_ERROR_REASON_NOT_APPROVED)
	AlreadyConsumed     = reasonOf(v1.ErrorReason_ERROR_REASON_ALREADY_CONSUMED)
	DigestMismatch      = reasonOf(v1.ErrorReason_ERROR_REASON_DIGEST_MISMATCH)
	SnapshotTooLarge    = reasonOf(v1.ErrorReason_ERROR_REASON_SNAPSHOT_TOO_LARGE)
	RevisionMismatch    = reasonOf(v1.ErrorReason_ERROR_REASON_REVISION_MISMATCH)
	PlanVersionMismatch = reasonOf(v1.ErrorReason_ERROR_REASON_PLAN_VERSION_MISMATCH)
	PositionInFuture    = reasonOf(v1.ErrorReason_ERROR_REASON_POSITION_IN_FUTURE)
	PositionCompacted   = reasonOf(v1.ErrorReason_ERROR_REASON_POSITION_COMPACTED)
	Overloaded          = reasonOf(v1.ErrorReason_ERROR_REASON_OVERLOADED)
	Draining            = reasonOf(v1.ErrorReason_ERROR_REASON_DRAINING)
	StoreBusy           = reasonOf(v1.ErrorReason_ERROR_REASON_STORE_BUSY)
	Internal            = reasonOf(v1.ErrorReason_ERROR_REASON_INTERNAL)
)

// Error returns the reason's text. The method makes a reason an error, which errors.Is requires.
func (r Reason) Error() string {
	return string(r)
}

func reasonOf(value v1.ErrorReason) Reason {
	return Reason(strings.TrimPrefix(value.String(), reasonPrefix))
}
