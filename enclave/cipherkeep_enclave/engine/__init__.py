"""The engine: opaque keys, and the few things that are done with them. A thin layer over `tfhers`."""

from cipherkeep_enclave.engine.keys import NotPackedError, WrongTypeError, open_packed, secret_key
from cipherkeep_enclave.engine.material import MaterialFolder

__all__ = [
    "MaterialFolder",
    "NotPackedError",
    "WrongTypeError",
    "open_packed",
    "secret_key",
]
