"""Attestation documents of AWS Nitro: `document` decodes, `certificate` and `path` judge who signs, `verify` judges.

    attestation = verify(document, root=aws_root(), policy=policy, at=now)

Nothing here reads a clock or has a default root: both are arguments, always.
"""
