//! The only place that knows TFHE-rs' ciphertext types one by one: reading, writing, decrypting, operating.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tfhe::integer::U256;
use tfhe::prelude::*;
use tfhe::{
    CompressedCiphertextListBuilder, FheBool, FheBoolConformanceParams, FheUint128,
    FheUint128ConformanceParams, FheUint16, FheUint160, FheUint160ConformanceParams,
    FheUint16ConformanceParams, FheUint256, FheUint256ConformanceParams, FheUint32,
    FheUint32ConformanceParams, FheUint64, FheUint64ConformanceParams, FheUint8,
    FheUint8ConformanceParams, HlExpandable,
};

use crate::bytes;
use crate::errors::{detached, Outcome, Problem};
use crate::params::{kind_named, limit, Kind, Parameters, KINDS};
use crate::values::Value;

const OBJECT: &str = "ciphertext";

#[derive(Clone)]
pub enum AnyCiphertext {
    Bool(FheBool),
    Uint8(FheUint8),
    Uint16(FheUint16),
    Uint32(FheUint32),
    Uint64(FheUint64),
    Uint128(FheUint128),
    Uint160(FheUint160),
    Uint256(FheUint256),
}

/// What an operator does with two ciphertexts, or with a ciphertext and a plaintext.
#[derive(Clone, Copy)]
pub enum Operator {
    Add,
    Sub,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

/// The plaintext type that TFHE-rs wants beside each ciphertext type.
trait Clear {
    fn of(value: Value) -> Self;
}

macro_rules! clear {
    ($($type:ty),*) => { $(impl Clear for $type {
        fn of(value: Value) -> Self { value.0[0] as $type }
    })* };
}
clear!(u8, u16, u32, u64);

impl Clear for u128 {
    fn of(value: Value) -> Self {
        value.u128()
    }
}

impl Clear for U256 {
    fn of(value: Value) -> Self {
        value.u256()
    }
}

/// Do one thing for each type of ciphertext.
macro_rules! for_each {
    ($any:expr, $inner:ident => $body:expr) => {
        match $any {
            AnyCiphertext::Bool($inner) => $body,
            AnyCiphertext::Uint8($inner) => $body,
            AnyCiphertext::Uint16($inner) => $body,
            AnyCiphertext::Uint32($inner) => $body,
            AnyCiphertext::Uint64($inner) => $body,
            AnyCiphertext::Uint128($inner) => $body,
            AnyCiphertext::Uint160($inner) => $body,
            AnyCiphertext::Uint256($inner) => $body,
        }
    };
}

/// Do one thing for each unsigned type, given its variant, ciphertext type, parameters and plaintext type.
macro_rules! with_uints {
    ($callback:ident!($($argument:tt)*)) => {
        $callback!(($($argument)*)
            Uint8 FheUint8 FheUint8ConformanceParams u8,
            Uint16 FheUint16 FheUint16ConformanceParams u16,
            Uint32 FheUint32 FheUint32ConformanceParams u32,
            Uint64 FheUint64 FheUint64ConformanceParams u64,
            Uint128 FheUint128 FheUint128ConformanceParams u128,
            Uint160 FheUint160 FheUint160ConformanceParams U256,
            Uint256 FheUint256 FheUint256ConformanceParams U256)
    };
}

macro_rules! read_uint {
    (($kind:expr, $data:expr, $pattern:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if $kind.name.eq_ignore_ascii_case(stringify!($variant)) {
            let expected = $parameters::from($pattern);
            let read: $type = bytes::read(OBJECT, $data, limit::CIPHERTEXT, &expected)?;
            return Ok(AnyCiphertext::$variant(read));
        })*
        Err(Problem::failed("type", "unknown name"))
    }};
}

macro_rules! get_uint {
    (($kind:expr, $list:expr, $index:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if $kind.name.eq_ignore_ascii_case(stringify!($variant)) {
            return Ok(AnyCiphertext::$variant(element::<$type>($list, $index)?));
        })*
        Err(Problem::failed("type", "unknown name"))
    }};
}

