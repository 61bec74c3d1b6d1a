//! The only place where Python integers become plaintexts and plaintexts become Python integers.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use tfhe::integer::U256;

use crate::params::{kind_named, Kind};

/// A plaintext below 2^256, least significant word first.
#[derive(Clone, Copy, Default)]
pub struct Value(pub [u64; 4]);

impl Value {
    pub fn u128(self) -> u128 {
        u128::from(self.0[0]) | (u128::from(self.0[1]) << 64)
    }

    pub fn u256(self) -> U256 {
        let high = u128::from(self.0[2]) | (u128::from(self.0[3]) << 64);
        U256::from((self.u128(), high))
    }

    pub fn from_u256(value: U256) -> Self {
        let (low, high) = value.to_low_high_u128();
        let word = |half: u128, index: u32| (half >> (64 * index)) as u64;
        Self([word(low, 0), word(low, 1), word(high, 0), word(high, 1)])
    }

    pub fn from_u128(value: u128) -> Self {
        Self([value as u64, (value >> 64) as u64, 0, 0])
    }

    /// Assemble from 2-bit blocks, least significant first.
    pub fn from_blocks(blocks: &[u8]) -> Self {
        let mut words = [0u64; 4];
        for (index, block) in blocks.iter().enumerate() {
            words[index / 32] |= u64::from(*block) << (2 * (index % 32));
        }
        Self(words)
    }

    /// Read a Python integer that must fit into `kind`.
    pub fn extract(value: &Bound<'_, PyAny>, kind: Kind) -> PyResult<Self> {
        let value = value
            .cast::<PyInt>()
            .map_err(|_| PyTypeError::new_err(format!("a {} is an int", kind.name)))?;
        let unfit = || PyValueError::new_err(format!("the value does not fit into {}", kind.name));
        let bytes = value
            .call_method1("to_bytes", (32, "little"))
            .map_err(|_| unfit())?;
        let bytes: [u8; 32] = bytes.extract()?;
        let mut words = [0u64; 4];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = chunk
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        }
        let fits = (0..4).all(|index| {
            let bits = kind.bits.saturating_sub(64 * index);
            bits >= 64 || words[index] >> bits == 0
        });
        fits.then_some(Self(words)).ok_or_else(unfit)
    }

    pub fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        if self.0[1..] == [0; 3] {
            return Ok(self.0[0].into_pyobject(py)?.into_any());
        }
        let mut bytes = [0u8; 32];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        py.get_type::<PyInt>()
            .call_method1("from_bytes", (PyBytes::new(py, &bytes), "little"))
    }
}

/// Read a Python list of (type name, value).
pub fn typed_values(values: Vec<(String, Bound<'_, PyAny>)>) -> PyResult<Vec<(Kind, Value)>> {
    values
        .into_iter()
        .map(|(name, value)| {
            let kind = kind_named(&name)?;
            Ok((kind, Value::extract(&value, kind)?))
        })
        .collect()
}
