"""The only place for refusals: the classes that say whose fault it is and the table of rules that says which.

EvidenceError
├── Malformed   the bytes are not what their format demands
├── Untrusted   well-formed, but nobody we trust vouches for it
├── Stale       vouched for, but not at this time
└── Refused     vouched for and current, and does not prove what it must

Every refusal carries a stable `code`; `RULES` gives its sentence, what an operator should look at, and the source of
the rule. `docs/errors.md` is generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of the verifier: one sentence, one hint, one source."""

    sentence: str
    hint: str
    source: str


class EvidenceError(Exception):
    """Evidence was refused. `code` names the rule in `RULES`; `detail` is for people and holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        rule = RULES[code]
        self.code = code
        self.detail = detail
        self.sentence = rule.sentence
        self.hint = rule.hint
        self.source = rule.source
        super().__init__(f"{code}: {rule.sentence}" + (f" ({detail})" if detail else ""))


class Malformed(EvidenceError):
    """The bytes are not what their format demands."""


class Untrusted(EvidenceError):
    """The evidence is well-formed, but nobody we trust vouches for it."""


class Stale(EvidenceError):
    """The evidence is vouched for, but not at this time."""


class Refused(EvidenceError):
    """The evidence is well-formed, vouched for and current, and does not prove what it must."""


RULES: dict[str, Rule] = {
    # --- encoding: CBOR and COSE ---
    "encoding.schema": Rule(
        "A map does not have exactly the fields, types and lengths that its format demands.",
        hint="Compare the versions of the software on both sides.",
        source="RFC 8949; docs of the message",
    ),
    "encoding.size": Rule(
        "A CBOR item is larger than is ever read.",
        hint="Large payloads travel as streams; compare the limit in the detail.",
        source="limits of this project",
    ),
    "encoding.trailing": Rule(
        "Bytes follow the CBOR item.",
        hint="Something was appended on the way: fetch it again.",
        source="RFC 8949 §5.3.1",
    ),
    "encoding.truncated": Rule(
        "The CBOR ends inside an item.",
        hint="Something was cut on the way: fetch it again.",
        source="RFC 8949 §5.3.1",
    ),
    "encoding.not_shortest": Rule(
        "A CBOR integer or length is longer than it needs to be.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 8949 §4.2.1",
    ),
    "encoding.indefinite": Rule(
        "A CBOR item has no definite length where one is demanded, or a break stands alone.",
        hint="Encode with the encoder of this project.",
        source="RFC 8949 §3.2 and §4.2.1",
    ),
    "encoding.reserved": Rule(
        "A CBOR item begins with a reserved value.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 8949 §3",
    ),
    "encoding.utf8": Rule(
        "A CBOR text is not UTF-8.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 8949 §3.1",
    ),
    "encoding.integer_range": Rule(
        "A CBOR integer is below -2^63.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="encoding of this project",
    ),
    "encoding.tag": Rule(
        "A CBOR item carries a tag where none is allowed.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="encoding of this project",
    ),
    "encoding.depth": Rule(
        "CBOR items are nested too deeply.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="limits of this project",
    ),
    "encoding.items": Rule(
        "A CBOR item holds more items than are ever read.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="limits of this project",
    ),
    "encoding.key": Rule(
        "A CBOR map has a key that is neither text nor an integer.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="encoding of this project",
    ),
    "encoding.mixed_keys": Rule(
        "The keys of a CBOR map are not all texts, all positive or all negative integers.",
        hint="Encode with the encoder of this project.",
        source="encoding of this project",
    ),
    "encoding.duplicate_key": Rule(
        "A CBOR map has a key twice.",
        hint="Two readers could see two values: suspect an attack.",
        source="RFC 8949 §5.6; nitro-validator #34",
    ),
    "encoding.key_order": Rule(
        "The keys of a CBOR map are not in order.",
        hint="Encode with the encoder of this project.",
        source="RFC 8949 §4.2.1",
    ),
    "encoding.simple": Rule(
        "A CBOR item is a float or a simple value other than false, true and null.",
        hint="Encode with the encoder of this project.",
        source="encoding of this project",
    ),
    "cose.shape": Rule(
        "An envelope is not a COSE_Sign1: protected header, unprotected header, payload, signature.",
        hint="Something else than an envelope was sent.",
        source="RFC 9052 §4.2",
    ),
    "cose.algorithm": Rule(
        "An envelope's protected header is not exactly the one algorithm that is expected.",
        hint="Our messages are EdDSA, documents ES384; the algorithm is never taken from the message.",
        source="RFC 9053 §2",
    ),
    "cose.unprotected": Rule(
        "An envelope has an unprotected header.",
        hint="No signature covers it, so nothing may stand there.",
        source="design, decision 15; RFC 9052 §3",
    ),
    "cose.signature_length": Rule(
        "An envelope's signature does not have the length of its algorithm's.",
        hint="Something was cut on the way: fetch it again.",
        source="RFC 9053 §2",
    ),
    "cose.key": Rule(
        "An Ed25519 public key is not 32 bytes long.",
        hint="Compare the key with the registration of its owner.",
        source="RFC 8032 §5.1.5",
    ),
    "cose.signature": Rule(
        "An envelope is not signed by the key that was expected, or for another purpose.",
        hint="Compare the sender's key with the registration, and the context with what was asked.",
        source="RFC 9052 §4.4",
    ),
    # --- document: Nitro attestation documents ---
    "document.size": Rule(
        "A document is larger than is ever read.",
        hint="An NSM answers with at most 12 KiB: this is something else.",
        source="limits of this project",
    ),
    "document.tag": Rule(
        "A document has another tag than COSE_Sign1's, or more than one.",
        hint="Something else than a document was sent.",
        source="RFC 9052 §2, tag 18",
    ),
    "document.fields": Rule(
        "A document's payload does not have exactly the nine fields of its kind.",
        hint="AWS may have added a field: compare with its specification before allowing it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.is_host_document": Rule(
        "A host's NitroTPM document was shown where an enclave's is demanded.",
        hint="Whoever answered is an instance, not an enclave: look at the address you asked.",
        source="AWS EC2, NitroTPM attestation document",
    ),
    "document.is_enclave_document": Rule(
        "An enclave's document was shown where a host's NitroTPM document is demanded.",
        hint="Let the host present the document of its NitroTPM.",
        source="AWS EC2, NitroTPM attestation document",
    ),
    "document.module_id": Rule(
        "A document's module id is not a text of 1 to 128 characters.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.digest": Rule(
        "A document's digest is not SHA384.",
        hint="No other digest has been seen in a document: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.timestamp": Rule(
        "A document's timestamp is not a number of milliseconds from 1 to the year 9999.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.pcrs": Rule(
        "A document's measurements are not a map of PCRs 0 to 15 at least and 0 to 31 at most.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.pcr_length": Rule(
        "A measurement does not have the length of the document's digest, 48 bytes.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.certificate": Rule(
        "A document's certificate is not a byte string of 1 to 1024 bytes.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.cabundle": Rule(
        "A document's certificate bundle is not 1 to 8 byte strings of 1 to 1024 bytes.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.optional_field": Rule(
        "A document's public key, user data or nonce is neither null nor at most 1024 bytes long.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.algorithm": Rule(
        "A document's protected header is not exactly ES384.",
        hint="The algorithm is never taken from the message: suspect whoever sent it.",
        source="AWS Nitro Enclaves, attestation process §2",
    ),
    "document.signature_length": Rule(
        "A document's signature is not 96 bytes long.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 9053 §2.1",
    ),
    "document.signature": Rule(
        "A document is not signed by the key of its leaf certificate.",
        hint="Something changed it after it was made: ask for a new one.",
        source="AWS Nitro Enclaves, attestation process §3",
    ),
    "document.debug": Rule(
        "An enclave runs in debug mode: its measurements are zero and its host reads its console.",
        hint="Launch it without --debug-mode; a debug enclave is never given secrets.",
        source="AWS Nitro Enclaves, PCRs of debug mode",
    ),
    "document.pcr_mismatch": Rule(
        "A measurement differs from every release that the policy names.",
        hint="PCR0 to 2: rebuild the release that the operator names and compare; name both during an upgrade. PCR16 "
        "alone: another configuration; PCR8: another signer.",
        source="AWS Nitro Enclaves, PCR0 to PCR2",
    ),
    "document.release_window": Rule(
        "A document's measurements are those of a release that is not valid at the stated time.",
        hint="Before its window a release is not out, after it withdrawn: upgrade the enclave, or renew the policy.",
        source="policy",
    ),
    "document.user_data": Rule(
        "A document's user data is not what the policy demands.",
        hint="Compare the versions on both sides, and whether the document was made for this purpose.",
        source="policy; AWS Nitro Enclaves, attestation process §2, user_data",
    ),
    "document.nonce": Rule(
        "A document does not carry the nonce that was sent.",
        hint="An old document, or another asker's, was replayed: ask again with a new nonce.",
        source="AWS Nitro Enclaves, attestation process; kairos #4828",
    ),
    "document.public_key": Rule(
        "A document is bound to another public key.",
        hint="The connection is not with the enclave that was attested: look at what lies between.",
        source="AWS Nitro Enclaves, attestation process §2, public_key",
    ),
    "document.too_old": Rule(
        "A document is older than the policy allows.",
        hint="Ask for a new one; if that is refused too, compare the two clocks.",
        source="policy",
    ),
    "document.from_future": Rule(
        "A document was made after the second of the stated time, beyond the allowed drift.",
        hint="Compare the judging clock with a time server: the document's time is the hypervisor's.",
        source="policy",
    ),
    "document.root_data": Rule(
        "The packaged root certificate is not the one whose digest AWS published.",
        hint="The installation was changed: install again and compare the package's hash.",
        source="AWS Nitro Enclaves, root of trust G1",
    ),
    "certificate.size": Rule(
        "A certificate is larger than is ever read.",
        hint="Those of documents have at most 1024 bytes, those of channels at most 2048.",
        source="limits of this project",
    ),
    "certificate.encoding": Rule(
        "A certificate is not one item in strict DER.",
        hint="Its lengths, integers or tags could be read in two ways: suspect whoever made it.",
        source="ITU-T X.690 §10 and §11",
    ),
    "certificate.structure": Rule(
        "A certificate's parts are not those of X.509.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.1",
    ),
    "certificate.version": Rule(
        "A certificate is not of X.509 version 3.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.1.2.1",
    ),
    "certificate.serial": Rule(
        "A certificate's serial number is not positive, or longer than 20 bytes.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.1.2.2",
    ),
    "certificate.algorithm": Rule(
        "A certificate names two different signature algorithms, or another than is expected.",
        hint="Every certificate of a document is signed with ECDSA and SHA-384.",
        source="RFC 5280 §4.1.1.2; RFC 5758 §3.2",
    ),
    "certificate.time": Rule(
        "A certificate's validity is not in the form of RFC 5280.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.1.2.5",
    ),
    "certificate.key": Rule(
        "A certificate's key is not an uncompressed point on P-384.",
        hint="Every key of a document's path is on P-384.",
        source="RFC 5480 §2",
    ),
    "certificate.signature": Rule(
        "A certificate's signature is not two integers in DER.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5758 §3.2",
    ),
    "certificate.duplicate_extension": Rule(
        "A certificate has an extension twice.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.2",
    ),
    "certificate.critical_extension": Rule(
        "A certificate has a critical extension that is not known here.",
        hint="AWS may have changed its certificates: read what the extension demands before allowing it.",
        source="RFC 5280 §4.2",
    ),
    "certificate.extension": Rule(
        "An extension of a certificate is not in its form.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.2.1",
    ),
    "path.root": Rule(
        "A document's path does not begin with the trusted root certificate.",
        hint="Another partition (GovCloud and China have roots of their own), an emulated enclave, or a forgery: "
        "compare the root you trust.",
        source="AWS Nitro Enclaves, attestation process §3.2; root by digest",
    ),
    "path.length": Rule(
        "A path has more certificates below an authority than that authority allows.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §6.1.4",
    ),
    "path.issuer": Rule(
        "A certificate was not issued under the name of the one above it.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §6.1.3",
    ),
    "path.key_identifier": Rule(
        "A certificate names another key of its issuer than the one above it has.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.2.1.1",
    ),
    "path.authority": Rule(
        "A certificate in the middle of a path is not an authority's.",
        hint="Whoever holds an ordinary certificate made others with it: an attack.",
        source="RFC 5280 §6.1.4",
    ),
    "path.leaf_authority": Rule(
        "The last certificate of a path is an authority's.",
        hint="A leaf signs documents and nothing else.",
        source="AWS Nitro Enclaves, attestation process §3.2",
    ),
    "path.key_usage": Rule(
        "A certificate's key may not be used for what it was used for.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="RFC 5280 §4.2.1.3",
    ),
    "path.signature": Rule(
        "A certificate is not signed by the one above it.",
        hint="The path was put together from pieces: suspect whoever sent it.",
        source="RFC 5280 §6.1.3",
    ),
    "path.not_yet_valid": Rule(
        "A certificate is not valid yet at the stated time, nor within the allowed drift.",
        hint="Compare the clock of whoever judges; archived documents need the time at which they held.",
        source="RFC 5280 §6.1.3",
    ),
    "path.expired": Rule(
        "A certificate is no longer valid at the stated time.",
        hint="A document holds for 3 hours at most: ask for a new one, or state the time at which it held.",
        source="RFC 5280 §6.1.3",
    ),
    # --- policy: policy files of auditors ---
    "policy.size": Rule(
        "A policy file is larger than is ever read.",
        hint="Drop releases that nobody runs any more.",
        source="limits of this project",
    ),
    "policy.encoding": Rule(
        "A policy file is not TOML in UTF-8, has a key twice, or has more parts or nesting than a policy can have.",
        hint="The detail names line and column, or the bound.",
        source="TOML 1.0",
    ),
    "policy.no_measurements": Rule(
        "A policy names no measurements, and would accept anything.",
        hint="Add a [[release]] with pcr0, pcr1 and pcr2: `cipherkeep-audit policy init` writes one.",
        source="docs/policy.schema.json; keep #590",
    ),
    "policy.unknown_key": Rule(
        "A policy has a key that is not known, and whatever it demands would not be demanded.",
        hint="Compare the spelling with the schema.",
        source="docs/policy.schema.json",
    ),
    "policy.missing_key": Rule(
        "A policy lacks a key that it must have.",
        hint="`cipherkeep-audit policy init` writes a whole one.",
        source="docs/policy.schema.json",
    ),
    "policy.format": Rule(
        "A policy is in another format than 1.",
        hint="It was written for another version of this program.",
        source="docs/policy.schema.json",
    ),
    "policy.value": Rule(
        "A value of a policy is not of its kind.",
        hint="Compare the value that the detail names with the schema.",
        source="docs/policy.schema.json",
    ),
    "policy.measurement": Rule(
        "A measurement of a policy is not 96 hexadecimal digits.",
        hint="Copy it from `cipherkeep-audit eif measure`.",
        source="docs/policy.schema.json",
    ),
    "policy.partial_image": Rule(
        "A release does not name all of PCR0, PCR1 and PCR2.",
        hint="Each joins its parts without lengths: only the three together mean an image.",
        source="AWS Nitro Enclaves, PCR0 to PCR2",
    ),
    "policy.debug_measurement": Rule(
        "A release names a measurement of zeros, which is what every debug enclave shows.",
        hint="Take the measurements from the image: a debug enclave does not show them.",
        source="AWS Nitro Enclaves, PCRs of debug mode",
    ),
    "policy.configuration_pcr": Rule(
        "A release's PCR16 is not that of the configuration it is said to stand for.",
        hint="PCR16 is the SHA-384 of 48 zero bytes and the configuration's SHA-384: one is from another release.",
        source="design, decision 7",
    ),
    "policy.window": Rule(
        "A release's window is not made of times with their zone, the earlier one first.",
        hint="Write times like 2026-07-01T00:00:00Z, without quotes.",
        source="docs/policy.schema.json",
    ),
    "policy.duplicate_release": Rule(
        "A policy names a release twice.",
        hint="Give each [[release]] a version of its own.",
        source="docs/policy.schema.json",
    ),
    "policy.contradiction": Rule(
        "No release of the policy has the PCRs that are demanded besides.",
        hint="The configuration or the --pcr that was given belongs to a release that the policy does not name.",
        source="policy",
    ),
    "policy.signature_form": Rule(
        "A policy's signature is not a detached COSE_Sign1 with EdDSA.",
        hint="`cipherkeep-audit policy sign` writes one.",
        source="RFC 9052 §4.1",
    ),
    "policy.signature": Rule(
        "A policy is not signed by the key that was named.",
        hint="It was edited after it was signed, or somebody else signed it: get it again from its publisher.",
        source="RFC 9052 §4.4",
    ),
    "policy.unsigned": Rule(
        "A policy that must be signed has no signature beside it.",
        hint="The signature lies beside the policy, in a file with the same name and .sig at its end.",
        source="docs of the command",
    ),
    # --- eif: enclave images ---
    "eif.size": Rule(
        "A file is too short for an enclave image, or larger than is ever read.",
        hint="Something else than an image was given, or only the beginning of one.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.magic": Rule(
        "A file does not begin as an enclave image does.",
        hint="Something else than an image was given: a kernel, an archive, a container image.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.version": Rule(
        "An enclave image is of another version than 4.",
        hint="Build it again with current tools: versions before 4 order their sections otherwise.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.flags": Rule(
        "An enclave image has a flag that is not known.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.section_count": Rule(
        "An enclave image has fewer than 3 sections, or more than 32.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.reserved": Rule(
        "A field of an enclave image that is reserved or unused is not zero.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.overlap": Rule(
        "A section of an enclave image begins inside another, or before the one in front of it.",
        hint="One reader would measure other bytes than another loads: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.gap": Rule(
        "An enclave image has bytes between its sections, which nothing measures.",
        hint="Something may be hidden there: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.beyond_file": Rule(
        "A section of an enclave image ends after the file.",
        hint="The file was cut on the way: fetch it again.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.trailing": Rule(
        "Bytes follow the last section of an enclave image.",
        hint="Something was appended, which nothing measures: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.section_header": Rule(
        "A section's own header says something else than the table in front of the image.",
        hint="One reader would measure other bytes than another loads: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.section_type": Rule(
        "An enclave image has a section of an unknown type.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.order": Rule(
        "The sections of an enclave image do not stand in the order in which they are measured.",
        hint="Kernel, command line, ramdisks; the metadata after the command line, the signature last.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.duplicate": Rule(
        "An enclave image has a section twice that may stand there once.",
        hint="One reader would take the first, another the last: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.missing": Rule(
        "An enclave image lacks its kernel, its command line or a ramdisk.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.empty": Rule(
        "The kernel or a ramdisk of an enclave image is empty.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.section_size": Rule(
        "Command line, metadata or signature of an enclave image are larger than is ever read.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="limits of this project",
    ),
    "eif.truncated": Rule(
        "An enclave image ends inside a section, or changed while it was read.",
        hint="The file was cut on the way, or is still being written: fetch it again.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.crc": Rule(
        "The checksum of an enclave image is not that of its bytes.",
        hint="The file was damaged on the way: fetch it again. A checksum proves nothing against an attacker.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.metadata": Rule(
        "The metadata of an enclave image is not one JSON object.",
        hint="Nothing measures it and nothing depends on it, but a reader could be attacked with it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.signature_form": Rule(
        "The signature section of an enclave image is not one certificate and one COSE_Sign1 over PCR0.",
        hint="No tool that follows the format writes this: suspect whoever made it.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.signature_certificate": Rule(
        "The signing certificate of an enclave image is not exactly one X.509 certificate in PEM.",
        hint="Leave chains and comments out of the file that the image is signed with.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.signature_key": Rule(
        "The key of an image's signing certificate does not fit the algorithm of the signature.",
        hint="Sign with a key on P-256, P-384 or P-521.",
        source="RFC 9053 §2.1",
    ),
    "eif.signature_pcr": Rule(
        "An enclave image is signed over another PCR0 than its own.",
        hint="The image was changed after it was signed, or the signature is another image's: suspect an attack.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.signature": Rule(
        "An enclave image is not signed by the key of its signing certificate.",
        hint="Whoever put the certificate there does not hold its key: suspect an attack.",
        source="RFC 9052 §4.4",
    ),
    "eif.differs": Rule(
        "Two enclave images have different measurements.",
        hint="The table says which part differs: build again from the same commit with the same tools.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    "eif.ambiguous": Rule(
        "Two enclave images have equal measurements and different parts.",
        hint="Bytes were moved across a boundary that nothing measures: do not run the one that you did not build.",
        source="AWS Nitro Enclaves, image format, version 4",
    ),
    # --- batch: lines of the auditor's command ---
    "batch.size": Rule(
        "A line of a batch is longer than is ever read.",
        hint="Name files by their path instead of writing them into the line.",
        source="limits of this project",
    ),
    "batch.json": Rule(
        "A line of a batch is not one JSON object, or has a name twice.",
        hint="One object per line, integers only, each name once.",
        source="RFC 8259; docs of the command",
    ),
    "batch.fields": Rule(
        "A line of a batch does not have the fields that it must have, or names a file that cannot be read.",
        hint="Compare the line with the format that `--help` of the command prints.",
        source="docs of the command",
    ),
    "batch.defect": Rule(
        "The verifier itself failed on a line of a batch, which counts as a refusal.",
        hint="A defect of this program: please report the line.",
        source="fail closed",
    ),
    # --- cli: what is no verdict, on standard error, with exit code 2 ---
    "cli.usage": Rule(
        "The command was asked in a way that it cannot follow, or for something that it cannot reach.",
        hint="The line says what it did not understand; `--help` of each command says what it takes.",
        source="docs of the command",
    ),
    "cli.output": Rule(
        "The verdict could not be written, so that none was given.",
        hint="Look at where the output goes: a full disk, a stream that is closed.",
        source="docs of the command",
    ),
    "cli.defect": Rule(
        "The command itself failed, and judged nothing.",
        hint="A defect of this program: please report it with what was judged.",
        source="fail closed",
    ),
    # --- handshake ---
    "handshake.state": Rule(
        "A step of the handshake was asked for out of order.",
        hint="Each side's steps happen once and in order; begin a new handshake.",
        source="design, section 6",
    ),
    "handshake.failed": Rule(
        "A handshake that failed was continued.",
        hint="Begin a new handshake.",
        source="design, section 6",
    ),
    "handshake.size": Rule(
        "A handshake message is larger than is ever read.",
        hint="A message holds one document and one certificate: under 20 KiB.",
        source="limits of this project",
    ),
    "handshake.message": Rule(
        "A handshake message does not have exactly the fields of its step.",
        hint="Compare the versions of the software on both sides.",
        source="design, section 6",
    ),
    "handshake.step": Rule(
        "A handshake message belongs to another step than the one that is due.",
        hint="A message was repeated, reflected or lost: begin a new handshake.",
        source="design, section 6",
    ),
    "handshake.version": Rule(
        "A handshake message is of another version of the protocol.",
        hint="Compare the versions of the software on both sides.",
        source="design, section 6",
    ),
    "handshake.user_data": Rule(
        "A document's user data does not have exactly the fields that its role demands.",
        hint="The document was made for another purpose than this handshake.",
        source="design, section 6",
    ),
    "handshake.role": Rule(
        "A document was made for the other role of the handshake.",
        hint="A responder's document was shown as an initiator's, or the reverse: an attack by replay.",
        source="design, section 6; Fraunhofer cmc #406",
    ),
    "handshake.reflected": Rule(
        "A handshake message comes back to its own sender.",
        hint="The peer shows this side's own key: a reflection, or an address that leads back to itself.",
        source="design, section 6; Fraunhofer cmc #406",
    ),
    "handshake.session": Rule(
        "A message or document belongs to another session.",
        hint="Two handshakes were mixed: an attack by splicing, or a connection that was reused.",
        source="design, section 6",
    ),
    "handshake.responder_document": Rule(
        "The initiator answers another document than the one it was sent.",
        hint="Something between the two replaced the responder's document.",
        source="design, section 6",
    ),
    "handshake.nonce": Rule(
        "A document does not carry this handshake's nonce.",
        hint="An old document was replayed: begin a new handshake.",
        source="design, section 6",
    ),
    "handshake.key_binding": Rule(
        "A document is bound to another key than that of the certificate beside it.",
        hint="The connection would not be with whoever was attested.",
        source="design, section 6",
    ),
    "handshake.certificate": Rule(
        "A document names another channel certificate than the one beside it.",
        hint="Something between the two replaced the certificate, keeping its key.",
        source="design, section 6",
    ),
    "handshake.certificate_authority": Rule(
        "A channel certificate is an authority's, or does not say that it is none.",
        hint="Make channel certificates with basicConstraints CA:FALSE.",
        source="design, section 6",
    ),
    "handshake.certificate_validity": Rule(
        "A channel certificate is not valid at this time.",
        hint="Compare the clocks of both sides, then restart the side whose certificate is old.",
        source="design, section 6",
    ),
    "handshake.chain": Rule(
        "The responder serves another chain.",
        hint="Compare the chain id on both sides.",
        source="design, section 6",
    ),
    "handshake.configuration": Rule(
        "The responder runs under another configuration.",
        hint="Compare the configuration's digest on both sides; a new configuration is a new digest.",
        source="design, section 6",
    ),
    "handshake.configuration_pcr": Rule(
        "The responder's PCR16 is not that of the configuration it claims.",
        hint="The enclave did not measure its configuration, or measured another.",
        source="design, decision 7",
    ),
    "handshake.party": Rule(
        "The responder is another party.",
        hint="Compare the address with the registration of the party.",
        source="design, section 6",
    ),
    "handshake.timeout": Rule(
        "A handshake took longer than a minute.",
        hint="Begin a new handshake; look for what delays the messages.",
        source="limits of this project",
    ),
    "handshake.expires": Rule(
        "A document or certificate expires too soon to open a session with it.",
        hint="Ask for a new document: a leaf certificate lives for 3 hours.",
        source="design, section 6",
    ),
    "handshake.not_accepted": Rule(
        "The responder did not accept the initiator.",
        hint="The responder's log has the code; its policy for peers decides.",
        source="design, section 6",
    ),
    # --- lightclient: headers, commits, validator sets ---
    "protobuf.truncated": Rule(
        "A protobuf message ends inside a field.",
        hint="Fetch the block or proof again; something on the way cut it.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.integer": Rule(
        "A protobuf integer has more than 64 bits or is longer than it needs to be.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.unknown_field": Rule(
        "A protobuf message has a field that its format does not know.",
        hint="Compare the versions of the consensus engine and of this verifier.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.wire_type": Rule(
        "A protobuf field has another wire type than its format demands.",
        hint="Compare the versions of the consensus engine and of this verifier.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.repeated_field": Rule(
        "A protobuf field that may stand once stands twice.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.field_order": Rule(
        "The fields of a protobuf message are not in rising order.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.default_value": Rule(
        "A protobuf field carries the zero or empty value that is written by leaving it out.",
        hint="Encode with the canonical encoder of this project.",
        source="Protocol Buffers, encoding",
    ),
    "protobuf.missing_field": Rule(
        "A protobuf message lacks a field that is always written.",
        hint="Encode with the canonical encoder of this project.",
        source="CometBFT v0.38, core/encoding",
    ),
    "protobuf.text": Rule(
        "A protobuf text is not UTF-8.",
        hint="Nothing that follows the format writes this: suspect whoever sent it.",
        source="Protocol Buffers, encoding",
    ),
    "lightclient.size": Rule(
        "A light block is larger, or has more validators, than is ever read.",
        hint="The limits stand in chain/header.py; a chain with more validators needs larger ones.",
        source="limits of this project",
    ),
    "lightclient.root_form": Rule(
        "A trust root does not name a chain, a height from 1 to 2^63-1 and a hash of 32 bytes.",
        hint="Make the root from the first header that the chain's operator publishes.",
        source="configuration",
    ),
    "lightclient.time_range": Rule(
        "A time lies outside the years 1 to 9999, or has more than 999,999,999 nanoseconds.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/encoding",
    ),
    "lightclient.block_id": Rule(
        "A block id is neither empty nor complete.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, BlockID",
    ),
    "lightclient.block_version": Rule(
        "A header is of another block protocol than version 11.",
        hint="The consensus engine was replaced by another line; this verifier follows CometBFT 0.38.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.app_version": Rule(
        "An application version is not an unsigned 64-bit integer.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.chain_id_form": Rule(
        "A chain id is not 1 to 50 ASCII characters.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.height_range": Rule(
        "A height is not from 1 to 2^63-1.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.round_range": Rule(
        "A round is not from 0 to 2^31-1.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Commit",
    ),
    "lightclient.hash_length": Rule(
        "A hash in a header has a length that it cannot have.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.proposer_address": Rule(
        "A proposer's address is not 20 bytes long.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.proposer": Rule(
        "A header was proposed by nobody in its validator set.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, core/data_structures, Header",
    ),
    "lightclient.flag": Rule(
        "A slot of a commit says neither absent, nor commit, nor nil.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, CommitSig",
    ),
    "lightclient.absent_with_data": Rule(
        "A slot of a commit is marked absent and carries an address, a time or a signature.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, CommitSig",
    ),
    "lightclient.address_length": Rule(
        "A validator's address in a commit is not 20 bytes long.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, CommitSig",
    ),
    "lightclient.signature_length": Rule(
        "A signature in a commit is not 64 bytes long.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, core/data_structures, CommitSig",
    ),
    "lightclient.key_type": Rule(
        "A validator's key is not one Ed25519 key of 32 bytes.",
        hint="Allow only ed25519 in the chain's consensus parameters.",
        source="CometBFT v0.38, core/data_structures, Validator",
    ),
    "lightclient.voting_power_range": Rule(
        "A voting power is not from 1 to 2^60-1.",
        hint="A power beyond 64 bits can hash like an honest one and turn the quorum negative: an attack.",
        source="CometBFT v0.38, core/data_structures, Validator; cardano-ibc-incubator #707",
    ),
    "lightclient.total_power": Rule(
        "The voting powers of a set add up to more than 2^60-1.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, core/data_structures, ValidatorSet",
    ),
    "lightclient.validator_address": Rule(
        "A validator's address is not that of its key.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, core/data_structures, Validator",
    ),
    "lightclient.duplicate_validator": Rule(
        "A validator set holds a key or an address twice.",
        hint="One key in two slots would count twice: suspect an attack.",
        source="BEP-682; CometBFT v0.38, core/data_structures, ValidatorSet",
    ),
    "lightclient.validator_order": Rule(
        "A validator set is not in order of falling power, then rising address.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, core/data_structures, ValidatorSet",
    ),
    "lightclient.unauthenticated_field": Rule(
        "A validator set carries a priority, proposer or total that no hash covers.",
        hint="Leave these fields out: the converter of the host does.",
        source="CometBFT ASA-2024-009",
    ),
    "lightclient.chain_id": Rule(
        "A header belongs to another chain than the trust root.",
        hint="Point the connector at a node of the chain in the configuration.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.root": Rule(
        "The first block is not the one that the trust root names.",
        hint="Compare the root in the configuration with the header the chain's operator publishes.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.not_anchored": Rule(
        "The light client has not seen its root's block yet.",
        hint="Send the block of the trust root first.",
        source="state machine of the light client",
    ),
    "lightclient.anchored": Rule(
        "The light client has its root's block already.",
        hint="Send newer blocks as steps.",
        source="state machine of the light client",
    ),
    "lightclient.frozen": Rule(
        "The light client has seen a conflict and judges nothing more.",
        hint="Publish the conflict; governance decides which branch holds and lifts the freeze.",
        source="state machine of the light client",
    ),
    "lightclient.no_such_conflict": Rule(
        "A freeze is to be lifted that is not there.",
        hint="Compare the digest in the statement with the conflict that the client reports.",
        source="state machine of the light client",
    ),
    "lightclient.validators_hash": Rule(
        "A validator set is not the one that its header names.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.next_validators_hash": Rule(
        "A block's validators are not those that its parent announced.",
        hint="Compare the validator set with the one the chain's own nodes report.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.commit_slots": Rule(
        "A commit does not have one slot for each validator.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.slot_address": Rule(
        "A slot of a commit names another validator than the one in its place.",
        hint="Time is computed from such addresses: suspect an attack, and run CometBFT 0.38.21 or newer.",
        source="CometBFT CSA-2026-001",
    ),
    "lightclient.commit_height": Rule(
        "A commit is for another height than its header.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.commit_header": Rule(
        "A commit is for another header.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.quorum": Rule(
        "Not more than two thirds of the voting power signed the block.",
        hint="Wait until the block has its quorum, then fetch its commit again.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.signature": Rule(
        "A signature in a commit is not its validator's over this vote.",
        hint="A slot that does not verify may be sent as absent, as long as the rest has its quorum.",
        source="CometBFT v0.38, core/data_structures, CanonicalVote",
    ),
    "lightclient.time_order": Rule(
        "A newer block has no newer time.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.time_future": Rule(
        "A header's time is ahead of the clock.",
        hint="Compare the clocks of the validators with the NSM's.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.trust_expired": Rule(
        "The newest trusted header is too old to judge others by.",
        hint="Only a new trust root helps, and governance decides on it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.skip_unknown_set": Rule(
        "A step skips heights while the head announces validators that nobody has shown yet.",
        hint="Send the block right above the head first.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.skip_quorum": Rule(
        "Not more than two thirds of the trusted voting power signed a block that skips heights.",
        hint="Send the blocks in between.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.parent": Rule(
        "A quorum signed a block whose parent is not the one we hold: the chain has forked.",
        hint="Publish the conflict; governance decides which branch holds.",
        source="CometBFT v0.38, light-client/accountability",
    ),
    "lightclient.conflict": Rule(
        "A quorum signed another block for a height we hold: the chain has forked.",
        hint="Publish the conflict; governance decides which branch holds.",
        source="CometBFT v0.38, light-client/accountability",
    ),
    "lightclient.no_fork": Rule(
        "Two blocks do not contradict each other.",
        hint="They must have one height and two hashes, or the higher one must name another parent than the lower one.",
        source="CometBFT v0.38, light-client/accountability",
    ),
    "lightclient.not_sequential": Rule(
        "A block is not the one right above the last.",
        hint="Hand over every block in order, or allow skipping: more than two thirds of the known set must sign then.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.other_header": Rule(
        "A header differs from the one we hold, and nobody we trust signed it.",
        hint="Nothing an honest chain makes looks like this: suspect the node or the way to it.",
        source="CometBFT v0.38, light-client/verification",
    ),
    "lightclient.height_below": Rule(
        "A header is below the head, and neither it nor its child is stored.",
        hint="Prove against the head instead: state is cumulative.",
        source="state machine of the light client",
    ),
    "lightclient.height_unknown": Rule(
        "No header of this height is stored.",
        hint="Step to it while it is new, or prove against the head.",
        source="state machine of the light client",
    ),
    "lightclient.below_checkpoint": Rule(
        "The head is below a height that was reached before.",
        hint="Send newer blocks; a host that cannot is showing an old copy of the chain.",
        source="state machine of the light client",
    ),
    "lightclient.checkpoint_fork": Rule(
        "At the checkpoint's height another header holds than before.",
        hint="The host shows another branch than before the restart: publish both.",
        source="state machine of the light client",
    ),
    # --- proof: ICS-23 and state proofs ---
    "proof.size": Rule(
        "A proof is larger than is ever read.",
        hint="A proof in a full tree takes under 4 KiB; fetch it again.",
        source="limits of this project",
    ),
    "proof.encoding": Rule(
        "A file is no proof: neither its bytes, nor these in hexadecimal or base64.",
        hint="Something was changed or cut on the way: fetch the proof again.",
        source="docs of the command",
    ),
    "proof.batch": Rule(
        "A proof is a batch or compressed batch of proofs.",
        hint="Ask for a single proof: batches are read nowhere here.",
        source="cosmos/ics23 proofs.proto",
    ),
    "proof.shape": Rule(
        "A proof is not of the asked kind: existence, or absence with a neighbour.",
        hint="Ask for the proof that the claim needs.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.leaf_op": Rule(
        "A leaf is not hashed exactly as SHA-256 over 00, key and value's SHA-256 with their lengths.",
        hint="A longer prefix would let bytes move from the key into it: suspect an attack.",
        source="design, decision 3; ICS-23 leaf prefix forgery",
    ),
    "proof.inner_op": Rule(
        "An inner node is not exactly 01 with one sibling of 32 bytes.",
        hint="Suspect whoever made the proof.",
        source="design, decision 3; RFC 6962",
    ),
    "proof.depth": Rule(
        "A proof's path is longer than 64 steps.",
        hint="No tree here is that deep: suspect whoever made the proof.",
        source="limits of this project",
    ),
    "proof.empty": Rule(
        "A proof has an empty key or value.",
        hint="ICS-23 cannot prove an empty value; never store one.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.key": Rule(
        "A proof is for another key than asked.",
        hint="Ask again; the key is always rebuilt by the verifier.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.key_length": Rule(
        "A key in a proof does not have the length of its tree's keys.",
        hint="Suspect whoever made the proof.",
        source="design, decision 3",
    ),
    "proof.value": Rule(
        "A proof is for another value than claimed.",
        hint="Fetch value and proof at the same height.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.root": Rule(
        "A proof does not lead to the root.",
        hint="Fetch the proof for the height below the header it is judged against.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.not_between": Rule(
        "The neighbours in a proof of absence do not enclose the key.",
        hint="The key may well be present: ask for its existence.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.not_neighbours": Rule(
        "The leaves in a proof of absence are not next to each other, or not at the tree's edge.",
        hint="Suspect whoever made the proof: something lies between.",
        source='cosmos/ics23, proof specification "tendermint"',
    ),
    "proof.name": Rule(
        "An instance or collection name is not 1 to 64 of a-z, 0-9, dot, dash and underscore.",
        hint="Compare the instance in the configuration.",
        source="names in state keys",
    ),
    "proof.key_range": Rule(
        "A key of a collection is not from 0 to 2^64-1.",
        hint="Compare the counter with the request.",
        source="names in state keys",
    ),
    "proof.app_hash": Rule(
        "An app hash is not 32 bytes long.",
        hint="The chain runs another application.",
        source="design, decision 3",
    ),
    # --- statement: configuration, governance, registration, transaction ---
    "configuration.insecure": Rule(
        "A configuration names insecure settings that are unknown, repeated or unsorted.",
        hint="Compare the configuration with the list of settings in the threat model.",
        source="design, decision 7",
    ),
    "configuration.genesis": Rule(
        "The instance's genesis parameters are not those that are trusted.",
        hint="Compare the digest in your trust file with the one that the governors published.",
        source="design, decision 7",
    ),
    "configuration.kms": Rule(
        "A configuration must either pin an AWS KMS key or name insecure_cleartext, not both and not neither.",
        hint="Pin the key's ARN; clear-text storage is for experiments only.",
        source="design, decision 14",
    ),
    "configuration.host_measurements": Rule(
        "A configuration must either list host measurements or name insecure_any_host_measurement.",
        hint="List the measurements of the host image.",
        source="design, decision 7",
    ),
    "configuration.allow_all": Rule(
        "A configuration and its genesis parameters disagree about insecure_allow_all.",
        hint="Both must name it or neither: make the configuration from this instance's genesis.",
        source="design, decision 8",
    ),
    "governance.keys": Rule(
        "A set of governance keys is empty, has a key twice, or its threshold is out of range.",
        hint="Compare the genesis parameters with the keys of the governors.",
        source="design, decision 7",
    ),
    "governance.coprocessors": Rule(
        "A set of coprocessors is empty, has a signer twice, or its threshold is out of range.",
        hint="Sign a statement with distinct signers and 1 <= threshold <= signers.",
        source="design, decision 9",
    ),
    "governance.instance": Rule(
        "A governance statement is for another contract instance.",
        hint="Sign it again for this instance and its genesis parameters.",
        source="design, decision 7",
    ),
    "governance.serial": Rule(
        "A governance statement does not have the next serial number.",
        hint="Another statement landed first: sign again with the next number.",
        source="design, decision 7",
    ),
    "governance.signature_order": Rule(
        "The signatures of a governance statement are not in rising order of distinct keys.",
        hint="Sign with the tools of this project.",
        source="design, decision 7",
    ),
    "governance.stranger": Rule(
        "A governance statement is signed by a key that is not a governor.",
        hint="Compare the signers with the keys in the measured configuration.",
        source="design, decision 7",
    ),
    "governance.signature": Rule(
        "A governor's signature does not verify.",
        hint="Sign the statement again; a signature of another statement does not serve.",
        source="design, decision 7; RFC 8032",
    ),
    "governance.quorum": Rule(
        "Fewer governors signed than the threshold demands.",
        hint="Collect the missing signatures.",
        source="design, decision 7",
    ),
    "governance.log": Rule(
        "The governance statements handed over are not those that the control leaf stands for.",
        hint="The host left one out or changed one: fetch them again from an honest node.",
        source="design, decision 6",
    ),
    "manifest.duplicate": Rule(
        "A vault's manifest names an object twice.",
        hint="Nothing honest makes this: suspect whoever keeps the vault's objects.",
        source="design, decision 14",
    ),
    "registration.signing_key": Rule(
        "A registration's signing key is not a point of secp256k1.",
        hint="Register again from the enclave.",
        source="SEC 1",
    ),
    "registration.instance": Rule(
        "A registration is for another contract instance.",
        hint="Start the enclave with the configuration of this instance.",
        source="design, section 6",
    ),
    "registration.configuration": Rule(
        "A registration's configuration is of another instance, genesis or party.",
        hint="Start the enclave with the configuration of this party.",
        source="design, section 6",
    ),
    "registration.no_releases": Rule(
        "No release may register yet: governance has not named one.",
        hint="Sign and send a set_releases statement.",
        source="design, section 6",
    ),
    "registration.no_roots": Rule(
        "The instance accepts no root of attestation.",
        hint="The genesis parameters lack enclave roots.",
        source="design, section 6",
    ),
    "registration.user_data": Rule(
        "The document in a registration does not carry the digest of its claims.",
        hint="The document was made for something else: register again.",
        source="design, section 6",
    ),
    "registration.block": Rule(
        "A registration's document names a block that is unknown or too old.",
        hint="Register again: the nonce must be the hash of one of the last 100 blocks.",
        source="design, section 6",
    ),
    # --- binding, authorisation, request, answer ---
    "eip712.address": Rule(
        "An address is not 20 bytes long.",
        hint="Compare with the address of the contract or signer.",
        source="EIP-712",
    ),
    "eip712.bytes32": Rule(
        "A bytes32 is not 32 bytes long.",
        hint="Compare with the handle or id.",
        source="EIP-712",
    ),
    "eip712.signature": Rule(
        "A signature is not 65 bytes r, s, v with v 27 or 28.",
        hint="Sign with a wallet that writes the usual form.",
        source="EIP-712",
    ),
    "eip712.high_s": Rule(
        "A signature has s in the upper half of the order.",
        hint="Such a twin has the same meaning and other bytes: sign again with a current wallet.",
        source="EIP-2",
    ),
    "eip712.unrecoverable": Rule(
        "A signature belongs to no key at all.",
        hint="Sign again.",
        source="SEC 1, section 4.1.6",
    ),
    "binding.type": Rule(
        "A ciphertext's type is not one that is decrypted here.",
        hint="Types: bool, uint8 to uint256 of fhEVM.",
        source="design, decision 9",
    ),
    "binding.format": Rule(
        "A ciphertext's format is not one that is decrypted here.",
        hint="Ask the coprocessor for the packed form.",
        source="design, decision 9",
    ),
    "binding.no_coprocessors": Rule(
        "Governance has named no coprocessors.",
        hint="Sign and send a set_coprocessors statement.",
        source="design, decision 9",
    ),
    "binding.quorum": Rule(
        "Fewer coprocessors signed a binding than the threshold demands.",
        hint="Ask the missing coprocessors for their signatures.",
        source="design, decision 9",
    ),
    "binding.stranger": Rule(
        "A binding is signed by somebody who is no coprocessor, or for something else than is claimed.",
        hint="Compare handle, key, type, digest and owner with what the coprocessor signed, its address with the set.",
        source="design, decision 9",
    ),
    "binding.duplicate": Rule(
        "A binding carries two signatures of one coprocessor.",
        hint="Send one signature of each.",
        source="design, decision 9",
    ),
    "binding.digest": Rule(
        "A ciphertext is not the one whose digest was bound.",
        hint="Fetch it again by its digest.",
        source="design, decision 9",
    ),
    "authorisation.allow_all": Rule(
        "Public decryption asks for an authoriser that the configuration does not name.",
        hint="The key's terms and the measured configuration must both name insecure_allow_all.",
        source="design, decision 8",
    ),
    "authorisation.authoriser": Rule(
        "The key's terms name no authoriser for this operation.",
        hint="Generate a key with the terms that are needed.",
        source="design, decision 8",
    ),
    "authorisation.not_yet": Rule(
        "The validity that the user signed for has not begun.",
        hint="Compare the user's clock with the chain's time.",
        source="fhEVM, user decryption request",
    ),
    "authorisation.expired": Rule(
        "The validity that the user signed for is over.",
        hint="Let the user sign a new request.",
        source="fhEVM, user decryption request",
    ),
    "authorisation.user_signature": Rule(
        "A user's request is not signed by the user it names.",
        hint="Compare domain, chain id and contract of the typed data with the key's terms.",
        source="fhEVM, user decryption request",
    ),
    "authorisation.user_is_contract": Rule(
        "The user is one of the contracts in the user's own request.",
        hint="List the dApp's contracts, not the user.",
        source="fhEVM, user decryption request",
    ),
    "authorisation.grant_expired": Rule(
        "A grant is over.",
        hint="Ask the owner for a new one.",
        source="design, decision 9",
    ),
    "authorisation.grant_stranger": Rule(
        "A grant is not signed by the handle's owner.",
        hint="Only the owner named in the binding can grant.",
        source="design, decision 9",
    ),
    "authorisation.not_granted": Rule(
        "The user neither owns a handle nor holds its owner's grant.",
        hint="Ask the owner for a grant.",
        source="design, decision 9",
    ),
    "request.size": Rule(
        "A request is larger than is ever accepted.",
        hint="Split the batch.",
        source="limits of this project",
    ),
    "request.operation": Rule(
        "A request names no operation that exists here.",
        hint="Compare the versions of client and chain.",
        source="design, section 5",
    ),
    "request.batch": Rule(
        "A request has no ciphertext or more than a batch holds.",
        hint="Split the batch.",
        source="limits of this project",
    ),
    "request.duplicate_handle": Rule(
        "A request names a handle twice.",
        hint="Ask once for each handle.",
        source="design, section 5",
    ),
    "request.inbox_order": Rule(
        "The counters of an inbox do not rise.",
        hint="Nothing honest makes this: suspect the node.",
        source="design, section 3",
    ),
    "request.not_in_inbox": Rule(
        "A request is not in the inbox of its block.",
        hint="Only what the chain accepted is answered: send it as a transaction.",
        source="design, section 3",
    ),
    "answer.material": Rule(
        "The answer to a key generation does not name the key's public material as it must.",
        hint="Nothing honest makes this: compare the versions of the software, then suspect whoever signed it.",
        source="design, decision 5",
    ),
    "answer.outcome": Rule(
        "An answer must have a result or a refusal, not both and not neither.",
        hint="Nothing honest makes this: suspect whoever signed it.",
        source="design, decision 5",
    ),
    "answer.party": Rule(
        "An answer names a party that is not registered.",
        hint="Register the party first.",
        source="design, decision 5",
    ),
    "answer.request": Rule(
        "An answer is for no request of this instance.",
        hint="Compare the id.",
        source="design, decision 5",
    ),
    # --- the enclave's ledger and what its host hands over ---
    "ledger.root_height": Rule(
        "The trust root is not the chain's first header.",
        hint="Pin header 1: the ids of requests depend on its hash.",
        source="design, decision 4",
    ),
    "ledger.statement_fork": Rule(
        "A governance statement differs from the one that is known under its number.",
        hint="Governors signed two statements with one number, or the state was rewritten.",
        source="design, decision 7",
    ),
    "ledger.request_id": Rule(
        "An inbox names a request whose id does not follow from its content.",
        hint="The application that wrote this state is not ours: do not use its validators.",
        source="design, decision 4",
    ),
    "ledger.inbox_header": Rule(
        "An inbox is proven under a header that is not later than its block.",
        hint="Use a header above the block: the state after block H is under header H+1.",
        source="design, decision 3",
    ),
    "ledger.forked": Rule(
        "The chain's own state says that it has forked: no secret is used until governance lifts that.",
        hint="Find out who signed both branches; to go on, governors sign `lift_freeze` for the digest in the detail.",
        source="design, decision 6",
    ),
    "ledger.expired": Rule(
        "The requests of this block have expired under the newest header.",
        hint="Nothing is decrypted any more: whoever asked must ask again. The connector or its enclave was too late.",
        source="design, decision 6",
    ),
    "ledger.body": Rule(
        "A request's body does not have the digest that stands in the inbox.",
        hint="Fetch the body again from the node or another one.",
        source="design, section 3",
    ),
    "ledger.ciphertexts": Rule(
        "Not as many ciphertexts were handed over as the request names.",
        hint="Send the request's ciphertexts, in the order of its body, and none with a key generation.",
        source="design, section 3",
    ),
    "ledger.record_old": Rule(
        "The party's record is proven under a header older than the one that showed this boot's nonce.",
        hint="Prove the record under a newer header.",
        source="design, decision 14",
    ),
    "ledger.record_party": Rule(
        "The record at this party's index is another party's.",
        hint="The state is not that of the governance statements: compare it with another node's.",
        source="design, section 6",
    ),
    "ledger.record_manifest": Rule(
        "The party's record has a manifest's number without its digest, or the digest without a number.",
        hint="The application that wrote this state is not ours: do not use its validators.",
        source="design, decision 14",
    ),
    "vault.record": Rule(
        "A sealed key's record does not belong to this vault, instance or place.",
        hint="Restore the newest objects of this party.",
        source="design, decision 8",
    ),
    # --- receipts: what a client verifies about a request and its answer ---
    "receipt.no_header": Rule(
        "No header was shown.",
        hint="Ask the node for the light block of its newest height.",
        source="design, section 3",
    ),
    "receipt.old_header": Rule(
        "The newest header that was shown is older than is accepted.",
        hint="The node lags or hides newer blocks: ask another one, and compare the clocks.",
        source="design, decision 6",
    ),
    "receipt.body": Rule(
        "A request's bytes do not have the digest that its record names.",
        hint="The node handed out another request: ask another one.",
        source="design, decision 4",
    ),
    "receipt.id": Rule(
        "A request's id is not the one that binds chain, instance, counter and content.",
        hint="The state is of another chain or instance, or its validators lie.",
        source="design, decision 4",
    ),
    "receipt.not_answered": Rule(
        "A request's record says that it is not answered.",
        hint="Wait, or look at the state in the detail: pending or expired.",
        source="design, section 5",
    ),
    "receipt.answer": Rule(
        "An answer is not the one that the record counts, or is about something else.",
        hint="The node handed out another answer: ask another one.",
        source="design, decision 5",
    ),
    "receipt.party": Rule(
        "A party that answered has no record that was shown, or never registered.",
        hint="The node withholds or lies: ask another one.",
        source="design, section 6",
    ),
    "receipt.agreement": Rule(
        "An answer is not what the parties are said to have agreed on.",
        hint="The validators wrote a state that no answer backs: do not trust this chain.",
        source="design, decision 5",
    ),
    "receipt.head": Rule(
        "An answer names no header that the receipt shows and that lies between the request and the proofs.",
        hint="Make the receipt again. If that does not help, the validators took an answer given under another chain.",
        source="design, decision 5",
    ),
    "receipt.fork": Rule(
        "An answer was given under another header of its height than this chain's: the chain has forked.",
        hint="Keep the receipt, it is evidence of a fork: ask the validators and the governors.",
        source="design, decision 6",
    ),
    "receipt.admission": Rule(
        "A party runs with a configuration, or a root for enclaves, that the governors did not admit.",
        hint="The validators let in what governors never signed for, or the party was admitted anew since: then name "
        "the decisions that you mean with --decisions.",
        source="design, decision 7",
    ),
    "receipt.decided": Rule(
        "The governors have not decided that often.",
        hint="Name a serial number from 1 to the number of statements in the receipt.",
        source="docs/auditing.md",
    ),
    "receipt.quorum": Rule(
        "Fewer parties agreed than the instance's genesis demands.",
        hint="The validators wrote a state that too few answers back: do not trust this chain.",
        source="design, decision 5",
    ),
    "receipt.typed_data": Rule(
        "An answer's typed data is not signed by the key that its party registered.",
        hint="Contracts would refuse it too: do not use the answer.",
        source="EIP-712; design, decision 5",
    ),
    "receipt.not_a_key": Rule(
        "What was shown is not the generation of a key that governance decided.",
        hint="Compare the key's id with `cipherkeep key list`.",
        source="design, decision 8",
    ),
    "receipt.form": Rule(
        "A receipt says something twice.",
        hint="Make the receipt again: `cipherkeep request show ID --receipt FILE`.",
        source="docs/auditing.md",
    ),
    "receipt.registration": Rule(
        "A party's registration is not in the receipt, lapsed, or not the one that its record pins.",
        hint="Make the receipt again. After an upgrade the old image's registration lapses: use a receipt from before.",
        source="design, section 6",
    ),
    "receipt.configuration": Rule(
        "An answer was given under another configuration than its party registered with.",
        hint="The party started with another configuration since: use a receipt from before, or ask why it changed.",
        source="design, decision 7",
    ),
    "receipt.policy": Rule(
        "The image that held a party's key is none of those that your policy names.",
        hint="Rebuild the image from its release tag and compare; then extend the policy or stop trusting.",
        source="docs/auditing.md",
    ),
    "receipt.material": Rule(
        "A key's answer does not name public material as it must.",
        hint="Compare the versions of the software on both sides.",
        source="design, section 5",
    ),
    # --- json: a CometBFT node's RPC, read strictly ---
    "json.syntax": Rule(
        "A file is not one JSON value without repeated names and fractions.",
        hint="Save the node's answer as it came; nothing else may be in the file.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.type": Rule(
        "A value in the JSON is of another type than the node writes.",
        hint="64-bit integers are texts, 32-bit ones numbers: save the node's answer as it came.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.missing_name": Rule(
        "An object in the JSON lacks a name.",
        hint="Save the whole answer of /commit and /validators.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.unknown_name": Rule(
        "An object in the JSON has a name that the node does not write.",
        hint="Suspect whoever edited it, or a node of another version.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.number": Rule(
        "A number in the JSON is not written in plain decimal digits.",
        hint="The node writes no signs, fractions, exponents or leading zeros here: suspect whoever sent it.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.range": Rule(
        "A number in the JSON is outside of its range.",
        hint="No chain has such a number: it may be made to wrap around in somebody's arithmetic.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.hex": Rule(
        "A text in the JSON is not hexadecimal.",
        hint="Save the node's answer as it came.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.base64": Rule(
        "A text in the JSON is not base64 in its one form.",
        hint="Save the node's answer as it came.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "json.time": Rule(
        "A text in the JSON is not a time in UTC with at most nine decimals.",
        hint="Save the node's answer as it came.",
        source="RFC 3339",
    ),
    "json.block_files": Rule(
        "The files do not hold one header and one whole set of validators for each height.",
        hint="Fetch /commit?height=H and /validators?height=H&per_page=100 for each height.",
        source="CometBFT v0.38, rpc/openapi",
    ),
    "trust.form": Rule(
        "A trust file has unknown, missing or ill-formed entries.",
        hint="Compare it with docs/auditing.md; `cipherkeep dev trust` writes one for a laptop.",
        source="docs/auditing.md",
    ),
    # --- party verify: a live party against its record ---
    "party.unknown": Rule(
        "The chain has no party of this name.",
        hint="Compare with `cipherkeep party list`.",
        source="design, section 6",
    ),
    "party.not_registered": Rule(
        "The party never registered, or its registration lapsed.",
        hint="Its image was dropped from the releases, or the enclave has not come up yet.",
        source="design, section 6",
    ),
    "party.registration": Rule(
        "What the party shows now is not what it registered on the chain.",
        hint="Another enclave answers there, or one that restarted with another image and has not registered yet.",
        source="design, section 6",
    ),
    "party.node": Rule(
        "The answer of the node, or of the proxy, is not what was asked for, or did not come in time.",
        hint="Compare the versions and the addresses, --attestation too; ask another node.",
        source="CometBFT v0.38, rpc/openapi",
    ),
}
