//! The only place that holds seeds and expands them into secret keys.
//!
//! The order in which the generator is consumed is that of `CompressedXofKeySet::generate`, whose parts for a
//! secret key alone are not public: a test compares both. So a client key costs a fraction of a millisecond, and
//! is the one that belongs to the key set which takes seconds.

use hkdf::Hkdf;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use sha2::Sha256;
use tfhe::core_crypto::commons::math::random::{RandomGenerator, XofSeed};
use tfhe::core_crypto::prelude::*;
use tfhe::integer;
use tfhe::shortint;
use tfhe::shortint::client_key::atomic_pattern::{
    AtomicPatternClientKey, StandardAtomicPatternClientKey,
};
use tfhe::Tag;
use zeroize::{Zeroize, Zeroizing};

use crate::errors::{Outcome, Problem};
use crate::params::Parameters;

pub type Generator = RandomGenerator<DefaultRandomGenerator>;

const SECURITY_BITS: u32 = 128;
// Bound on the share of ones (or zeros) in a secret key; the value of TFHE-rs' own tests and of fhEVM.
const HAMMING_WEIGHT_BOUND: f64 = 0.8;
const PRIVATE_SEPARATOR: [u8; 8] = *b"TFHEKGen";
const PUBLIC_SEPARATOR: [u8; 8] = *b"TFHE_GEN";

/// A 32-byte seed that Python can pass around and never read; wiped when dropped.
#[pyclass(frozen, module = "tfhers")]
pub struct Seed(Zeroizing<[u8; 32]>);

#[pymethods]
impl Seed {
    #[staticmethod]
    fn from_bytes(data: &[u8]) -> PyResult<Self> {
        Ok(Self(thirty_two("a seed", data)?))
    }

    #[staticmethod]
    fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8]) -> PyResult<Self> {
        if ikm.len() < 16 {
            return Err(PyValueError::new_err("less than 16 bytes of key material"));
        }
        Ok(Self(expand(Some(salt), ikm, &[info])))
    }

    fn __repr__(&self) -> &'static str {
        "<tfhers.Seed>"
    }
}

/// A secret of 32 bytes as Python may give it: readable bytes, or a handle that is not.
#[derive(FromPyObject)]
pub enum SecretArgument<'py> {
    Handle(PyRef<'py, Seed>),
    Bytes(Vec<u8>),
}

impl SecretArgument<'_> {
    pub fn take(self, what: &str) -> PyResult<Zeroizing<[u8; 32]>> {
        match self {
            Self::Handle(seed) => Ok(seed.0.clone()),
            Self::Bytes(mut bytes) => {
                let taken = thirty_two(what, &bytes);
                bytes.zeroize();
                taken
            }
        }
    }
}

fn thirty_two(what: &str, data: &[u8]) -> PyResult<Zeroizing<[u8; 32]>> {
    let wrong = |_| PyValueError::new_err(format!("{what} is 32 bytes"));
    Ok(Zeroizing::new(data.try_into().map_err(wrong)?))
}

/// HKDF-SHA256 to 32 bytes.
pub fn expand(salt: Option<&[u8]>, ikm: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0u8; 32]);
    // 32 bytes are one block of the hash, far below the only limit that expansion has.
    Hkdf::<Sha256>::new(salt, ikm)
        .expand_multi_info(info, out.as_mut_slice())
        .unwrap_or_default();
    out
}

/// A generator for the domain `separator`, seeded with what HKDF makes of `seed` under `info`.
pub fn generator(seed: &[u8; 32], info: &[&[u8]], separator: [u8; 8]) -> Generator {
    RandomGenerator::new(XofSeed::new(expand(None, seed, info).to_vec(), separator))
}

/// The secret keys of a set, before they become TFHE-rs' client key.
pub struct SecretKeys {
    pub encryption: LweSecretKeyOwned<u64>,
    small: LweSecretKeyOwned<u64>,
    large: GlweSecretKeyOwned<u64>,
    packing: GlweSecretKeyOwned<u64>,
}

/// What a seed expands to: secret keys, and what the public half is made from.
pub struct Secrets {
    pub keys: SecretKeys,
    pub public_seed: XofSeed,
    pub noise: Generator,
}

/// Expand `seed`: same seed, same parameters, same keys.
pub fn secrets(seed: &[u8; 32], parameters: &Parameters) -> Outcome<Secrets> {
    let info: [&[u8]; 2] = [b"tfhers key set 1 ", parameters.name.as_bytes()];
    let private = expand(None, seed, &info);
    from_private_seed(private.as_slice(), parameters)
}

