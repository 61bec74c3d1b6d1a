//! The only place that parses packed lists (`CompressedCiphertextList` of TFHE-rs 1.7, as `safe_serialize` writes it).
//!
//! TFHE-rs' own reader accepts dimensions that make its next step abort the process. This one knows the layout byte
//! for byte, takes no dimension from the input that the parameters do not fix, checks each count against its limit
//! and against what is left before it allocates, and refuses whatever it does not know, bytes at the end included.
//!
//! Layout, integers little-endian, every structure preceded by a 4-byte number of its version:
//! header "0.5", "0.1", name of the type | lists of GLWE ciphertexts (packed words, width, count, dimension, size,
//! bodies, modulus) | parameters | type of each element | tag | re-randomisation metadata of each element.

use pyo3::prelude::*;

use crate::direct::{decrypt_blocks, Glwe, PackedKey, DIMENSION, SIZE, WIDTH};
use crate::errors::{contain, Outcome, Problem};
use crate::params::{limit, Kind, KINDS};
use crate::values::Value;

const OBJECT: &str = "packed list";
const NAME: &[u8] = b"high_level_api::CompressedCiphertextList";
const HEADER: &[u8] = b"0.5";
const VERSIONING: &[u8] = b"0.1";
const BLOCKS_PER_GLWE: usize = SIZE;
// Kept for re-randomisation before computing; never read here.
const METADATA: usize = 1024;

/// A list whose every length has been checked. Borrows from the input.
pub struct PackedList<'data> {
    pub kinds: Vec<Kind>,
    glwes: Vec<Glwe<'data>>,
}

struct Reader<'data>(&'data [u8]);

