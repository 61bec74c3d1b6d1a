"""Judges evidence: bytes, a policy and a time go in, a verdict comes out.

Nothing here does I/O (but for the command line in `cli`), reads a clock or has a default root of trust.
"""
