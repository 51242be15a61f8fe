//! Named bytes: where a segment's memory comes from, who is alive, and how it goes.
//!
//! | file | what is in it |
//! |---|---|
//! | here | [`Segment`]: the mapped file that narrows' own objects live in |
//! | `place` | finding a file, and making one that appears whole or not at all |
//! | `descriptor` | a descriptor that other code may close |
//! | `region` | [`Region`]: anybody's plain bytes, without a header of ours |
//! | `trouble` | the errors' texts |
//!
//! **Facts.**
//! - *whole*: who finds a segment's name finds it initialised. The file is made without a name, and linked last.
//! - *alive*: byte `LOCKS + n` of the file is locked while the process with place `n` maps it. The lock belongs to an
//!   open file description that this process alone opened. No forked child keeps its descriptor (`sys::fork`), and the
//!   mapping, which no child inherits, alone keeps it once [`Segment::pin`] has closed the descriptor. So the kernel frees the lock
//!   when the memory can no longer be written by that process, and not before.
//! - *one removal*: a name is unlinked under the lock `REMOVAL` of the inode that it refers to. Hence it still refers
//!   to that inode when it is unlinked, and a successor's file is never hit.
#![allow(unsafe_code)]

mod descriptor;
mod place;
mod region;
mod trouble;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::{
    Access, AtFlags, CWD, FallocateFlags, Mode, OFlags, SealFlags, Stat, accessat, fallocate, fchmod,
    fcntl_add_seals, fstat, ftruncate,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use crate::address::Address;
use crate::deadline::Deadline;
use crate::error::{Error, Result, Text};
use crate::sys::fork::{NoFork, Unshared};
use crate::sys::guard::MappingMark;
use crate::sys::memory::Mapping;
use crate::sys::{file, lock};

use descriptor::Descriptor;
use place::{Found, Identity, Newborn};
use trouble::Trouble;

pub(crate) use place::{Creation, Place, mode_of};
pub use region::Region;

/// The first of the bytes whose locks say who is alive: far behind any byte of content.
const LOCKS: i64 = 1 << 62;
/// The byte whose lock allows to remove the name.
const REMOVAL: i64 = LOCKS + 0xFFFF;
/// No segment is shorter, in bytes.
const LEAST: u64 = 4096;
/// In a directory of that mode, files are removed by their owners alone.
const STICKY: u32 = 0o1000;

/// A file's bytes, mapped, with what tells who else alive maps them.
#[derive(Debug)]
pub(crate) struct Segment {
    trouble: Trouble,
    path: Option<PathBuf>,
    identity: Identity,
    mapping: Mapping,
    is_writable: bool,
    /// The mapping's own descriptor, until [`Segment::pin`].
    own: Descriptor,
    /// What has forked children close that descriptor; dropped after it.
    unshared: Unshared,
    /// Another description of the file: to look at locks, to grow, to pass on.
    checking: Descriptor,
    /// Held while `checking` is in question, so that one thread's repair does not mislead another's look.
    in_question: Mutex<()>,
}

/// Whether somebody alive has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Somebody alive.
    Held,
    /// Nobody: whoever had it is dead, or has unmapped the segment.
    Free,
    /// It cannot be found out now. To be taken for alive.
    Unknown,
}

/// Who owns the file, and how much memory it occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Bytes that are really there, holes not counted.
    pub(crate) allocated: u64,
    /// Whether that counts what was reserved and nothing else: in memory, but not on a disk.
    pub(crate) is_exact: bool,
}

