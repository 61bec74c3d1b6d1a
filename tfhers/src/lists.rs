//! The only place that handles compact lists: what clients encrypt under a public key, with or without proof.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tfhe::conformance::ListSizeConstraint;
use tfhe::integer::ciphertext::IntegerProvenCompactCiphertextListConformanceParams as ProvenParameters;
use tfhe::prelude::*;
use tfhe::zk::ZkComputeLoad;
use tfhe::{
    CompactCiphertextList, CompactCiphertextListBuilder, CompactCiphertextListConformanceParams,
    CompactPublicKey, FheTypes, ProvenCompactCiphertextList,
};

use crate::bytes;
use crate::ciphertext::{AnyCiphertext, Ciphertext};
use crate::crs::Crs;
use crate::errors::{detached, Outcome, Problem};
use crate::params::{kind_of, limit, Kind, Parameters};
use crate::server::ServerKey;
use crate::values::{typed_values, Value};

const PLAIN: &str = "compact list";
const PROVEN: &str = "proven list";

#[pyclass(frozen, module = "tfhers")]
pub struct PublicKey(CompactPublicKey);

impl PublicKey {
    fn builder(&self, values: &[(Kind, Value)]) -> Outcome<CompactCiphertextListBuilder> {
        let bits: usize = values.iter().map(|(kind, _)| 2 * kind.blocks).sum();
        if values.is_empty() || values.len() > limit::COMPACT_VALUES || bits > limit::COMPACT_BITS {
            return Err(Problem::failed(
                "encrypt",
                "no values, or too many for one list",
            ));
        }
        let mut builder = CompactCiphertextList::builder(&self.0);
        for (kind, value) in values {
            if kind.bits == 1 {
                builder.push(value.0[0] == 1);
            } else {
                builder
                    .push_with_num_bits(value.u256(), kind.bits)
                    .map_err(|reason| Problem::failed("encrypt", reason))?;
            }
        }
        Ok(builder)
    }
}

#[pymethods]
impl PublicKey {
    #[staticmethod]
    fn from_bytes(py: Python<'_>, data: &[u8]) -> PyResult<Self> {
        Ok(Self(detached(py, "PublicKey.from_bytes", || {
            let expected = Parameters::default_set()?.encryption;
            bytes::read("public key", data, limit::PUBLIC_KEY, &expected)
        })?))
    }

    #[getter]
    fn tag<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.tag().data())
    }

    fn encrypt<'py>(
        &self,
        py: Python<'py>,
        values: Vec<(String, Bound<'py, PyAny>)>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let values = typed_values(values)?;
        let list = detached(py, "encrypt", || {
            let list = self.builder(&values)?.build_packed();
            bytes::write(PLAIN, &list, limit::COMPACT_LIST)
        })?;
        Ok(PyBytes::new(py, &list))
    }

    #[pyo3(signature = (values, crs, metadata, *, load = "verify"))]
    fn encrypt_with_proof<'py>(
        &self,
        py: Python<'py>,
        values: Vec<(String, Bound<'py, PyAny>)>,
        crs: &Crs,
        metadata: &[u8],
        load: &str,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let values = typed_values(values)?;
        let load = match load {
            "verify" => ZkComputeLoad::Verify,
            "proof" => ZkComputeLoad::Proof,
            _ => return Err(PyValueError::new_err("load is \"verify\" or \"proof\"")),
        };
        let metadata = bounded(metadata)?;
        let list = detached(py, "encrypt_with_proof", || {
            let list = self
                .builder(&values)?
                .build_with_proof_packed(&crs.0, metadata, load)
                .map_err(|reason| Problem::failed("encrypt_with_proof", reason))?;
            bytes::write(PROVEN, &list, limit::COMPACT_LIST)
        })?;
        Ok(PyBytes::new(py, &list))
    }

    fn __repr__(&self) -> &'static str {
        "<tfhers.PublicKey>"
    }
}

