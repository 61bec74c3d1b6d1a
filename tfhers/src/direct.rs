//! The only place where our own code touches secret key bits: the phase of packed blocks modulo 2^12.
//!
//! Before packing, each block is multiplied so that its message lies just under the padding bit; packing rounds the
//! coefficients to 12 bits. So block = round(phase / 2^9) mod 4, where phase = body - sum mask_i s_i in
//! Z_4096[X]/(X^256 + 1). That needs no bootstrapping and no server key.
//!
//! Nothing here branches on a secret or uses one as an index: every key bit is a mask of sixteen equal bits, and every
//! coefficient of every mask polynomial is read for it.

use zeroize::Zeroizing;

use crate::errors::{Outcome, Problem};

/// GLWE dimension, polynomial size and bits of a coefficient in packed lists of the supported parameters.
pub const DIMENSION: usize = 4;
pub const SIZE: usize = 256;
pub const WIDTH: usize = 12;

/// One checked GLWE ciphertext: `DIMENSION * SIZE + bodies` coefficients of `WIDTH` bits, little-endian.
pub struct Glwe<'data> {
    pub packed: &'data [u8],
    pub bodies: usize,
}

impl Glwe<'_> {
    /// Two coefficients take three bytes, least significant first.
    fn coefficient(&self, index: usize) -> u16 {
        let at = index / 2 * 3;
        let low = |byte: usize| u16::from(self.packed[byte]);
        if index.is_multiple_of(2) {
            low(at) | (low(at + 1) & 15) << 8
        } else {
            low(at + 1) >> 4 | low(at + 2) << 4
        }
    }

    fn polynomial(&self, index: usize, out: &mut [u16]) {
        let bytes = &self.packed[index * SIZE / 2 * 3..][..SIZE / 2 * 3];
        for (pair, triple) in out.chunks_exact_mut(2).zip(bytes.chunks_exact(3)) {
            let (low, middle, high) = (
                u16::from(triple[0]),
                u16::from(triple[1]),
                u16::from(triple[2]),
            );
            pair[0] = low | (middle & 15) << 8;
            pair[1] = middle >> 4 | high << 4;
        }
    }
}

/// The key of packed lists, one word per bit, all ones or all zeros; wiped when dropped.
pub struct PackedKey(Zeroizing<Vec<u16>>);

impl PackedKey {
    /// `bits` holds one key bit per word: `DIMENSION` polynomials of `SIZE` coefficients.
    pub fn new(bits: &[u64]) -> Outcome<Self> {
        if bits.len() != DIMENSION * SIZE {
            return Err(Problem::failed(
                "client key",
                "the parameters do not pack lists as 4 x 256",
            ));
        }
        let masks = bits.iter().map(|bit| (*bit as u16).wrapping_neg());
        Ok(Self(Zeroizing::new(masks.collect())))
    }
}

/// Decrypt the blocks `first ..` of one ciphertext into `out`, two bits each.
pub fn decrypt_blocks(key: &PackedKey, glwe: &Glwe<'_>, first: usize, out: &mut [u8]) {
    let count = out.len();
    let mut phase = Zeroizing::new([0u16; SIZE]);
    let phase = &mut phase[..count];
    for (offset, body) in phase.iter_mut().enumerate() {
        *body = glwe.coefficient(DIMENSION * SIZE + first + offset);
    }
    // The first half holds the negated polynomial, so that multiplying it by X^j is taking a window:
    // coefficient c of X^j a is window[SIZE - j + c].
    let mut window = [0u16; 2 * SIZE];
    for (index, masks) in key.0.chunks_exact(SIZE).enumerate() {
        let (negated, plain) = window.split_at_mut(SIZE);
        glwe.polynomial(index, plain);
        for (out, coefficient) in negated.iter_mut().zip(plain.iter()) {
            *out = coefficient.wrapping_neg();
        }
        for (power, mask) in masks.iter().enumerate() {
            let shifted = &window[SIZE - power + first..][..count];
            for (sum, coefficient) in phase.iter_mut().zip(shifted) {
                *sum = sum.wrapping_sub(coefficient & mask);
            }
        }
    }
    for (block, sum) in out.iter_mut().zip(phase.iter()) {
        *block = ((sum.wrapping_add(1 << (WIDTH - 4)) >> (WIDTH - 3)) & 3) as u8;
    }
}
