//! What is written into a segment: noise, and words that could be right.

use std::sync::atomic::Ordering::Relaxed;

use narrows::{Region, Result};

use super::input::Input;
use super::places::{Places, seal};

/// Writes one word of the input's choice, where it chooses, and perhaps a checksum that fits.
///
/// # Errors
/// As [`Region::atomic_u64`]: none for a word of the places.
pub(crate) fn edit(region: &Region, places: &Places, input: &mut Input) -> Result<()> {
    let word = region.atomic_u64(places.choose(input))?;
    let old = word.load(Relaxed);
    let manner = input.byte();
    let new = match manner & 0x0f {
        0 => input.word(),
        1 => u64::from(input.byte()),
        2 => with_byte(old, 0, input.byte()),
        3 => with_byte(old, 1, input.byte()),
        4 => with_byte(old, 2, input.byte()),
        5 => with_byte(old, input.below(8), input.byte()),
        6 => old ^ 1 << input.below(64),
        // One step in the field that counts: a lap, a generation, a version.
        7 => step(old, 0, input),
        8 => step(old, 8, input),
        9 => step(old, 32, input),
        10 => step(old, 48, input),
        11 => region.atomic_u64(places.choose(input))?.load(Relaxed),
        12 => input.one_of(&places.numbers),
        13 => step(input.one_of(&places.numbers), 0, input),
        14 => step(1 << input.below(64), 0, input),
        _ => !old,
    };
    word.store(new, Relaxed);
    if manner & 0x80 == 0 { seal(region) } else { Ok(()) }
}

fn with_byte(word: u64, at: usize, byte: u8) -> u64 {
    word & !(0xff << (8 * at)) | u64::from(byte) << (8 * at)
}

/// Adds a small number, perhaps a negative one, to the word's bits from `shift` on.
fn step(word: u64, shift: u32, input: &mut Input) -> u64 {
    word.wrapping_add((i64::from(input.byte() as i8) as u64) << shift)
}
