"""Carries bytes between the host and its enclave, and serves attestation documents to whoever asks.

Trusted for availability only: the channel it relays is attested and encrypted end to end, and so is the enclave's way
to AWS KMS. It decides nothing but where bytes may go: three fixed pairs of addresses, and no other.
"""
