//! Words of the command line that several verbs read: addresses, durations, numbers, frames.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::ValueEnum;
use narrows::{Address, Deadline};

/// How messages are cut out of standard input, and set apart on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Frame {
    // Plain comments, so that help stays short; the verbs say it in their words.
    // A newline ends a message.
    Line,
    // A little-endian 32-bit number, the length, begins it.
    Len,
    // No marks.
    Raw,
}

/// Reads an address. Bytes that are no UTF-8 become `%XX`, as addresses write them.
pub(crate) fn address(argument: &OsStr) -> narrows::Result<Address> {
    let mut text = String::with_capacity(argument.len());
    for chunk in argument.as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text.parse()
}

/// Reads `500ms`, `10s`, `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a number and its unit: 500ms, 10s, 2m".to_owned())
}

/// A moment from now, or never.
pub(crate) fn deadline(timeout: Option<Duration>) -> Deadline {
    timeout.map_or(Deadline::Never, Deadline::from)
}

/// Reads a number of things.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "write a whole number".to_owned())
}

/// Reads a count of bytes: decimal with K, M, G or T for powers of 1024, or hexadecimal after `0x`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => narrows::address::parse_size(text),
    };
    number
        .ok_or_else(|| "write digits, with K, M, G or T for powers of 1024, or 0x and hexadecimal".to_owned())
}

/// An argument's bytes, whatever they are.
pub(crate) fn bytes(arguments: &[OsString]) -> impl Iterator<Item = &[u8]> {
    arguments.iter().map(|argument| argument.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_bytes_that_are_no_text() {
        let address = address(OsStr::from_bytes(b"fifo:/tmp/\xFF\xFEx")).unwrap();
        assert_eq!(address.name().as_bytes(), b"/tmp/\xFF\xFEx");
        assert_eq!(address.to_string(), "fifo:/tmp/%FF%FEx");
    }

    #[test]
    fn sizes_and_durations_are_read_as_people_write_them() {
        assert_eq!(size("0x1F"), Ok(31));
        assert_eq!(size("2K"), Ok(2048));
        assert!(size("-1").is_err() && size("0x").is_err() && size("").is_err());
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10s"), Ok(Duration::from_secs(10)));
        assert!(duration("10").unwrap_err().contains("10s"));
    }
}