impl Segment {
    /// Makes a segment of `len` sparse bytes, of which the first `reserve` are really there, lets `initialise` fill
    /// it, and only then gives it its name and mode. `None`: somebody else's has the name.
    ///
    /// # Errors
    /// `NoSpace`, `Permission`, `NotFound` for a missing directory, `Unsupported` for remote file systems, and what
    /// `initialise` says. Nothing is left behind.
    ///
    /// # After a crash
    /// Nothing is left behind; on file systems without unnamed files, a `.narrows-*` file in the directory.
    pub(crate) fn create(
        address: &Address,
        place: &Place,
        len: u64,
        reserve: u64,
        mode: u32,
        initialise: &mut dyn FnMut(&Self) -> Result<()>,
    ) -> Result<Option<Self>> {
        let trouble = Trouble::new(address.bare().text(), place);
        trouble.check_size_limit(len)?;
        let newborn = Newborn::new(&trouble, place)?;
        let file = newborn.file.as_fd();
        retry_on_intr(|| ftruncate(file, len)).map_err(|errno| match errno {
            Errno::INVAL | Errno::FBIG => trouble.no_space(file, len),
            errno => trouble.of("ftruncate", errno),
        })?;
        if matches!(place, Place::Memfd(_)) {
            fcntl_add_seals(file, SealFlags::SHRINK).map_err(|errno| trouble.of("fcntl", errno))?;
        }
        allocate(&trouble, file, 0, reserve)?;
        let checking = rustix::io::fcntl_dupfd_cloexec(file, 3).map_err(|errno| trouble.of("dup", errno))?;
        let open = || file::reopen(file, true).map_err(|errno| trouble.of("open", errno));
        let segment = Self::map(trouble.clone(), place.path(), open, checking, true)?;
        // Only now: a mode without rights for its owner would not let it be opened.
        fchmod(file, Mode::from_raw_mode(mode)).map_err(|errno| trouble.of("fchmod", errno))?;
        initialise(&segment)?;
        Ok(newborn.publish(&trouble)?.then_some(segment))
    }

    /// Opens what is there. `None`: nothing has that name.
    ///
    /// # Errors
    /// `WrongKind` for what is no regular file, `Permission` with the owner and mode, `Corrupt` for a file that is too
    /// short, `NoSpace` for want of descriptors or address space, `Unsupported` for remote file systems.
    pub(crate) fn open(address: &Address, place: &Place) -> Result<Option<Self>> {
        Self::open_as(address, place, true)
    }

