"""Evidence of the chain: headers and commits, the light client that follows them, proofs of state below them.

`header` reads light blocks, `light` decides which headers hold, `ics23` and `state` show what stood in the
application's state under one of them. Everything is bytes and time in, verdict out.
"""
