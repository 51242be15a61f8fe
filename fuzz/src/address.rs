//! Addresses: parsed, printed, built, asked for their options.

use std::ffi::OsStr;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use narrows::address::parse_size;
use narrows::channel::Transport;
use narrows::{Address, Deadline, Error, Receiver, Scheme, Sender};

/// Something at whose descriptor there is no channel.
static NOTHING: LazyLock<std::fs::File> =
    LazyLock::new(|| std::fs::File::open("/dev/null").expect("there is a null device"));

/// Reads the input as an address, and builds one of its bytes.
///
/// # Panics
/// Where a promise is broken.
pub fn judge(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        match text.parse::<Address>() {
            Ok(address) => check(&address),
            Err(error) => refused(&error),
        }
        if let Some(size) = parse_size(text) {
            assert_eq!(parse_size(&size.to_string()), Some(size));
        }
    }
    build(input);
}

/// An address of the bytes: the scheme, then a name, a key and a value, each ended by a line's end.
fn build(input: &[u8]) {
    let Some((first, rest)) = input.split_first() else { return };
    let mut parts = rest.split(|byte| *byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let scheme = Scheme::ALL[usize::from(*first) % Scheme::ALL.len()];
    let built = Address::new(scheme, OsStr::from_bytes(next()));
    let built = built.and_then(|address| {
        let (key, value) = (String::from_utf8_lossy(next()), String::from_utf8_lossy(next()));
        if key.is_empty() { Ok(address) } else { address.with(&key, value) }
    });
    match built {
        Ok(address) => check(&address),
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) {
    let is_right = matches!(error, Error::InvalidAddress { .. });
    assert!(is_right && !error.to_string().is_empty(), "{error:?}");
}

/// Printing and parsing are inverse, also of what is made of it.
fn check(address: &Address) {
    inverse(address);
    inverse(&address.bare());
    assert_eq!(address.bare().options().count(), 0);
    match address.clone().absolute() {
        Ok(absolute) => {
            inverse(&absolute);
            assert_eq!(absolute.clone().absolute().expect("what was absolute is"), absolute);
        }
        Err(error) => refused(&error),
    }
    for (key, value) in address.options() {
        assert_eq!(address.option(key), Some(value), "{key} stands twice");
        match address.number(key) {
            Ok(number) => assert_eq!(number, parse_size(value)),
            Err(error) => refused(&error),
        }
    }
    match Transport::of(address) {
        Ok(_) => open(address),
        Err(error) => refused(&error),
    }
}

fn inverse(address: &Address) {
    let text = address.to_string();
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"'$`\\*?[](){}<>|&;!^#".contains(c);
    assert!(text.chars().all(is_plain), "a shell would interpret {text}");
    assert_eq!(text.parse::<Address>().as_ref(), Ok(address), "{text}");
}

/// Has the options of shared memory read, at a place where there is none.
fn open(address: &Address) {
    let number = NOTHING.as_raw_fd().to_string();
    let nowhere = Address::new(Scheme::Fd, number).expect("a number is a name");
    let nowhere = address.options().try_fold(nowhere, |nowhere, (key, value)| nowhere.with(key, value));
    let Ok(nowhere) = nowhere else { return };
    let sender = Sender::<[u8]>::open_by(&nowhere, Deadline::Now).err();
    let receiver = Receiver::<[u8]>::open_by(&nowhere, Deadline::Now).err();
    for error in [sender, receiver] {
        let error = error.expect("there is no channel");
        let is_right = matches!(error, Error::InvalidAddress { .. } | Error::WrongKind { .. });
        assert!(is_right && !error.to_string().is_empty(), "{error:?}");
    }
}