macro_rules! trivial_uint {
    (($kind:expr, $value:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if $kind.name.eq_ignore_ascii_case(stringify!($variant)) {
            let made = $type::try_encrypt_trivial(<$clear as Clear>::of($value));
            return Ok(AnyCiphertext::$variant(made.map_err(|e| Problem::failed("trivial", e))?));
        })*
        Err(Problem::failed("type", "unknown name"))
    }};
}

macro_rules! encrypt_uint {
    (($kind:expr, $value:expr, $client:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if $kind.name.eq_ignore_ascii_case(stringify!($variant)) {
            let made = $type::try_encrypt(<$clear as Clear>::of($value), $client);
            return Ok(AnyCiphertext::$variant(made.map_err(|e| Problem::failed("encrypt", e))?));
        })*
        Err(Problem::failed("type", "unknown name"))
    }};
}

macro_rules! operate {
    ($operator:expr, $variant:ident, $left:expr, $right:expr) => {{
        let (left, right) = ($left, $right);
        match $operator {
            Operator::Add => AnyCiphertext::$variant(left + right),
            Operator::Sub => AnyCiphertext::$variant(left - right),
            Operator::Eq => AnyCiphertext::Bool(left.eq(right)),
            Operator::Ne => AnyCiphertext::Bool(left.ne(right)),
            Operator::Lt => AnyCiphertext::Bool(left.lt(right)),
            Operator::Le => AnyCiphertext::Bool(left.le(right)),
            Operator::Gt => AnyCiphertext::Bool(left.gt(right)),
            Operator::Ge => AnyCiphertext::Bool(left.ge(right)),
        }
    }};
}

macro_rules! operate_uint {
    (($operator:expr, $left:expr, $right:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if let (AnyCiphertext::$variant(left), AnyCiphertext::$variant(right)) = ($left, $right) {
            return Ok(operate!($operator, $variant, left, right));
        })*
    }};
}

macro_rules! operate_scalar {
    (($operator:expr, $left:expr, $value:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if let AnyCiphertext::$variant(left) = $left {
            return Ok(operate!($operator, $variant, left, <$clear as Clear>::of($value)));
        })*
    }};
}

macro_rules! select_uint {
    (($condition:expr, $left:expr, $right:expr)
     $($variant:ident $type:ident $parameters:ident $clear:ident),*) => {{
        $(if let (AnyCiphertext::$variant(left), AnyCiphertext::$variant(right)) = ($left, $right) {
            return Ok(AnyCiphertext::$variant($condition.if_then_else(left, right)));
        })*
    }};
}

/// One element of an expanded list.
fn element<T: HlExpandable + Tagged>(list: &impl CiphertextList, index: usize) -> Outcome<T> {
    list.get(index)
        .map_err(|reason| Problem::format("list", reason))?
        .ok_or_else(|| Problem::format("list", "an element is missing"))
}

impl AnyCiphertext {
    pub fn kind(&self) -> Kind {
        KINDS[match self {
            Self::Bool(_) => 0,
            Self::Uint8(_) => 1,
            Self::Uint16(_) => 2,
            Self::Uint32(_) => 3,
            Self::Uint64(_) => 4,
            Self::Uint128(_) => 5,
            Self::Uint160(_) => 6,
            Self::Uint256(_) => 7,
        }]
    }

    pub fn read(kind: Kind, data: &[u8]) -> Outcome<Self> {
        let pattern = Parameters::default_set()?.atomic_pattern();
        if kind.bits == 1 {
            let expected = FheBoolConformanceParams::from(pattern);
            let read: FheBool = bytes::read(OBJECT, data, limit::CIPHERTEXT, &expected)?;
            return Ok(Self::Bool(read));
        }
        with_uints!(read_uint!(kind, data, pattern))
    }

    pub fn write(&self) -> Outcome<Vec<u8>> {
        for_each!(self, inner => bytes::write(OBJECT, inner, limit::CIPHERTEXT))
    }

    /// Take element `index` of a list that TFHE-rs has expanded.
    pub fn expanded(kind: Kind, list: &impl CiphertextList, index: usize) -> Outcome<Self> {
        if kind.bits == 1 {
            return Ok(Self::Bool(element(list, index)?));
        }
        with_uints!(get_uint!(kind, list, index))
    }

