import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ApprovalVerdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_VERDICT_UNSPECIFIED: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_PENDING: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_APPROVED: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_REJECTED: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_CHANGES_REQUESTED: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_EXPIRED: _ClassVar[ApprovalVerdict]
    APPROVAL_VERDICT_CANCELLED: _ClassVar[ApprovalVerdict]

class ExpiryPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPIRY_POLICY_UNSPECIFIED: _ClassVar[ExpiryPolicy]
    EXPIRY_POLICY_REJECT: _ClassVar[ExpiryPolicy]
    EXPIRY_POLICY_APPROVE: _ClassVar[ExpiryPolicy]
    EXPIRY_POLICY_KEEP_PENDING: _ClassVar[ExpiryPolicy]
    EXPIRY_POLICY_PAUSE_RUN: _ClassVar[ExpiryPolicy]
APPROVAL_VERDICT_UNSPECIFIED: ApprovalVerdict
APPROVAL_VERDICT_PENDING: ApprovalVerdict
APPROVAL_VERDICT_APPROVED: ApprovalVerdict
APPROVAL_VERDICT_REJECTED: ApprovalVerdict
APPROVAL_VERDICT_CHANGES_REQUESTED: ApprovalVerdict
APPROVAL_VERDICT_EXPIRED: ApprovalVerdict
APPROVAL_VERDICT_CANCELLED: ApprovalVerdict
EXPIRY_POLICY_UNSPECIFIED: ExpiryPolicy
EXPIRY_POLICY_REJECT: ExpiryPolicy
EXPIRY_POLICY_APPROVE: ExpiryPolicy
EXPIRY_POLICY_KEEP_PENDING: ExpiryPolicy
EXPIRY_POLICY_PAUSE_RUN: ExpiryPolicy

class Approval(_message.Message):
    __slots__ = ("id", "run_id", "task_id", "source", "verdict", "title", "rationale", "payload", "requested_by", "subject_digest", "on_expiry", "expire_time", "decide_time", "consume_time", "revision", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    RATIONALE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ON_EXPIRY_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    DECIDE_TIME_FIELD_NUMBER: _ClassVar[int]
    CONSUME_TIME_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    run_id: str
    task_id: str
    source: str
    verdict: ApprovalVerdict
    title: str
    rationale: str
    payload: _struct_pb2.Value
    requested_by: str
    subject_digest: str
    on_expiry: ExpiryPolicy
    expire_time: _timestamp_pb2.Timestamp
    decide_time: _timestamp_pb2.Timestamp
    consume_time: _timestamp_pb2.Timestamp
    revision: int
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., run_id: _Optional[str] = ..., task_id: _Optional[str] = ..., source: _Optional[str] = ..., verdict: _Optional[_Union[ApprovalVerdict, str]] = ..., title: _Optional[str] = ..., rationale: _Optional[str] = ..., payload: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ..., requested_by: _Optional[str] = ..., subject_digest: _Optional[str] = ..., on_expiry: _Optional[_Union[ExpiryPolicy, str]] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., decide_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., consume_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., revision: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