fn bounded(metadata: &[u8]) -> Outcome<&[u8]> {
    if metadata.len() > limit::METADATA {
        return Err(Problem::failed("metadata", "too long"));
    }
    Ok(metadata)
}

/// Types of the elements; refuses lists that are empty, too long, or hold what is not supported.
fn kinds(
    object: &str,
    count: usize,
    kind_at: impl Fn(usize) -> Option<FheTypes>,
) -> Outcome<Vec<Kind>> {
    if count == 0 || count > limit::COMPACT_VALUES {
        return Err(Problem::format(object, "no elements, or too many"));
    }
    let kinds = (0..count)
        .map(|index| kind_of(kind_at(index), object))
        .collect::<Outcome<Vec<_>>>()?;
    if kinds.iter().map(|kind| 2 * kind.blocks).sum::<usize>() > limit::COMPACT_BITS {
        return Err(Problem::format(object, "too many bits"));
    }
    Ok(kinds)
}

fn unpack(kinds: &[Kind], list: &impl CiphertextList) -> Outcome<Vec<Ciphertext>> {
    kinds
        .iter()
        .enumerate()
        .map(|(index, kind)| AnyCiphertext::expanded(*kind, list, index).map(Ciphertext))
        .collect()
}

/// Expand a list that carries no proof. Whoever made it may have chosen its noise: for lists of one's own.
#[pyfunction]
pub fn expand(py: Python<'_>, data: &[u8], server_key: &ServerKey) -> PyResult<Vec<Ciphertext>> {
    server_key.run(py, "expand", || {
        let expected = CompactCiphertextListConformanceParams::from_parameters_and_size_constraint(
            Parameters::default_set()?.encryption,
            ListSizeConstraint::try_size_in_range(1, limit::COMPACT_VALUES)
                .map_err(|reason| Problem::failed("expand", reason))?,
        );
        let list: CompactCiphertextList = bytes::read(PLAIN, data, limit::COMPACT_LIST, &expected)?;
        let kinds = kinds(PLAIN, list.len(), |index| list.get_kind_of(index))?;
        let expanded = list
            .expand()
            .map_err(|reason| Problem::failed("expand", reason))?;
        unpack(&kinds, &expanded)
    })
}

/// Read a proven list and check its proof.
fn proven(
    data: &[u8],
    public_key: &PublicKey,
    crs: &Crs,
    metadata: &[u8],
) -> Outcome<(Vec<Kind>, ProvenCompactCiphertextList)> {
    let metadata = bounded(metadata)?;
    let encryption = Parameters::default_set()?.encryption;
    let expected = ProvenParameters::from_crs_and_parameters(encryption, &crs.0);
    let list: ProvenCompactCiphertextList =
        bytes::read(PROVEN, data, limit::COMPACT_LIST, &expected)?;
    let kinds = kinds(PROVEN, list.len(), |index| list.get_kind_of(index))?;
    if list.verify(&crs.0, &public_key.0, metadata).is_invalid() {
        return Err(Problem::Proof(
            "the proof does not hold for this public key, reference string and metadata".into(),
        ));
    }
    Ok((kinds, list))
}

#[pyfunction]
pub fn verify(
    py: Python<'_>,
    data: &[u8],
    public_key: &PublicKey,
    crs: &Crs,
    metadata: &[u8],
) -> PyResult<()> {
    detached(py, "verify", || {
        proven(data, public_key, crs, metadata).map(|_| ())
    })
}

#[pyfunction]
pub fn verify_and_expand(
    py: Python<'_>,
    data: &[u8],
    public_key: &PublicKey,
    crs: &Crs,
    metadata: &[u8],
    server_key: &ServerKey,
) -> PyResult<Vec<Ciphertext>> {
    server_key.run(py, "verify_and_expand", || {
        let (kinds, list) = proven(data, public_key, crs, metadata)?;
        let expanded = list
            .expand_without_verification()
            .map_err(|reason| Problem::failed("verify_and_expand", reason))?;
        unpack(&kinds, &expanded)
    })
}
