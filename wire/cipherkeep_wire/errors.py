"""The only place for refusals of the service and the channel: one exception and the table of its codes.

A refusal travels as a gRPC status: the code in the trailing metadata `cipherkeep-code`, the text as its details,
`code: sentence (detail)`. Evidence that does not hold travels the same way under its own code (`status_of`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import grpc

CODE_KEY = "cipherkeep-code"


@dataclass(frozen=True, slots=True)
class ServiceRule:
    """What went wrong in one sentence, what to look at, whether the same call may succeed later."""

    sentence: str
    hint: str
    retryable: bool
    status: grpc.StatusCode


class ServiceError(Exception):
    """A call was refused. `code` names the rule in `SERVICE_RULES`; `detail` holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        rule = SERVICE_RULES[code]
        self.code = code
        self.detail = detail
        self.sentence = rule.sentence
        self.hint = rule.hint
        self.retryable = rule.retryable
        super().__init__(f"{code}: {rule.sentence}" + (f" ({detail})" if detail else ""))


class RemoteError(Exception):
    """The other side refused: its code and text. The codes are those of this table and of the evidence."""

    def __init__(self, code: str, text: str, *, retryable: bool) -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(text)


_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_BUSY = grpc.StatusCode.RESOURCE_EXHAUSTED
_UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED

