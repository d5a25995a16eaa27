import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TaskStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_STATUS_UNSPECIFIED: _ClassVar[TaskStatus]
    TASK_STATUS_PENDING: _ClassVar[TaskStatus]
    TASK_STATUS_IN_PROGRESS: _ClassVar[TaskStatus]
    TASK_STATUS_COMPLETED: _ClassVar[TaskStatus]
    TASK_STATUS_BLOCKED: _ClassVar[TaskStatus]
    TASK_STATUS_ABANDONED: _ClassVar[TaskStatus]

class AttemptStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTEMPT_STATUS_UNSPECIFIED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_RUNNING: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_COMPLETED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_FAILED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_BLOCKED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_ABANDONED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_RELEASED: _ClassVar[AttemptStatus]
    ATTEMPT_STATUS_LEASE_EXPIRED: _ClassVar[AttemptStatus]

class LeaseState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEASE_STATE_UNSPECIFIED: _ClassVar[LeaseState]
    LEASE_STATE_EXTENDED: _ClassVar[LeaseState]
    LEASE_STATE_LOST: _ClassVar[LeaseState]
    LEASE_STATE_CANCEL_REQUESTED: _ClassVar[LeaseState]
    LEASE_STATE_PAUSE_REQUESTED: _ClassVar[LeaseState]

class ObstacleKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBSTACLE_KIND_UNSPECIFIED: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_STATUS: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_DEPENDENCY: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_TIME: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_PATHS: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_CAPABILITY: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_RUN_PAUSED: _ClassVar[ObstacleKind]
    OBSTACLE_KIND_RUN_ENDED: _ClassVar[ObstacleKind]

class InProgressPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IN_PROGRESS_POLICY_UNSPECIFIED: _ClassVar[InProgressPolicy]
    IN_PROGRESS_POLICY_ABANDON: _ClassVar[InProgressPolicy]
    IN_PROGRESS_POLICY_KEEP: _ClassVar[InProgressPolicy]
TASK_STATUS_UNSPECIFIED: TaskStatus
TASK_STATUS_PENDING: TaskStatus
TASK_STATUS_IN_PROGRESS: TaskStatus
TASK_STATUS_COMPLETED: TaskStatus
TASK_STATUS_BLOCKED: TaskStatus
TASK_STATUS_ABANDONED: TaskStatus
ATTEMPT_STATUS_UNSPECIFIED: AttemptStatus
ATTEMPT_STATUS_RUNNING: AttemptStatus
ATTEMPT_STATUS_COMPLETED: AttemptStatus
ATTEMPT_STATUS_FAILED: AttemptStatus
ATTEMPT_STATUS_BLOCKED: AttemptStatus
ATTEMPT_STATUS_ABANDONED: AttemptStatus
ATTEMPT_STATUS_RELEASED: AttemptStatus
ATTEMPT_STATUS_LEASE_EXPIRED: AttemptStatus
LEASE_STATE_UNSPECIFIED: LeaseState
LEASE_STATE_EXTENDED: LeaseState
LEASE_STATE_LOST: LeaseState
LEASE_STATE_CANCEL_REQUESTED: LeaseState
LEASE_STATE_PAUSE_REQUESTED: LeaseState
OBSTACLE_KIND_UNSPECIFIED: ObstacleKind
OBSTACLE_KIND_STATUS: ObstacleKind
OBSTACLE_KIND_DEPENDENCY: ObstacleKind
OBSTACLE_KIND_TIME: ObstacleKind
OBSTACLE_KIND_PATHS: ObstacleKind
OBSTACLE_KIND_CAPABILITY: ObstacleKind
OBSTACLE_KIND_RUN_PAUSED: ObstacleKind
OBSTACLE_KIND_RUN_ENDED: ObstacleKind
IN_PROGRESS_POLICY_UNSPECIFIED: InProgressPolicy
IN_PROGRESS_POLICY_ABANDON: InProgressPolicy
IN_PROGRESS_POLICY_KEEP: InProgressPolicy

