"""Everything outside the enclave: trusted for availability only, holds no secret of the key management."""

import cipherkeep_wire  # noqa: F401  (before gRPC is loaded: leaves it nothing but TLS 1.3)
