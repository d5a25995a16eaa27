import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Server(_message.Message):
    __slots__ = ("id", "address", "version", "start_time", "alive_time", "is_sweeper")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    ALIVE_TIME_FIELD_NUMBER: _ClassVar[int]
    IS_SWEEPER_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    version: str
    start_time: _timestamp_pb2.Timestamp
    alive_time: _timestamp_pb2.Timestamp
    is_sweeper: bool
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., version: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., alive_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., is_sweeper: bool = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("id_bytes", "name_bytes", "label_value_bytes", "path_bytes", "text_bytes", "value_bytes", "value_depth", "labels", "list_entries", "batch_entries", "request_bytes", "page_size", "page_bytes", "snapshot_bytes", "min_lease_duration", "max_lease_duration", "default_lease_duration", "globs_bytes", "task_bytes", "max_delay", "max_grace", "streams_per_connection", "max_wait")
    ID_BYTES_FIELD_NUMBER: _ClassVar[int]
    NAME_BYTES_FIELD_NUMBER: _ClassVar[int]
    LABEL_VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PATH_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    VALUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    LIST_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    BATCH_ENTRIES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MIN_LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    MAX_LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LEASE_DURATION_FIELD_NUMBER: _ClassVar[int]
    GLOBS_BYTES_FIELD_NUMBER: _ClassVar[int]
    TASK_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_GRACE_FIELD_NUMBER: _ClassVar[int]
    STREAMS_PER_CONNECTION_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_FIELD_NUMBER: _ClassVar[int]
    id_bytes: int
    name_bytes: int
    label_value_bytes: int
    path_bytes: int
    text_bytes: int
    value_bytes: int
    value_depth: int
    labels: int
    list_entries: int
    batch_entries: int
    request_bytes: int
    page_size: int
    page_bytes: int
    snapshot_bytes: int
    min_lease_duration: _duration_pb2.Duration
    max_lease_duration: _duration_pb2.Duration
    default_lease_duration: _duration_pb2.Duration
    globs_bytes: int
    task_bytes: int
    max_delay: _duration_pb2.Duration
    max_grace: _duration_pb2.Duration
    streams_per_connection: int
    max_wait: _duration_pb2.Duration
    def __init__(self, id_bytes: _Optional[int] = ..., name_bytes: _Optional[int] = ..., label_value_bytes: _Optional[int] = ..., path_bytes: _Optional[int] = ..., text_bytes: _Optional[int] = ..., value_bytes: _Optional[int] = ..., value_depth: _Optional[int] = ..., labels: _Optional[int] = ..., list_entries: _Optional[int] = ..., batch_entries: _Optional[int] = ..., request_bytes: _Optional[int] = ..., page_size: _Optional[int] = ..., page_bytes: _Optional[int] = ..., snapshot_bytes: _Optional[int] = ..., min_lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., default_lease_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., globs_bytes: _Optional[int] = ..., task_bytes: _Optional[int] = ..., max_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_grace: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., streams_per_connection: _Optional[int] = ..., max_wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
