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
    # --- document: Nitro attestation documents ---
    # --- handshake ---
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
    # --- binding, authorisation, request, answer ---
}
