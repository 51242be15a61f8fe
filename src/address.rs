//! One kind of address for everything: `scheme:name[,key=value]...`.
//!
//! The text survives an unquoted shell: what a shell would interpret, a comma, a percent sign, control
//! characters and bytes that are not UTF-8 are written `%XX`. Parsing and printing are inverse.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result, Text};

/// The longest address text, in bytes: it has room for any path, be it of bytes that are all written `%XX`, and for
/// options.
pub const ADDRESS_MAX: usize = 16 << 10;

/// Where the bytes of an object live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// POSIX shared memory: `shm:NAME` is exactly `shm_open("/NAME")`.
    Shm,
    /// A memory-mapped file, which survives its processes.
    File,
    /// Anonymous sealed memory, inherited by a child or passed over a Unix socket.
    Memfd,
    /// An inherited descriptor.
    Fd,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Unix,
}

impl Scheme {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 6] = [Self::Shm, Self::File, Self::Memfd, Self::Fd, Self::Fifo, Self::Unix];

    /// The word before the colon.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::File => "file",
            Self::Memfd => "memfd",
            Self::Fd => "fd",
            Self::Fifo => "fifo",
            Self::Unix => "unix",
        }
    }

    /// Whether the name is a path of the file system.
    pub const fn is_path(self) -> bool {
        matches!(self, Self::File | Self::Fifo | Self::Unix)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(self.name())
    }
}

/// A parsed address.
///
/// ```
/// use narrows::{Address, Scheme};
/// let address: Address = "shm:readings,capacity=64".parse()?;
/// assert_eq!(address.scheme(), Scheme::Shm);
/// assert_eq!(address.option("capacity"), Some("64"));
/// assert_eq!(address.to_string(), "shm:readings,capacity=64");
/// assert_eq!("readings".parse::<Address>()?.to_string(), "shm:readings");
/// assert!("shm:a/b".parse::<Address>().unwrap_err().to_string().contains("a.b"));
/// # Ok::<(), narrows::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    scheme: Scheme,
    name: Vec<u8>,
    options: Vec<(String, String)>,
}

impl Address {
    /// Builds an address from a scheme and the bytes of a name, which need no escaping.
    ///
    /// # Errors
    /// `InvalidAddress` where the scheme does not allow such a name.
    pub fn new(scheme: Scheme, name: impl AsRef<OsStr>) -> Result<Self> {
        Self { scheme, name: name.as_ref().as_bytes().to_vec(), options: Vec::new() }.checked()
    }

    /// Itself, where the scheme allows its name.
    fn checked(self) -> Result<Self> {
        match check_name(self.scheme, &self.name) {
            Ok(()) => self.short(),
            Err((problem, hint)) => Err(self.invalid(&problem, hint.as_deref())),
        }
    }

    /// Itself, where what it prints can be parsed: a character may become three, or more.
    fn short(self) -> Result<Self> {
        let text = self.to_string();
        if text.len() > ADDRESS_MAX { Err(too_long(&text)) } else { Ok(self) }
    }

