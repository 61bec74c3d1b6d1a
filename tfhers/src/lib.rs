//! Python bindings of TFHE-rs with direct decryption of packed ciphertext lists.
//!
//! Order of the modules: `errors`, `params`, `values` and `bytes` serve all others; `secret`, `seal`, `keys` and
//! `server` make and hold keys; `crs` and `lists` take what clients encrypt; `ciphertext` and `ops` compute; `packed` and
//! `direct` decrypt compressed lists without TFHE-rs; `kem` is the one primitive that user decryption needs besides.

mod bytes;
mod ciphertext;
mod crs;
mod direct;
mod errors;
mod kem;
mod keys;
mod lists;
mod ops;
mod packed;
mod params;
mod seal;
mod secret;
mod server;
mod values;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

#[pymodule]
fn _tfhers(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::silence_panics();
    let py = module.py();
    module.add("TfheError", py.get_type::<errors::TfheError>())?;
    module.add("FormatError", py.get_type::<errors::FormatError>())?;
    module.add("ProofError", py.get_type::<errors::ProofError>())?;
    module.add("PARAMETERS", PyTuple::new(py, params::NAMES)?)?;
    module.add_class::<secret::Seed>()?;
    module.add_class::<keys::ClientKey>()?;
    module.add_class::<keys::KeySet>()?;
    module.add_class::<server::ServerKey>()?;
    module.add_class::<crs::Crs>()?;
    module.add_class::<lists::PublicKey>()?;
    module.add_class::<ciphertext::Ciphertext>()?;
    macro_rules! functions {
        ($($function:path),* $(,)?) => { $( module.add_function(wrap_pyfunction!($function, module)?)?; )* };
    }
    functions!(
        errors::_panic,
        params::_types,
        packed::packed_types,
        lists::expand,
        lists::verify,
        lists::verify_and_expand,
        ops::add,
        ops::sub,
        ops::eq,
        ops::ne,
        ops::lt,
        ops::le,
        ops::gt,
        ops::ge,
        ops::add_scalar,
        ops::sub_scalar,
        ops::eq_scalar,
        ops::ne_scalar,
        ops::lt_scalar,
        ops::le_scalar,
        ops::gt_scalar,
        ops::ge_scalar,
        ops::select,
        ops::trivial,
        ops::compress,
        kem::ml_kem_512_keypair,
        kem::ml_kem_512_encapsulate,
        kem::ml_kem_512_decapsulate,
    );
    Ok(())
}
