//! Making, finding, places, and who removes the pipe.
//!
//! A pipe that this library made, and that is to go with its last participant, bears the sticky bit, which means
//! nothing to the kernel: so also who did not make it knows, and one from `mkfifo` stays. Who leaves gives back its
//! place first, and then removes the name if the other side's places are free: the second of two that leave at
//! once sees both free. It holds the reader's place meanwhile, and a reader that opened looks whether the name
//! still means what it opened.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, RenameFlags};
use rustix::io::Errno;

use crate::address::Address;
use crate::channel::place::{self, FileId};
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::sys::poll::Pause;
use crate::sys::process::ProcessMark;
use crate::sys::{file, lock, pipe};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Reader,
    /// Keeps other writers out.
    OnlyWriter,
    /// One of many.
    Writer,
}

/// How long a reader waits for its place, which somebody who removes the pipe holds for a moment.
const PLACE_WAIT: Duration = Duration::from_millis(50);

/// How many writers may share a pipe.
const WRITERS_MAX: i64 = 4096;

/// An open end of a pipe and a place in it.
pub(super) struct End {
    descriptor: OwnedFd,
    path: PathBuf,
    side: Side,
    mark: ProcessMark,
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Create {
    Never,
    Only,
    Open,
}

/// An address's options, understood.
struct Wishes {
    create: Create,
    mode: Option<Mode>,
    capacity: Option<u64>,
    is_kept: bool,
}

impl Wishes {
    fn of(address: &Address) -> Result<Self> {
        let creates = [("never", Create::Never), ("only", Create::Only), ("open", Create::Open)];
        Ok(Self {
            create: address.choice("create", &creates)?.unwrap_or(Create::Open),
            mode: place::mode(address)?,
            capacity: address.number("capacity_bytes")?,
            is_kept: address.choice("lifetime", &[("drained", false), ("system", true)])?.unwrap_or(false),
        })
    }
}

impl End {
    /// Opens one side. A writer waits for a reader by looking again and again: nothing tells that one has come.
    pub(super) fn open(address: &Address, side: Side, deadline: Deadline) -> Result<Self> {
        let (what, path, wishes) = (address.text(), address.path(), Wishes::of(address)?);
        let fail = |call| {
            let what = what.clone();
            move |errno| Error::from_errno(&what, call, errno)
        };
        let mark = ProcessMark::take().map_err(fail("madvise"))?;
        let mut made = find_or_make(&what, path, &wishes, true)?;
        let mut pause = Pause::new();
        loop {
            let opened = if side == Side::Reader { pipe::open_reader(path) } else { pipe::open_writer(path) };
            match opened {
                Ok(descriptor) => {
                    let end = Self { descriptor, path: path.to_owned(), side, mark };
                    if end.take_place(&what, deadline)? {
                        end.set_capacity(&what, wishes.capacity)?;
                        return Ok(end);
                    }
                }
                Err(Errno::NOENT | Errno::LOOP) => made |= find_or_make(&what, path, &wishes, false)?,
                Err(Errno::NXIO) => {
                    if !pause.sleep(deadline) {
                        if made {
                            unmake(path);
                        }
                        return Err(Error::TimedOut { what, doing: "opening" });
                    }
                }
                Err(Errno::ACCESS) => {
                    return Err(place::refused(&what, path, "its maker may give mode=666"));
                }
                Err(errno) => return Err(fail("open")(errno)),
            }
        }
    }

    pub(super) fn is_forked(&self) -> bool {
        self.mark.is_forked()
    }

    /// Takes a place; false where the name means another pipe by now.
    fn take_place(&self, what: &Text, deadline: Deadline) -> Result<bool> {
        let until = Deadline::from(deadline.remaining_within(PLACE_WAIT));
        let mut pause = Pause::new();
        loop {
            let is_taken = self.try_place().map_err(|errno| Error::from_errno(what, "lock", errno))?;
            if FileId::at(&self.path) != Some(self.id()) {
                return Ok(false);
            }
            if is_taken {
                return Ok(true);
            }
            if self.side != Side::Reader || !pause.sleep(until) {
                return Err(self.busy(what));
            }
        }
    }

    fn try_place(&self) -> rustix::io::Result<bool> {
        match self.side {
            Side::Reader => pipe::take_reader_place(self),
            Side::OnlyWriter => lock::try_lock_range(self.as_fd(), 0, 0),
            Side::Writer => {
                let first = i64::from(std::process::id()) % WRITERS_MAX;
                for byte in (first..WRITERS_MAX).chain(0..first) {
                    if lock::try_lock_byte(self.as_fd(), byte)? {
                        return Ok(true);
                    }
                    // Beyond the bytes of the many, only a writer that wants to be alone holds anything.
                    if lock::is_byte_locked(self.as_fd(), WRITERS_MAX)? {
                        return Ok(false);
                    }
                }
                Ok(false)
            }
        }
    }

