"""Enclave images: `pcr` is the algorithm of measurements, `image` reads image files, `signature` judges who signed one.

What runs an enclave needs the algorithm alone, so that alone is offered here.
"""

from cipherkeep_attestation.eif.pcr import (
    CONFIGURATION_PCR,
    EMULATED_KERNEL,
    MANIFEST_LABEL,
    PCR_BYTES,
    ZERO_PCR,
    FileManifest,
    configuration_pcr,
    extend,
    file_manifest,
    manifest_measurements,
    measure,
)

__all__ = [
    "CONFIGURATION_PCR",
    "EMULATED_KERNEL",
    "MANIFEST_LABEL",
    "PCR_BYTES",
    "ZERO_PCR",
    "FileManifest",
    "configuration_pcr",
    "extend",
    "file_manifest",
    "manifest_measurements",
    "measure",
]
