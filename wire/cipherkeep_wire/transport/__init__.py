"""The only place that opens byte streams between host and enclave: addresses, frames, relays.

Four forms of address, one kind of stream:

    vsock://CID:PORT            AF_VSOCK, on real hardware
    unix:///path                a unix socket
    unix-vsock:///path#PORT     the hybrid form of VM monitors: dialling connects to `path`, writes
                                `CONNECT PORT` and reads `OK n`; listening means `path_PORT`, where the
                                monitor delivers
    tcp://127.0.0.1:PORT        loopback, on the host only

Neither a CID nor a path authenticates anybody: whoever needs to know his peer runs the handshake of
`channel`.
"""

from cipherkeep_wire.transport.address import Address, Scheme, TransportError
from cipherkeep_wire.transport.frames import read_frame, write_frame
from cipherkeep_wire.transport.listener import Handler, Listener, listen
from cipherkeep_wire.transport.relays import forward, relay
from cipherkeep_wire.transport.streams import Stream, connect, finish

__all__ = [
    "Address",
    "Handler",
    "Listener",
    "Scheme",
    "Stream",
    "TransportError",
    "connect",
    "finish",
    "forward",
    "listen",
    "read_frame",
    "relay",
    "write_frame",
]
