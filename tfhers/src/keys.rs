//! The only place that offers secret keys to Python, as handles: client keys and key sets.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use sha2::{Digest, Sha256};
use tfhe::core_crypto::commons::generators::{
    DeterministicSeeder, MaskRandomGenerator, NoiseRandomGenerator,
};
use tfhe::core_crypto::commons::math::random::Seed;
use tfhe::core_crypto::prelude::*;
use tfhe::integer;
use tfhe::shortint;
use tfhe::xof_key_set::CompressedXofKeySet;
use tfhe::CompactPublicKey;
use zeroize::Zeroizing;

use crate::bytes;
use crate::ciphertext::AnyCiphertext;
use crate::direct::PackedKey;
use crate::errors::{contain, detached, Outcome, Problem};
use crate::ops;
use crate::packed;
use crate::params::{kind_named, limit, Kind, Parameters, NAMES};
use crate::seal;
use crate::secret::{secrets, tagged, wipe, SecretArgument};
use crate::server::ServerKey;
use crate::values::{typed_values, Value};

/// The secret key of a key set, and the seed that it and the whole set come from.
pub struct Inner {
    pub seed: Zeroizing<[u8; 32]>,
    pub parameters: Parameters,
    pub tag: Vec<u8>,
    client: Option<tfhe::ClientKey>,
    packed: PackedKey,
}

impl Inner {
    pub fn generate(seed: Zeroizing<[u8; 32]>, parameters: &str, tag: &[u8]) -> Outcome<Self> {
        let parameters = Parameters::named(parameters)?;
        if tag.len() > limit::TAG {
            return Err(Problem::failed("tag", "too long"));
        }
        let keys = secrets(&seed, &parameters)?.keys;
        let packed = PackedKey::new(keys.packing_bits())?;
        let client = keys.into_client(&parameters, tag)?;
        Ok(Self {
            seed,
            parameters,
            tag: tag.to_vec(),
            client: Some(client),
            packed,
        })
    }

    pub fn client(&self) -> Outcome<&tfhe::ClientKey> {
        let absent = || Problem::failed("client key", "wiped");
        self.client.as_ref().ok_or_else(absent)
    }

    /// SHA-256 of the serialised secret key: tells whether a seed still expands to the key it once made.
    pub fn check_value(&self) -> Outcome<[u8; 32]> {
        let serialised = Zeroizing::new(bytes::write(
            "client key",
            self.client()?,
            limit::CIPHERTEXT,
        )?);
        Ok(Sha256::digest(serialised.as_slice()).into())
    }

    /// The public key of the set, without the server key: it is the first thing that the generator makes.
    fn public_key(&self) -> Outcome<CompactPublicKey> {
        let encryption = self.parameters.encryption;
        let made = secrets(&self.seed, &self.parameters)?;
        // The constructor wants a seeder for the noise, whose generator is replaced before it gives a byte.
        let mut unused = DeterministicSeeder::<DefaultRandomGenerator>::new(Seed(0));
        let mut generator = EncryptionRandomGenerator::<DefaultRandomGenerator>::new(
            made.public_seed.clone(),
            &mut unused,
        );
        *generator.noise_generator_mut() = NoiseRandomGenerator::from_raw_parts(made.noise);
        let mut seeded = SeededLweCompactPublicKeyOwned::new(
            0u64,
            encryption.encryption_lwe_dimension,
            generator.mask_generator().current_compression_seed(),
            encryption.ciphertext_modulus,
        );
        generate_seeded_lwe_compact_public_key_with_pre_seeded_generator(
            &made.keys.encryption,
            &mut seeded,
            encryption.encryption_noise_distribution,
            &mut generator,
        );
        made.keys.wipe();
        let mut key = LweCompactPublicKeyOwned::new(
            0u64,
            encryption.encryption_lwe_dimension,
            encryption.ciphertext_modulus,
        );
        decompress_seeded_lwe_compact_public_key_with_pre_seeded_generator(
            &mut key,
            &seeded,
            &mut MaskRandomGenerator::<DefaultRandomGenerator>::new(made.public_seed),
        );
        let key = shortint::CompactPublicKey::from_raw_parts(key, encryption);
        Ok(CompactPublicKey::from_raw_parts(
            integer::CompactPublicKey::from_raw_parts(key),
            tagged(&self.tag),
        ))
    }

    fn public_key_bytes(&self) -> Outcome<Vec<u8>> {
        bytes::write("public key", &self.public_key()?, limit::PUBLIC_KEY)
    }

    fn server_set(&self) -> Outcome<CompressedXofKeySet> {
        let made = secrets(&self.seed, &self.parameters)?;
        let client = made.keys.into_client(&self.parameters, &self.tag)?;
        let set = CompressedXofKeySet::generate_with_pre_seeded_generator(
            made.public_seed,
            &client,
            made.noise,
        );
        wipe(client);
        set.map_err(|reason| Problem::failed("key generation", reason))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            wipe(client);
        }
    }
}

#[pyclass(frozen, module = "tfhers")]
pub struct ClientKey(pub Arc<Inner>);

