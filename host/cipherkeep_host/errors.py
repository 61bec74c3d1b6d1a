"""The only place for the host's own refusals: one exception and the table of its codes.

Evidence that does not hold raises `cipherkeep_attestation.errors.EvidenceError` here as everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HostRule:
    """What went wrong in one sentence, and what an operator should look at."""

    sentence: str
    hint: str


class HostError(Exception):
    """Something on the host's side failed. `code` names the rule in `HOST_RULES`; `detail` holds no secret."""

    def __init__(self, code: str, detail: str = "") -> None:
        rule = HOST_RULES[code]
        self.code = code
        self.detail = detail
        self.sentence = rule.sentence
        self.hint = rule.hint
        super().__init__(f"{code}: {rule.sentence}" + (f" ({detail})" if detail else ""))


HOST_RULES: dict[str, HostRule] = {
    # --- processes ---
    "process.listen": HostRule(
        "An address is neither unix:///PATH nor tcp://127.0.0.1:PORT, or its path is too long for the kernel.",
        hint="Processes of the host listen on unix sockets and loopback only; a path may have 107 bytes.",
    ),
    "process.address_in_use": HostRule(
        "An address to listen on cannot be had.",
        hint="Another process listens there, or the folder cannot be written: stop it or choose another address.",
    ),
    "process.configuration": HostRule(
        "A configuration file is missing or not what it must be.",
        hint="The detail names the field; the module's documentation lists all of them.",
    ),
    "process.key_file": HostRule(
        "A key file is missing, malformed, readable by others, or about to be overwritten.",
        hint="It holds 32 bytes as 64 hexadecimal digits and has mode 0600; treat a key that others could read as known"
        " to them.",
    ),
    # --- chain and contracts ---
    "chain.stubs_missing": HostRule(
        "The messages of the consensus engine's application interface are not generated.",
        hint="Run `make setup`, or tools/generate_abci.py, with the same XDG_CACHE_HOME.",
    ),
    "chain.state_locked": HostRule(
        "The application's state cannot be opened, or another process holds it.",
        hint="One application runs on one state: stop the other, or look at the folder's permissions and free space.",
    ),
    "chain.state_corrupt": HostRule(
        "The application's state on disk does not have the root that it had when it was written.",
        hint="The disk or somebody changed it: restore the folder from a backup, or let the node replay its blocks.",
    ),
    "chain.state_format": HostRule(
        "The application's state was written in a format that this release does not know.",
        hint="Run the release that wrote it.",
    ),
    "chain.genesis_again": HostRule(
        "The chain is to begin anew on a state that has blocks already.",
        hint="Node and application have different homes: pair the folders that belong together.",
    ),
    "chain.genesis_form": HostRule(
        "The application's part of the genesis file is not what it must be.",
        hint="Make the file anew with the tool that wrote it; do not edit it.",
    ),
    "chain.unknown_kind": HostRule(
        "An instance is of a kind of contract that this release does not know.",
        hint="Run a release that has it.",
    ),
    "chain.contract_version": HostRule(
        "An instance was made by another version of its contract than this release has.",
        hint="Run the release that the chain was started with; upgrades come with their own release.",
    ),
    "chain.application_version": HostRule(
        "The application, its interpreter or its locked dependencies differ from what the chain was started with.",
        hint="All nodes must compute the same: install the release and the Python version recorded at genesis.",
    ),
    "chain.height_order": HostRule(
        "The consensus engine asks for a block that does not follow the newest one.",
        hint="Node and application have different homes, or one was restored from a backup: pair them again.",
    ),
    "chain.no_collection": HostRule(
        "There is no such collection in the application's state.",
        hint="Compare the names of instance and collection with `/instances`.",
    ),
    "chain.height_not_kept": HostRule(
        "The state after that block can no longer be proven, or the block is not there yet.",
        hint="Ask for the newest state: it holds everything older states held, but for what was replaced.",
    ),
    "chain.query": HostRule(
        "A query has a path or argument that does not exist.",
        hint="The paths stand in chain/queries.py.",
    ),
    "chain.transaction_size": HostRule(
        "A transaction is larger than 1 MiB.",
        hint="Put large objects into the store and their digest into the transaction.",
    ),
    "chain.other_chain": HostRule(
        "A transaction is for another chain.",
        hint="Compare the chain id in the client's configuration.",
    ),
    "chain.nonce": HostRule(
        "A transaction's nonce does not follow the sender's last one.",
        hint="It was sent twice, or an earlier one got lost: ask for the account's nonce and send again.",
    ),
    "chain.sender_waiting": HostRule(
        "The sender has as many transactions that wait for a block as one sender may have.",
        hint="Wait for blocks, or put more messages into one transaction.",
    ),
    "chain.no_instance": HostRule(
        "A message is for an instance that the chain does not have.",
        hint="`/instances` lists those that exist.",
    ),
    "chain.check_failed": HostRule(
        "A transaction could not be checked because of a defect in its contract.",
        hint="The application's log has the details; report them.",
    ),
    "contract.value_size": HostRule(
        "A value to be stored is empty or larger than 128 KiB.",
        hint="Put large objects into the store and their digest into the message.",
    ),
    "node.binary_missing": HostRule(
        "The consensus engine is not installed.",
        hint="Run `make setup`, with the same XDG_CACHE_HOME.",
    ),
    "node.home_exists": HostRule(
        "A node's home is to be made where one exists already.",
        hint="It may hold a validator's only key: move it away yourself, or use it as it is.",
    ),
    "node.socket_path": HostRule(
        "The path of a unix socket is too long for the kernel.",
        hint="Choose a shorter run folder, for example under /tmp.",
    ),
    "node.home_missing": HostRule(
        "A node's home lacks its configuration, genesis or keys.",
        hint="Make it first, or restore it from a backup.",
    ),
    "node.command": HostRule(
        "A command of the consensus engine failed.",
        hint="The detail has the end of its output.",
    ),
    "node.start": HostRule(
        "The node or its application ended, or did not answer, before it was ready.",
        hint="The log files in the node's home say why.",
    ),
    "node.crash_loop": HostRule(
        "The node or its application ended again and again.",
        hint="The log files in the node's home say why; nothing is restarted any more.",
    ),
    "node.unreachable": HostRule(
        "The node does not answer.",
        hint="Look whether its process runs, and compare the address in the configuration.",
    ),
    "node.answer": HostRule(
        "The node's answer is not what its interface promises.",
        hint="Compare the version of the consensus engine, and what stands between it and this process.",
    ),
    "node.answer_size": HostRule(
        "The node's answer is larger than is ever read.",
        hint="Ask for less at once.",
    ),
    "node.refused": HostRule(
        "The node refused a call.",
        hint="The detail is the node's own sentence.",
    ),
    "node.query": HostRule(
        "The application refused a query.",
        hint="The detail is the application's own sentence.",
    ),
    "node.timeout": HostRule(
        "What was waited for did not come about in time.",
        hint="Look whether the chain makes blocks: `/status` of the node shows its height.",
    ),
    "client.transaction_refused": HostRule(
        "The chain refused a transaction.",
        hint="The detail begins with the code of the rule that refused it.",
    ),
    # --- contract fhevm ---
    "fhevm.message": HostRule(
        "The contract has no message of this name.",
        hint="Compare the versions of client and node; the messages stand in `cipherkeep_host.contracts.fhevm`.",
    ),
    "fhevm.first_block": HostRule(
        "Requests cannot be accepted before the hash of block 1 is known.",
        hint="Send the request again with the next block.",
    ),
    "fhevm.party_unknown": HostRule(
        "Governance has not admitted a party of this name.",
        hint="Compare the name with `cipherkeep party list`, or sign an admit_party statement.",
    ),
    "fhevm.party_exists": HostRule(
        "A party of this name was admitted with this configuration already.",
        hint="Choose another name for a new party; name the new configuration to admit a known party anew.",
    ),
    "fhevm.parties_full": HostRule(
        "No more parties can be admitted.",
        hint="An instance takes 128 parties over its whole life.",
    ),
    "fhevm.party_lapsed": HostRule(
        "The party's registration has lapsed: governance no longer lists its image, or admitted another configuration.",
        hint="Launch a listed release with the admitted configuration and register again.",
    ),
    "fhevm.authoriser": HostRule(
        "A key is to have an authoriser that the genesis parameters do not allow.",
        hint="insecure_allow_all works only in an instance whose genesis names it.",
    ),
    "fhevm.key_unknown": HostRule(
        "This instance has no key of this id, or its generation is not final.",
        hint="Compare the id with `cipherkeep key list`; keys of other instances do not serve here.",
    ),
    "fhevm.key_retired": HostRule(
        "Governance has retired the key.",
        hint="Use a newer key.",
    ),
    "fhevm.keys_full": HostRule(
        "No more keys can be generated.",
        hint="An instance takes 64 keys over its whole life: as many as an enclave holds.",
    ),
    "fhevm.statement_unknown": HostRule(
        "The governance statement of a key generation does not stand in state, byte for byte.",
        hint="Send the statement with `govern` first, and then the same bytes.",
    ),
    "fhevm.statement_kind": HostRule(
        "The governance statement of a key generation is of another kind.",
        hint="Only a keygen statement describes a key.",
    ),
    "fhevm.registration_party": HostRule(
        "A registration is for another party than the message says.",
        hint="Send it under its own name.",
    ),
    "fhevm.registration_root": HostRule(
        "A registration's configuration follows another chain, or starts elsewhere than at block 1.",
        hint="Make the configuration from this chain's header 1.",
    ),
    "fhevm.registration_enclave_root": HostRule(
        "A registration's configuration accepts enclaves under a root that the genesis parameters do not name.",
        hint="Compare the configuration's enclave root with the genesis parameters.",
    ),
    "fhevm.registration_configuration": HostRule(
        "A registration is by an enclave with another configuration than governance admitted the party with.",
        hint="Launch the admitted configuration, or have governance admit the party with this one.",
    ),
    "fhevm.registration_keys": HostRule(
        "A party registers with other keys than before.",
        hint="Keys are fixed by the first registration: open the vault that holds them, or admit a new party.",
    ),
    "fhevm.registration_key_held": HostRule(
        "Another party has registered one of these keys.",
        hint="One enclave may not vote for two parties: suspect a copied vault.",
    ),
    "fhevm.manifest": HostRule(
        "A vault's manifest is older than the recorded one, or another one with the same number.",
        hint="The enclave was opened from an old or second copy of its vault: restore the newest one.",
    ),
    "fhevm.block_full": HostRule(
        "The block has as many requests as an inbox holds.",
        hint="Send the request again with the next block.",
    ),
    "fhevm.queue_full": HostRule(
        "Too many requests wait for answers.",
        hint="Look whether the enclaves answer; requests that nobody answers expire.",
    ),
    "fhevm.sender_full": HostRule(
        "The sender has too many requests that wait for answers.",
        hint="Wait for answers before sending more.",
    ),
    "fhevm.answer_operation": HostRule(
        "An answer is for another operation than was asked.",
        hint="Suspect the party: its enclave does not make such answers.",
    ),
    "fhevm.answer_key": HostRule(
        "An answer names another key than was asked.",
        hint="Suspect the party: its enclave does not make such answers.",
    ),
    "fhevm.answer_ciphertexts": HostRule(
        "An answer names other ciphertexts than were asked.",
        hint="Suspect the party: its enclave does not make such answers.",
    ),
    "fhevm.answer_signature": HostRule(
        "An answer's result is not signed by the party's signing key, or a refusal carries a signature.",
        hint="The typed data or the domain differ: compare the versions of enclave and contract.",
    ),
    "fhevm.answer_parameters": HostRule(
        "A generated key has other parameters than its statement names.",
        hint="Suspect the party: its enclave does not make such answers.",
    ),
    "fhevm.answer_value": HostRule(
        "A decrypted value does not fit its type.",
        hint="Suspect the party: its enclave does not make such answers.",
    ),
    "fhevm.answer_configuration": HostRule(
        "An answer was made under another configuration than the party registered with.",
        hint="Register the enclave again.",
    ),
    "fhevm.fork_held": HostRule(
        "A report of a fork does not bring a block of this chain, or one too old for its hash to be known.",
        hint="`held` is this chain's own light block for the height; hashes are kept for some hours.",
    ),
    "fhevm.fork_noted": HostRule(
        "The chain has noted a fork already, and governance has not lifted it.",
        hint="Nothing more needs to be reported: no enclave uses a secret now.",
    ),
    "fhevm.fork_lifted": HostRule(
        "Governance has lifted this fork already.",
        hint="Evidence is taken once. Another fork has another digest.",
    ),
    "fhevm.answer_head": HostRule(
        "An answer names a head under which its request cannot have been proven.",
        hint="Let the connector send the answer again in a later block; if it stays, suspect the party.",
    ),
    "fhevm.answer_fork": HostRule(
        "An answer was made under a header that is not of this chain.",
        hint="The enclave was shown a fork: find out who signed it, validator keys may be stolen.",
    ),
    "fhevm.answer_late": HostRule(
        "The request has ended already.",
        hint="Nothing is missing: the answer came too late to be needed.",
    ),
    "fhevm.vote_void": HostRule(
        "The party has contradicted itself about this request and has no vote on it.",
        hint="The evidence stands in the collection `equivocations`.",
    ),
    "fhevm.equivocation": HostRule(
        "The party signed two different answers to one request.",
        hint="Both are kept as evidence: suspect two copies of one vault, or a broken enclave.",
    ),
    # --- client and connector ---
    "connector.progress": HostRule(
        "The connector's progress file is not what it must be.",
        hint="Remove it: the connector begins at the first block again, and nothing is answered twice.",
    ),
    "connector.too_many_open": HostRule(
        "More requests were left open than a contract can have pending.",
        hint="The node's state and the progress file do not belong together: remove the file.",
    ),
    "connector.vault": HostRule(
        "An enclave handed out sealed objects that are not those of its manifest.",
        hint="Nothing was kept. Look at what lies between connector and enclave.",
    ),
    "connector.vault_lost": HostRule(
        "A sealed object that the party's record on the chain pins is nowhere to be had.",
        hint="Restore the vault folder from a backup. Without it the keys inside are lost.",
    ),
    "connector.header_passed": HostRule(
        "The chain moved on faster than its proofs could be fetched.",
        hint="It is tried again; if it stays, node and connector are overloaded.",
    ),
    "connector.statement_missing": HostRule(
        "A governance statement that the control leaf counts is not in state.",
        hint="The node lies or is broken: point the connector at another one.",
    ),
    "connector.inbox_missing": HostRule(
        "An inbox that was there is not in state any more.",
        hint="The node lies or is another chain's: point the connector at another one.",
    ),
    "connector.other_boot": HostRule(
        "The enclave was started anew under the connector's session.",
        hint="It is brought up again by itself; the enclave's log says why it ended.",
    ),
    "connector.party_lapsed": HostRule(
        "The party's registration has lapsed: its answers do not count until it registers again.",
        hint="The connector registers again by itself; if that is refused, it says so and what the contract demands.",
    ),
    "connector.registration_refused": HostRule(
        "The contract refuses the enclave's registration: none of its answers counts.",
        hint="The detail begins with the rule. Image: launch a listed release, or list this one (set_releases)."
        " Configuration: launch the admitted one, or admit this one (admit_party). It is tried again by itself with"
        " every decision of governance.",
    ),
    "connector.record_missing": HostRule(
        "The party has no record in state though governance admitted it.",
        hint="The node lies or is broken: point the connector at another one.",
    ),
    "connector.timeout": HostRule(
        "What was sent to the chain did not appear in its state in time.",
        hint="See whether the chain makes blocks: `cipherkeep dev status`.",
    ),
    "connector.body": HostRule(
        "A request's bytes are not those of the digest in its inbox.",
        hint="The node lies or is broken: point the connector at another one.",
    ),
    "connector.no_outcome": HostRule(
        "The enclave said nothing about a request that it was handed.",
        hint="Compare the versions of connector and enclave.",
    ),
    "connector.not_counted": HostRule(
        "The contract did not count an answer.",
        hint="The detail has its code: `docs/errors.md` explains it.",
    ),
    "connector.request_expired": HostRule(
        "Requests expired before this party's answer was on the chain.",
        hint="They are not answered any more; whoever still needs an answer asks again. See why enclave or connector"
        " were away or slow: the log before this line.",
    ),
    "connector.key_unused": HostRule(
        "A key was generated for a request that had ended without it: the chain never names the key.",
        hint="Nothing was encrypted under it and nothing is lost. This vault makes no second key for one statement:"
        " sign another keygen statement and send its request. If it expires again, key generation takes longer than"
        " the instance's expiry_blocks.",
    ),
    "connector.forked": HostRule(
        "The enclave has seen two branches of the chain and uses no secret.",
        hint="The fork is reported to the chain. Governors find out who signed both, and sign `lift_freeze` to go on.",
    ),
    "connector.material": HostRule(
        "Public material from the enclave is not what its signed answer names.",
        hint="Nothing was published. It is tried again; if it stays, look at what lies between.",
    ),
    "client.request_unknown": HostRule(
        "The chain has no request of this id.",
        hint="Compare id and instance; a request that was never in a block has none.",
    ),
    "client.receipt_size": HostRule(
        "The chain has more governance statements than a receipt takes.",
        hint="Judge the answer with a node of your own: `cipherkeep request show ID` proves it from the first header.",
    ),
    "client.body_gone": HostRule(
        "The chain does not keep the bytes of a request that ended long ago.",
        hint="They were kept for some thousand blocks; whoever sent the request may have them.",
    ),
    "client.answer_gone": HostRule(
        "A node does not have the answer that its state names.",
        hint="Ask another node.",
    ),
    "client.key_unknown": HostRule(
        "The chain has no key of this id in this instance.",
        hint="List them: `cipherkeep key list`. A key appears once its generation is final.",
    ),
    "client.key_not_served": HostRule(
        "This key is not served by the coprocessor: nothing can be encrypted, bound or computed under it there.",
        hint="A coprocessor serves one key: `cipherkeep key list` shows which. Run another coprocessor for this one.",
    ),
    "client.no_coprocessors": HostRule(
        "Governance has named no coprocessors.",
        hint="Without their bindings nothing can be decrypted: sign a set_coprocessors statement.",
    ),
    "client.not_final": HostRule(
        "A request was not answered: it expired, or was refused.",
        hint="The detail names the refusal; `docs/errors.md` explains it.",
    ),
    "client.timeout": HostRule(
        "A request was not answered in time.",
        hint="It is not lost: ask again with its id. See whether enclave and connector run.",
    ),
    "client.ciphertext_missing": HostRule(
        "A request is not answered because the store lacks one of its ciphertexts.",
        hint="Store the same bytes again: the request goes on by itself until it expires. The detail names the handle.",
    ),
    "client.ciphertext_damaged": HostRule(
        "A request is not answered because the store has other bytes than one of its bindings names.",
        hint="Store the right bytes again: the request goes on by itself until it expires. The detail has the handle.",
    ),
    "client.ciphertext_too_large": HostRule(
        "A request is not answered because one of its ciphertexts is larger than is read for enclaves.",
        hint="It will expire: a ciphertext has at most 64 KiB. Suspect the coprocessor that bound such bytes.",
    ),
    "client.opening": HostRule(
        "A user decryption does not open.",
        hint="It is for another key pair or user, or was changed on the way.",
    ),
    "client.header_passed": HostRule(
        "The chain moved on faster than its proofs could be fetched.",
        hint="Try again; if it stays, the node is overloaded.",
    ),
    "client.value": HostRule(
        "A value does not fit its type.",
        hint="Types: bool, uint8, uint16, uint32, uint64, uint128, uint160, uint256.",
    ),
    # --- store and coprocessor ---
    "store.name": HostRule(
        "A blob is named by the SHA-256 of its bytes in 64 lowercase hexadecimal digits.",
        hint="Compare the name with `sha256sum`.",
    ),
    "store.unknown": HostRule(
        "The store has no blob of this digest.",
        hint="Nothing is ever evicted: it was never stored here, or the folder was changed. Store it again.",
    ),
    "store.digest": HostRule(
        "Bytes do not have the digest that they are stored under.",
        hint="They were changed on the way or on disk: fetch them from where they were made.",
    ),
    "store.length": HostRule(
        "A blob's bytes ended early, stalled, or are more than was announced.",
        hint="The connection was cut: send it again.",
    ),
    "store.length_required": HostRule(
        "A blob is stored with its size in the header Content-Length.",
        hint="Send the header; chunked uploads are not taken.",
    ),
    "store.too_large": HostRule(
        "A blob is larger than is taken.",
        hint="Compare with the limit in the detail; the store's --blob raises it.",
    ),
    "store.full": HostRule(
        "The store is full. What it holds stays; nothing new is taken.",
        hint="Raise --quota or add disk space.",
    ),
    "store.busy": HostRule(
        "More blobs are being written than the store takes at once.",
        hint="Try again in a second.",
    ),
    "store.disk": HostRule("The store's disk failed.", hint="The detail has the kernel's words; look at the disk."),
    "store.locked": HostRule(
        "Another process serves the store's folder.",
        hint="One folder has one store: stop the other, or choose another folder.",
    ),
    "store.unreachable": HostRule(
        "The store does not answer.",
        hint="See whether its process runs: `cipherkeep dev status`.",
    ),
    "store.answer": HostRule(
        "The store's answer is not one of its own.",
        hint="Something else listens at its address: look at the configuration.",
    ),
    "coprocessor.request": HostRule(
        "A request to the coprocessor is not what it must be.",
        hint="The detail names the field.",
    ),
    "coprocessor.unreachable": HostRule(
        "The coprocessor does not answer.",
        hint="See whether its process runs: `cipherkeep dev status`.",
    ),
    "coprocessor.answer": HostRule(
        "The coprocessor's answer is not what it must be.",
        hint="Something else listens at its address, or it lies: look at the configuration.",
    ),
    "coprocessor.starting": HostRule(
        "The coprocessor is still loading its key.",
        hint="Try again in some seconds; /healthz says what it waits for.",
    ),
    "coprocessor.too_large": HostRule(
        "A list is larger, or holds more values, than is taken.",
        hint="Split it; the detail has the limit.",
    ),
    "coprocessor.list": HostRule(
        "A list of encrypted values cannot be read.",
        hint="Encrypt under the published key and with the published reference string, version 1.7 of the format.",
    ),
    "coprocessor.proof": HostRule(
        "The proof of a list does not hold.",
        hint="It is made for one user, contract, access control contract and chain: compare them.",
    ),
    "coprocessor.poison": HostRule(
        "A list took the worker down, or took too long, twice.",
        hint="It is not tried again. Encrypt anew.",
    ),
    "coprocessor.worker": HostRule(
        "The worker that reads lists and computes ended while it worked on this.",
        hint="It was started again: try once more.",
    ),
    "coprocessor.busy": HostRule(
        "More requests wait for the worker than are taken.",
        hint="Try again in some seconds.",
    ),
    "coprocessor.handle": HostRule(
        "The coprocessor has no ciphertext of this handle.",
        hint="Handles belong to one chain and one coprocessor set: compare with what /inputs answered.",
    ),
    "coprocessor.owner": HostRule(
        "The operands of a computation do not all belong to who signed it.",
        hint="The owner of all operands signs; operands of several owners cannot be combined here.",
    ),
    "coprocessor.operation": HostRule(
        "An operation is not one that is computed here, or not for these types.",
        hint="add, sub, eq, ne, lt, le, gt, ge take two of one type; select takes a bool and two of one type.",
    ),
    "coprocessor.state": HostRule(
        "The coprocessor's folder is damaged or in use by another process.",
        hint="One folder has one coprocessor; restore it from a backup.",
    ),
    "coprocessor.key": HostRule(
        "The published server key is not what the chain names.",
        hint="The detail has the rule; look at the store.",
    ),
    # --- emulators ---
    "emulator.state_exists": HostRule(
        "Emulator state is to be made where some exists already.",
        hint="It may hold the only copy of a key: move the folder away yourself, or use it as it is.",
    ),
    "emulator.state_missing": HostRule(
        "A file of the emulators' state is missing or unreadable.",
        hint="Make the state with `cipherkeep dev up`, or restore the folder from a backup.",
    ),
    "emulator.state_damaged": HostRule(
        "A file of the emulators' state is not what it must be.",
        hint="Restore the folder from a backup; a new one has another root and cannot open old keys.",
    ),
    "emulator.state_permissions": HostRule(
        "A secret file of the emulators' state can be read by others.",
        hint="Give it mode 0600, and treat the secret as known to others.",
    ),
    "emulator.closure": HostRule(
        "The enclave's measured closure is not complete.",
        hint="Install the missing distribution; `make demo` does.",
    ),
    "emulator.image_changed": HostRule(
        "A staged enclave image is not what its name says.",
        hint="Somebody edited the staged copy: remove the folder and launch again.",
    ),
    "emulator.image_write": HostRule(
        "An enclave image could not be staged.",
        hint="Look at the free space and the owner of the images folder.",
    ),
    "emulator.start": HostRule(
        "A process of the emulators ended before it was ready.",
        hint="Its log file, named in the detail, says why.",
    ),
    "emulator.running": HostRule(
        "The launcher runs an enclave already.",
        hint="Stop it first; one launcher runs one enclave.",
    ),
    "emulator.not_running": HostRule(
        "The launcher runs no enclave.",
        hint="Launch one first; the log of the last one says how it ended.",
    ),
    # --- proxy ---
    "proxy.request": HostRule(
        "A request for a document is not what it must be.",
        hint='Send {"nonce": "…"} with 64 hexadecimal digits in lower case, and nothing else.',
    ),
    "proxy.request_size": HostRule(
        "A request for a document is larger than is read.",
        hint='Send {"nonce": "…"} with 64 hexadecimal digits in lower case, and nothing else.',
    ),
    "proxy.rate": HostRule(
        "More documents are asked for than are handed out.",
        hint="Try again after a second.",
    ),
    "proxy.answer": HostRule(
        "What listens where the enclave should be does not answer as one.",
        hint="Check where the proxy's `handshake` leads, and that the enclave runs the same version.",
    ),
    # --- appliance ---
    "appliance.start": HostRule(
        "A process of the appliance did not start.",
        hint="Read its log: `cipherkeep dev status` names the folder.",
    ),
    "appliance.enclave": HostRule(
        "The enclave ends again and again, soon after its launch.",
        hint="The detail shows the last lines of its log: mend what they say, then `cipherkeep dev up`.",
    ),
    "appliance.timeout": HostRule(
        "The appliance waited too long for one of its parts.",
        hint="Read the logs of the enclave and of the connector; on a very busy machine try again.",
    ),
    "appliance.other_chain": HostRule(
        "The enclave's configuration pins another chain than the one that runs here.",
        hint="The state folder was mixed from two deployments: remove it, or restore the one that belongs together.",
    ),
    "appliance.not_running": HostRule(
        "No appliance runs here.",
        hint="Start one with `cipherkeep dev up`.",
    ),
    "appliance.running": HostRule(
        "An appliance runs here already.",
        hint="Stop it with `cipherkeep dev down`, or choose another folder with --state.",
    ),
    # --- command line ---
    "cli.value": HostRule(
        "A value on the command line is not TYPE:VALUE, or does not fit its type.",
        hint="Types: bool, uint8, uint16, uint32, uint64, uint128, uint160, uint256, address; such as uint64:42.",
    ),
    "cli.handle": HostRule(
        "A handle is not 64 hexadecimal digits.",
        hint="`cipherkeep encrypt` prints handles.",
    ),
    "cli.user_key": HostRule(
        "A user's key cannot be used.",
        hint="The file holds 64 hexadecimal digits, a secp256k1 key, and has mode 0600.",
    ),
    "cli.party": HostRule(
        "There is no such party.",
        hint="`cipherkeep party list` shows all of them.",
    ),
    "cli.attestation": HostRule(
        "The enclave's document cannot be had.",
        hint="Check the proxy and the enclave: `cipherkeep dev status`, then their logs.",
    ),
    "cli.configuration": HostRule(
        "The enclave runs with another configuration than this machine's.",
        hint="Compare the configuration file with the one the enclave was started with.",
    ),
}
