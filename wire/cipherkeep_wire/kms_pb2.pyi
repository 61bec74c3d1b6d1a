from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("party", "boot", "configuration", "freshness_nonce", "fresh", "open", "head_height", "head_hash", "head_time", "control_serial", "control_height", "party_index", "manifest_serial", "manifest_digest", "keys", "frozen", "now", "evidence_key", "signing_key", "checkpoint_hash", "checkpoint_height", "fork_held_height", "fork_other")
    PARTY_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    FRESHNESS_NONCE_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HEAD_HASH_FIELD_NUMBER: _ClassVar[int]
    HEAD_TIME_FIELD_NUMBER: _ClassVar[int]
    CONTROL_SERIAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PARTY_INDEX_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_SERIAL_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_HASH_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORK_HELD_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FORK_OTHER_FIELD_NUMBER: _ClassVar[int]
    party: str
    boot: bytes
    configuration: bytes
    freshness_nonce: bytes
    fresh: bool
    open: bool
    head_height: int
    head_hash: bytes
    head_time: int
    control_serial: int
    control_height: int
    party_index: int
    manifest_serial: int
    manifest_digest: bytes
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    frozen: str
    now: int
    evidence_key: bytes
    signing_key: bytes
    checkpoint_hash: bytes
    checkpoint_height: int
    fork_held_height: int
    fork_other: bytes
    def __init__(self, party: _Optional[str] = ..., boot: _Optional[bytes] = ..., configuration: _Optional[bytes] = ..., freshness_nonce: _Optional[bytes] = ..., fresh: _Optional[bool] = ..., open: _Optional[bool] = ..., head_height: _Optional[int] = ..., head_hash: _Optional[bytes] = ..., head_time: _Optional[int] = ..., control_serial: _Optional[int] = ..., control_height: _Optional[int] = ..., party_index: _Optional[int] = ..., manifest_serial: _Optional[int] = ..., manifest_digest: _Optional[bytes] = ..., keys: _Optional[_Iterable[bytes]] = ..., frozen: _Optional[str] = ..., now: _Optional[int] = ..., evidence_key: _Optional[bytes] = ..., signing_key: _Optional[bytes] = ..., checkpoint_hash: _Optional[bytes] = ..., checkpoint_height: _Optional[int] = ..., fork_held_height: _Optional[int] = ..., fork_other: _Optional[bytes] = ...) -> None: ...

class AdvanceRequest(_message.Message):
    __slots__ = ("light_blocks", "control", "control_proof", "statements")
    LIGHT_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_PROOF_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    light_blocks: _containers.RepeatedScalarFieldContainer[bytes]
    control: bytes
    control_proof: bytes
    statements: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, light_blocks: _Optional[_Iterable[bytes]] = ..., control: _Optional[bytes] = ..., control_proof: _Optional[bytes] = ..., statements: _Optional[_Iterable[bytes]] = ...) -> None: ...

class AdvanceReply(_message.Message):
    __slots__ = ("head_height", "head_hash", "control_serial", "control_height")
    HEAD_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HEAD_HASH_FIELD_NUMBER: _ClassVar[int]
    CONTROL_SERIAL_FIELD_NUMBER: _ClassVar[int]
    CONTROL_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    head_height: int
    head_hash: bytes
    control_serial: int
    control_height: int
    def __init__(self, head_height: _Optional[int] = ..., head_hash: _Optional[bytes] = ..., control_serial: _Optional[int] = ..., control_height: _Optional[int] = ...) -> None: ...

class FreshenRequest(_message.Message):
    __slots__ = ("header_height", "proof", "key")
    HEADER_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    header_height: int
    proof: bytes
    key: int
    def __init__(self, header_height: _Optional[int] = ..., proof: _Optional[bytes] = ..., key: _Optional[int] = ...) -> None: ...

class FreshenReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SealedObject(_message.Message):
    __slots__ = ("kind", "id", "data")
    KIND_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    kind: str
    id: bytes
    data: bytes
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class Vault(_message.Message):
    __slots__ = ("manifest", "objects")
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    manifest: bytes
    objects: _containers.RepeatedCompositeFieldContainer[SealedObject]
    def __init__(self, manifest: _Optional[bytes] = ..., objects: _Optional[_Iterable[_Union[SealedObject, _Mapping]]] = ...) -> None: ...

class OpenRequest(_message.Message):
    __slots__ = ("header_height", "record", "proof", "manifest", "objects")
    HEADER_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    header_height: int
    record: bytes
    proof: bytes
    manifest: bytes
    objects: _containers.RepeatedCompositeFieldContainer[SealedObject]
    def __init__(self, header_height: _Optional[int] = ..., record: _Optional[bytes] = ..., proof: _Optional[bytes] = ..., manifest: _Optional[bytes] = ..., objects: _Optional[_Iterable[_Union[SealedObject, _Mapping]]] = ...) -> None: ...

class OpenReply(_message.Message):
    __slots__ = ("vault",)
    VAULT_FIELD_NUMBER: _ClassVar[int]
    vault: Vault
    def __init__(self, vault: _Optional[_Union[Vault, _Mapping]] = ...) -> None: ...

class RegisterRequest(_message.Message):
    __slots__ = ("block_height",)
    BLOCK_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    block_height: int
    def __init__(self, block_height: _Optional[int] = ...) -> None: ...

class RegisterReply(_message.Message):
    __slots__ = ("registration", "vault")
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    VAULT_FIELD_NUMBER: _ClassVar[int]
    registration: bytes
    vault: Vault
    def __init__(self, registration: _Optional[bytes] = ..., vault: _Optional[_Union[Vault, _Mapping]] = ...) -> None: ...

class InboxRequest(_message.Message):
    __slots__ = ("height", "header_height", "inbox", "proof")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HEADER_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INBOX_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    height: int
    header_height: int
    inbox: bytes
    proof: bytes
    def __init__(self, height: _Optional[int] = ..., header_height: _Optional[int] = ..., inbox: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class InboxReply(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    def __init__(self, requests: _Optional[int] = ...) -> None: ...

class RequestBody(_message.Message):
    __slots__ = ("counter", "body", "ciphertexts")
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    CIPHERTEXTS_FIELD_NUMBER: _ClassVar[int]
    counter: int
    body: bytes
    ciphertexts: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, counter: _Optional[int] = ..., body: _Optional[bytes] = ..., ciphertexts: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProcessRequest(_message.Message):
    __slots__ = ("height", "requests")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    height: int
    requests: _containers.RepeatedCompositeFieldContainer[RequestBody]
    def __init__(self, height: _Optional[int] = ..., requests: _Optional[_Iterable[_Union[RequestBody, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("counter", "answer", "code", "detail")
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    counter: int
    answer: bytes
    code: str
    detail: str
    def __init__(self, counter: _Optional[int] = ..., answer: _Optional[bytes] = ..., code: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class ProcessReply(_message.Message):
    __slots__ = ("outcomes", "vault")
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    VAULT_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    vault: Vault
    def __init__(self, outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., vault: _Optional[_Union[Vault, _Mapping]] = ...) -> None: ...

class MaterialRequest(_message.Message):
    __slots__ = ("key_id", "kind")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    kind: str
    def __init__(self, key_id: _Optional[bytes] = ..., kind: _Optional[str] = ...) -> None: ...

class MaterialChunk(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...
