"""The attested channel: both sides show attestation documents, then speak gRPC on mutual TLS 1.3, both keys pinned.

    AttestedServer   a listener for handshakes, and gRPC for the peers of live sessions
    open_channel     handshake and connection; the AttestedChannel renews its session by itself
    current_session  inside a served call: whose call it is
    TlsIdentity      what the factories are given: a channel key and its certificate
    request_document step 1 alone, for auditors: anyone may ask a responder for its document

Who is trusted is not decided here: the factories make `cipherkeep_attestation.handshake` machines, whose judges hold
roots and policies.
"""

from cipherkeep_wire.channel.client import AttestedChannel, open_channel
from cipherkeep_wire.channel.exchange import request_document
from cipherkeep_wire.channel.identity import TlsIdentity
from cipherkeep_wire.channel.server import AttestedServer
from cipherkeep_wire.channel.sessions import current_session

__all__ = ["AttestedChannel", "AttestedServer", "TlsIdentity", "current_session", "open_channel", "request_document"]