SERVICE_RULES: dict[str, ServiceRule] = {
    # --- channel ---
    "channel.broken": ServiceRule(
        "A call ended without an answer of the service.",
        "The connection was cut or never came about: look at the proxy and the enclave.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "channel.busy": ServiceRule(
        "More handshakes run, or begin per second, than are served.", "Try again after a second.", True, _BUSY
    ),
    "channel.sessions_full": ServiceRule(
        "As many sessions live as are kept, and none is ended for another.",
        "Look for clients that open sessions without closing them; sessions end with their documents.",
        True,
        _BUSY,
    ),
    "channel.certificate_in_use": ServiceRule(
        "Another live session has this certificate.",
        "Make a new certificate for every session.",
        False,
        _UNAUTHENTICATED,
    ),
    "channel.tls_version": ServiceRule(
        "The connection is not TLS 1.3.",
        "Import cipherkeep_wire before grpc, on both sides.",
        False,
        _UNAUTHENTICATED,
    ),
    "channel.unknown_session": ServiceRule(
        "The peer's certificate is of no live session.", "Run the handshake again.", True, _UNAUTHENTICATED
    ),
    "channel.session_expired": ServiceRule(
        "The session has ended with the documents it rests on.", "Run the handshake again.", True, _UNAUTHENTICATED
    ),
    "channel.not_begun": ServiceRule(
        "The session's peer has not yet named the document that it was attested by.",
        "The first call of a session is `Begin`; the client of this package makes it.",
        True,
        _UNAUTHENTICATED,
    ),
    "channel.other_document": ServiceRule(
        "The session stands in the name of another document than the one that its peer was attested by.",
        "Somebody attested the peer's certificate as its own: see who else reaches the enclave, and connect again.",
        True,
        _UNAUTHENTICATED,
    ),
    "channel.refused": ServiceRule(
        "The other side refused the handshake.",
        "The detail holds its code: compare measurements, configuration and clocks of both sides.",
        False,
        _UNAUTHENTICATED,
    ),
    "channel.closed": ServiceRule(
        "The channel was closed on this side.", "Open a new one.", False, grpc.StatusCode.CANCELLED
    ),
    "transport.address": ServiceRule(
        "An address is none of the known forms.",
        "Forms: vsock://CID:PORT, unix:///path, unix-vsock:///path#PORT, tcp://127.0.0.1:PORT.",
        False,
        _INVALID,
    ),
    "transport.in_use": ServiceRule(
        "Something else has the path or port to listen at.",
        "Stop the process that listens there; a file that is no socket is never removed.",
        False,
        _PRECONDITION,
    ),
    "transport.unreachable": ServiceRule(
        "Nobody listens at an address.",
        "Check that the process behind it runs, and its log.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "transport.refused": ServiceRule(
        "The VM monitor did not connect to the port.",
        "The enclave does not listen at this port yet, or has ended.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "transport.timeout": ServiceRule(
        "A stream did not move within its deadline.",
        "Look for whoever is stuck at the other end.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "transport.closed": ServiceRule(
        "A stream ended or broke before it was complete.",
        "Look at the process at the other end.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "transport.frame_size": ServiceRule(
        "A frame is larger than is accepted.", "The limits stand in wire/limits.py.", False, _INVALID
    ),
    # --- enclave ---
    "service.not_anchored": ServiceRule(
        "The enclave has not seen its trust root's block yet.",
        "Send the light blocks from the root on.",
        True,
        _PRECONDITION,
    ),
    "service.stale_head": ServiceRule(
        "The head is older than ten minutes by the enclave's clock: no secret is used under it.",
        "Send newer light blocks. If the chain is idle, it makes an empty block every 30 seconds.",
        True,
        _PRECONDITION,
    ),
    "service.no_control": ServiceRule(
        "The control leaf was not shown under the current head.",
        "Send it with the light blocks.",
        True,
        _PRECONDITION,
    ),
    "service.not_fresh": ServiceRule(
        "Nothing shows yet that the head is no old copy: this boot's nonce was not seen in state.",
        "Send the nonce of Status to the chain, then its proof to Freshen.",
        True,
        _PRECONDITION,
    ),
    "service.not_admitted": ServiceRule(
        "Governance has not admitted this party with this configuration.",
        "Sign and send an admit_party statement that names the digest of the measured configuration.",
        True,
        _PRECONDITION,
    ),
    "service.closed": ServiceRule(
        "The vault is not open.", "Show the party's record and hand over the sealed objects.", True, _PRECONDITION
    ),
    "service.opened": ServiceRule(
        "The vault is open already, with other content than is handed over.",
        "Restart the enclave to open it anew.",
        False,
        _PRECONDITION,
    ),
    "service.unknown_inbox": ServiceRule(
        "The inbox of this height was not shown, or was forgotten since.", "Call Inbox again.", True, _PRECONDITION
    ),
    "service.unknown_key": ServiceRule(
        "No key of this id is held here.", "Compare the id with Status.", False, grpc.StatusCode.NOT_FOUND
    ),
    "service.unknown_kind": ServiceRule(
        "A key has no public material of this kind.", "Kinds: public_key, server_key.", False, _INVALID
    ),
    "service.size": ServiceRule(
        "A message is larger, or has more parts, than is accepted.", "Split the call.", False, _INVALID
    ),
    "service.busy": ServiceRule(
        "More calls are in flight than are served.", "Try again after the oldest has ended.", True, _BUSY
    ),
    "service.internal": ServiceRule(
        "The enclave failed in a way that it does not know.",
        "Read the enclave's log; the detail there names the exception's type only.",
        True,
        grpc.StatusCode.INTERNAL,
    ),
    # --- vault ---
    "vault.kms_unreachable": ServiceRule(
        "The key service cannot be reached.",
        "Check the proxy's egress and the key service.",
        True,
        grpc.StatusCode.UNAVAILABLE,
    ),
    "vault.kms_denied": ServiceRule(
        "The key service refused.",
        "Compare the key policy's PCR conditions with the enclave's measurements: PCR0, 1, 2 and 16.",
        False,
        _PRECONDITION,
    ),
    "vault.kms_answer": ServiceRule(
        "The key service's answer is not for this enclave or not from this key.",
        "An answer in clear text, of another key, or forged on the way is refused: look at the way to the key service.",
        False,
        _PRECONDITION,
    ),
    "vault.object_missing": ServiceRule(
        "A sealed object that the manifest names was not handed over.",
        "Restore it from a backup: its key is lost otherwise.",
        False,
        _PRECONDITION,
    ),
    "vault.object_old": ServiceRule(
        "The manifest or an object is not the one that stands in the party's record.",
        "An old or foreign copy was handed over: restore the newest.",
        False,
        _PRECONDITION,
    ),
    "vault.object_sealed": ServiceRule(
        "A sealed object does not open.",
        "It was sealed under another data key, for another party or place, or was changed.",
        False,
        _PRECONDITION,
    ),
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str, str]:
    """(status, code, text) under which an error travels. What is not known becomes `service.internal`, unexplained."""
    if isinstance(error, ServiceError):
        return SERVICE_RULES[error.code].status, error.code, str(error)
    code = getattr(error, "code", None)
    if isinstance(code, str) and hasattr(error, "sentence"):
        return _INVALID, code, str(error)
    return grpc.StatusCode.INTERNAL, "service.internal", str(ServiceError("service.internal", type(error).__name__))


def remote_error(error: grpc.aio.AioRpcError) -> RemoteError:
    """What a failed call says: its code, or `channel.broken` when it never reached the service."""
    metadata = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    code = next((str(value) for key, value in metadata if key == CODE_KEY), "")
    rule = SERVICE_RULES.get(code)
    if not code:
        return RemoteError("channel.broken", error.details() or error.code().name, retryable=True)
    return RemoteError(code, error.details() or code, retryable=rule is not None and rule.retryable)
