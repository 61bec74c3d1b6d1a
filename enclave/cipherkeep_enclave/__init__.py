"""The enclave: holds secrets, and believes the host nothing without evidence."""

import cipherkeep_wire  # noqa: F401  (before gRPC is loaded: leaves it nothing but TLS 1.3)
