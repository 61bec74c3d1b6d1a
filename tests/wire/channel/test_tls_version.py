"""TLS 1.3 and nothing older, shown from outside with another TLS library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# A process of its own, because gRPC reads its cipher list once, when it is first imported.
PROGRAM = """
{first}
import asyncio, json, socket, ssl, sys
from cipherkeep_wire.channel import TlsIdentity
from cipherkeep_wire.channel.client import shake_hands
from cipherkeep_wire.channel.identity import pem_of
from tests.wire.world import make_world

def attempt(world, identity, server_pem, version):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=server_pem.decode())
    context.minimum_version = context.maximum_version = version
    if version is ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.set_alpn_protocols(["h2"])
    pem = world.folder / "client.pem"
    pem.write_bytes(identity.certificate_pem + identity.private_key_pem)
    context.load_cert_chain(pem)
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(5)
        plug.connect(world.grpc.path)
        try:
            with context.wrap_socket(plug, server_hostname="cipherkeep.enclave") as secured:
                return [secured.version(), call(secured)]
        except (ssl.SSLError, OSError) as problem:
            return [type(problem).__name__, ""]

def call(secured):
    '''A unary call in HTTP/2 by hand; what comes back in plain sight of the trailers' Huffman-free part.'''
    def header(name, value):
        return b"\\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
    def frame(kind, flags, stream, body):
        return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body
    block = b"".join(header(*pair) for pair in (
        (b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/test.Service/Echo"),
        (b":authority", b"x"), (b"te", b"trailers"), (b"content-type", b"application/grpc")))
    secured.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, block)
                    + frame(0, 1, 1, b"\\x00\\x00\\x00\\x00\\x02hi"))
    got = b""
    try:
        while b"grpc-status" not in got:
            data = secured.recv(65536)
            if not data:
                break
            got += data
    except TimeoutError:
        pass
    return "refused" if b"channel.tls_version" in got else "served" if b"\\x00\\x00\\x00\\x00\\x02hi" in got else "?"

async def main():
    with make_world() as world:
        async with world.serving() as server:
            identity = TlsIdentity.generate("initiator", world.clock())
            session = await shake_hands(
                world.handshake, identity, world.initiator, clock=world.clock, limits=world.limits)
            server.sessions.begin(next(iter(server.sessions._sessions.values())), session.initiator_document)
            server_pem = pem_of(session.peer_certificate)
            print(json.dumps([await asyncio.to_thread(attempt, world, identity, server_pem, version)
                              for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("import cipherkeep_wire", '[["SSLEOFError", ""], ["TLSv1.3", "served"]]'),
        ("import grpc, grpc.aio", '[["TLSv1.2", "refused"], ["TLSv1.3", "served"]]'),
    ],
    ids=["wire is imported first", "gRPC is imported first"],
)
def test_tls_1_2_serves_nobody(first: str, expected: str) -> None:
    """With a pinned certificate TLS 1.3 is served; TLS 1.2 finds no cipher, and where it does the call is refused."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{first}", first)],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "GRPC_VERBOSITY": "NONE"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == expected, done.stderr


@pytest.mark.parametrize("program", ["cipherkeep_enclave.__main__", "cipherkeep_host.connector.__main__"])
def test_both_ends_import_the_wire_before_grpc(program: str) -> None:
    """The programs that end the channel load gRPC after its cipher list was set."""
    found = subprocess.run(
        [sys.executable, "-c", f"import {program}, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert found.index("cipherkeep_wire") < found.index("grpc")
