//! Anybody's plain bytes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::fs::{
    FallocateFlags, Mode, OFlags, SealFlags, fallocate, fchmod, fcntl_add_seals, fcntl_getfl, fstat,
    ftruncate,
};
use rustix::io::{Errno, retry_on_intr};

use super::place::{self, Creation, Newborn, Place, mode_of};
use super::trouble::Trouble;
use crate::address::{Address, Scheme};
use crate::error::{Error, Result};
use crate::sys::copy::{copy_from_shared, copy_to_shared};
use crate::sys::memory::Mapping;

/// What a region may be asked for in its address.
const OPTIONS: [&str; 2] = ["mode", "create"];
const DEFAULT_MODE: u32 = 0o600;

/// The plain bytes of shared memory or of a mapped file, whoever made it and whatever stands in it: narrows puts no
/// header there. `shm:NAME` is what C's `shm_open("/NAME")` and Python's `SharedMemory("NAME")` open.
///
/// Bytes are copied in and out, because others may write at any time: a copy that races with a writer is torn, and
/// nothing worse. Words for synchronisation are used in place, as atomics.
///
/// Addresses: `shm:`, `file:`, `memfd:` (only made; passed on by its descriptor) and `fd:`, with the options `mode=`
/// (octal, `0600` unless given) and `create=never|only|open`. Manual:
/// [shm_overview(7)](https://man7.org/linux/man-pages/man7/shm_overview.7.html),
/// [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html).
///
/// # After a crash
/// The bytes stay as the dead process left them; the object stays until it is removed. Creation leaves an object of
/// its full length, filled with zeros, or none.
///
/// # When others cut the file
/// A region looks at the file's length when it is opened and resized. If another process shortens the file after
/// that, touching what was cut off raises SIGBUS; in a process with the [`guard`](crate::guard), every call gives
/// `Corrupt` from then on, until it is opened again or resized.
///
/// ```
/// use narrows::Region;
/// use std::sync::atomic::Ordering;
/// # let address = format!("shm:region-example-{}", std::process::id());
/// let region = Region::create(&address, 4096)?;
/// region.write_at(16, b"hello")?;
/// region.atomic_u32(0)?.store(1, Ordering::Release);
///
/// let other = Region::open_read_only(&address)?;
/// let mut bytes = [0; 5];
/// other.read_at(16, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// Region::remove(&address)?;
/// # Ok::<(), narrows::Error>(())
/// ```
#[derive(Debug)]
pub struct Region {
    trouble: Trouble,
    file: OwnedFd,
    /// `None` for a file of no bytes, which cannot be mapped.
    mapping: Option<Mapping>,
    is_writable: bool,
}

