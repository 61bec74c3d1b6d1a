"""The native half of `tfhers`: types and docstrings. Import from `tfhers`."""

from typing import Final, final

PARAMETERS: Final[tuple[str, ...]]

class TfheError(Exception):
    """A call failed. The message names the call and never shows plaintexts, keys or other content."""

class FormatError(TfheError):
    """The bytes are not what they must be. The message names the object and the rule."""

class ProofError(TfheError):
    """The proof does not hold for this list, public key, reference string and metadata."""

@final
class Seed:
    """Thirty-two secret bytes that Python can pass on and never read; wiped when dropped."""

    @staticmethod
    def from_bytes(data: bytes) -> Seed:
        """Take 32 bytes; anything else is a ValueError. The caller's own copy stays where it is."""

    @staticmethod
    def hkdf(ikm: bytes, salt: bytes, info: bytes) -> Seed:
        """HKDF-SHA256 (RFC 5869) to 32 bytes; `ikm` is at least 16 bytes."""

@final
class ClientKey:
    """The secret key of a key set: decrypts, and makes the set's public half again. Opaque; wiped when dropped."""

    @staticmethod
    def from_seed(seed: bytes | Seed, *, parameters: str = ..., tag: bytes = b"") -> ClientKey:
        """Expand a 32-byte seed (16 microseconds). Same seed and parameters, same key; `tag` (at most 1024 bytes) is
        carried by keys and ciphertexts, TFHE-rs does not judge it."""

    @property
    def parameters(self) -> str:
        """Name of the parameter set, one of `PARAMETERS`."""

    @property
    def tag(self) -> bytes: ...
    def compact_public_key(self) -> bytes:
        """The set's `CompactPublicKey` (33 kB, 1 ms). Deterministic."""

    def compressed_server_key(self) -> bytes:
        """The set's `CompressedXofKeySet` (76.4 MB, 4 s): what `ServerKey.load` takes. Deterministic."""

    def decrypt_packed(self, data: bytes, *, expected: str | None = None, index: int = 0) -> tuple[str, int]:
        """Decrypt element `index` of a packed list (`CompressedCiphertextList`) directly: no server key, no
        bootstrapping, about 8 microseconds for a uint64, GIL held. Returns type name and value.

        FormatError: not such a list, no such element, or of a type other than `expected`. A list made under
        another key, or altered in its coefficients, decrypts to some other value: ciphertexts carry no
        integrity, so bind their digest elsewhere.
        """

    def decrypt_expanded(self, data: bytes, type: str) -> int:  # noqa: A002
        """Decrypt a serialised `FheBool` or `FheUintN` whose parameters are those of the key."""

    def insecure_symmetric_packed(self, values: list[tuple[str, int]], server_key: ServerKey) -> bytes:
        """Encrypt under the secret key and pack: a list for tests and benchmarks in 50 ms instead of seconds.
        Who can ask for it could as well ask for decryption."""

    def seal(self, key: bytes | Seed, aad: bytes) -> bytes:
        """Encrypt what the key comes from under a 32-byte key: AES-256-GCM-SIV, random nonce, version byte.
        The blob is 142 bytes plus the tag's length less 5; the plaintext never reaches Python."""

    @staticmethod
    def unseal(key: bytes | Seed, blob: bytes, aad: bytes) -> ClientKey:
        """Open a sealed key (0.1 ms). FormatError: another key, other `aad`, altered bytes, or a seed that this
        version would expand to another key than the one that was sealed."""

    def insecure_export(self) -> bytes:
        """The secret key in the clear, as TFHE-rs serialises it. For tests and for leaving."""

@final
class KeySet:
    """A whole key set of profile `central`: compute, public-key encryption, compression and decompression keys;
    no noise squashing, no re-randomisation, no oblivious PRF key."""

    @staticmethod
    def from_seed(seed: bytes | Seed, *, parameters: str = ..., tag: bytes = b"") -> KeySet:
        """Generate (about 4 s on two cores). Same seed, parameters and tag, same bytes."""

    def client_key(self) -> ClientKey: ...
    def compact_public_key(self) -> bytes:
        """As `ClientKey.compact_public_key`."""

    def compressed_server_key(self) -> bytes:
        """As `ClientKey.compressed_server_key`, without generating again."""

@final
class ServerKey:
    """The expanded evaluation key: computes on ciphertexts, decrypts nothing. About 0.3 GB of memory."""

    @staticmethod
    def load(data: bytes, *, threads: int = 0) -> ServerKey:
        """Read a `CompressedXofKeySet`, check its parameters, expand it (2 s). With `threads` the work under this
        key runs in a pool of that size, otherwise in the process-wide pool of all cores."""

    @property
    def tag(self) -> bytes: ...
    def compact_public_key(self) -> bytes:
        """The public key that came with the set: equal to the published one, or they are not of one set."""

