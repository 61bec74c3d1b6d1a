//! The only place that offers computing on ciphertexts to Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tfhe::CompressedCiphertextListBuilder;

use crate::bytes;
use crate::ciphertext::{AnyCiphertext, Ciphertext, Operator};
use crate::errors::{Outcome, Problem};
use crate::params::{kind_named, limit};
use crate::server::ServerKey;
use crate::values::Value;

macro_rules! operators {
    ($($name:ident $scalar:ident $operator:ident),*) => { $(
        #[pyfunction]
        pub fn $name(py: Python<'_>, a: &Ciphertext, b: &Ciphertext, server_key: &ServerKey) -> PyResult<Ciphertext> {
            let work = || AnyCiphertext::operate(Operator::$operator, &a.0, &b.0);
            Ok(Ciphertext(server_key.run(py, stringify!($name), work)?))
        }

        #[pyfunction]
        pub fn $scalar(
            py: Python<'_>, a: &Ciphertext, b: &Bound<'_, PyAny>, server_key: &ServerKey,
        ) -> PyResult<Ciphertext> {
            let value = Value::extract(b, a.0.kind())?;
            let work = || AnyCiphertext::operate_scalar(Operator::$operator, &a.0, value);
            Ok(Ciphertext(server_key.run(py, stringify!($scalar), work)?))
        }
    )* };
}

operators!(
    add add_scalar Add,
    sub sub_scalar Sub,
    eq eq_scalar Eq,
    ne ne_scalar Ne,
    lt lt_scalar Lt,
    le le_scalar Le,
    gt gt_scalar Gt,
    ge ge_scalar Ge
);

#[pyfunction]
pub fn select(
    py: Python<'_>,
    condition: &Ciphertext,
    a: &Ciphertext,
    b: &Ciphertext,
    server_key: &ServerKey,
) -> PyResult<Ciphertext> {
    let work = || AnyCiphertext::select(&condition.0, &a.0, &b.0);
    Ok(Ciphertext(server_key.run(py, "select", work)?))
}

#[pyfunction]
pub fn trivial(
    py: Python<'_>,
    r#type: &str,
    value: &Bound<'_, PyAny>,
    server_key: &ServerKey,
) -> PyResult<Ciphertext> {
    let kind = kind_named(r#type)?;
    let value = Value::extract(value, kind)?;
    let work = || AnyCiphertext::trivial(kind, value);
    Ok(Ciphertext(server_key.run(py, "trivial", work)?))
}

/// Pack ciphertexts into one small list, the form that decrypts directly.
#[pyfunction]
pub fn compress<'py>(
    py: Python<'py>,
    ciphertexts: Vec<PyRef<'py, Ciphertext>>,
    server_key: &ServerKey,
) -> PyResult<Bound<'py, PyBytes>> {
    let taken: Vec<AnyCiphertext> = ciphertexts.iter().map(|one| one.0.clone()).collect();
    let data = server_key.run(py, "compress", || pack(taken))?;
    Ok(PyBytes::new(py, &data))
}

/// Needs a server key in place.
pub fn pack(ciphertexts: Vec<AnyCiphertext>) -> Outcome<Vec<u8>> {
    let blocks: usize = ciphertexts.iter().map(|one| one.kind().blocks).sum();
    if ciphertexts.is_empty() {
        return Err(Problem::failed("compress", "no ciphertexts"));
    }
    if ciphertexts.len() > limit::PACKED_VALUES || blocks > limit::PACKED_BLOCKS {
        return Err(Problem::failed(
            "compress",
            "too many ciphertexts for one list",
        ));
    }
    let mut builder = CompressedCiphertextListBuilder::new();
    ciphertexts
        .into_iter()
        .for_each(|one| one.push(&mut builder));
    let list = builder
        .build()
        .map_err(|reason| Problem::failed("compress", reason))?;
    bytes::write("packed list", &list, limit::PACKED_LIST)
}
