"""Generates the stubs of `wire/cipherkeep_wire/kms.proto`; `--check` only says whether they are current.

The stubs are committed because they are measured with the rest of the enclave.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PACKAGE = Path(__file__).resolve().parent.parent / "wire" / "cipherkeep_wire"
OUTPUTS = ("kms_pb2.py", "kms_pb2.pyi", "kms_pb2_grpc.py")


def generate() -> dict[str, str]:
    """The stubs' texts by file name."""
    with tempfile.TemporaryDirectory() as scratch:
        flags = [f"--proto_path={PACKAGE}", f"--python_out={scratch}", f"--pyi_out={scratch}"]
        if protoc.main(["protoc", *flags, f"--grpc_python_out={scratch}", "kms.proto"]) != 0:
            raise SystemExit("protoc failed")
        texts = {name: (Path(scratch) / name).read_text() for name in OUTPUTS}
    texts["kms_pb2_grpc.py"] = texts["kms_pb2_grpc.py"].replace(
        "import kms_pb2 as kms__pb2", "from cipherkeep_wire import kms_pb2 as kms__pb2"
    )
    return texts


def main() -> int:
    texts = generate()
    if "--check" in sys.argv:
        stale = [name for name, text in texts.items() if (PACKAGE / name).read_text() != text]
        if stale:
            print(f"not current: {', '.join(stale)}: run `.venv/bin/python tools/generate_wire.py`", file=sys.stderr)
        return 1 if stale else 0
    for name, text in texts.items():
        (PACKAGE / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
