//! Messages that show whether they are whole, and which one they are.

/// From so many bytes on a message names itself; a shorter one is a *blank*, and only counted.
pub(super) const NAMED: usize = 8;

/// What a message's bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Named(u32),
    Blank,
    /// Not what anybody sent; from this byte on.
    Torn(usize),
}

/// Fills a message: its number and a check of it, then words that depend on the number, the length and their place.
pub(super) fn compose(id: u32, bytes: &mut [u8]) {
    let key = key(id, bytes.len());
    for (at, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&word(id, key, at).to_le_bytes()[..chunk.len()]);
    }
}

/// Looks at every byte.
pub(super) fn examine(bytes: &[u8]) -> Content {
    let id = match bytes.first_chunk::<NAMED>() {
        Some(head) => u64::from_le_bytes(*head) as u32,
        None => 0,
    };
    let key = key(id, bytes.len());
    let (words, rest) = bytes.as_chunks::<8>();
    let differs = |(at, found): (usize, &[u8; 8])| u64::from_le_bytes(*found) != word(id, key, at);
    if let Some(at) = words.iter().enumerate().position(differs) {
        return Content::Torn(at * 8);
    }
    if *rest != word(id, key, words.len()).to_le_bytes()[..rest.len()] {
        return Content::Torn(words.len() * 8);
    }
    if bytes.len() < NAMED { Content::Blank } else { Content::Named(id) }
}

/// A blank has the number 0 and, of it, nothing but the filling.
fn key(id: u32, len: usize) -> u64 {
    let mixed = (u64::from(id) | (len as u64) << 32).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

#[inline]
fn word(id: u32, key: u64, at: usize) -> u64 {
    match at {
        0 => u64::from(id) | key & 0xffff_ffff_0000_0000,
        at => key.wrapping_add((at as u64).wrapping_mul(0x94d0_49bb_1331_11eb)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_shows_whether_it_is_whole() {
        for len in [0, 1, 7, 8, 9, 48, 1000] {
            let mut bytes = vec![0; len];
            let id = if len < NAMED { 0 } else { 70_000 };
            compose(id, &mut bytes);
            let whole = if len < NAMED { Content::Blank } else { Content::Named(id) };
            assert_eq!(examine(&bytes), whole);
            for at in 0..len {
                bytes[at] ^= 0x10;
                assert!(matches!(examine(&bytes), Content::Torn(_)), "byte {at} of {len}");
                bytes[at] ^= 0x10;
            }
            if len > NAMED {
                assert!(matches!(examine(&bytes[..len - 1]), Content::Torn(_)), "{len}");
            }
        }
    }
}
