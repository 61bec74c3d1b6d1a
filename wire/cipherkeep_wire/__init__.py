"""Carries evidence and requests between trust domains: protocol, limits, transport, attested channel.

Judges nothing. Importing it before `grpc` is first imported leaves gRPC nothing but TLS 1.3 (decision 0040).
"""

import os

# gRPC has no setting for a lowest version, and reads this one once, when it is loaded. Our certificates hold
# ECDSA keys: with only RSA suites left, TLS 1.2 finds no common cipher. TLS 1.3 has its own suites.
os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES256-GCM-SHA384"
# Its own lines on stderr are no structured logs; what matters reaches the caller as a status.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
