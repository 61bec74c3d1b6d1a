//! The only place that makes and reads the common reference string of the input proofs.

use aes_gcm_siv::aead::rand_core::{Error, RngCore};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};
use tfhe::conformance::ParameterSetConformant;
use tfhe::core_crypto::prelude::LweCiphertextCount;
use tfhe::zk::{new_compact_pke_crs_conformance_params, CompactPkeCrs, ZkMSBZeroPaddingBitCount};

use crate::bytes;
use crate::errors::{detached, Outcome, Problem};
use crate::params::{limit, Parameters};
use crate::secret::{generator, Generator, SecretArgument};

const OBJECT: &str = "reference string";
// Two 2-bit messages travel in one LWE ciphertext of a packed list.
const BITS_PER_CIPHERTEXT: usize = 4;

/// The seeded generator of TFHE-rs, in the shape that the proof system asks for.
struct Seeded(Generator);

impl RngCore for Seeded {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0u8; 4];
        self.fill_bytes(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0u8; 8];
        self.fill_bytes(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn fill_bytes(&mut self, destination: &mut [u8]) {
        destination.fill_with(|| self.0.generate_next());
    }

    fn try_fill_bytes(&mut self, destination: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(destination);
        Ok(())
    }
}

#[pyclass(frozen, module = "tfhers")]
pub struct Crs(pub CompactPkeCrs);

impl Crs {
    fn make(bits: usize, seed: &[u8; 32]) -> Outcome<Self> {
        let parameters = Parameters::default_set()?;
        let encryption = parameters.encryption;
        let width = (bits as u64).to_be_bytes();
        let info: [&[u8]; 3] = [b"tfhers crs 1 ", &width, parameters.name.as_bytes()];
        let made = CompactPkeCrs::new(
            encryption.encryption_lwe_dimension,
            LweCiphertextCount(bits.div_ceil(BITS_PER_CIPHERTEXT)),
            encryption.encryption_noise_distribution,
            encryption.ciphertext_modulus,
            // One more bit: the padding bit above message and carry.
            encryption.message_modulus.0 * encryption.carry_modulus.0 * 2,
            ZkMSBZeroPaddingBitCount(1),
            &mut Seeded(generator(seed, &info, *b"TFHE_CRS")),
        );
        made.map(Self)
            .map_err(|reason| Problem::failed("Crs.generate", reason))
    }

    /// Checking that each of the points lies in its group takes seconds. It is what a digest that the caller
    /// vouches for stands in for: the bytes are then those that were checked, or made, before.
    fn read(data: &[u8], vouched: Option<&[u8; 32]>) -> Outcome<Self> {
        if vouched.is_some_and(|digest| Sha256::digest(data).as_slice() != digest) {
            return Err(Problem::format(OBJECT, "its digest is another one"));
        }
        let crs: CompactPkeCrs = bytes::read_unjudged(OBJECT, data, limit::CRS)?;
        let count = crs.max_num_messages();
        if count.0 == 0 || count.0 > limit::COMPACT_BITS / BITS_PER_CIPHERTEXT {
            return Err(Problem::format(OBJECT, "made for no bits, or for too many"));
        }
        if vouched.is_some() {
            return Ok(Self(crs));
        }
        let encryption = Parameters::default_set()?.encryption;
        let expected = new_compact_pke_crs_conformance_params(encryption, count)
            .map_err(|reason| Problem::failed("Crs.from_bytes", reason))?;
        if !crs.is_conformant(&expected) {
            return Err(Problem::format(
                OBJECT,
                "made for other parameters, or damaged",
            ));
        }
        Ok(Self(crs))
    }
}

#[pymethods]
impl Crs {
    #[staticmethod]
    fn generate(py: Python<'_>, bits: usize, seed: SecretArgument) -> PyResult<Self> {
        if bits == 0 || bits > limit::COMPACT_BITS {
            return Err(PyValueError::new_err("bits is 1 to 2048"));
        }
        let seed = seed.take("a seed")?;
        detached(py, "Crs.generate", || Self::make(bits, &seed))
    }

    #[staticmethod]
    #[pyo3(signature = (data, *, sha256 = None))]
    fn from_bytes(py: Python<'_>, data: &[u8], sha256: Option<[u8; 32]>) -> PyResult<Self> {
        detached(py, "Crs.from_bytes", || Self::read(data, sha256.as_ref()))
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let data = detached(py, "Crs.to_bytes", || {
            bytes::write(OBJECT, &self.0, limit::CRS)
        })?;
        Ok(PyBytes::new(py, &data))
    }

    #[getter]
    fn bits(&self) -> usize {
        self.0.max_num_messages().0 * BITS_PER_CIPHERTEXT
    }

    fn __repr__(&self) -> String {
        format!("<tfhers.Crs {} bits>", self.bits())
    }
}
