"""Carries evidence and requests between trust domains: the protocol, its limits, the transport, the attested channel. Judges nothing."""
