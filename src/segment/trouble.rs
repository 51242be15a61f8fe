//! The errors of this layer: the resource, what was found, whose it is, what to do.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Stat, fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use super::place::Place;
use crate::error::{Error, Result, Text};
use crate::sys::file;

/// Makes errors about one resource.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    what: Text,
    /// Whose space is used up, in words.
    supply: Supply,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supply {
    Shm,
    Memory,
    Disk,
}

impl Trouble {
    pub(super) fn new(what: Text, place: &Place) -> Self {
        let supply = match place {
            Place::Posix(_) => Supply::Shm,
            Place::Memfd(_) => Supply::Memory,
            Place::File(_) | Place::Descriptor(_) => Supply::Disk,
        };
        Self { what, supply }
    }

    /// The resource's name.
    pub(super) fn what(&self) -> &Text {
        &self.what
    }

    /// What a call's errno means here.
    pub(super) fn of(&self, call: &'static str, errno: Errno) -> Error {
        match errno {
            Errno::NAMETOOLONG => Error::InvalidAddress {
                address: self.what.clone(),
                problem: "a part of the path is longer than 255 bytes, or all of it than 4095".into(),
                hint: Some("shorten it".into()),
            },
            Errno::NOTDIR => Error::NotFound {
                what: self.what.clone(),
                hint: Some("a part of the path before the last is no directory".into()),
            },
            errno => Error::from_errno(&self.what, call, errno),
        }
    }

    /// Not allowed, and by whom.
    pub(super) fn permission(&self, stat: &Stat) -> Error {
        Error::Permission {
            what: self.what.clone(),
            owner: Some(owner(stat)),
            hint: Some("let the owner create it with mode=0660 or mode=0666".into()),
        }
    }

    /// The directory does not let a file be made.
    pub(super) fn directory(&self, directory: impl AsFd, errno: Errno) -> Error {
        match errno {
            Errno::ACCESS | Errno::PERM => Error::Permission {
                what: self.what.clone(),
                owner: fstat(directory).ok().map(|stat| format!("of the directory: {}", owner(&stat)).into()),
                hint: Some("nothing can be made in that directory: choose another".into()),
            },
            Errno::ROFS => Error::Permission {
                what: self.what.clone(),
                owner: None,
                hint: Some("the file system is read-only".into()),
            },
            Errno::NOSPC | Errno::DQUOT => self.no_space(directory, 0),
            errno => self.of("open", errno),
        }
    }

    pub(super) fn no_directory(&self, directory: &Path) -> Error {
        let hint = match self.supply {
            Supply::Shm => "mount it: mount -t tmpfs tmpfs /dev/shm".to_owned(),
            _ => format!("make it: mkdir -p {}", directory.display()),
        };
        Error::NotFound { what: directory.to_string_lossy().into(), hint: Some(hint.into()) }
    }

    pub(super) fn wrong_kind(&self, found: &str) -> Error {
        let hint = match found {
            "a named pipe" => "write fifo: before its path",
            "a socket" => "write unix: before its path",
            "a symbolic link" => "give the path that it leads to",
            _ => "choose another name",
        };
        Error::WrongKind {
            what: self.what.clone(),
            expected: "a regular file".into(),
            found: found.into(),
            hint: Some(hint.into()),
        }
    }

    pub(super) fn truncated(&self, len: u64, least: u64) -> Error {
        Error::Corrupt {
            what: self.what.clone(),
            problem: format!("truncated: {len} bytes, and the least is {least}").into(),
            hint: Some("it is no object of narrows, or was cut: remove it".into()),
        }
    }

    /// It was mapped whole, and is not there any more.
    pub(super) fn lost(&self) -> Error {
        Error::Corrupt {
            what: self.what.clone(),
            problem: "it was truncated while it was in use, or a hole in it found no room".into(),
            hint: Some("its messages are lost; remove it: `narrows rm`".into()),
        }
    }

    pub(super) fn unsupported(&self, capability: &str, hint: &str) -> Error {
        Error::Unsupported { what: self.what.clone(), capability: capability.into(), hint: Some(hint.into()) }
    }

    /// Refuses file systems on which two processes' mappings of a file may differ.
    pub(super) fn refuse_remote(&self, file: impl AsFd) -> Result<()> {
        match file::remote_file_system(file) {
            Ok(None) => Ok(()),
            Ok(Some(name)) => {
                let capability = format!("files on {name}, which does not share memory between processes");
                Err(self.unsupported(&capability, "choose a directory of a local file system"))
            }
            Err(errno) => Err(self.of("fstatfs", errno)),
        }
    }

    /// The file system behind `file` has no room for `needed` bytes more.
    pub(super) fn no_space(&self, file: impl AsFd, needed: u64) -> Error {
        let (supply, hint) = match self.supply {
            Supply::Shm => (
                "/dev/shm",
                "remove leftovers (narrows rm --stale), or enlarge it: a container has 64 MiB unless told otherwise \
                 (docker run --shm-size), and its cgroup's memory limit counts it too",
            ),
            Supply::Memory => ("memory", "free some; a container's cgroup may limit it"),
            Supply::Disk => ("space of its file system", "free some: see `df -h`"),
        };
        let room = fstatfs(file).map_or_else(
            |_| String::new(),
            |fs| {
                let (unit, mib) = (fs.f_frsize.max(1) as u64, 1 << 20);
                format!(" of {} MiB, {} MiB free,", fs.f_blocks * unit / mib, fs.f_bavail * unit / mib)
            },
        );
        let needed = if needed > 0 { format!(" {needed} bytes needed:") } else { String::new() };
        // Anonymous memory lives in a file system of the kernel's own, whose figures say nothing.
        let supply = match self.supply {
            Supply::Memory => format!("{supply}{needed}"),
            _ => format!("{supply}{room}{needed}"),
        };
        Error::NoSpace {
            what: self.what.clone(),
            supply: supply.trim_end_matches([',', ':']).into(),
            hint: Some(hint.into()),
        }
    }

    /// The same, where no descriptor is at hand.
    pub(super) fn no_space_by_path(&self, path: Option<&Path>, needed: u64) -> Error {
        match path.and_then(Path::parent).and_then(|directory| std::fs::File::open(directory).ok()) {
            Some(directory) => self.no_space(directory, needed),
            None => self.of("madvise", Errno::NOSPC),
        }
    }

    /// Mapping failed.
    pub(super) fn unmappable(&self, len: u64, errno: Errno) -> Error {
        match errno {
            Errno::NOMEM => Error::NoSpace {
                what: self.what.clone(),
                supply: format!("address space of this process for {len} bytes").into(),
                hint: Some("make it smaller (a channel by memory_max=), or raise `ulimit -v`".into()),
            },
            Errno::NODEV => self.unsupported("mapping", "choose a file of a local file system"),
            errno => self.of("mmap", errno),
        }
    }

    /// Sizing a file beyond this process's limit would raise SIGXFSZ instead of giving an error.
    pub(super) fn check_size_limit(&self, len: u64) -> Result<()> {
        match getrlimit(Resource::Fsize).current {
            Some(limit) if limit < len => Err(Error::NoSpace {
                what: self.what.clone(),
                supply: format!("file size that this process may make ({limit} bytes, {len} needed)").into(),
                hint: Some("make it smaller (a channel by memory_max=), or raise `ulimit -f`".into()),
            }),
            _ => Ok(()),
        }
    }
}

fn owner(stat: &Stat) -> Text {
    format!("uid {}, gid {}, mode {:04o}", stat.st_uid, stat.st_gid, stat.st_mode & 0o7777).into()
}