impl<'data> Reader<'data> {
    fn take(&mut self, length: usize) -> Outcome<&'data [u8]> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| refuse("cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Outcome<u32> {
        Ok(self
            .take(4)?
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    fn u64(&mut self) -> Outcome<u64> {
        Ok(self
            .take(8)?
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// A count that is at most `most`, so that it may size an allocation.
    fn count(&mut self, most: usize, what: &str) -> Outcome<usize> {
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        if count > most {
            return Err(refuse(&format!("more than {most} {what}")));
        }
        Ok(count)
    }

    fn version(&mut self, known: u32, structure: &str) -> Outcome<()> {
        if self.u32()? != known {
            let text = format!("the {structure} is not as TFHE-rs 1.7 writes it");
            return Err(refuse(&text));
        }
        Ok(())
    }

    fn text(&mut self, expected: &[u8], what: &str) -> Outcome<()> {
        let same = self.u64()? == expected.len() as u64 && self.take(expected.len())? == expected;
        same.then_some(())
            .ok_or_else(|| refuse(&format!("wrong {what}")))
    }

    /// A number in a structure of its own, whose value the parameters fix.
    fn fixed(&mut self, expected: usize, what: &str) -> Outcome<()> {
        self.version(0, what)?;
        if self.u64()? != expected as u64 {
            return Err(refuse(&format!("the {what} is not {expected}")));
        }
        Ok(())
    }

    /// The modulus 2^64, written as 0 of 64 bits.
    fn native_modulus(&mut self) -> Outcome<()> {
        self.version(0, "modulus")?;
        if self.u64()? != 0 || self.u64()? != 0 || self.u64()? != 64 {
            return Err(refuse("the modulus is not 2^64"));
        }
        Ok(())
    }

    fn glwe(&mut self) -> Outcome<Glwe<'data>> {
        self.version(0, "ciphertext")?;
        self.version(0, "packing")?;
        let most = words(SIZE * DIMENSION + BLOCKS_PER_GLWE);
        let length = self.count(most, "packed words")?;
        let packed = self.take(8 * length)?;
        self.fixed(WIDTH, "width of a coefficient")?;
        let coefficients = self.u64()?;
        self.fixed(DIMENSION, "GLWE dimension")?;
        self.fixed(SIZE, "polynomial size")?;
        self.version(0, "number of bodies")?;
        let bodies = self.count(BLOCKS_PER_GLWE, "blocks in a ciphertext")?;
        self.native_modulus()?;
        let total = SIZE * DIMENSION + bodies;
        if bodies == 0 || coefficients != total as u64 || length != words(total) {
            return Err(refuse("the lengths of a ciphertext contradict each other"));
        }
        let unused = 64 * length - WIDTH * total;
        let last = packed
            .last_chunk::<8>()
            .map_or(0, |word| u64::from_le_bytes(*word));
        if unused > 0 && last >> (64 - unused) != 0 {
            return Err(refuse("padding bits are set"));
        }
        Ok(Glwe { packed, bodies })
    }

    fn parameters(&mut self) -> Outcome<()> {
        if self.take(1)? != [1] {
            return Err(refuse("no parameters"));
        }
        self.version(0, "parameters")?;
        self.native_modulus()?;
        self.fixed(4, "message modulus")?;
        self.fixed(4, "carry modulus")?;
        // Atomic pattern: standard, keyswitch before bootstrap.
        for structure in ["atomic pattern", "atomic pattern", "order", "order"] {
            self.version(0, structure)?;
        }
        self.fixed(BLOCKS_PER_GLWE, "number of blocks per ciphertext")
    }

    fn kind(&mut self) -> Outcome<Kind> {
        self.version(1, "type of an element")?;
        let blocks = match self.u32()? {
            0 => self.u64()?,
            2 => return Ok(KINDS[0]),
            _ => return Err(refuse("an element has a type that is not supported")),
        };
        KINDS[1..]
            .iter()
            .find(|kind| kind.blocks as u64 == blocks)
            .copied()
            .ok_or_else(|| refuse("an element has a type that is not supported"))
    }

    fn opaque(&mut self, most: usize, what: &str) -> Outcome<()> {
        self.version(0, what)?;
        let length = self.count(most, &format!("bytes of {what}"))?;
        self.take(length).map(|_| ())
    }
}

fn refuse(reason: &str) -> Problem {
    Problem::format(OBJECT, reason)
}

const fn words(coefficients: usize) -> usize {
    (coefficients * WIDTH).div_ceil(64)
}

impl<'data> PackedList<'data> {
    pub fn parse(data: &'data [u8]) -> Outcome<Self> {
        if data.len() as u64 > limit::PACKED_LIST {
            return Err(refuse(&format!("more than {} bytes", limit::PACKED_LIST)));
        }
        let mut reader = Reader(data);
        reader.text(HEADER, "header")?;
        reader.version(0, "header")?;
        reader.text(VERSIONING, "versioning scheme")?;
        reader.text(NAME, "type of object")?;
        reader.version(3, "list")?;
        reader.version(0, "list of integers")?;
        reader.version(2, "list of blocks")?;
        let most = limit::PACKED_BLOCKS.div_ceil(BLOCKS_PER_GLWE);
        let count = reader.count(most, "ciphertexts")?;
        let glwes = (0..count)
            .map(|_| reader.glwe())
            .collect::<Outcome<Vec<_>>>()?;
        reader.parameters()?;
        let count = reader.count(limit::PACKED_VALUES, "elements")?;
        let kinds = (0..count)
            .map(|_| reader.kind())
            .collect::<Outcome<Vec<_>>>()?;
        reader.opaque(limit::TAG, "tag")?;
        if reader.count(limit::PACKED_VALUES, "elements")? != count {
            return Err(refuse("not one entry of metadata for each element"));
        }
        for _ in 0..count {
            reader.opaque(METADATA, "metadata")?;
        }
        if !reader.0.is_empty() {
            return Err(refuse("bytes are left over at the end"));
        }
        Self { kinds, glwes }.consistent()
    }

    /// Every ciphertext but the last is full, and together they hold the blocks of the elements.
    fn consistent(self) -> Outcome<Self> {
        let Some((last, full)) = self.glwes.split_last() else {
            return Err(refuse("empty"));
        };
        let held = full.len() * BLOCKS_PER_GLWE + last.bodies;
        let needed: usize = self.kinds.iter().map(|kind| kind.blocks).sum();
        if full.iter().any(|glwe| glwe.bodies != BLOCKS_PER_GLWE) || held != needed {
            return Err(refuse("the blocks are not those of the elements"));
        }
        Ok(self)
    }
}

/// Decrypt element `index` directly.
pub fn decrypt(
    key: &PackedKey,
    data: &[u8],
    expected: Option<Kind>,
    index: usize,
) -> Outcome<(Kind, Value)> {
    let list = PackedList::parse(data)?;
    let kind = *list
        .kinds
        .get(index)
        .ok_or_else(|| refuse("has fewer elements"))?;
    if let Some(expected) = expected.filter(|expected| *expected != kind) {
        return Err(refuse(&format!(
            "element {index} is a {}, not a {}",
            kind.name, expected.name
        )));
    }
    let mut start: usize = list.kinds[..index].iter().map(|kind| kind.blocks).sum();
    let mut blocks = [0u8; 128];
    let mut done = 0;
    while done < kind.blocks {
        let glwe = &list.glwes[start / BLOCKS_PER_GLWE];
        let first = start % BLOCKS_PER_GLWE;
        let count = (kind.blocks - done).min(BLOCKS_PER_GLWE - first);
        decrypt_blocks(key, glwe, first, &mut blocks[done..done + count]);
        done += count;
        start += count;
    }
    if kind.bits == 1 {
        blocks[0] = (blocks[0] | blocks[0] >> 1) & 1;
    }
    let value = Value::from_blocks(&blocks[..kind.blocks]);
    Ok((kind, value))
}

#[pyfunction]
pub fn packed_types(data: &[u8]) -> PyResult<Vec<&'static str>> {
    let kinds = contain("packed_types", || Ok(PackedList::parse(data)?.kinds))?;
    Ok(kinds.into_iter().map(|kind| kind.name).collect())
}
