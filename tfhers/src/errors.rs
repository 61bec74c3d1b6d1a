//! The only place that turns failures of Rust code, panics among them, into Python exceptions.

use std::panic::{catch_unwind, AssertUnwindSafe};

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

create_exception!(
    tfhers,
    TfheError,
    PyException,
    "A call failed. The message names the call and never shows plaintexts, keys or other content."
);
create_exception!(
    tfhers,
    FormatError,
    TfheError,
    "The bytes are not what they must be. The message names the object and the rule."
);
create_exception!(
    tfhers,
    ProofError,
    TfheError,
    "The proof does not hold for this list, public key, reference string and metadata."
);

/// Why a call failed, without a Python token, so that it can travel out of code that runs without the GIL.
#[derive(Debug)]
pub enum Problem {
    /// Bytes are not what they must be: the object and the reason.
    Format(String),
    /// A proof was checked and does not hold.
    Proof(String),
    /// Anything else: a missing key part, a wrong operand, a panic inside TFHE-rs.
    Failed(String),
}

pub type Outcome<T> = Result<T, Problem>;

impl Problem {
    pub fn format(object: &str, reason: impl std::fmt::Display) -> Self {
        Self::Format(format!("{object}: {reason}"))
    }

    pub fn failed(call: &str, reason: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{call}: {reason}"))
    }
}

impl From<Problem> for PyErr {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Format(text) => FormatError::new_err(text),
            Problem::Proof(text) => ProofError::new_err(text),
            Problem::Failed(text) => TfheError::new_err(text),
        }
    }
}

/// Run `work` and turn a panic into a `Problem`. The payload of the panic is dropped: it may quote content.
pub fn contain<T>(call: &str, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Problem::failed(call, "TFHE-rs panicked on this input")))
}

/// Run heavy `work` without the GIL, with panics contained.
pub fn detached<T: Send>(
    py: Python<'_>,
    call: &str,
    work: impl FnOnce() -> Outcome<T> + Send,
) -> PyResult<T> {
    Ok(py.detach(|| contain(call, work))?)
}

/// Keep Rust from printing panics: the message of one may contain what was being processed.
pub fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Panic with `content`, in and out of a pool's thread: for the test that it neither escapes nor is printed.
#[pyfunction]
pub fn _panic(py: Python<'_>, content: String, in_pool: bool) -> PyResult<()> {
    detached(py, "_panic", || {
        if in_pool {
            rayon::scope(|scope| scope.spawn(|_| panic!("{content}")));
        }
        panic!("{content}")
    })
}
