//! The only place that names parameter sets, types and size limits.

use pyo3::prelude::*;
use tfhe::shortint::parameters::v1_7::meta::cpu::V1_7_META_PARAM_CPU_2_2_KS_PBS_PKE_TO_SMALL_ZKV2_TUNIFORM_2M128 as V1_7_META;
use tfhe::shortint::parameters::{
    CompactPublicKeyEncryptionParameters, CompressionParameters, ShortintKeySwitchingParameters,
};
use tfhe::shortint::{AtomicPatternParameters, PBSParameters};
use tfhe::{Config, ConfigBuilder, FheTypes};

use crate::errors::{Outcome, Problem};

/// Largest accepted size of each object, in bytes, refused before anything is parsed.
/// The measured sizes stand beside them.
pub mod limit {
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    pub const PUBLIC_KEY: u64 = 64 * KIB; // 33,018
    pub const SERVER_KEY: u64 = 256 * MIB; // 76.5 MB
    pub const CRS: u64 = 8 * MIB; // 4,571,368 at 2048 bits
    pub const COMPACT_LIST: u64 = 256 * KIB; // 16.7 kB to 21 kB up to 2048 bits, proof included
    pub const CIPHERTEXT: u64 = 4 * MIB; // uint256: 2.11 MB
    pub const PACKED_LIST: u64 = MIB; // 1,924 for one uint64; 2,048 blocks: 14 kB
    pub const TAG: usize = 1024;
    pub const METADATA: usize = 64 * KIB as usize;
    /// Values and plaintext bits in one compact list. fhEVM allows 2048 bits in an input.
    pub const COMPACT_VALUES: usize = 256;
    pub const COMPACT_BITS: usize = 2048;
    /// Values and 2-bit blocks in one packed list.
    pub const PACKED_VALUES: usize = 256;
    pub const PACKED_BLOCKS: usize = 2048;
}

/// One encrypted type: name, number in fhEVM, plaintext bits, blocks of two bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    pub name: &'static str,
    pub fhe_type: u8,
    pub bits: usize,
    pub blocks: usize,
}

const fn kind(name: &'static str, fhe_type: u8, bits: usize, blocks: usize) -> Kind {
    Kind {
        name,
        fhe_type,
        bits,
        blocks,
    }
}

pub const KINDS: [Kind; 8] = [
    kind("bool", 0, 1, 1),
    kind("uint8", 2, 8, 4),
    kind("uint16", 3, 16, 8),
    kind("uint32", 4, 32, 16),
    kind("uint64", 5, 64, 32),
    kind("uint128", 6, 128, 64),
    kind("uint160", 7, 160, 80),
    kind("uint256", 8, 256, 128),
];

pub fn kind_named(name: &str) -> Outcome<Kind> {
    KINDS
        .into_iter()
        .find(|kind| kind.name == name)
        .ok_or_else(|| Problem::failed("type", "unknown name, see tfhers.TYPES"))
}

/// The type of an element as TFHE-rs reports it; `object` names the list in the refusal.
pub fn kind_of(found: Option<FheTypes>, object: &str) -> Outcome<Kind> {
    let number = found.map(|found| found as i32);
    KINDS
        .into_iter()
        .find(|kind| Some(i32::from(kind.fhe_type)) == number)
        .ok_or_else(|| Problem::format(object, "an element has a type that is not supported"))
}

/// A named parameter set: everything that TFHE-rs needs to know, in the forms in which it asks.
pub struct Parameters {
    pub name: &'static str,
    pub compute: PBSParameters,
    pub encryption: CompactPublicKeyEncryptionParameters,
    pub switching: ShortintKeySwitchingParameters,
    pub compression: CompressionParameters,
}

pub const NAMES: [&str; 1] = ["v1_7_2_2_pke_to_small_zkv2_tuniform_2m128"];

impl Parameters {
    pub fn named(name: &str) -> Outcome<Self> {
        let known = NAMES.into_iter().find(|known| *known == name);
        let name = known
            .ok_or_else(|| Problem::failed("parameters", "unknown name, see tfhers.PARAMETERS"))?;
        let missing = || Problem::failed("parameters", "incomplete set");
        let AtomicPatternParameters::Standard(compute) = V1_7_META.compute_parameters else {
            return Err(missing());
        };
        let dedicated = V1_7_META
            .dedicated_compact_public_key_parameters
            .ok_or_else(missing)?;
        Ok(Self {
            name,
            compute,
            encryption: dedicated.pke_params,
            switching: dedicated.ksk_params,
            compression: V1_7_META.compression_parameters.ok_or_else(missing)?,
        })
    }

    /// The only set there is today, for objects that do not carry the name of theirs.
    pub fn default_set() -> Outcome<Self> {
        Self::named(NAMES[0])
    }

    pub fn atomic_pattern(&self) -> AtomicPatternParameters {
        AtomicPatternParameters::Standard(self.compute)
    }

    /// Profile `central`: compute, public-key encryption, compression. No noise squashing (only threshold
    /// decryption needs it, and it costs a minute and 400 MB), no re-randomisation, no oblivious PRF key.
    pub fn config(&self) -> Config {
        ConfigBuilder::with_custom_parameters(self.atomic_pattern())
            .use_dedicated_compact_public_key_parameters((self.encryption, self.switching))
            .enable_compression(self.compression)
            .use_dedicated_oprf_key(false)
            .build()
    }
}

/// Rows for `tfhers.TYPES`: (name, number in fhEVM, bits, blocks).
#[pyfunction]
pub fn _types() -> Vec<(&'static str, u8, usize, usize)> {
    KINDS
        .into_iter()
        .map(|kind| (kind.name, kind.fhe_type, kind.bits, kind.blocks))
        .collect()
}