impl Region {
    /// Makes a region of `len` zeros, really there. It appears under its name whole.
    ///
    /// # Errors
    /// `Busy` where the name is taken, `NoSpace`, `Permission`, `NotFound` for a missing directory, `Unsupported` for
    /// remote file systems, `InvalidAddress`.
    pub fn create<A>(address: A, len: u64) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let wanted = Wanted::new(address.try_into()?, &[Creation::Only])?;
        wanted.create(len)?.ok_or_else(|| wanted.taken())
    }

    /// Opens what is there, for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, `Permission` with the owner and mode, `WrongKind` for what is no regular file, `Mismatch` where
    /// `mode=` is given and differs, `NoSpace` for want of descriptors or address space, `Unsupported` for remote file
    /// systems, `InvalidAddress`.
    pub fn open<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let wanted = Wanted::new(address.try_into()?, &[Creation::Never])?;
        wanted.open(true)?.ok_or_else(|| wanted.missing())
    }

    /// Opens what is there, for reading alone: the memory cannot be written through it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only<A>(address: A) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let wanted = Wanted::new(address.try_into()?, &[Creation::Never])?;
        wanted.open(false)?.ok_or_else(|| wanted.missing())
    }

    /// Opens what is there, or else makes it; `create=` in the address rules one of both out.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`create`](Self::create); `Mismatch` where what exists has another length.
    pub fn open_or_create<A>(address: A, len: u64) -> Result<Self>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let address = address.try_into()?;
        let wanted = Wanted::new(address, &[Creation::Never, Creation::Only, Creation::Open])?;
        // Between not finding a name and not getting it, others may remove it: go round.
        loop {
            if wanted.creation != Some(Creation::Only)
                && let Some(region) = wanted.open(true)?
            {
                return match region.len() {
                    found if found == len => Ok(region),
                    found => Err(wanted.mismatch("length", found.to_string(), len.to_string())),
                };
            }
            if wanted.creation == Some(Creation::Never) {
                return Err(wanted.missing());
            }
            match wanted.create(len)? {
                Some(region) => return Ok(region),
                None if wanted.creation == Some(Creation::Only) => return Err(wanted.taken()),
                None => continue,
            }
        }
    }

    /// Takes a descriptor that was inherited, or passed over a socket; writable if the descriptor is.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_descriptor(file: OwnedFd) -> Result<Self> {
        let address = Address::new(Scheme::Fd, file.as_raw_fd().to_string())?;
        let place = Place::Descriptor(file);
        let wanted = Wanted { trouble: Trouble::new(address.text(), &place), address, place, creation: None };
        wanted.open(true)?.ok_or_else(|| wanted.missing())
    }

    /// Removes the name. Who has the bytes mapped keeps them.
    ///
    /// # Errors
    /// `NotFound`, `Permission`, `WrongKind` for what is no regular file, `Unsupported` for what has no name.
    pub fn remove<A>(address: A) -> Result<()>
    where
        A: TryInto<Address>,
        Error: From<A::Error>,
    {
        let wanted = Wanted::new(address.try_into()?, &[Creation::Never])?;
        let path = wanted.place.path();
        let path = path.ok_or_else(|| wanted.trouble.unsupported("removal", "it has no name, close it"))?;
        let (directory, name) = place::split(&wanted.trouble, &path)?;
        place::find(&wanted.trouble, &wanted.place)?.ok_or_else(|| wanted.missing())?;
        place::remove_name(&directory, &name).map_err(|errno| match errno {
            Errno::NOENT => wanted.missing(),
            errno => wanted.trouble.directory(&directory, errno),
        })
    }

    /// The length in bytes, as it was when it was opened or resized.
    #[inline]
    pub fn len(&self) -> u64 {
        self.mapping.as_ref().map_or(0, |mapping| mapping.len() as u64)
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.mapping.is_none()
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// # Errors
    /// `TooLarge` where the range ends beyond the end; nothing is copied then. `Corrupt` where the [`guard`](crate::guard)
    /// found it cut.
    #[inline]
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        if let Some(from) = self.range(offset, bytes.len())? {
            // SAFETY: the range lies in the mapping, which lives as long as `self`.
            unsafe { copy_from_shared(bytes, from) };
        }
        self.intact()
    }

    /// Copies bytes in, from `offset` on. Another process sees them in any order; publish by an atomic word.
    ///
    /// # Errors
    /// `TooLarge` where the range ends beyond the end (nothing is copied then), `Permission` on a region that was
    /// opened for reading.
    #[inline]
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.require_writable()?;
        if let Some(to) = self.range(offset, bytes.len())? {
            // SAFETY: the range lies in the mapping, which is writable and lives as long as `self`.
            unsafe { copy_to_shared(to, bytes) };
        }
        self.intact()
    }

    /// The four bytes at `offset` as an atomic word, in place.
    ///
    /// # Errors
    /// `TooLarge` beyond the end, `Unsupported` where the offset is no multiple of 4, `Permission` on a region that was
    /// opened for reading.
    pub fn atomic_u32(&self, offset: u64) -> Result<&AtomicU32> {
        let word = self.word(offset, size_of::<AtomicU32>())?;
        // SAFETY: in the mapping, which is writable and lives as long as `self`; aligned; this crate touches shared
        // bytes by atomics and opaque copies alone.
        Ok(unsafe { AtomicU32::from_ptr(word.cast()) })
    }

    /// The eight bytes at `offset` as an atomic word, in place.
    ///
    /// # Errors
    /// As [`atomic_u32`](Self::atomic_u32), with multiples of 8.
    pub fn atomic_u64(&self, offset: u64) -> Result<&AtomicU64> {
        let word = self.word(offset, size_of::<AtomicU64>())?;
        // SAFETY: as in `atomic_u32`.
        Ok(unsafe { AtomicU64::from_ptr(word.cast()) })
    }

    /// Gives the object another length. New bytes are zero and really there. Others see it when they open it again;
    /// who still uses bytes that were cut off gets SIGBUS.
    ///
    /// # Errors
    /// `NoSpace`, `Permission` on a region that was opened for reading, `Unsupported` for making a `memfd:` smaller,
    /// which is sealed against that. The region stays as it was.
    pub fn resize(&mut self, len: u64) -> Result<()> {
        self.require_writable()?;
        let found = fstat(&self.file).map_err(|errno| self.trouble.of("fstat", errno))?.st_size as u64;
        set_len(&self.trouble, self.file.as_fd(), found, len)?;
        self.mapping = map(&self.trouble, self.file.as_fd(), true)?;
        Ok(())
    }

    /// Waits until what was written is on the disk, if there is one behind it.
    ///
    /// # Errors
    /// `Os` where the disk fails.
    pub fn sync(&self) -> Result<()> {
        let synced = self.mapping.as_ref().map_or(Ok(()), Mapping::sync);
        synced.map_err(|errno| self.trouble.of("msync", errno))
    }

    fn require_writable(&self) -> Result<()> {
        if self.is_writable {
            return Ok(());
        }
        Err(Error::Permission {
            what: self.trouble.what().clone(),
            owner: None,
            hint: Some("it was opened for reading alone: open it for writing".into()),
        })
    }

    fn word(&self, offset: u64, size: usize) -> Result<*mut u8> {
        self.require_writable()?;
        if !offset.is_multiple_of(size as u64) {
            let capability = format!("an atomic word of {size} bytes at offset {offset}");
            return Err(self
                .trouble
                .unsupported(&capability, &format!("the offset must be a multiple of {size}")));
        }
        self.range(offset, size)?.ok_or_else(|| self.beyond(offset, size))
    }

    /// Refuses memory that went away.
    #[inline]
    fn intact(&self) -> Result<()> {
        match &self.mapping {
            Some(mapping) if mapping.mark().is_lost() => Err(self.trouble.lost()),
            _ => Ok(()),
        }
    }

    /// Where the range begins; `None` for no bytes.
    #[inline]
    fn range(&self, offset: u64, len: usize) -> Result<Option<*mut u8>> {
        self.intact()?;
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.len());
        end.ok_or_else(|| self.beyond(offset, len))?;
        // SAFETY: `offset` is at most the mapping's length (checked).
        Ok(self
            .mapping
            .as_ref()
            .filter(|_| len > 0)
            .map(|mapping| unsafe { mapping.base().add(offset as usize) }))
    }

    #[cold]
    fn beyond(&self, offset: u64, len: usize) -> Error {
        Error::TooLarge {
            what: self.trouble.what().clone(),
            size: offset.saturating_add(len as u64),
            limit: self.len(),
            hint: Some(format!("{len} bytes at offset {offset} end beyond its end").into()),
        }
    }
}

