from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Admission(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ADMISSION_UNSPECIFIED: _ClassVar[Admission]
    ADMISSION_FIRST: _ClassVar[Admission]
    ADMISSION_OPEN: _ClassVar[Admission]
    ADMISSION_LIMITED: _ClassVar[Admission]
ADMISSION_UNSPECIFIED: Admission
ADMISSION_FIRST: Admission
ADMISSION_OPEN: Admission
ADMISSION_LIMITED: Admission
RPC_FIELD_NUMBER: _ClassVar[int]
rpc: _descriptor.FieldDescriptor

class RpcOptions(_message.Message):
    __slots__ = ("mutates", "admission", "paged", "max_response_bytes")
    MUTATES_FIELD_NUMBER: _ClassVar[int]
    ADMISSION_FIELD_NUMBER: _ClassVar[int]
    PAGED_FIELD_NUMBER: _ClassVar[int]
    MAX_RESPONSE_BYTES_FIELD_NUMBER: _ClassVar[int]
    mutates: bool
    admission: Admission
    paged: bool
    max_response_bytes: int
    def __init__(self, mutates: bool = ..., admission: _Optional[_Union[Admission, str]] = ..., paged: bool = ..., max_response_bytes: _Optional[int] = ...) -> None: ...