@final
class Crs:
    """The common reference string of the input proofs. Public."""

    @staticmethod
    def generate(bits: int, seed: bytes | Seed) -> Crs:
        """Make one for lists of at most `bits` plaintext bits (1 to 2048; 2048 take about 8 s). Deterministic.
        Whoever knows the seed can forge proofs: it must be as secret as a key, or be forgotten."""

    @staticmethod
    def from_bytes(data: bytes, *, sha256: bytes | None = None) -> Crs:
        """Read one (at most 8 MiB) and check parameters and each point: 6 CPU seconds. Who knows the digest of
        a string that he made or has checked gives its SHA-256 instead: 15 ms, and no other string passes."""

    def to_bytes(self) -> bytes: ...
    @property
    def bits(self) -> int:
        """How many plaintext bits a list may hold."""

@final
class PublicKey:
    """A compact public key: anyone encrypts with it."""

    @staticmethod
    def from_bytes(data: bytes) -> PublicKey:
        """Read a `CompactPublicKey` of the supported parameters (at most 64 KiB)."""

    @property
    def tag(self) -> bytes: ...
    def encrypt(self, values: list[tuple[str, int]]) -> bytes:
        """Encrypt (type name, value) pairs into one `CompactCiphertextList`: at most 256 values, 2048 bits.
        ValueError: a value that does not fit its type."""

    def encrypt_with_proof(
        self, values: list[tuple[str, int]], crs: Crs, metadata: bytes, *, load: str = "verify"
    ) -> bytes:
        """The same with a proof that is bound to `metadata` (at most 64 KiB). `load` says whose work is made
        light: "verify" is fast to make and slower to check, "proof" the other way round."""

@final
class Ciphertext:
    """One expanded ciphertext."""

    @property
    def type(self) -> str:
        """Its type name, a key of `TYPES`."""

    def to_bytes(self) -> bytes: ...
    @staticmethod
    def from_bytes(type: str, data: bytes) -> Ciphertext:  # noqa: A002
        """Read a serialised `FheBool` or `FheUintN` of the supported parameters (at most 4 MiB)."""

def _panic(content: str, in_pool: bool) -> None: ...
def _types() -> list[tuple[str, int, int, int]]: ...
def packed_types(data: bytes) -> list[str]:
    """Types of the elements of a packed list, after all of its lengths have been checked. Decrypts nothing."""

def expand(data: bytes, server_key: ServerKey) -> list[Ciphertext]:
    """Expand a `CompactCiphertextList` without proof. For lists of one's own: their noise is unproven."""

def verify(data: bytes, public_key: PublicKey, crs: Crs, metadata: bytes) -> None:
    """Check a `ProvenCompactCiphertextList`. ProofError: it does not hold for exactly these four."""

def verify_and_expand(
    data: bytes, public_key: PublicKey, crs: Crs, metadata: bytes, server_key: ServerKey
) -> list[Ciphertext]:
    """Check, then expand; nothing is expanded that does not hold."""

def add(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext:
    """Sum modulo 2^bits, of two ciphertexts of one type. Operators on `bool` are `eq`, `ne` and `select`."""

def sub(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def eq(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext:
    """Comparisons of two ciphertexts of one type give a `bool`."""

def ne(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def lt(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def le(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def gt(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def ge(a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext: ...
def add_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext:
    """As `add`, with a public value that fits the type of `a`."""

def sub_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def eq_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def ne_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def lt_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def le_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def gt_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def ge_scalar(a: Ciphertext, b: int, server_key: ServerKey) -> Ciphertext: ...
def select(condition: Ciphertext, a: Ciphertext, b: Ciphertext, server_key: ServerKey) -> Ciphertext:
    """`a` where the `bool` is true, else `b`."""

def trivial(type: str, value: int, server_key: ServerKey) -> Ciphertext:  # noqa: A002
    """A ciphertext of a public constant. Anyone can read it, and it is to be computed with, not stored:
    `Ciphertext.from_bytes` refuses what carries no noise. `compress` takes it."""

def compress(ciphertexts: list[Ciphertext], server_key: ServerKey) -> bytes:
    """Pack ciphertexts into one `CompressedCiphertextList`: at most 256 values, 2048 blocks."""

def ml_kem_512_keypair(d: bytes, z: bytes) -> tuple[bytes, bytes]:
    """ML-KEM-512 key pair (FIPS 203, 7.1) from two 32-byte seeds: (public 800 bytes, secret 1632 bytes)."""

def ml_kem_512_encapsulate(public_key: bytes, randomness: bytes) -> tuple[bytes, bytes]:
    """FIPS 203, 7.2, with 32 bytes of randomness: (ciphertext 768 bytes, shared secret 32 bytes).
    FormatError: wrong length, or a coefficient that is out of range."""

def ml_kem_512_decapsulate(secret: bytes, ciphertext: bytes) -> bytes:
    """FIPS 203, 7.3: the shared secret, 32 bytes. An altered ciphertext gives another secret, not an error."""
