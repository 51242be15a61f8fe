//! Messages that show whose they are and whether they are whole.

/// Bytes of a message that fits into any slot.
pub(crate) const SMALL: usize = 24;
/// Bytes of a message that needs a chunk, whatever the slot.
pub(crate) const LARGE: usize = 6000;

/// The message with this number.
pub(crate) fn write(id: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    for (at, byte) in bytes.iter_mut().enumerate().skip(8) {
        *byte = filler(id, at);
    }
    bytes
}

/// A message's number. `None`: it is torn, or nobody's.
pub(crate) fn read(bytes: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let whole = (bytes.len() == SMALL || bytes.len() == LARGE)
        && bytes.iter().enumerate().skip(8).all(|(at, byte)| *byte == filler(id, at));
    whole.then_some(id)
}

fn filler(id: u64, at: usize) -> u8 {
    (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ (at as u8).wrapping_mul(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_message_is_nobodys() {
        for len in [SMALL, LARGE] {
            let mut bytes = write(7, len);
            assert_eq!(read(&bytes), Some(7));
            bytes[len - 1] ^= 1;
            assert_eq!(read(&bytes), None);
            assert_eq!(read(&bytes[..len - 1]), None);
        }
    }
}
