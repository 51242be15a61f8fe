//! `narrows peek`: plain bytes of shared memory or a file, whoever made it.

use std::ffi::OsString;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use narrows::Region;
use serde::Serialize;

use crate::output::Output;
use crate::{arguments, interrupt};

const EXAMPLES: &str = "\
Examples:
  narrows peek shm:psm_4f2a                        what Python's SharedMemory holds
  narrows peek shm:jobs --length 64                the header of a channel
  narrows peek file:./state --offset 0x40 --raw | od -d
  narrows poke b --offset 0 --hex $(narrows peek a --hex)";

/// How much is read at once; a multiple of a line.
const CHUNK: usize = 64 << 10;

/// How many bytes stand on a line.
const LINE: usize = 16;

/// Show bytes of shared memory or a file
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Whose: shm:NAME, file:PATH or fd:N
    address: OsString,
    /// From where on
    #[arg(long, value_name = "N", default_value = "0", value_parser = arguments::size)]
    offset: u64,
    /// How many; none: all
    #[arg(long, value_name = "N", value_parser = arguments::size)]
    length: Option<u64>,
    /// Print hexadecimal digits alone, as `poke --hex` takes them
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    hex: bool,
    /// Print the bytes themselves
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let address = arguments::address(&args.address)?.absolute()?;
    let region = Region::open_read_only(&address)?;
    let length = args.length.unwrap_or_else(|| region.len().saturating_sub(args.offset));
    // Refuses a range that does not exist before anything is printed.
    region.read_at(args.offset.saturating_add(length), &mut [])?;
    interrupt::install()?;
    if args.json {
        let mut bytes = vec![0; length as usize];
        region.read_at(args.offset, &mut bytes)?;
        let json = Json {
            address: address.to_string(),
            total_bytes: region.len(),
            offset: args.offset,
            data: Encoded { base64: STANDARD.encode(bytes) },
        };
        return Output::text(&(serde_json::to_string(&json)? + "\n"));
    }
    let mut output = Output::new();
    let mut dump = Dump::default();
    let mut chunk = vec![0; CHUNK];
    for start in (args.offset..args.offset + length).step_by(CHUNK) {
        let bytes = &mut chunk[..(args.offset + length - start).min(CHUNK as u64) as usize];
        region.read_at(start, bytes)?;
        if args.raw {
            output.message(b"", bytes, b"")?;
        } else if args.hex {
            Output::text(&digits(bytes))?;
        } else {
            Output::text(&dump.lines(start, bytes))?;
        }
    }
    match (args.raw, args.hex) {
        (true, _) => Ok(()),
        (_, true) => Output::text("\n"),
        _ => Output::text(&format!("{:08x}\n", args.offset + length)),
    }
}

#[derive(Serialize)]
struct Json {
    address: String,
    total_bytes: u64,
    offset: u64,
    data: Encoded,
}

#[derive(Serialize)]
struct Encoded {
    base64: String,
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Lines of offset, hexadecimal digits and characters; a `*` stands for lines that repeat the one before.
#[derive(Default)]
struct Dump {
    last: Vec<u8>,
    repeats: bool,
}

impl Dump {
    fn lines(&mut self, start: u64, bytes: &[u8]) -> String {
        let mut text = String::new();
        for (line, offset) in bytes.chunks(LINE).zip((start..).step_by(LINE)) {
            if line == self.last {
                text += if self.repeats { "" } else { "*\n" };
                self.repeats = true;
                continue;
            }
            self.repeats = false;
            self.last = line.to_vec();
            let _ = write!(text, "{offset:08x} ");
            for (at, byte) in line.iter().enumerate() {
                let gap = if at == LINE / 2 { "  " } else { " " };
                let _ = write!(text, "{gap}{byte:02x}");
            }
            let missing = 3 * (LINE - line.len()) + usize::from(line.len() <= LINE / 2);
            let visible =
                |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { *byte as char } else { '.' };
            let characters: String = line.iter().map(visible).collect();
            let _ = writeln!(text, "{:missing$}  |{characters}|", "");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_aligned_and_repeats_are_one_star() {
        let mut dump = Dump::default();
        let mut bytes = b"hello, world\x00\xFF\n~".to_vec();
        bytes.extend([0; 48]);
        bytes.extend(b"end");
        let expected = "\
00000010  68 65 6c 6c 6f 2c 20 77  6f 72 6c 64 00 ff 0a 7e  |hello, world...~|
00000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
00000050  65 6e 64                                          |end|
";
        assert_eq!(dump.lines(16, &bytes[..32]) + &dump.lines(48, &bytes[32..]), expected);
    }

    #[test]
    fn a_short_line_keeps_the_column_of_characters() {
        let column = |len| Dump::default().lines(0, &vec![b'x'; len]).find('|');
        assert!((1..=LINE).all(|len| column(len) == column(LINE)));
    }
}