    pub fn decrypt(&self, client: &tfhe::ClientKey) -> Outcome<Value> {
        Ok(match self {
            Self::Bool(inner) => {
                Value::from_u128(u128::from(FheDecrypt::<bool>::decrypt(inner, client)))
            }
            Self::Uint8(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint16(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint32(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint64(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint128(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint160(inner) => Value::from_u256(inner.decrypt(client)),
            Self::Uint256(inner) => Value::from_u256(inner.decrypt(client)),
        })
    }

    /// Encrypt under the secret key itself.
    pub fn symmetric(kind: Kind, value: Value, client: &tfhe::ClientKey) -> Outcome<Self> {
        if kind.bits == 1 {
            let made = FheBool::try_encrypt(value.0[0] == 1, client);
            return Ok(Self::Bool(
                made.map_err(|reason| Problem::failed("encrypt", reason))?,
            ));
        }
        with_uints!(encrypt_uint!(kind, value, client))
    }

    /// A ciphertext that anyone can read, for constants. Needs a server key in place.
    pub fn trivial(kind: Kind, value: Value) -> Outcome<Self> {
        if kind.bits == 1 {
            let made = FheBool::try_encrypt_trivial(value.0[0] == 1);
            return Ok(Self::Bool(
                made.map_err(|reason| Problem::failed("trivial", reason))?,
            ));
        }
        with_uints!(trivial_uint!(kind, value))
    }

    /// Needs a server key in place.
    pub fn operate(operator: Operator, left: &Self, right: &Self) -> Outcome<Self> {
        if let (Self::Bool(left), Self::Bool(right)) = (left, right) {
            return match operator {
                Operator::Eq => Ok(Self::Bool(left.eq(right))),
                Operator::Ne => Ok(Self::Bool(left.ne(right))),
                _ => Err(Problem::failed("operator", "not defined for bool")),
            };
        }
        with_uints!(operate_uint!(operator, left, right));
        Err(Problem::failed(
            "operator",
            "the operands have different types",
        ))
    }

    /// Needs a server key in place.
    pub fn operate_scalar(operator: Operator, left: &Self, right: Value) -> Outcome<Self> {
        if let Self::Bool(_) = left {
            return Err(Problem::failed("operator", "not defined for bool"));
        }
        with_uints!(operate_scalar!(operator, left, right));
        Err(Problem::failed("operator", "unknown type"))
    }

    /// Needs a server key in place.
    pub fn select(condition: &Self, left: &Self, right: &Self) -> Outcome<Self> {
        let Self::Bool(condition) = condition else {
            return Err(Problem::failed("select", "the condition is not a bool"));
        };
        if let (Self::Bool(left), Self::Bool(right)) = (left, right) {
            return Ok(Self::Bool(condition.if_then_else(left, right)));
        }
        with_uints!(select_uint!(condition, left, right));
        Err(Problem::failed(
            "select",
            "the operands have different types",
        ))
    }

    pub fn push(self, list: &mut CompressedCiphertextListBuilder) {
        for_each!(self, inner => { list.push(inner); });
    }
}

#[pyclass(frozen, module = "tfhers")]
pub struct Ciphertext(pub AnyCiphertext);

#[pymethods]
impl Ciphertext {
    #[getter]
    fn r#type(&self) -> &'static str {
        self.0.kind().name
    }

    fn to_bytes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let data = detached(py, "Ciphertext.to_bytes", || self.0.write())?;
        Ok(PyBytes::new(py, &data))
    }

    #[staticmethod]
    fn from_bytes(py: Python<'_>, r#type: &str, data: &[u8]) -> PyResult<Self> {
        let kind = kind_named(r#type)?;
        Ok(Self(detached(py, "Ciphertext.from_bytes", || {
            AnyCiphertext::read(kind, data)
        })?))
    }

    fn __repr__(&self) -> String {
        format!("<tfhers.Ciphertext {}>", self.0.kind().name)
    }
}
