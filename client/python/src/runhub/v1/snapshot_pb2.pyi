from runhub.v1 import agent_pb2 as _agent_pb2
from runhub.v1 import approval_pb2 as _approval_pb2
from runhub.v1 import artifact_pb2 as _artifact_pb2
from runhub.v1 import event_pb2 as _event_pb2
from runhub.v1 import run_pb2 as _run_pb2
from runhub.v1 import task_pb2 as _task_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RunSnapshot(_message.Message):
    __slots__ = ("run", "agents", "pending_tasks", "in_progress_tasks", "completed_tasks", "blocked_tasks", "recent_attempts", "recent_events", "approvals", "artifacts", "position", "log_id")
    RUN_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    PENDING_TASKS_FIELD_NUMBER: _ClassVar[int]
    IN_PROGRESS_TASKS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_TASKS_FIELD_NUMBER: _ClassVar[int]
    BLOCKED_TASKS_FIELD_NUMBER: _ClassVar[int]
    RECENT_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    RECENT_EVENTS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    run: _run_pb2.Run
    agents: _containers.RepeatedCompositeFieldContainer[_agent_pb2.AgentState]
    pending_tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    in_progress_tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    completed_tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    blocked_tasks: _containers.RepeatedCompositeFieldContainer[_task_pb2.Task]
    recent_attempts: _containers.RepeatedCompositeFieldContainer[_task_pb2.TaskAttempt]
    recent_events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    approvals: _containers.RepeatedCompositeFieldContainer[_approval_pb2.Approval]
    artifacts: _containers.RepeatedCompositeFieldContainer[_artifact_pb2.Artifact]
    position: int
    log_id: str
    def __init__(self, run: _Optional[_Union[_run_pb2.Run, _Mapping]] = ..., agents: _Optional[_Iterable[_Union[_agent_pb2.AgentState, _Mapping]]] = ..., pending_tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., in_progress_tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., completed_tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., blocked_tasks: _Optional[_Iterable[_Union[_task_pb2.Task, _Mapping]]] = ..., recent_attempts: _Optional[_Iterable[_Union[_task_pb2.TaskAttempt, _Mapping]]] = ..., recent_events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., approvals: _Optional[_Iterable[_Union[_approval_pb2.Approval, _Mapping]]] = ..., artifacts: _Optional[_Iterable[_Union[_artifact_pb2.Artifact, _Mapping]]] = ..., position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...