    /// The same address with an option set (replaced where it is there already).
    ///
    /// # Errors
    /// `InvalidAddress` where the key is not lower-case letters, digits and underscores, or the address becomes longer
    /// than [`ADDRESS_MAX`].
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Result<Self> {
        if !is_key(key) {
            return Err(self.invalid(&format!("'{key}' is no option name"), None));
        }
        let value = value.to_string();
        match self.options.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => *old = value,
            None => self.options.push((key.to_owned(), value)),
        }
        self.short()
    }

    /// Where the bytes live.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The name, unescaped.
    pub fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.name)
    }

    /// The name as a path.
    pub fn path(&self) -> &Path {
        Path::new(self.name())
    }

    /// An option's value, unescaped.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// All options, in the order they were written.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// An option that is a number; `K`, `M`, `G` and `T` multiply by powers of 1024.
    ///
    /// # Errors
    /// `InvalidAddress` where the value is no such number.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let Some(text) = self.option(key) else { return Ok(None) };
        parse_size(text).map(Some).ok_or_else(|| {
            self.invalid(
                &format!("{key}={text} is no number"),
                Some("write digits, with K, M, G or T for powers of 1024"),
            )
        })
    }

    /// An option that is one of a few words.
    ///
    /// # Errors
    /// `InvalidAddress` that lists the words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.option(key) else { return Ok(None) };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Ok(Some(*value));
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        Err(self.invalid(
            &format!("{key}={text} is unknown"),
            Some(&format!("write {key}={}", words.join(" or "))),
        ))
    }

    /// Checks that every option is one of `known`.
    ///
    /// # Errors
    /// `InvalidAddress` that names the nearest option, or lists them.
    pub fn check_options<'a>(&self, known: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        for (key, _) in self.options() {
            if known.clone().any(|option| option == key) {
                continue;
            }
            let near = known
                .clone()
                .min_by_key(|option| distance(option, key))
                .filter(|option| distance(option, key) <= 2);
            let hint = match near {
                Some(near) => format!("did you mean {near}=?"),
                None => format!("{}: knows {}", self.scheme, known.clone().collect::<Vec<_>>().join(", ")),
            };
            return Err(self.invalid(&format!("{}: has no option '{key}'", self.scheme), Some(&hint)));
        }
        Ok(())
    }

    /// The address without its options: the same object, whatever was asked of it.
    pub fn bare(&self) -> Self {
        Self { scheme: self.scheme, name: self.name.clone(), options: Vec::new() }
    }

    /// The address with its path made absolute, so that it means the same after a change of directory.
    ///
    /// # Errors
    /// `Os` where the current directory cannot be found out, `InvalidAddress` where the path becomes too long.
    pub fn absolute(mut self) -> Result<Self> {
        let is_abstract = self.scheme == Scheme::Unix && self.name.starts_with(b"@");
        if self.scheme.is_path() && !is_abstract && !self.path().is_absolute() {
            let directory =
                std::env::current_dir().map_err(|error| Error::from_io(&self.text(), "getcwd", &error))?;
            let named = self.path().components().filter(|part| *part != Component::CurDir);
            let relative: PathBuf = named.collect();
            self.name = directory.join(relative).into_os_string().as_bytes().to_vec();
            return self.checked();
        }
        Ok(self)
    }

    /// The printed address, as errors and handles carry it.
    pub fn text(&self) -> Text {
        self.to_string().into()
    }

    /// An error about this address.
    pub fn invalid(&self, problem: &str, hint: Option<&str>) -> Error {
        invalid(&self.to_string(), problem, hint)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.scheme, Escaped(&self.name))?;
        self.options.iter().try_for_each(|(key, value)| write!(out, ",{key}={}", Escaped(value.as_bytes())))
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > ADDRESS_MAX {
            return Err(too_long(text));
        }
        let fail = |problem: &str, hint: Option<&str>| invalid(text, problem, hint);
        let mut parts = text.split(',');
        let head = parts.next().unwrap_or_default();
        let (scheme, name) = match head.split_once(':') {
            Some((scheme, name)) => (known_scheme(scheme).ok_or_else(|| unknown_scheme(text, scheme))?, name),
            None if is_bare_name(head) => (Scheme::Shm, head),
            None => return Err(no_scheme(text, head)),
        };
        let name = unescape(name).ok_or_else(|| {
            fail("a '%' is not followed by two hexadecimal digits", Some("write %25 for a percent sign"))
        })?;
        check_name(scheme, &name).map_err(|(problem, hint)| fail(&problem, hint.as_deref()))?;
        let mut address = Self { scheme, name, options: Vec::new() };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                fail(
                    &format!("option '{part}' has no value"),
                    Some("write key=value; write %2C for a comma in a name"),
                )
            })?;
            if !is_key(key) {
                return Err(fail(
                    &format!("'{key}' is no option name"),
                    Some("option names are lower-case letters, digits and '_'"),
                ));
            }
            if address.option(key).is_some() {
                return Err(fail(&format!("option '{key}' stands twice"), None));
            }
            let value = unescape(value).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
                fail(&format!("the value of '{key}' is no text"), Some("write %25 for a percent sign"))
            })?;
            address.options.push((key.to_owned(), value));
        }
        address.short()
    }
}

impl TryFrom<&str> for Address {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&String> for Address {
    type Error = Error;

