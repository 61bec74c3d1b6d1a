"""The only place for the limits of what crosses a trust boundary: each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KIB: Final = 1 << 10
MIB: Final = 1 << 20

# Ports of the enclave, dialled by the host.
HANDSHAKE_PORT: Final = 5001  # framed handshake messages, the only thing offered before a session exists
GRPC_PORT: Final = 5002  # gRPC on mutual TLS 1.3, for certificates of live sessions only

# Ports of the parent, dialled by the enclave.
CONFIGURATION_PORT: Final = 7001  # the measured configuration, as bytes that must hash to PCR16
KMS_EGRESS_PORT: Final = 7002  # relayed to AWS KMS and to nothing else; TLS ends inside the enclave


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is accepted, held and waited for. Oversized input is refused before it is allocated."""

    # --- transport ---
    connect_timeout: float = 5.0  # seconds to connect and, in the hybrid form, to read `OK`
    relay_buffer: int = 64 * KIB  # bytes held per direction of a relayed connection; larger ones gain nothing
    relay_idle: float = 900.0  # seconds without a byte either way; gRPC pings within it, so only the dead are cut
    connections: int = 128  # open connections per listener; each may hold two relay buffers

    # --- handshake ---
    handshake_frame: int = 32 * KIB  # bytes; documents seen have up to 7.6 KB and a certificate under 1 KB
    handshake_deadline: float = 10.0  # seconds for the whole of one handshake; an NSM may queue for seconds
    handshakes_at_once: int = 16  # running handshakes; each holds at most two frames
    handshakes_per_second: float = 20.0  # rate sustained; a document costs the NSM about 5 ms
    handshake_burst: int = 40  # started at once after a quiet time, as when all clients renew together

    # --- sessions ---
    sessions: int = 64  # live sessions; a full table refuses newcomers and never evicts
    session_drain: float = 120.0  # seconds after its session's end until a running call is cut

    # --- gRPC ---
    grpc_message: int = 16 * MIB  # bytes of one message either way; larger material travels as a stream
    grpc_metadata: int = 16 * KIB  # bytes of all headers of a call
    grpc_calls: int = 256  # calls running in one server; beyond it RESOURCE_EXHAUSTED
    keepalive: float = 60.0  # seconds between pings of a quiet connection, so that a cut proxy is noticed
    keepalive_timeout: float = 20.0  # seconds until an unanswered ping closes the connection


DEFAULT: Final = Limits()
