import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from runhub.v1 import event_pb2 as _event_pb2
from runhub.v1 import options_pb2 as _options_pb2
from runhub.v1 import snapshot_pb2 as _snapshot_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscribeStart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUBSCRIBE_START_UNSPECIFIED: _ClassVar[SubscribeStart]
    SUBSCRIBE_START_FROM_BEGINNING: _ClassVar[SubscribeStart]
    SUBSCRIBE_START_FROM_NOW: _ClassVar[SubscribeStart]
    SUBSCRIBE_START_FROM_SNAPSHOT: _ClassVar[SubscribeStart]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_RUN_ENDED: _ClassVar[EndReason]
    END_REASON_RUN_DELETED: _ClassVar[EndReason]
    END_REASON_DRAINING: _ClassVar[EndReason]
SUBSCRIBE_START_UNSPECIFIED: SubscribeStart
SUBSCRIBE_START_FROM_BEGINNING: SubscribeStart
SUBSCRIBE_START_FROM_NOW: SubscribeStart
SUBSCRIBE_START_FROM_SNAPSHOT: SubscribeStart
END_REASON_UNSPECIFIED: EndReason
END_REASON_RUN_ENDED: EndReason
END_REASON_RUN_DELETED: EndReason
END_REASON_DRAINING: EndReason

class AppendEventsRequest(_message.Message):
    __slots__ = ("run_id", "events", "request_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.EventDraft]
    request_id: str
    def __init__(self, run_id: _Optional[str] = ..., events: _Optional[_Iterable[_Union[_event_pb2.EventDraft, _Mapping]]] = ..., request_id: _Optional[str] = ...) -> None: ...

class AppendEventsResponse(_message.Message):
    __slots__ = ("first_seq", "last_seq", "last_position", "log_id")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    last_seq: int
    last_position: int
    log_id: str
    def __init__(self, first_seq: _Optional[int] = ..., last_seq: _Optional[int] = ..., last_position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("run_id", "limit", "after_position", "before_position", "wait", "kinds", "sources", "task_id", "log_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    BEFORE_POSITION_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    limit: int
    after_position: int
    before_position: int
    wait: _duration_pb2.Duration
    kinds: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    task_id: str
    log_id: str
    def __init__(self, run_id: _Optional[str] = ..., limit: _Optional[int] = ..., after_position: _Optional[int] = ..., before_position: _Optional[int] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., kinds: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., task_id: _Optional[str] = ..., log_id: _Optional[str] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events", "next_position", "log_id")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    next_position: int
    log_id: str
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., next_position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class SubscribeEventsRequest(_message.Message):
    __slots__ = ("run_id", "after_position", "start", "kinds", "sources", "task_id", "bookmark_interval", "event_limit", "attempt_limit", "task_limit", "approval_limit", "artifact_limit", "log_id")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_POSITION_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_INTERVAL_FIELD_NUMBER: _ClassVar[int]
    EVENT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    TASK_LIMIT_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_LIMIT_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_LIMIT_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    after_position: int
    start: SubscribeStart
    kinds: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    task_id: str
    bookmark_interval: _duration_pb2.Duration
    event_limit: int
    attempt_limit: int
    task_limit: int
    approval_limit: int
    artifact_limit: int
    log_id: str
    def __init__(self, run_id: _Optional[str] = ..., after_position: _Optional[int] = ..., start: _Optional[_Union[SubscribeStart, str]] = ..., kinds: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., task_id: _Optional[str] = ..., bookmark_interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., event_limit: _Optional[int] = ..., attempt_limit: _Optional[int] = ..., task_limit: _Optional[int] = ..., approval_limit: _Optional[int] = ..., artifact_limit: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class SubscribeEventsResponse(_message.Message):
    __slots__ = ("snapshot", "event", "caught_up", "bookmark", "end")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CAUGHT_UP_FIELD_NUMBER: _ClassVar[int]
    BOOKMARK_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    snapshot: _snapshot_pb2.RunSnapshot
    event: _event_pb2.Event
    caught_up: CaughtUp
    bookmark: Bookmark
    end: End
    def __init__(self, snapshot: _Optional[_Union[_snapshot_pb2.RunSnapshot, _Mapping]] = ..., event: _Optional[_Union[_event_pb2.Event, _Mapping]] = ..., caught_up: _Optional[_Union[CaughtUp, _Mapping]] = ..., bookmark: _Optional[_Union[Bookmark, _Mapping]] = ..., end: _Optional[_Union[End, _Mapping]] = ...) -> None: ...

class CaughtUp(_message.Message):
    __slots__ = ("position", "log_id")
    POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_ID_FIELD_NUMBER: _ClassVar[int]
    position: int
    log_id: str
    def __init__(self, position: _Optional[int] = ..., log_id: _Optional[str] = ...) -> None: ...

class Bookmark(_message.Message):
    __slots__ = ("position",)
    POSITION_FIELD_NUMBER: _ClassVar[int]
    position: int
    def __init__(self, position: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("reason", "position")
    REASON_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    reason: EndReason
    position: int
    def __init__(self, reason: _Optional[_Union[EndReason, str]] = ..., position: _Optional[int] = ...) -> None: ...
