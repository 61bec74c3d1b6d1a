"""Everything outside the enclave: trusted for availability only, holds no secret of the key management."""
