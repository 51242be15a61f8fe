//! A checksum of every byte and its position that costs less than the cheapest copy.

const LANES: usize = 8;

/// Fletcher's sums over words, in lanes that the compiler makes vectors of.
#[derive(Default)]
pub(crate) struct Checksum {
    sums: [u64; LANES],
    sums_of_sums: [u64; LANES],
    len: u64,
}

impl Checksum {
    /// Goes on with more bytes; only the last call may have no multiple of 64.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<{ LANES * 8 }>();
        blocks.iter().for_each(|block| self.block(block));
        if !rest.is_empty() {
            let mut block = [0; LANES * 8];
            block[..rest.len()].copy_from_slice(rest);
            self.block(&block);
        }
        self.len += bytes.len() as u64;
    }

    #[inline]
    fn block(&mut self, block: &[u8; LANES * 8]) {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in words.iter().enumerate() {
            self.sums[lane] = self.sums[lane].wrapping_add(u64::from_le_bytes(*word));
            self.sums_of_sums[lane] = self.sums_of_sums[lane].wrapping_add(self.sums[lane]);
        }
    }

    pub(crate) fn value(&self) -> u64 {
        let words = self.sums.iter().chain(&self.sums_of_sums).chain(std::iter::once(&self.len));
        words.fold(0, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }
}

/// The checksum of bytes that lie together.
pub(crate) fn of(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_every_byte_and_its_place() {
        let bytes: Vec<u8> = (0..1000_u32).map(|at| (at * 7) as u8).collect();
        let whole = of(&bytes);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_ne!(of(&other), whole, "byte {at}");
        }
        let mut swapped = bytes.clone();
        swapped.copy_within(64..128, 0);
        swapped[64..128].copy_from_slice(&bytes[..64]);
        assert_ne!(of(&swapped), whole);
        assert_ne!(of(&bytes[..999]), of(&[&bytes[..999], &[0]].concat()));
    }

    #[test]
    fn pieces_make_the_same_as_the_whole() {
        let bytes: Vec<u8> = (0..1000_u32).map(|at| (at * 13) as u8).collect();
        let mut sum = Checksum::default();
        bytes.chunks(128).for_each(|piece| sum.add(piece));
        assert_eq!(sum.value(), of(&bytes));
    }
}
