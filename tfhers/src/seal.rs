//! The only place that knows the form of a sealed client key.
//!
//! version (1 byte, 01) | nonce (12) | AES-256-GCM-SIV of: length and text of the parameter set's name (1 + n) |
//! length and bytes of the tag (2, big-endian, + n) | seed (32) | SHA-256 of the serialised secret key (32).
//! The authenticated data is a fixed label followed by the caller's. What is sealed is the seed: it makes the whole
//! key set again; the digest stops a later version that would expand it to another key.

use aes_gcm_siv::aead::rand_core::RngCore;
use aes_gcm_siv::aead::{Aead, KeyInit, OsRng, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Key, Nonce};
use zeroize::Zeroizing;

use crate::errors::{Outcome, Problem};
use crate::keys::Inner;
use crate::params::limit;

const VERSION: u8 = 1;
const LABEL: &[u8] = b"tfhers sealed client key 1\0";
const NONCE: usize = 12;
const LARGEST: usize = 1 + NONCE + 1 + 255 + 2 + limit::TAG + 32 + 32 + 16;

fn labelled(aad: &[u8]) -> Vec<u8> {
    [LABEL, aad].concat()
}

fn cipher(key: &[u8; 32]) -> Aes256GcmSiv {
    Aes256GcmSiv::new(Key::<Aes256GcmSiv>::from_slice(key))
}

pub fn seal(inner: &Inner, key: &[u8; 32], aad: &[u8]) -> Outcome<Vec<u8>> {
    let name = inner.parameters.name.as_bytes();
    let mut plain = Zeroizing::new(Vec::with_capacity(LARGEST));
    plain.push(name.len() as u8);
    plain.extend_from_slice(name);
    plain.extend_from_slice(&(inner.tag.len() as u16).to_be_bytes());
    plain.extend_from_slice(&inner.tag);
    plain.extend_from_slice(inner.seed.as_slice());
    plain.extend_from_slice(&inner.check_value()?);
    let mut nonce = [0u8; NONCE];
    OsRng
        .try_fill_bytes(&mut nonce)
        .map_err(|_| Problem::failed("seal", "the system gives no randomness"))?;
    let payload = Payload {
        msg: &plain,
        aad: &labelled(aad),
    };
    let sealed = cipher(key)
        .encrypt(Nonce::from_slice(&nonce), payload)
        .map_err(|_| Problem::failed("seal", "too long"))?;
    Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
}

pub fn unseal(key: &[u8; 32], blob: &[u8], aad: &[u8]) -> Outcome<Inner> {
    let refuse = |reason: &str| Problem::format("sealed client key", reason);
    if blob.len() > LARGEST || blob.len() < 1 + NONCE {
        return Err(refuse("the length is impossible"));
    }
    if blob[0] != VERSION {
        return Err(refuse("unknown version"));
    }
    let (nonce, sealed) = blob[1..].split_at(NONCE);
    let payload = Payload {
        msg: sealed,
        aad: &labelled(aad),
    };
    let opened = cipher(key)
        .decrypt(Nonce::from_slice(nonce), payload)
        .map_err(|_| refuse("sealed under another key or other data, or altered"))?;
    let plain = Zeroizing::new(opened);
    let mut rest = plain.as_slice();
    let mut take = |length: usize| -> Outcome<&[u8]> {
        let (taken, left) = rest
            .split_at_checked(length)
            .ok_or_else(|| refuse("cut short"))?;
        rest = left;
        Ok(taken)
    };
    let length = usize::from(take(1)?[0]);
    let name = std::str::from_utf8(take(length)?).map_err(|_| refuse("no name"))?;
    let length = take(2)?;
    let tag = take(usize::from(length[0]) << 8 | usize::from(length[1]))?;
    let mut seed = Zeroizing::new([0u8; 32]);
    seed.copy_from_slice(take(32)?);
    let check_value = take(32)?;
    if !rest.is_empty() {
        return Err(refuse("bytes are left over at the end"));
    }
    let inner = Inner::generate(seed, name, tag)?;
    if inner.check_value()? != check_value {
        return Err(refuse(
            "the seed expands to another key than the one that was sealed",
        ));
    }
    Ok(inner)
}