impl AsFd for Region {
    /// The descriptor, to be passed on or inherited.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What an address asks for.
struct Wanted {
    address: Address,
    place: Place,
    trouble: Trouble,
    creation: Option<Creation>,
}

impl Wanted {
    /// `allowed`: the values of `create=` that do not contradict the call.
    fn new(address: Address, allowed: &[Creation]) -> Result<Self> {
        address.check_options(OPTIONS.into_iter())?;
        let address = address.absolute()?;
        let creation = Creation::of(&address)?;
        if creation.is_some_and(|creation| !allowed.contains(&creation)) {
            return Err(
                address.invalid("create= contradicts what is done with it", Some("leave create= out"))
            );
        }
        let place = Place::of(&address)?;
        let trouble = Trouble::new(address.bare().text(), &place);
        Ok(Self { address, place, trouble, creation })
    }

    fn open(&self, is_writable: bool) -> Result<Option<Region>> {
        let Some(found) = place::find(&self.trouble, &self.place)? else { return Ok(None) };
        if let Some(ours) = mode_of(&self.address)?
            && ours != found.stat.st_mode & 0o777
        {
            return Err(self.mismatch(
                "mode",
                format!("{:04o}", found.stat.st_mode & 0o777),
                format!("{ours:04o}"),
            ));
        }
        // A passed descriptor may be all that this process is allowed: it is used as it is.
        let (file, is_writable) = match &self.place {
            Place::Descriptor(_) => {
                let flags = fcntl_getfl(&found.file).map_err(|errno| self.trouble.of("fcntl", errno))?;
                (found.file, is_writable && flags & OFlags::RWMODE == OFlags::RDWR)
            }
            _ => (found.open(&self.trouble, is_writable)?, is_writable),
        };
        let mapping = map(&self.trouble, file.as_fd(), is_writable)?;
        Ok(Some(Region { trouble: self.trouble.clone(), file, mapping, is_writable }))
    }

