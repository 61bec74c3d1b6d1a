"""Carries evidence from the chain to one enclave, and the enclave's answers to the chain.

It is trusted for availability only: everything it hands over is proven to the enclave, everything it takes from it is
signed. It keeps its own height and the enclave's sealed objects, durably, and starts again from there.
"""
