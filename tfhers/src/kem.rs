//! The only place that offers ML-KEM-512 (FIPS 203), deterministic in the randomness that the caller gives.

use ml_kem::kem::Decapsulate;
use ml_kem::{EncapsulateDeterministic, EncodedSizeUser, KemCore, MlKem512, B32};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::{Zeroize, Zeroizing};

use crate::errors::{detached, Outcome, Problem};

type Public = <MlKem512 as KemCore>::EncapsulationKey;
type Secret = <MlKem512 as KemCore>::DecapsulationKey;

const PUBLIC: usize = 800;
const SECRET: usize = 1632;
const CIPHERTEXT: usize = 768;

type Pair<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn thirty_two(object: &str, data: &[u8]) -> Outcome<B32> {
    B32::try_from(data).map_err(|_| Problem::format(object, "not 32 bytes"))
}

fn read_public(data: &[u8]) -> Outcome<Public> {
    const OBJECT: &str = "ML-KEM-512 public key";
    let encoded = data
        .try_into()
        .map_err(|_| Problem::format(OBJECT, format!("not {PUBLIC} bytes")))?;
    let key = Public::from_bytes(encoded);
    // FIPS 203, 7.2, modulus check: an encoding of coefficients outside the field does not come back the same.
    if key.as_bytes().as_slice() != data {
        return Err(Problem::format(OBJECT, "a coefficient is out of range"));
    }
    Ok(key)
}

fn read_secret(data: &[u8]) -> Outcome<Secret> {
    const OBJECT: &str = "ML-KEM-512 secret key";
    let encoded = data
        .try_into()
        .map_err(|_| Problem::format(OBJECT, format!("not {SECRET} bytes")))?;
    let key = Secret::from_bytes(encoded);
    // FIPS 203, 7.3, hash check: the stored hash is that of the stored public key. Reading the public key
    // afresh recomputes its hash, so that both encodings agree only if it was right.
    let public = read_public(key.encapsulation_key().as_bytes().as_slice())?;
    if &public != key.encapsulation_key() {
        return Err(Problem::format(OBJECT, "its parts do not belong together"));
    }
    Ok(key)
}

#[pyfunction]
pub fn ml_kem_512_keypair<'py>(py: Python<'py>, d: &[u8], z: &[u8]) -> PyResult<Pair<'py>> {
    let (public, secret) = detached(py, "ml_kem_512_keypair", || {
        let (mut d, mut z) = (thirty_two("d", d)?, thirty_two("z", z)?);
        let (secret, public) = MlKem512::generate_deterministic(&d, &z);
        d.zeroize();
        z.zeroize();
        let encoded = Zeroizing::new(secret.as_bytes().to_vec());
        Ok((public.as_bytes().to_vec(), encoded))
    })?;
    Ok((PyBytes::new(py, &public), PyBytes::new(py, &secret)))
}

#[pyfunction]
pub fn ml_kem_512_encapsulate<'py>(
    py: Python<'py>,
    public_key: &[u8],
    randomness: &[u8],
) -> PyResult<Pair<'py>> {
    let (ciphertext, shared) = detached(py, "ml_kem_512_encapsulate", || {
        let public = read_public(public_key)?;
        let mut message = thirty_two("randomness", randomness)?;
        let made = public.encapsulate_deterministic(&message);
        message.zeroize();
        let (ciphertext, mut shared) =
            made.map_err(|_| Problem::failed("ml_kem_512_encapsulate", "failed"))?;
        let kept = Zeroizing::new(shared.to_vec());
        shared.zeroize();
        Ok((ciphertext.to_vec(), kept))
    })?;
    Ok((PyBytes::new(py, &ciphertext), PyBytes::new(py, &shared)))
}

#[pyfunction]
pub fn ml_kem_512_decapsulate<'py>(
    py: Python<'py>,
    secret: &[u8],
    ciphertext: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let shared = detached(py, "ml_kem_512_decapsulate", || {
        let secret = read_secret(secret)?;
        let encoded = ciphertext.try_into().map_err(|_| {
            Problem::format("ML-KEM-512 ciphertext", format!("not {CIPHERTEXT} bytes"))
        })?;
        let mut shared = secret
            .decapsulate(encoded)
            .map_err(|()| Problem::failed("ml_kem_512_decapsulate", "failed"))?;
        let kept = Zeroizing::new(shared.to_vec());
        shared.zeroize();
        Ok(kept)
    })?;
    Ok(PyBytes::new(py, &shared))
}