fn from_private_seed(seed: &[u8], parameters: &Parameters) -> Outcome<Secrets> {
    let bound = NormalizedHammingWeightBound::new(HAMMING_WEIGHT_BOUND)
        .ok_or_else(|| Problem::failed("key generation", "bound out of range"))?;
    let mut private = Generator::new(XofSeed::new(seed.to_vec(), PRIVATE_SEPARATOR));
    let mut public_seed = vec![0u8; SECURITY_BITS.div_ceil(8) as usize];
    private.fill_slice_with_random_uniform(&mut public_seed);
    let mut private = SecretRandomGenerator::from_raw_parts(private);

    let lwe = |dimension, private: &mut SecretRandomGenerator<_>| {
        let mut key = LweSecretKey::new_empty_key(0u64, dimension);
        generate_binary_lwe_secret_key_with_bounded_hamming_weight(&mut key, private, bound);
        key
    };
    let glwe = |dimension, size, private: &mut SecretRandomGenerator<_>| {
        let mut key = GlweSecretKey::new_empty_key(0u64, dimension, size);
        generate_binary_glwe_secret_key_with_bounded_hamming_weight(&mut key, private, bound);
        key
    };
    let compute = parameters.compute;
    let packing = parameters.compression;
    let keys = SecretKeys {
        encryption: lwe(parameters.encryption.encryption_lwe_dimension, &mut private),
        small: lwe(compute.lwe_dimension(), &mut private),
        large: glwe(
            compute.glwe_dimension(),
            compute.polynomial_size(),
            &mut private,
        ),
        packing: glwe(
            packing.packing_ks_glwe_dimension(),
            packing.packing_ks_polynomial_size(),
            &mut private,
        ),
    };
    Ok(Secrets {
        keys,
        public_seed: XofSeed::new(public_seed, PUBLIC_SEPARATOR),
        noise: private.into_raw_parts(),
    })
}

impl SecretKeys {
    /// The key of packed lists, one word per bit.
    pub fn packing_bits(&self) -> &[u64] {
        self.packing.as_ref()
    }

    pub fn into_client(self, parameters: &Parameters, tag: &[u8]) -> Outcome<tfhe::ClientKey> {
        let encryption =
            shortint::CompactPrivateKey::from_raw_parts(self.encryption, parameters.encryption)
                .map_err(|reason| Problem::failed("key generation", reason))?;
        let pattern = StandardAtomicPatternClientKey::from_raw_parts(
            self.large,
            self.small,
            parameters.compute,
            None,
        );
        let blocks = shortint::ClientKey {
            atomic_pattern: AtomicPatternClientKey::Standard(pattern),
        };
        let packing = shortint::list_compression::CompressionPrivateKeys {
            post_packing_ks_key: self.packing,
            params: parameters.compression,
        };
        Ok(tfhe::ClientKey::from_raw_parts(
            integer::ClientKey::from_raw_parts(blocks),
            Some((
                integer::CompactPrivateKey::from_raw_parts(encryption),
                parameters.switching,
            )),
            Some(integer::compression_keys::CompressionPrivateKeys::from_raw_parts(packing)),
            None,
            None,
            None,
            None,
            tagged(tag),
        ))
    }

    /// Overwrite the keys of a set that never became a client key.
    pub fn wipe(self) {
        for key in [self.encryption, self.small] {
            key.into_container().zeroize();
        }
        for key in [self.large, self.packing] {
            key.into_container().zeroize();
        }
    }
}

pub fn tagged(data: &[u8]) -> Tag {
    let mut tag = Tag::default();
    tag.set_data(data);
    tag
}

/// Overwrite every secret word of a client key. TFHE-rs does not do so itself.
pub fn wipe(client: tfhe::ClientKey) {
    let (blocks, encryption, packing, ..) = client.into_raw_parts();
    if let AtomicPatternClientKey::Standard(pattern) = blocks.into_raw_parts().atomic_pattern {
        let (large, small, ..) = pattern.into_raw_parts();
        large.into_container().zeroize();
        small.into_container().zeroize();
    }
    if let Some((key, _)) = encryption {
        let (key, _) = key.into_raw_parts().into_raw_parts();
        key.into_container().zeroize();
    }
    if let Some(key) = packing {
        key.into_raw_parts()
            .post_packing_ks_key
            .into_container()
            .zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tfhe::xof_key_set::CompressedXofKeySet;

    /// The order in which secrets are drawn is that of TFHE-rs' own generation of whole key sets.
    #[test]
    fn same_key_as_the_official_key_set() {
        let parameters = Parameters::default_set().unwrap();
        let (seed, tag) = ([7u8; 32], b"a tag");
        let bound = NormalizedHammingWeightBound::new(HAMMING_WEIGHT_BOUND).unwrap();
        let (official, set) = CompressedXofKeySet::generate(
            parameters.config(),
            seed.to_vec(),
            SECURITY_BITS,
            bound,
            tagged(tag),
        )
        .unwrap();
        let made = from_private_seed(&seed, &parameters).unwrap();
        let client = made.keys.into_client(&parameters, tag).unwrap();
        let bytes = |key: &tfhe::ClientKey| bincode::serialize(key).unwrap();
        assert!(bytes(&official) == bytes(&client));
        let ours = CompressedXofKeySet::generate_with_pre_seeded_generator(
            made.public_seed,
            &client,
            made.noise,
        );
        let bytes = |set: &CompressedXofKeySet| bincode::serialize(set).unwrap();
        assert!(bytes(&set) == bytes(&ours.unwrap()));
    }
}