    /// Opens what is there for looking only: the mapping cannot be written and no place can be taken.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_read_only(address: &Address, place: &Place) -> Result<Option<Self>> {
        Self::open_as(address, place, false)
    }

    fn open_as(address: &Address, place: &Place, is_writable: bool) -> Result<Option<Self>> {
        let trouble = Trouble::new(address.bare().text(), place);
        let Some(found) = place::find(&trouble, place)? else { return Ok(None) };
        let checking = found.open(&trouble, is_writable)?;
        let open = || found.open(&trouble, is_writable);
        Self::map(trouble.clone(), place.path(), open, checking, is_writable).map(Some)
    }

    fn map(
        trouble: Trouble,
        path: Option<PathBuf>,
        open: impl FnOnce() -> Result<OwnedFd>,
        checking: OwnedFd,
        is_writable: bool,
    ) -> Result<Self> {
        let no_fork = NoFork::begin();
        let own = open()?;
        let unshared = Unshared::note(&own);
        let stat = fstat(&own).map_err(|errno| trouble.of("fstat", errno))?;
        let (len, identity) = (stat.st_size as u64, Identity::of(&stat));
        if len < LEAST {
            return Err(trouble.truncated(len, LEAST));
        }
        let unmappable = |errno| trouble.unmappable(len, errno);
        let mut mapping = Mapping::new(own.as_fd(), len, is_writable).map_err(unmappable)?;
        mapping.keep().map_err(unmappable)?;
        drop(no_fork);
        Ok(Self {
            path,
            identity,
            mapping,
            is_writable,
            own: Descriptor::new(own, identity),
            unshared,
            checking: Descriptor::new(checking, identity),
            in_question: Mutex::new(()),
            trouble,
        })
    }

    /// The first byte. Valid until the segment is dropped, and not in a forked child.
    #[inline]
    pub(crate) fn base(&self) -> *mut u8 {
        self.mapping.base()
    }

    /// The length in bytes at the time of opening, holes included.
    #[inline]
    pub(crate) fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// Tells whether this process still has it, and its memory.
    pub(crate) fn mark(&self) -> MappingMark {
        self.mapping.mark()
    }

    /// Says that the memory went away while it was mapped, if it did.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn intact(&self) -> Result<()> {
        if self.mark().is_lost() { Err(self.trouble.lost()) } else { Ok(()) }
    }

    /// Says that the file is shorter than what is mapped of it. From then on the memory counts as lost.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn measure(&self) -> Result<()> {
        // Where every way to the file is lost, nothing can be said.
        match self.with_file(|_, stat| Ok(stat.st_size as u64)) {
            Ok(len) if len < self.len() => {
                self.mark().lose();
                Err(self.trouble.lost())
            }
            _ => Ok(()),
        }
    }

    /// The error, unless memory that went away is behind it.
    pub(crate) fn explain(&self, error: Error) -> Error {
        self.intact().err().unwrap_or(error)
    }

    /// The address, as errors name it.
    pub(crate) fn what(&self) -> &Text {
        self.trouble.what()
    }

    /// Who owns the file, and how much memory it occupies.
    ///
    /// # Errors
    /// `Os` where every way to the file is lost.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let (stat, is_exact) = self.with_file(|file, stat| Ok((*stat, file::is_in_memory(file))))?;
        Ok(Metadata {
            is_exact,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            allocated: stat.st_blocks as u64 * 512,
        })
    }

    /// Takes place `index`, for as long as this mapping lives; false where somebody alive has it.
    ///
    /// # Errors
    /// `Os` after [`pin`](Self::pin), or where other code has closed the descriptor.
    pub(crate) fn try_lock(&self, index: u16) -> Result<bool> {
        debug_assert!(LOCKS + i64::from(index) < REMOVAL);
        let (own, _) = self.own.get().ok_or_else(|| self.trouble.of("fcntl", Errno::BADF))?;
        lock::try_lock_byte(own, LOCKS + i64::from(index)).map_err(|errno| self.trouble.of("fcntl", errno))
    }

    /// Gives place `index` back. Only before [`pin`](Self::pin).
    pub(crate) fn unlock(&self, index: u16) {
        if let Some((own, _)) = self.own.get() {
            lock::unlock_byte(own, LOCKS + i64::from(index)).ok();
        }
    }

    /// Closes the mapping's own descriptor: from now on the mapping alone holds what was locked.
    pub(crate) fn pin(&self) {
        self.own.close();
        self.unshared.release();
    }

    /// Whether somebody alive has place `index`, this very segment included.
    pub(crate) fn holder(&self, index: u16) -> Holder {
        let offset = LOCKS + i64::from(index);
        let holder = self.with_file(|file, _| match lock::is_byte_locked(file, offset) {
            Ok(true) => Ok(Holder::Held),
            // Believed only if other code did not put another file at this number just before the question.
            Ok(false) if self.checking.get().is_some() => Ok(Holder::Free),
            _ => Ok(Holder::Unknown),
        });
        holder.unwrap_or(Holder::Unknown)
    }

    /// Makes sure that bytes are really there, so that touching them cannot fail, and present in this mapping, so
    /// that touching them first is cheap (measured: 1 MiB reserved and touched in 180 µs instead of 290).
    /// What stands there stays; doing it twice does no harm.
    ///
    /// # Errors
    /// `NoSpace` with the size of the file system, and what was reserved in vain is given back.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        self.intact()?;
        let allocated = self.with_file(|file, _| Ok(allocate(&self.trouble, file, offset, len)));
        let is_allocated = allocated.is_ok();
        if let Ok(result) = allocated {
            result?;
        }
        match self.mapping.populate(offset as usize, len as usize) {
            Ok(()) => Ok(()),
            // The bytes are there; their first touch is dearer.
            Err(_) if is_allocated => Ok(()),
            // No way to the file but the mapping: a fault there means that there is no room.
            Err(Errno::FAULT | Errno::NOMEM) => Err(self.trouble.no_space_by_path(self.path.as_deref(), len)),
            Err(errno) => Err(self.trouble.of("madvise", errno)),
        }
    }

    /// Gives whole pages back to the system; they read as zero until they are written again. Where the file system
    /// cannot have holes, nothing happens.
    pub(crate) fn punch(&self, offset: u64, len: u64) {
        self.mapping.punch(offset as usize, len as usize).ok();
    }

    /// Whether it was opened by a name that can be removed.
    pub(crate) fn has_name(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the name still refers to this file; true for what never had a name.
    pub(crate) fn is_named(&self) -> bool {
        self.path.as_deref().is_none_or(|path| Identity::at(path) == Some(self.identity))
    }

    /// Whether this process may remove the name: write in its directory, and where that is sticky, own one of both.
    /// Root is taken to be mighty, and others not, whatever their capabilities: then a name stays.
    pub(crate) fn may_unlink(&self) -> bool {
        let Some(Ok((directory, _))) = self.path.as_deref().map(|path| place::split(&self.trouble, path))
        else {
            return false;
        };
        let access = Access::WRITE_OK | Access::EXEC_OK;
        if matches!(accessat(&directory, ".", access, AtFlags::EACCESS), Err(Errno::ACCESS | Errno::ROFS)) {
            return false;
        }
        let (user, owner) = (geteuid().as_raw(), self.metadata().map(|metadata| metadata.uid));
        let is_ours = |stat: Stat| stat.st_mode & STICKY == 0 || stat.st_uid == user || owner == Ok(user);
        user == 0 || fstat(&directory).is_ok_and(is_ours)
    }

    /// The error of a name that this process may not remove.
    pub(crate) fn not_ours(&self) -> Error {
        let owner = self.metadata().ok();
        let owner =
            owner.map(|owner| format!("uid {}, gid {}, mode {:04o}", owner.uid, owner.gid, owner.mode));
        let hint = "its owner may remove it, or whose the directory is".into();
        Error::Permission { what: self.what().clone(), owner: owner.map(Into::into), hint: Some(hint) }
    }

    /// Removes the name, if it still refers to this file; false: it does not. Who maps the file goes on with it.
    ///
    /// # Errors
    /// `TimedOut` where somebody else is about to remove it and does not come to an end, `Permission`.
    ///
    /// # After a crash
    /// The name is there or it is not; the right to remove it is free again.
    pub(crate) fn unlink(&self, until: Deadline) -> Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let (directory, name) = place::split(&self.trouble, path)?;
        let place = Place::File(path.clone());
        let Some(found) = place::find(&self.trouble, &place)?.filter(|found| self.is_this(found)) else {
            return Ok(false);
        };
        let file = found.open(&self.trouble, true)?;
        while !lock::try_lock_byte(file.as_fd(), REMOVAL).map_err(|errno| self.trouble.of("fcntl", errno))? {
            if until.is_over() {
                return Err(Error::TimedOut { what: self.what().clone(), doing: "removing" });
            }
            std::thread::sleep(until.remaining_within(Duration::from_millis(1)));
        }
        if Identity::at(path) != Some(self.identity) {
            return Ok(false);
        }
        match place::remove_name(&directory, &name) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.trouble.directory(&directory, errno)),
        }
    }

    /// A descriptor of the file, for passing on and for inheritance. Who gets it reopens it: it carries no lock.
    ///
    /// # Errors
    /// `Os` where every way to the file is lost.
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.with_file(|_, _| Ok(()))?;
        self.checking.get().map(|(file, _)| file).ok_or_else(|| self.trouble.of("open", Errno::BADF))
    }

    fn is_this(&self, found: &Found) -> bool {
        Identity::of(&found.stat) == self.identity
    }

    /// Does something with a descriptor that is certainly this file's, opened again where other code closed it.
    fn with_file<T>(&self, work: impl FnOnce(BorrowedFd<'_>, &Stat) -> Result<T>) -> Result<T> {
        let _one_at_a_time = self.in_question.lock().unwrap_or_else(PoisonError::into_inner);
        if self.checking.get().is_none() {
            self.checking.replace(self.find_again()?);
        }
        match self.checking.get() {
            Some((file, stat)) => work(file, &stat),
            None => Err(self.trouble.of("open", Errno::BADF)),
        }
    }

    /// Opens the file by its name, else by its mapping (which the kernel allows to few).
    fn find_again(&self) -> Result<OwnedFd> {
        if let Some(path) = &self.path
            && let Ok(Some(found)) = place::find(&self.trouble, &Place::File(path.clone()))
            && self.is_this(&found)
        {
            return found.open(&self.trouble, self.is_writable);
        }
        let (start, len) =
            (self.base().addr(), self.mapping.len().next_multiple_of(rustix::param::page_size()));
        let mapped = format!("/proc/self/map_files/{start:x}-{:x}", start + len);
        let access = if self.is_writable { OFlags::RDWR } else { OFlags::RDONLY };
        file::open_at(CWD, Path::new(&mapped), access | OFlags::CLOEXEC, Mode::empty())
            .map_err(|_| self.trouble.of("open", Errno::BADF))
    }
}

/// Makes bytes of a file really there, all or none.
fn allocate(trouble: &Trouble, file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, offset, len)) {
        Ok(()) => Ok(()),
        Err(Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG) => Err(trouble.no_space(file, len)),
        Err(Errno::OPNOTSUPP) => {
            Err(trouble.unsupported("reserving room (fallocate)", "choose another file system"))
        }
        Err(errno) => Err(trouble.of("fallocate", errno)),
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_alive;
