import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AgentState(_message.Message):
    __slots__ = ("run_id", "role", "session_id", "turns", "rotation_count", "last_prompt_path", "last_response_path", "revision", "update_time")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    ROTATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_PROMPT_PATH_FIELD_NUMBER: _ClassVar[int]
    LAST_RESPONSE_PATH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    role: str
    session_id: str
    turns: int
    rotation_count: int
    last_prompt_path: str
    last_response_path: str
    revision: int
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, run_id: _Optional[str] = ..., role: _Optional[str] = ..., session_id: _Optional[str] = ..., turns: _Optional[int] = ..., rotation_count: _Optional[int] = ..., last_prompt_path: _Optional[str] = ..., last_response_path: _Optional[str] = ..., revision: _Optional[int] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