impl ClientKey {
    fn make(py: Python<'_>, seed: SecretArgument, parameters: &str, tag: &[u8]) -> PyResult<Self> {
        let seed = seed.take("a seed")?;
        let inner = detached(py, "ClientKey.from_seed", || {
            Inner::generate(seed, parameters, tag)
        })?;
        Ok(Self(Arc::new(inner)))
    }
}

#[pymethods]
impl ClientKey {
    #[staticmethod]
    #[pyo3(signature = (seed, *, parameters = NAMES[0], tag = b"".as_slice()))]
    fn from_seed(
        py: Python<'_>,
        seed: SecretArgument,
        parameters: &str,
        tag: &[u8],
    ) -> PyResult<Self> {
        Self::make(py, seed, parameters, tag)
    }

    #[getter]
    fn parameters(&self) -> &'static str {
        self.0.parameters.name
    }

    #[getter]
    fn tag<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.tag)
    }

    fn compact_public_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let made = detached(py, "compact_public_key", || self.0.public_key_bytes())?;
        Ok(PyBytes::new(py, &made))
    }

    fn compressed_server_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let made = detached(py, "compressed_server_key", || {
            bytes::write("server key", &self.0.server_set()?, limit::SERVER_KEY)
        })?;
        Ok(PyBytes::new(py, &made))
    }

    #[pyo3(signature = (data, *, expected = None, index = 0))]
    fn decrypt_packed<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        expected: Option<&str>,
        index: usize,
    ) -> PyResult<(&'static str, Bound<'py, PyAny>)> {
        let expected = expected.map(kind_named).transpose()?;
        // Microseconds of work: giving up the GIL and waiting for it again would cost more.
        let (kind, value) = contain("decrypt_packed", || {
            packed::decrypt(&self.0.packed, data, expected, index)
        })?;
        Ok((kind.name, value.to_python(py)?))
    }

    fn decrypt_expanded<'py>(
        &self,
        py: Python<'py>,
        data: &[u8],
        r#type: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kind: Kind = kind_named(r#type)?;
        let value: Value = detached(py, "decrypt_expanded", || {
            AnyCiphertext::read(kind, data)?.decrypt(self.0.client()?)
        })?;
        value.to_python(py)
    }

    fn insecure_symmetric_packed<'py>(
        &self,
        py: Python<'py>,
        values: Vec<(String, Bound<'py, PyAny>)>,
        server_key: &ServerKey,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let values = typed_values(values)?;
        let list = server_key.run(py, "insecure_symmetric_packed", || {
            let client = self.0.client()?;
            let encrypt = |(kind, value)| AnyCiphertext::symmetric(kind, value, client);
            ops::pack(values.into_iter().map(encrypt).collect::<Outcome<_>>()?)
        })?;
        Ok(PyBytes::new(py, &list))
    }

    fn seal<'py>(
        &self,
        py: Python<'py>,
        key: SecretArgument,
        aad: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let key = key.take("a sealing key")?;
        let sealed = detached(py, "seal", || seal::seal(&self.0, &key, aad))?;
        Ok(PyBytes::new(py, &sealed))
    }

    #[staticmethod]
    fn unseal(py: Python<'_>, key: SecretArgument, blob: &[u8], aad: &[u8]) -> PyResult<Self> {
        let key = key.take("a sealing key")?;
        let inner = detached(py, "unseal", || seal::unseal(&key, blob, aad))?;
        Ok(Self(Arc::new(inner)))
    }

    fn insecure_export<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let data = contain("insecure_export", || {
            bytes::write("client key", self.0.client()?, limit::CIPHERTEXT)
        })?;
        Ok(PyBytes::new(py, &data))
    }

    fn __repr__(&self) -> String {
        format!("<tfhers.ClientKey {}>", self.0.parameters.name)
    }
}

#[pyclass(frozen, module = "tfhers")]
pub struct KeySet {
    inner: Arc<Inner>,
    server: CompressedXofKeySet,
}

#[pymethods]
impl KeySet {
    #[staticmethod]
    #[pyo3(signature = (seed, *, parameters = NAMES[0], tag = b"".as_slice()))]
    fn from_seed(
        py: Python<'_>,
        seed: SecretArgument,
        parameters: &str,
        tag: &[u8],
    ) -> PyResult<Self> {
        let ClientKey(inner) = ClientKey::make(py, seed, parameters, tag)?;
        let server = detached(py, "KeySet.from_seed", || inner.server_set())?;
        Ok(Self { inner, server })
    }

    fn client_key(&self) -> ClientKey {
        ClientKey(Arc::clone(&self.inner))
    }

    fn compact_public_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let made = detached(py, "compact_public_key", || self.inner.public_key_bytes())?;
        Ok(PyBytes::new(py, &made))
    }

    fn compressed_server_key<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let made = detached(py, "compressed_server_key", || {
            bytes::write("server key", &self.server, limit::SERVER_KEY)
        })?;
        Ok(PyBytes::new(py, &made))
    }

    fn __repr__(&self) -> String {
        format!("<tfhers.KeySet {}>", self.inner.parameters.name)
    }
}