    fn busy(&self, what: &Text) -> Error {
        let (holder, hint) = match self.side {
            Side::Reader => (place::flock_holder(self.id()), "it has one receiver: end that one first"),
            _ => (None, "another sender is there: give writers=many to all, for messages up to 4088 bytes"),
        };
        Error::Busy { what: what.clone(), holder, hint: Some(hint.into()) }
    }

    fn id(&self) -> FileId {
        // fstat of an open descriptor does not fail; an id that no file has would only keep the name.
        rustix::fs::fstat(&self.descriptor).map_or(FileId::NONE, |stat| FileId::of(&stat))
    }

    fn set_capacity(&self, what: &Text, bytes: Option<u64>) -> Result<()> {
        let Some(bytes) = bytes else { return Ok(()) };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX).min(i32::MAX as usize);
        match pipe::set_capacity(self, bytes) {
            Ok(_) => Ok(()),
            Err(Errno::PERM) => Err(Error::NoSpace {
                what: what.clone(),
                supply: "what /proc/sys/fs/pipe-max-size allows".into(),
                hint: Some("give a smaller capacity_bytes".into()),
            }),
            Err(errno) => Err(Error::from_errno(what, "fcntl(F_SETPIPE_SZ)", errno)),
        }
    }

    /// Gives the place back and says whether nobody is left.
    fn leave(&self) -> rustix::io::Result<bool> {
        match self.side {
            Side::Reader => rustix::fs::flock(&self.descriptor, FlockOperation::Unlock)?,
            _ => lock::unlock_range(self.as_fd(), 0, 0)?,
        }
        Ok(!lock::is_range_locked(self.as_fd(), 0, 0)? && pipe::take_reader_place(self)?)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let is_ours = rustix::fs::fstat(&self.descriptor).is_ok_and(|stat| stat.st_mode & STICKY != 0);
        if is_ours
            && !self.is_forked()
            && self.leave() == Ok(true)
            && FileId::at(&self.path) == Some(self.id())
        {
            rustix::fs::unlink(&self.path).ok();
        }
    }
}

/// The sticky bit of a mode.
const STICKY: u32 = 0o1000;

/// Checks what stands at the path, or makes the pipe; true where it was made.
fn find_or_make(what: &Text, path: &Path, wishes: &Wishes, is_first: bool) -> Result<bool> {
    loop {
        match rustix::fs::lstat(path) {
            Ok(stat) => {
                check(what, &stat, wishes)?;
                if is_first && wishes.create == Create::Only {
                    let hint = "create=only makes a new one: remove it, or leave create= out".into();
                    return Err(Error::Busy { what: what.clone(), holder: None, hint: Some(hint) });
                }
                return Ok(false);
            }
            Err(Errno::NOENT) if wishes.create == Create::Never => {
                let hint = Some("make it with mkfifo, or leave create=never out".into());
                return Err(Error::NotFound { what: what.clone(), hint });
            }
            Err(Errno::NOENT) => {}
            Err(Errno::ACCESS) => return Err(place::refused(what, path, "its directory may not be entered")),
            Err(errno) => return Err(Error::from_errno(what, "stat", errno)),
        }
        let mode = wishes.mode.unwrap_or(place::MODE);
        let mode = if wishes.is_kept { mode } else { mode | Mode::SVTX };
        match pipe::make(path, mode) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(place::no_directory(what, path)
                    .unwrap_or_else(|| Error::from_errno(what, "mkfifo", Errno::NOENT)));
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                let parent = path.parent().unwrap_or(Path::new("/"));
                return Err(place::refused(what, parent, "nothing may be made in that directory"));
            }
            Err(errno) => return Err(Error::from_errno(what, "mkfifo", errno)),
        }
    }
}

fn check(what: &Text, stat: &rustix::fs::Stat, wishes: &Wishes) -> Result<()> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Error::WrongKind {
            what: what.clone(),
            expected: "a named pipe".into(),
            found: file::kind_of(stat.st_mode).into(),
            hint: Some(place::instead_of(stat.st_mode).into()),
        });
    }
    let theirs = Mode::from_raw_mode(stat.st_mode & 0o777);
    match wishes.mode {
        Some(ours) if ours != theirs => Err(Error::Mismatch {
            what: what.clone(),
            option: "mode".into(),
            theirs: format!("{:o}", theirs.bits()).into(),
            ours: format!("{:o}", ours.bits()).into(),
        }),
        _ => Ok(()),
    }
}

/// Takes back a pipe that was made and that no reader came to. First the name goes away, so that no reader can come
/// any more; one that came in the last moment gets it back.
fn unmake(path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".{}", std::process::id()));
    if rustix::fs::renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE).is_err() {
        return;
    }
    match pipe::open_writer(Path::new(&aside)) {
        Err(Errno::NXIO) => rustix::fs::unlink(&aside).ok(),
        _ => rustix::fs::renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE).ok(),
    };
}
