//! The only place that reads and writes TFHE-rs' own serialisation (`safe_serialize`), with limits.

use serde::de::DeserializeOwned;
use serde::Serialize;
use tfhe::conformance::ParameterSetConformant;
use tfhe::named::Named;
use tfhe::safe_serialization::{safe_deserialize, safe_deserialize_conformant, safe_serialize};
use tfhe::{Unversionize, Versionize};

use crate::errors::{Outcome, Problem};

pub fn write<T: Serialize + Versionize + Named>(
    object: &str,
    value: &T,
    limit: u64,
) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    safe_serialize(value, &mut bytes, limit).map_err(|_| Problem::failed(object, "too large"))?;
    Ok(bytes)
}

/// Read an object whose parameters are `expected`. Refuses what is larger than `limit` bytes and what has
/// bytes left over, which TFHE-rs would ignore.
pub fn read<T, P>(object: &str, data: &[u8], limit: u64, expected: &P) -> Outcome<T>
where
    T: DeserializeOwned + Unversionize + Named + ParameterSetConformant<ParameterSet = P>,
{
    within(object, data, limit)?;
    let mut rest = data;
    let value = safe_deserialize_conformant(&mut rest, limit, expected)
        .map_err(|reason| Problem::format(object, shorten(&reason)))?;
    nothing_left(object, rest)?;
    Ok(value)
}

/// Read an object whose parameters are judged afterwards by the caller.
pub fn read_unjudged<T>(object: &str, data: &[u8], limit: u64) -> Outcome<T>
where
    T: DeserializeOwned + Unversionize + Named,
{
    within(object, data, limit)?;
    let mut rest = data;
    let value = safe_deserialize(&mut rest, limit)
        .map_err(|reason| Problem::format(object, shorten(&reason)))?;
    nothing_left(object, rest)?;
    Ok(value)
}

fn within(object: &str, data: &[u8], limit: u64) -> Outcome<()> {
    if data.len() as u64 > limit {
        return Err(Problem::format(object, format!("more than {limit} bytes")));
    }
    Ok(())
}

fn nothing_left(object: &str, rest: &[u8]) -> Outcome<()> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(Problem::format(object, "bytes are left over at the end"))
}

/// TFHE-rs' reason may quote text of the input: printable and short is what reaches the exception.
fn shorten(reason: &str) -> String {
    let printable = |letter: &char| letter.is_ascii_graphic() || *letter == ' ';
    reason.chars().filter(printable).take(160).collect()
}
