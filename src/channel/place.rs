//! What stands at a path and whose it is, for errors that say so and for removing only what is ours.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::net::SocketType;

use crate::address::Address;
use crate::error::{Error, Result, Text};

/// The permissions of what an address creates unless it says otherwise: its owner only.
pub(super) const MODE: Mode = Mode::from_raw_mode(0o600);

/// One file of the whole machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// What no file has.
    pub(super) const NONE: Self = Self { device: u64::MAX, inode: u64::MAX };

    /// The file that has this name now, a symbolic link being itself.
    pub(super) fn at(path: &Path) -> Option<Self> {
        rustix::fs::lstat(path).ok().map(|stat| Self::of(&stat))
    }
}

/// The option `mode`, which is octal.
///
/// # Errors
/// `InvalidAddress` where it is no octal number up to 777.
pub(super) fn mode(address: &Address) -> Result<Option<Mode>> {
    let Some(text) = address.option("mode") else { return Ok(None) };
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777 && !text.starts_with('+'));
    bits.map(|bits| Some(Mode::from_raw_mode(bits))).ok_or_else(|| {
        address
            .invalid(&format!("mode={text} is no mode"), Some("write octal digits, as for chmod: mode=660"))
    })
}

/// What to do where something of another kind stands at a path. Links are not followed: who may set one could lead each
/// opener to a place of his choice.
pub(super) fn instead_of(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::Symlink => "give the path that it leads to",
        _ => "choose another path",
    }
}

/// A process as errors name it.
pub(super) fn process(pid: u32) -> Text {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid}, {}", name.trim_end()).into(),
        Err(_) => format!("process {pid}").into(),
    }
}

/// Access to `path` was refused: says whose it is.
pub(super) fn refused(what: &Text, path: &Path, hint: &str) -> Error {
    let owner = rustix::fs::stat(path).ok().map(|stat| {
        format!("uid {}, mode {:04o}", stat.st_uid, Mode::from_raw_mode(stat.st_mode).bits() & 0o7777).into()
    });
    Error::Permission { what: what.clone(), owner, hint: Some(hint.into()) }
}

/// The name does not exist: says so where not even its directory does, which no waiting mends.
pub(super) fn no_directory(what: &Text, path: &Path) -> Option<Error> {
    let parent = path.parent().filter(|parent| !parent.is_dir())?;
    let hint = format!("there is no directory '{}': make it first", parent.display());
    Some(Error::NotFound { what: what.clone(), hint: Some(hint.into()) })
}

/// The process that has bound a Unix socket, of one type or any, to this name, as far as this process may look into
/// others.
pub(super) fn socket_holder(name: &OsStr, kind: Option<SocketType>) -> Option<u32> {
    let sockets = std::fs::read("/proc/net/unix").ok()?;
    let ending = [b" ", name.as_bytes()].concat();
    let kind = kind.map(|kind| format!("{:04x}", kind.as_raw()));
    // Num RefCount Protocol Flags Type State Inode Path
    let inode =
        sockets.split(|byte| *byte == b'\n').filter(|line| line.ends_with(&ending)).find_map(|line| {
            let line = String::from_utf8_lossy(line);
            let mut words = line.split_ascii_whitespace();
            let is_it = words.nth(4).is_some_and(|found| kind.as_ref().is_none_or(|kind| kind == found));
            words.nth(1).filter(|_| is_it).map(str::to_owned)
        })?;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let has_it = |pid: &u32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let mut links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.any(|found| found == link)
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(has_it)
}

/// Who holds the whole-file lock of a file, as far as `/proc/locks` tells.
pub(super) fn flock_holder(id: FileId) -> Option<Text> {
    let (major, minor) = (rustix::fs::major(id.device), rustix::fs::minor(id.device));
    let file = format!("{major:02x}:{minor:02x}:{}", id.inode);
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let is_it = words.next() == Some("FLOCK");
        let pid = words.nth(2)?.parse().ok()?;
        (is_it && words.next() == Some(file.as_str())).then(|| process(pid))
    })
}
