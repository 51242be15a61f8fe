//! Where a segment's bytes live, and how a file gets there: found, or born whole.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, MemfdFlags, Mode, OFlags, RenameFlags, Stat, fstat, memfd_create, renameat_with,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::trouble::Trouble;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::file;

/// Where `shm_open` puts what it makes.
const SHM_DIRECTORY: &str = "/dev/shm";

/// Where the bytes live.
#[derive(Debug)]
pub(crate) enum Place {
    /// POSIX shared memory of this name, without the slash.
    Posix(OsString),
    /// A file at this absolute path.
    File(PathBuf),
    /// Anonymous memory; the name is only a label in `/proc`.
    Memfd(OsString),
    /// What this descriptor refers to.
    Descriptor(OwnedFd),
}

impl Place {
    /// The place that an address names. `fd:` duplicates the inherited descriptor.
    ///
    /// # Errors
    /// `NotFound` where no such descriptor is open, `Unsupported` for schemes without memory.
    pub(crate) fn of(address: &Address) -> Result<Self> {
        match address.scheme() {
            Scheme::Shm => Ok(Self::Posix(address.name().to_owned())),
            Scheme::File => Ok(Self::File(address.path().to_owned())),
            Scheme::Memfd => Ok(Self::Memfd(address.name().to_owned())),
            Scheme::Fd => {
                let number = address.name().to_str().and_then(|number| number.parse().ok()).unwrap_or(-1);
                file::duplicate(number).map(Self::Descriptor).map_err(|errno| match errno {
                    Errno::BADF => Error::NotFound {
                        what: address.text(),
                        hint: Some(
                            "nothing is open at that number: let the parent leave it open at exec".into(),
                        ),
                    },
                    errno => Error::from_errno(&address.text(), "dup", errno),
                })
            }
            Scheme::Fifo | Scheme::Unix => Err(Error::Unsupported {
                what: address.text(),
                capability: "memory".into(),
                hint: Some("these have it: shm: file: memfd: fd:".into()),
            }),
        }
    }

    /// The path under which everybody finds it, if it has one.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Posix(name) => Some(Path::new(SHM_DIRECTORY).join(name)),
            Self::File(path) => Some(path.clone()),
            Self::Memfd(_) | Self::Descriptor(_) => None,
        }
    }
}

/// What an address wants when its name exists, or does not (`create=never|only|open`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Creation {
    /// Open what exists.
    Never,
    /// Make it; nothing may exist.
    Only,
    /// Either.
    Open,
}

impl Creation {
    /// The option `create`, if it is given.
    ///
    /// # Errors
    /// `InvalidAddress` for another word.
    pub(crate) fn of(address: &Address) -> Result<Option<Self>> {
        address.choice("create", &[("never", Self::Never), ("only", Self::Only), ("open", Self::Open)])
    }
}

/// The option `mode`, if it is given: permission bits in octal.
///
/// # Errors
/// `InvalidAddress` for what is not octal, and for other bits than reading and writing.
pub(crate) fn mode_of(address: &Address) -> Result<Option<u32>> {
    let Some(text) = address.option("mode") else { return Ok(None) };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode & !0o666 == 0 && !text.starts_with('+') => Ok(Some(mode)),
        _ => Err(address.invalid(
            &format!("mode={text} is no mode"),
            Some("write it in octal, with bits to read and write alone: mode=0660"),
        )),
    }
}

/// Which file: as long as one process has it open, no other has the same two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `st_dev`.
    pub(crate) device: u64,
    /// `st_ino`.
    pub(crate) inode: u64,
}

impl Identity {
    /// Of a file that was looked at.
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }

    /// Of what has this name now, a symbolic link being itself; `None` where nothing can be seen.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Self::of(&stat))
    }
}

/// A regular file that was found, as a descriptor for nothing but looking, and what it looked like.
pub(super) struct Found {
    pub(super) file: OwnedFd,
    pub(super) stat: Stat,
}