    fn create(&self, len: u64) -> Result<Option<Region>> {
        let mode = mode_of(&self.address)?.unwrap_or(DEFAULT_MODE);
        let newborn = Newborn::new(&self.trouble, &self.place)?;
        set_len(&self.trouble, newborn.file.as_fd(), 0, len)?;
        if matches!(self.place, Place::Memfd(_)) {
            fcntl_add_seals(&newborn.file, SealFlags::SHRINK)
                .map_err(|errno| self.trouble.of("fcntl", errno))?;
        }
        fchmod(&newborn.file, Mode::from_raw_mode(mode)).map_err(|errno| self.trouble.of("fchmod", errno))?;
        let file =
            newborn.file.try_clone().map_err(|error| Error::from_io(self.trouble.what(), "dup", &error))?;
        let mapping = map(&self.trouble, file.as_fd(), true)?;
        let region = Region { trouble: self.trouble.clone(), file, mapping, is_writable: true };
        Ok(newborn.publish(&self.trouble)?.then_some(region))
    }

    fn missing(&self) -> Error {
        let hint = match self.place {
            Place::Memfd(_) => "anonymous memory is not found by a name: pass its descriptor",
            _ => "create it first",
        };
        Error::NotFound { what: self.trouble.what().clone(), hint: Some(hint.into()) }
    }

    fn taken(&self) -> Error {
        Error::Busy {
            what: self.trouble.what().clone(),
            holder: None,
            hint: Some("the name is taken: open what exists, or remove it first".into()),
        }
    }

    fn mismatch(&self, option: &str, theirs: String, ours: String) -> Error {
        Error::Mismatch {
            what: self.trouble.what().clone(),
            option: option.into(),
            theirs: theirs.into(),
            ours: ours.into(),
        }
    }
}

/// Grows by bytes that are really there, or cuts.
fn set_len(trouble: &Trouble, file: BorrowedFd<'_>, found: u64, len: u64) -> Result<()> {
    trouble.check_size_limit(len)?;
    let result = if len > found {
        retry_on_intr(|| fallocate(file, FallocateFlags::empty(), found, len - found))
    } else {
        retry_on_intr(|| ftruncate(file, len))
    };
    result.map_err(|errno| match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG | Errno::INVAL => {
            trouble.no_space(file, len.saturating_sub(found))
        }
        Errno::PERM => trouble.unsupported("another length", "the memory is sealed: make a new one"),
        Errno::OPNOTSUPP => trouble.unsupported("reserving room (fallocate)", "choose another file system"),
        errno => trouble.of("fallocate", errno),
    })
}

fn map(trouble: &Trouble, file: BorrowedFd<'_>, is_writable: bool) -> Result<Option<Mapping>> {
    let length = || fstat(file).map(|stat| stat.st_size as u64).map_err(|errno| trouble.of("fstat", errno));
    let len = length()?;
    if len == 0 {
        return Ok(None);
    }
    let mapping = Mapping::new(file, len, is_writable).map_err(|errno| trouble.unmappable(len, errno))?;
    match length()? {
        now if now < len => Err(trouble.truncated(now, len)),
        _ => Ok(Some(mapping)),
    }
}
