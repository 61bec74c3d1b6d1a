//! The only place that holds evaluation keys and puts them where TFHE-rs looks for them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tfhe::prelude::Tagged;
use tfhe::xof_key_set::CompressedXofKeySet;
use tfhe::{set_server_key, unset_server_key};

use crate::bytes;
use crate::errors::{contain, detached, Outcome, Problem};
use crate::params::{limit, Parameters};

/// An expanded server key. TFHE-rs looks for it in a thread-local, which is set here and nowhere else.
#[pyclass(frozen, module = "tfhers")]
pub struct ServerKey {
    key: tfhe::ServerKey,
    public_key: Vec<u8>,
    pool: Option<rayon::ThreadPool>,
}

impl ServerKey {
    /// Run `work` without the GIL, under this key and, where the key has one, inside its pool of threads.
    pub fn run<T: Send>(
        &self,
        py: Python<'_>,
        call: &str,
        work: impl FnOnce() -> Outcome<T> + Send,
    ) -> PyResult<T> {
        let Some(pool) = &self.pool else {
            return detached(py, call, || {
                set_server_key(self.key.clone());
                let result = contain(call, work);
                unset_server_key();
                result
            });
        };
        detached(py, call, || pool.install(work))
    }
}

#[pymethods]
impl ServerKey {
    #[staticmethod]
    #[pyo3(signature = (data, *, threads = 0))]
    fn load(py: Python<'_>, data: &[u8], threads: usize) -> PyResult<Self> {
        if threads > 1024 {
            return Err(PyValueError::new_err("more than 1024 threads"));
        }
        let (key, public_key) = detached(py, "ServerKey.load", || {
            let config = Parameters::default_set()?.config();
            let set: CompressedXofKeySet =
                bytes::read("server key", data, limit::SERVER_KEY, &config)?;
            let (public_key, key) = set.decompress().into_raw_parts();
            Ok((
                key,
                bytes::write("public key", &public_key, limit::PUBLIC_KEY)?,
            ))
        })?;
        let pool = if threads == 0 {
            None
        } else {
            // Set once per thread and never unset: a worker that waits may pick up another call's work.
            let (shared, name) = (key.clone(), |index| format!("tfhers-{index}"));
            let built = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(name)
                .start_handler(move |_| set_server_key(shared.clone()))
                .build();
            Some(built.map_err(|_| Problem::failed("ServerKey.load", "cannot start threads"))?)
        };
        Ok(Self {
            key,
            public_key,
            pool,
        })
    }

    #[getter]
    fn tag<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.key.tag().data())
    }

    fn compact_public_key<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.public_key)
    }

    fn __repr__(&self) -> &'static str {
        "<tfhers.ServerKey>"
    }
}