/// Finds the file without opening it for anything: opening a pipe or a device has effects. `None`: no such name.
pub(super) fn find(trouble: &Trouble, place: &Place) -> Result<Option<Found>> {
    let file = match (place, place.path()) {
        (Place::Descriptor(file), _) => {
            rustix::io::fcntl_dupfd_cloexec(file, 3).map_err(|errno| trouble.of("dup", errno))?
        }
        (_, Some(path)) => {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match file::open_at(CWD, &*path, flags, Mode::empty()) {
                Err(Errno::NOENT) => return Ok(None),
                file => file.map_err(|errno| trouble.of("open", errno))?,
            }
        }
        (_, None) => return Ok(None),
    };
    let stat = fstat(&file).map_err(|errno| trouble.of("fstat", errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(trouble.wrong_kind(file::kind_of(stat.st_mode)));
    }
    if !matches!(place, Place::Posix(_)) {
        trouble.refuse_remote(&file)?;
    }
    Ok(Some(Found { file, stat }))
}

impl Found {
    /// Opens it: a description of its own at each call.
    pub(super) fn open(&self, trouble: &Trouble, writable: bool) -> Result<OwnedFd> {
        file::reopen(&self.file, writable).map_err(|errno| match errno {
            Errno::ACCESS | Errno::PERM => trouble.permission(&self.stat),
            errno => trouble.of("open", errno),
        })
    }
}

/// A file that nobody else can see yet. Dropped before [`publish`](Self::publish), it is gone.
pub(super) struct Newborn {
    /// Open for reading and writing, mode 0600.
    pub(super) file: OwnedFd,
    /// Where it will be linked: the directory and the name.
    destination: Option<(OwnedFd, OsString)>,
    /// Where the file system knows no unnamed files: the name that it has meanwhile.
    hidden: Option<OsString>,
}

impl Newborn {
    /// Makes an empty file for the place.
    pub(super) fn new(trouble: &Trouble, place: &Place) -> Result<Self> {
        match place {
            Place::Posix(_) | Place::File(_) => {
                let path = place.path().unwrap_or_default();
                let (directory, name) = split(trouble, &path)?;
                if matches!(place, Place::File(_)) {
                    trouble.refuse_remote(&directory)?;
                }
                Self::unnamed(trouble, directory, name)
            }
            Place::Memfd(name) => {
                let create =
                    |more| memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | more);
                // Linux 6.3 can demand that memory be marked as not executable; older ones do not know the mark.
                let file = create(MemfdFlags::NOEXEC_SEAL).or_else(|errno| match errno {
                    Errno::INVAL => create(MemfdFlags::empty()),
                    errno => Err(errno),
                });
                let file = file.map_err(|errno| trouble.of("memfd_create", errno))?;
                Ok(Self { file, destination: None, hidden: None })
            }
            Place::Descriptor(_) => Err(trouble.unsupported("creation", "open what was inherited")),
        }
    }

    fn unnamed(trouble: &Trouble, directory: OwnedFd, name: OsString) -> Result<Self> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match file::open_at(&directory, ".", flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file, destination: Some((directory, name)), hidden: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
                Self::hidden(trouble, directory, name)
            }
            Err(errno) => Err(trouble.directory(&directory, errno)),
        }
    }

    /// For file systems without unnamed files: under a name of its own, which a crash leaves behind.
    pub(super) fn hidden(trouble: &Trouble, directory: OwnedFd, name: OsString) -> Result<Self> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        loop {
            let moment = crate::sys::clock::realtime_ns();
            let hidden = OsString::from(format!(".narrows-{}-{moment:x}", std::process::id()));
            match file::open_at(&directory, &*hidden, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    return Ok(Self { file, destination: Some((directory, name)), hidden: Some(hidden) });
                }
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(trouble.directory(&directory, errno)),
            }
        }
    }

    /// Gives the file its name, whole as it is by now. False: the name is taken.
    pub(super) fn publish(&self, trouble: &Trouble) -> Result<bool> {
        let Some((directory, name)) = &self.destination else { return Ok(true) };
        let linked = match &self.hidden {
            None => file::link_unnamed(&self.file, directory, name),
            Some(hidden) => renameat_with(directory, hidden, directory, name, RenameFlags::NOREPLACE),
        };
        match linked {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(trouble.directory(directory, errno)),
        }
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let (Some((directory, _)), Some(hidden)) = (&self.destination, &self.hidden) {
            unlinkat(directory, hidden, AtFlags::empty()).ok();
        }
    }
}

/// The directory, opened for looking, and the last part of the path.
pub(super) fn split(trouble: &Trouble, path: &Path) -> Result<(OwnedFd, OsString)> {
    let name = path.file_name().filter(|_| !path.as_os_str().as_bytes().ends_with(b"/"));
    let name = name.ok_or_else(|| trouble.wrong_kind("a directory"))?;
    let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match file::open_at(CWD, directory, flags, Mode::empty()) {
        Ok(opened) => Ok((opened, name.to_owned())),
        Err(Errno::NOENT) => Err(trouble.no_directory(directory)),
        Err(errno) => Err(trouble.of("open", errno)),
    }
}

/// Removes a name, whatever has it.
pub(super) fn remove_name(directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    unlinkat(directory, name, AtFlags::empty())
}
