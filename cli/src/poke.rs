//! `narrows poke`: writes plain bytes of shared memory or a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::Ordering;

use narrows::Region;

use crate::{arguments, input, interrupt};

const EXAMPLES: &str = "\
Examples:
  narrows poke shm:state --offset 16 hello         five bytes
  narrows poke shm:state --offset 0 --u32 1        one word, little-endian, at once
  narrows poke shm:state --offset 0x20 --hex 00ff  digits, spaces between them or none
  narrows poke file:./table --offset 4K < page     standard input, whole

Nothing is locked: other processes see the bytes in any order, words at once.";

/// Write bytes of shared memory or a file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Whose: shm:NAME, file:PATH or fd:N
    address: OsString,
    /// Where to
    #[arg(long, value_name = "N", value_parser = arguments::size)]
    offset: u64,
    #[command(flatten)]
    what: What,
}

#[derive(clap::Args)]
#[group(multiple = false)]
struct What {
    /// The bytes; none: standard input
    bytes: Option<OsString>,
    /// The bytes as hexadecimal digits
    #[arg(long, value_name = "DIGITS", value_parser = digits)]
    hex: Option<Hex>,
    /// A 32-bit number
    #[arg(long, value_name = "N", value_parser = |text: &str| word(text))]
    u32: Option<u32>,
    /// A 64-bit number
    #[arg(long, value_name = "N", value_parser = arguments::size)]
    u64: Option<u64>,
}

/// Bytes, in a type that clap does not take for a repeated option.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hex(Vec<u8>);

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let address = arguments::address(&args.address)?.absolute()?;
    let region = Region::open(&address)?;
    let Args { offset, what, .. } = args;
    // A word that is aligned is stored at once; another is bytes like all others.
    if let Some(number) = what.u32 {
        match region.atomic_u32(*offset) {
            Ok(word) => word.store(number.to_le(), Ordering::Release),
            Err(_) => region.write_at(*offset, &number.to_le_bytes())?,
        }
    } else if let Some(number) = what.u64 {
        match region.atomic_u64(*offset) {
            Ok(word) => word.store(number.to_le(), Ordering::Release),
            Err(_) => region.write_at(*offset, &number.to_le_bytes())?,
        }
    } else if let Some(Hex(bytes)) = &what.hex {
        region.write_at(*offset, bytes)?;
    } else if let Some(bytes) = &what.bytes {
        region.write_at(*offset, &bytes.clone().into_vec())?;
    } else {
        interrupt::install()?;
        let room = region.len().saturating_sub(*offset);
        region.write_at(*offset, &input::read_all(room)?)?;
    }
    Ok(())
}

fn digits(text: &str) -> Result<Hex, String> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .map(|character| character.to_digit(16).map(|digit| digit as u8))
        .collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            Ok(Hex(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
        }
        _ => Err("write two hexadecimal digits for each byte".to_owned()),
    }
}

fn word(text: &str) -> Result<u32, String> {
    let number = arguments::size(text)?;
    u32::try_from(number).map_err(|_| "the number has more than 32 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_pairs() {
        assert_eq!(digits("00 fF\n"), Ok(Hex(vec![0, 255])));
        assert_eq!(digits(""), Ok(Hex(vec![])));
        assert!(digits("0").is_err() && digits("0g").is_err());
    }

    #[test]
    fn a_word_fits() {
        assert_eq!(word("0xFFFFFFFF"), Ok(u32::MAX));
        assert!(word("4G").is_err());
    }
}
