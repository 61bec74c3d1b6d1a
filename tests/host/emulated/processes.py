"""Starts the emulators' processes for tests, signs calls to the emulated AWS KMS, and ends what it started."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import select
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from cipherkeep_host.emulated import aws_tls, pki
from cipherkeep_host.emulated.aws_sigv4 import AccessKey

PCRS = {index: bytes([index + 1]) * 48 for index in range(3)}


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for the names of unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def new_state() -> Iterator[Path]:
    """A state folder with a fresh emulated root."""
    with short_folder() as folder:
        pki.create(folder / "state")
        yield folder / "state"


@contextlib.contextmanager
def process(module: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], list[str]]]:
    """A running emulator and where it listens."""
    command = [sys.executable, "-m", f"cipherkeep_host.emulated.{module}", *arguments, "--parent", str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={}) as running:
        try:
            assert running.stdout is not None and running.stderr is not None
            ready, _, _ = select.select([running.stdout], [], [], 60)
            line = running.stdout.readline() if ready else b""
            if not line:
                running.kill()
                raise AssertionError(running.stderr.read().decode())
            yield running, json.loads(line)["listening"]
        finally:
            running.terminate()
            try:
                running.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                running.kill()


@contextlib.contextmanager
def nsm_process(state: Path, folder: Path, **pcrs: bytes) -> Iterator[str]:
    """A fresh emulated NSM; yields the address of its socket."""
    values = [f"--pcr{index}={pcrs.get(f'pcr{index}', PCRS[index]).hex()}" for index in range(3)]
    where = ["--socket", str(folder / "nsm.sock"), "--health", f"unix://{folder}/nsm-health.sock"]
    with process("nsm", *where, "--state", str(state), *values) as (_, listening):
        yield listening[0]


@dataclass
class KmsClient:
    """A test's own client of the emulated AWS KMS: signs with SigV4 by hand, trusts only the emulated CA."""

    state: Path
    socket_path: Path
    headers: dict[str, str] = field(default_factory=dict)
    access_key: AccessKey | None = None

    def call(self, operation: str, **parameters: Any) -> tuple[int, dict[str, Any]]:
        """Status and decoded answer."""
        status, body = self.post(operation, json.dumps(parameters).encode())
        return status, json.loads(body)

    def ok(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The answer of a call that must succeed."""
        status, answer = self.call(operation, **parameters)
        assert status == 200, answer
        return answer

    def refused(self, operation: str, **parameters: Any) -> str:
        """The error name of a call that must be refused."""
        status, answer = self.call(operation, **parameters)
        assert status == 400, answer
        name: str = answer["__type"]
        return name

    def post(self, operation: str, body: bytes, *, signed: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Sign and send a body; `signed` replaces headers after signing."""
        headers = self.sign(operation, body) | (signed or {})
        with self.connect() as connection:
            connection.request("POST", "/", body=body, headers={k: v for k, v in headers.items() if v})
            response = connection.getresponse()
            return response.status, response.read()

    @contextlib.contextmanager
    def connect(self) -> Iterator[http.client.HTTPConnection]:
        """A TLS connection over the unix socket."""
        context = ssl.create_default_context(cadata=aws_tls.ca_certificate(self.state))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        plain.settimeout(30)
        plain.connect(str(self.socket_path))
        connection = http.client.HTTPConnection(aws_tls.HOST_NAME)
        with context.wrap_socket(plain, server_hostname=aws_tls.HOST_NAME) as wrapped:
            connection.sock = wrapped
            yield connection

    def sign(self, operation: str, body: bytes, at: datetime | None = None) -> dict[str, str]:
        """Headers of a signed call (Signature Version 4)."""
        key = self.access_key or aws_tls.access_key(self.state)
        date = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "host": aws_tls.HOST_NAME,
            "x-amz-date": date,
            "x-amz-target": f"TrentService.{operation}",
        }
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{date[:8]}/us-east-1/kms/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        secret = f"AWS4{key.secret}".encode()
        for part in scope.split("/"):
            secret = hmac.new(secret, part.encode(), "sha256").digest()
        signature = hmac.new(secret, to_sign.encode(), "sha256").hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers | self.headers


@contextlib.contextmanager
def kms_process(state: Path, folder: Path) -> Iterator[tuple[KmsClient, subprocess.Popen[bytes]]]:
    """A running emulated AWS KMS and a client of it."""
    path = folder / "kms.sock"
    with process("aws_kms", "--listen", f"unix://{path}", "--state", str(state)) as (running, _):
        yield KmsClient(state, path), running


def page(socket_path: Path, name: str) -> tuple[int, str]:
    """Status and text of a page of a process, `/healthz` or `/metrics`."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket_path)), timeout=10) as client:
        answer = client.get(f"http://process{name}")
    return answer.status_code, answer.text


def b64(data: bytes) -> str:
    """Base64 as JSON carries it."""
    return base64.b64encode(data).decode()


def ended(pid: int, *, within: float = 10.0) -> bool:
    """Whether a process ends in time; a zombie has ended."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False
