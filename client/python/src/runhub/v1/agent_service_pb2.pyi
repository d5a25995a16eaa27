from runhub.v1 import agent_pb2 as _agent_pb2
from runhub.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SaveAgentStateRequest(_message.Message):
    __slots__ = ("state", "expected_revision", "request_id")
    STATE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    state: _agent_pb2.AgentState
    expected_revision: int
    request_id: str
    def __init__(self, state: _Optional[_Union[_agent_pb2.AgentState, _Mapping]] = ..., expected_revision: _Optional[int] = ..., request_id: _Optional[str] = ...) -> None: ...

class SaveAgentStateResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _agent_pb2.AgentState
    def __init__(self, state: _Optional[_Union[_agent_pb2.AgentState, _Mapping]] = ...) -> None: ...

class GetAgentStateRequest(_message.Message):
    __slots__ = ("run_id", "role")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    role: str
    def __init__(self, run_id: _Optional[str] = ..., role: _Optional[str] = ...) -> None: ...

class GetAgentStateResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: _agent_pb2.AgentState
    def __init__(self, state: _Optional[_Union[_agent_pb2.AgentState, _Mapping]] = ...) -> None: ...

class ListAgentStatesRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class ListAgentStatesResponse(_message.Message):
    __slots__ = ("states",)
    STATES_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedCompositeFieldContainer[_agent_pb2.AgentState]
    def __init__(self, states: _Optional[_Iterable[_Union[_agent_pb2.AgentState, _Mapping]]] = ...) -> None: ...