class Task(_message.Message):
    __slots__ = ("id", "run_id", "ordinal", "title", "objective", "acceptance_criteria", "verification_steps", "allowed_paths", "depends_on", "required_capabilities", "priority", "labels", "max_attempts", "not_before_time", "status", "attempt_count", "failure_count", "implementation_summary", "blocker_signature", "agent_id", "lease_expire_time", "plan_version", "revision", "create_time", "update_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ORDINAL_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_CRITERIA_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_STEPS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_PATHS_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IMPLEMENTATION_SUMMARY_FIELD_NUMBER: _ClassVar[int]
    BLOCKER_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PLAN_VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    run_id: str
    ordinal: int
    title: str
    objective: str
    acceptance_criteria: _containers.RepeatedScalarFieldContainer[str]
    verification_steps: _containers.RepeatedScalarFieldContainer[str]
    allowed_paths: _containers.RepeatedScalarFieldContainer[str]
    depends_on: _containers.RepeatedScalarFieldContainer[str]
    required_capabilities: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    labels: _containers.ScalarMap[str, str]
    max_attempts: int
    not_before_time: _timestamp_pb2.Timestamp
    status: TaskStatus
    attempt_count: int
    failure_count: int
    implementation_summary: str
    blocker_signature: str
    agent_id: str
    lease_expire_time: _timestamp_pb2.Timestamp
    plan_version: int
    revision: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., run_id: _Optional[str] = ..., ordinal: _Optional[int] = ..., title: _Optional[str] = ..., objective: _Optional[str] = ..., acceptance_criteria: _Optional[_Iterable[str]] = ..., verification_steps: _Optional[_Iterable[str]] = ..., allowed_paths: _Optional[_Iterable[str]] = ..., depends_on: _Optional[_Iterable[str]] = ..., required_capabilities: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., max_attempts: _Optional[int] = ..., not_before_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status: _Optional[_Union[TaskStatus, str]] = ..., attempt_count: _Optional[int] = ..., failure_count: _Optional[int] = ..., implementation_summary: _Optional[str] = ..., blocker_signature: _Optional[str] = ..., agent_id: _Optional[str] = ..., lease_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., plan_version: _Optional[int] = ..., revision: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TaskDraft(_message.Message):
    __slots__ = ("key", "title", "objective", "acceptance_criteria", "verification_steps", "allowed_paths", "depends_on", "required_capabilities", "priority", "labels", "max_attempts", "not_before_time")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    ACCEPTANCE_CRITERIA_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_STEPS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_PATHS_FIELD_NUMBER: _ClassVar[int]
    DEPENDS_ON_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_TIME_FIELD_NUMBER: _ClassVar[int]
    key: str
    title: str
    objective: str
    acceptance_criteria: _containers.RepeatedScalarFieldContainer[str]
    verification_steps: _containers.RepeatedScalarFieldContainer[str]
    allowed_paths: _containers.RepeatedScalarFieldContainer[str]
    depends_on: _containers.RepeatedScalarFieldContainer[str]
    required_capabilities: _containers.RepeatedScalarFieldContainer[str]
    priority: int
    labels: _containers.ScalarMap[str, str]
    max_attempts: int
    not_before_time: _timestamp_pb2.Timestamp
    def __init__(self, key: _Optional[str] = ..., title: _Optional[str] = ..., objective: _Optional[str] = ..., acceptance_criteria: _Optional[_Iterable[str]] = ..., verification_steps: _Optional[_Iterable[str]] = ..., allowed_paths: _Optional[_Iterable[str]] = ..., depends_on: _Optional[_Iterable[str]] = ..., required_capabilities: _Optional[_Iterable[str]] = ..., priority: _Optional[int] = ..., labels: _Optional[_Mapping[str, str]] = ..., max_attempts: _Optional[int] = ..., not_before_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TaskAttempt(_message.Message):
    __slots__ = ("id", "run_id", "task_id", "attempt_number", "agent_id", "status", "summary", "blocker_signature", "result", "progress", "create_time", "end_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    AGENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    BLOCKER_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    run_id: str
    task_id: str
    attempt_number: int
    agent_id: str
    status: AttemptStatus
    summary: str
    blocker_signature: str
    result: _struct_pb2.Value
    progress: _struct_pb2.Value
    create_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., run_id: _Optional[str] = ..., task_id: _Optional[str] = ..., attempt_number: _Optional[int] = ..., agent_id: _Optional[str] = ..., status: _Optional[_Union[AttemptStatus, str]] = ..., summary: _Optional[str] = ..., blocker_signature: _Optional[str] = ..., result: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., progress: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("task", "attempt_number", "lease_token", "lease_duration", "lease_expire_time", "previous_attempt")
    TASK_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LEASE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    LEASE_EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    task: Task
    attempt_number: int
    lease_token: str
    lease_duration: _duration_pb2.Duration
    lease_expire_time: _timestamp_pb2.Timestamp
    previous_attempt: TaskAttempt
    def __init__(self, task: _Optional[_Union[Task, _Mapping]] = ..., attempt_number: _Optional[int] = ..., lease_token: _Optional[str] = ..., lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lease_expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., previous_attempt: _Optional[_Union[TaskAttempt, _Mapping]] = ...) -> None: ...

class Unclaimable(_message.Message):
    __slots__ = ("pending", "waiting_on_dependency", "waiting_on_time", "waiting_on_paths", "missing_capability", "run_paused")
    PENDING_FIELD_NUMBER: _ClassVar[int]
    WAITING_ON_DEPENDENCY_FIELD_NUMBER: _ClassVar[int]
    WAITING_ON_TIME_FIELD_NUMBER: _ClassVar[int]
    WAITING_ON_PATHS_FIELD_NUMBER: _ClassVar[int]
    MISSING_CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    RUN_PAUSED_FIELD_NUMBER: _ClassVar[int]
    pending: int
    waiting_on_dependency: int
    waiting_on_time: int
    waiting_on_paths: int
    missing_capability: int
    run_paused: int
    def __init__(self, pending: _Optional[int] = ..., waiting_on_dependency: _Optional[int] = ..., waiting_on_time: _Optional[int] = ..., waiting_on_paths: _Optional[int] = ..., missing_capability: _Optional[int] = ..., run_paused: _Optional[int] = ...) -> None: ...

class Obstacle(_message.Message):
    __slots__ = ("kind", "detail", "task_id", "path", "other_path", "time")
    KIND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    OTHER_PATH_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    kind: ObstacleKind
    detail: str
    task_id: str
    path: str
    other_path: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, kind: _Optional[_Union[ObstacleKind, str]] = ..., detail: _Optional[str] = ..., task_id: _Optional[str] = ..., path: _Optional[str] = ..., other_path: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
