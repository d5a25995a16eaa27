package runhub

// Reason is why the server refused a call; the protos say which RPC gives which. It is matched by
// errors.Is(err, runhub.StaleLease). One that is not listed here is kept as its text.
type Reason string

// The reasons of this version.
const (
	InvalidField        Reason = "INVALID_FIELD"
	DependencyCycle     Reason = "DEPENDENCY_CYCLE"
	RequestIDReused     Reason = "REQUEST_ID_REUSED"
	RunNotFound         Reason = "RUN_NOT_FOUND"
	TaskNotFound        Reason = "TASK_NOT_FOUND"
	ApprovalNotFound    Reason = "APPROVAL_NOT_FOUND"
	CheckpointNotFound  Reason = "CHECKPOINT_NOT_FOUND"
	StaleLease          Reason = "STALE_LEASE"
	LeaseRequired       Reason = "LEASE_REQUIRED"
	WrongStatus         Reason = "WRONG_STATUS"
	RunEnded            Reason = "RUN_ENDED"
	AlreadyDecided      Reason = "ALREADY_DECIDED"
	NotApproved         Reason = "NOT_APPROVED"
	AlreadyConsumed     Reason = "ALREADY_CONSUMED"
	DigestMismatch      Reason = "DIGEST_MISMATCH"
	SnapshotTooLarge    Reason = "SNAPSHOT_TOO_LARGE"
	RevisionMismatch    Reason = "REVISION_MISMATCH"
	PlanVersionMismatch Reason = "PLAN_VERSION_MISMATCH"
	PositionInFuture    Reason = "POSITION_IN_FUTURE"
	PositionCompacted   Reason = "POSITION_COMPACTED"
	Overloaded          Reason = "OVERLOADED"
	Draining            Reason = "DRAINING"
	StoreBusy           Reason = "STORE_BUSY"
	Internal            Reason = "INTERNAL"
)

// Error makes a reason something that errors.Is can look for.
func (r Reason) Error() string {
	return string(r)
}