    fn try_from(text: &String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<&Address> for Address {
    type Error = Error;

    fn try_from(address: &Address) -> Result<Self> {
        Ok(address.clone())
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Parses a count of bytes or things: digits, then nothing or one of `K`, `M`, `G`, `T` (powers of 1024).
///
/// ```
/// assert_eq!(narrows::address::parse_size("64K"), Some(65536));
/// assert_eq!(narrows::address::parse_size("-1"), None);
/// ```
pub fn parse_size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn invalid(address: &str, problem: &str, hint: Option<&str>) -> Error {
    Error::InvalidAddress { address: address.into(), problem: problem.into(), hint: hint.map(Into::into) }
}

fn too_long(text: &str) -> Error {
    let shown: String = text.chars().take(40).collect();
    invalid(&format!("{shown}..."), &format!("longer than {ADDRESS_MAX} bytes"), None)
}

fn known_scheme(word: &str) -> Option<Scheme> {
    Scheme::ALL.into_iter().find(|scheme| scheme.name() == word)
}

fn unknown_scheme(text: &str, word: &str) -> Error {
    let near = Scheme::ALL.into_iter().min_by_key(|scheme| distance(scheme.name(), word));
    let hint = match near {
        Some(near) if distance(near.name(), word) <= 1 => format!("did you mean {near}:?"),
        _ => format!("the schemes are {}", Scheme::ALL.map(|scheme| format!("{scheme}:")).join(" ")),
    };
    invalid(text, &format!("unknown scheme '{word}:'"), Some(&hint))
}

/// Something with a slash and no scheme: look at the path and say what it could be.
fn no_scheme(text: &str, head: &str) -> Error {
    use std::os::unix::fs::FileTypeExt;
    let escaped = Escaped(head.as_bytes());
    let hint = match std::fs::metadata(head).map(|meta| meta.file_type()) {
        Ok(kind) if kind.is_fifo() => format!("it is a named pipe: write fifo:{escaped}"),
        Ok(kind) if kind.is_socket() => format!("it is a socket: write unix:{escaped}"),
        Ok(kind) if kind.is_file() => format!("it is a file: write file:{escaped}"),
        _ if head.contains('/') => "write file:, fifo: or unix: before a path".to_owned(),
        _ => format!("a bare name is letters, digits, '.', '_' and '-': write shm:{escaped}"),
    };
    invalid(text, "there is no scheme", Some(&hint))
}

fn is_bare_name(word: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    word.bytes().next().is_some_and(plain)
        && word.bytes().all(|byte| plain(byte) || byte == b'.' || byte == b'-')
}

fn is_key(word: &str) -> bool {
    !word.is_empty()
        && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

type Refusal = (String, Option<String>);

fn check_name(scheme: Scheme, name: &[u8]) -> Result<(), Refusal> {
    let refuse = |problem: &str, hint: Option<String>| Err((problem.to_owned(), hint));
    if name.is_empty() && scheme != Scheme::Memfd {
        return refuse("the name is missing", Some(format!("write {scheme}:NAME")));
    }
    if name.contains(&0) {
        return refuse("a name cannot contain a zero byte", None);
    }
    match scheme {
        Scheme::Shm => check_shm_name(name),
        Scheme::Memfd if name.len() > 249 => refuse("the name is longer than 249 bytes", None),
        Scheme::Fd if std::str::from_utf8(name).ok().and_then(|text| text.parse::<u16>().ok()).is_none() => {
            refuse("a descriptor is a number from 0 to 65535", None)
        }
        Scheme::Unix if name.len() > 107 => refuse(
            "a socket's path has at most 107 bytes",
            Some("use a shorter path, or an abstract name: unix:@NAME".to_owned()),
        ),
        Scheme::File | Scheme::Fifo if name.len() > 4095 => refuse("a path has at most 4095 bytes", None),
        _ => Ok(()),
    }
}

fn check_shm_name(name: &[u8]) -> Result<(), Refusal> {
    if name.contains(&b'/') {
        let dotted = String::from_utf8_lossy(name).trim_matches('/').replace('/', ".");
        return Err(("shared memory has no directories".into(), Some(format!("write shm:{dotted}"))));
    }
    if name == b"." || name == b".." {
        return Err(("that is a directory".into(), None));
    }
    if name.starts_with(b"sem.") {
        return Err((
            "names that begin with 'sem.' belong to POSIX semaphores".into(),
            Some("choose another name".into()),
        ));
    }
    if name.len() > 255 {
        return Err((
            format!("the name has {} bytes, at most 255 are allowed", name.len()),
            Some("shorten it".into()),
        ));
    }
    Ok(())
}

struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if needs_escape(character) {
                    let mut bytes = [0; 4];
                    for byte in character.encode_utf8(&mut bytes).bytes() {
                        write!(out, "%{byte:02X}")?;
                    }
                } else {
                    fmt::Write::write_char(out, character)?;
                }
            }
            for byte in chunk.invalid() {
                write!(out, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

fn needs_escape(character: char) -> bool {
    character.is_control() || character.is_whitespace() || ",%\"'$`\\*?[](){}<>|&;!^#~=".contains(character)
}

/// Undoes `%XX`; `None` where a percent sign is not followed by two hexadecimal digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digit = |at: usize| tail.get(at).and_then(|byte| (*byte as char).to_digit(16));
            bytes.push((digit(0)? * 16 + digit(1)?) as u8);
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    Some(bytes)
}

/// Edit distance (insert, delete, replace), for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
