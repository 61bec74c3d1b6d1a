"""A digest-addressed store of ciphertexts and public material over a folder, and its client.

It is trusted for availability only: whoever reads from it compares the digest. Nothing is ever evicted, so that what a
pending request needs cannot disappear; a full store refuses what is new.
"""
