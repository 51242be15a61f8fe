//! What runs out, how it is taken away, and how it is given back.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail};
use narrows::Error;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::sys::statvfs::statvfs;
use nix::unistd::{geteuid, getgid, getuid};

use super::operations::Operation;

pub(super) const SHM: &str = "/dev/shm";
const PAGE: u64 = 4096;

/// A supply of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Supply {
    /// Pages of `/dev/shm`.
    Pages,
    Descriptors,
    /// Pages of address space.
    AddressSpace,
    /// How long a file this process may make, in bytes.
    FileSize,
    /// Nothing runs out: for what is planted.
    Nothing,
}

impl Supply {
    pub(super) const ALL: [Self; 4] = [Self::Pages, Self::Descriptors, Self::AddressSpace, Self::FileSize];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Pages => "pages",
            Self::Descriptors => "descriptors",
            Self::AddressSpace => "address-space",
            Self::FileSize => "file-size",
            Self::Nothing => "planted",
        }
    }

    pub(super) fn of(name: &str) -> Result<Self> {
        let all = Self::ALL.into_iter().chain([Self::Nothing]);
        all.into_iter().find(|supply| supply.name() == name).with_context(|| format!("no supply {name}"))
    }

    pub(super) fn fault(self) -> &'static str {
        match self {
            Self::Pages => "`/dev/shm` full but for n pages, every n up to what suffices",
            Self::Descriptors => "no descriptors but n (RLIMIT_NOFILE), every n up to what suffices",
            Self::AddressSpace => "no address space but n pages (RLIMIT_AS), around every n that decides",
            Self::FileSize => "no files longer than n (RLIMIT_FSIZE)",
            Self::Nothing => "nothing",
        }
    }

    /// Whether an operation is worth starving of it.
    pub(super) fn concerns(self, operation: &Operation) -> bool {
        match self {
            Self::Pages | Self::Nothing => true,
            _ => !operation.is_long,
        }
    }

    /// Whether an error says what ran out and what to do about it.
    pub(super) fn is_named_by(self, error: &Error) -> bool {
        let Error::NoSpace { supply, hint: Some(_), .. } = error else { return false };
        match self {
            Self::Pages => supply.contains(SHM),
            Self::Descriptors => supply.contains("descriptors of this process"),
            Self::AddressSpace => supply.contains("address space") || supply.contains("memory"),
            Self::FileSize => supply.contains("file size"),
            Self::Nothing => false,
        }
    }

    /// All levels to try: those where anything may change. `suffices` says whether a level does.
    pub(super) fn levels(self, operation: &Operation, suffices: impl FnMut(u64) -> bool) -> Vec<u64> {
        match self {
            Self::Nothing => vec![0],
            Self::Pages if operation.is_long => (0..=LONG_PAGES).step_by(64).collect(),
            Self::Pages => (0..=2048).collect(),
            Self::Descriptors => (0..=64).collect(),
            Self::AddressSpace => around(first(suffices), 48),
            Self::FileSize => around(first(suffices), 2),
        }
    }
}

/// What an operation may need that gives memory back and takes it again.
const LONG_PAGES: u64 = 3072;

/// Every level up to 32, each doubling, and all near the first that suffices.
fn around(first: u64, near: u64) -> Vec<u64> {
    let doublings = (5..44).map(|shift| 1 << shift).take_while(|level| *level < first);
    let mut levels: Vec<u64> = (0..=32.min(first)).chain(doublings).collect();
    levels.extend(first.saturating_sub(near)..first + 3);
    levels.sort_unstable();
    levels.dedup();
    levels
}

/// The first level that suffices.
fn first(mut suffices: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, 1 << 44);
    while low < high {
        let middle = low + (high - low) / 2;
        if suffices(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// A `/dev/shm` of this process's own, and what can be taken away from it.
pub(super) struct Larder {
    /// The size of `/dev/shm`.
    pages: u64,
    limits: Vec<(Resource, u64, u64)>,
    /// A page of it, as a file system of no pages would be one without a limit.
    _anchor: File,
}

impl Larder {
    /// Leaves the system's `/dev/shm` for one of `pages` pages.
    pub(super) fn own(pages: u64) -> Result<Self> {
        let (uid, gid) = (getuid(), getgid());
        if geteuid().is_root() {
            unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace")?;
        } else {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER).context("a user namespace")?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(Some("tmpfs"), SHM, Some("tmpfs"), MsFlags::empty(), Some("mode=1777"))?;
        let resources = [Resource::RLIMIT_NOFILE, Resource::RLIMIT_AS, Resource::RLIMIT_FSIZE];
        let limits = resources.into_iter().map(|resource| {
            let (soft, hard) = getrlimit(resource)?;
            Ok((resource, soft, hard))
        });
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let anchor = File::from(nix::fcntl::open(SHM, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        anchor.write_all_at(&[1], 0)?;
        let larder = Self { pages, limits: limits.collect::<Result<_>>()?, _anchor: anchor };
        larder.resize(pages)?;
        Ok(larder)
    }

    /// Leaves no more than `level` units. False: there never were so many.
    pub(super) fn starve(&self, supply: Supply, level: u64) -> Result<bool> {
        match supply {
            Supply::Nothing => {}
            Supply::Pages => {
                let used = self.pages - free_pages()?;
                if used + level > self.pages {
                    return Ok(false);
                }
                self.resize(used + level)?;
                if free_pages()? != level {
                    bail!("{} pages are free and not {level}", free_pages()?);
                }
            }
            Supply::Descriptors => {
                if level > 1 << 20 {
                    return Ok(false);
                }
                let used = descriptors()?;
                let mut free = (0..).filter(|number| !used.contains(number));
                return self.limit(Resource::RLIMIT_NOFILE, free.nth(level as usize).unwrap_or(u64::MAX));
            }
            Supply::AddressSpace => {
                let size = address_space()?;
                return self.limit(Resource::RLIMIT_AS, (size + level).saturating_mul(PAGE));
            }
            Supply::FileSize => return self.limit(Resource::RLIMIT_FSIZE, level),
        }
        Ok(true)
    }

    fn limit(&self, resource: Resource, soft: u64) -> Result<bool> {
        let hard = self.limits.iter().find(|limit| limit.0 == resource).map_or(u64::MAX, |limit| limit.2);
        setrlimit(resource, soft.min(hard), hard)?;
        Ok(soft <= hard)
    }

    /// Gives everything back.
    pub(super) fn relieve(&self) -> Result<()> {
        for (resource, soft, hard) in &self.limits {
            setrlimit(*resource, *soft, *hard)?;
        }
        self.resize(self.pages)
    }

    /// Makes `/dev/shm` a file system of so many pages, whatever is in it.
    fn resize(&self, pages: u64) -> Result<()> {
        let size = format!("size={}", pages * PAGE);
        Ok(mount(None::<&str>, SHM, None::<&str>, MsFlags::MS_REMOUNT, Some(size.as_str()))?)
    }
}

/// Free pages of `/dev/shm`.
pub(super) fn free_pages() -> Result<u64> {
    let stat = statvfs(SHM)?;
    Ok(stat.blocks_available() * stat.fragment_size() / PAGE)
}

/// The descriptors that are open, but for the one that looks.
pub(super) fn descriptors() -> Result<Vec<u64>> {
    let listed: Vec<u64> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The one that looked is closed by now.
    Ok(listed
        .into_iter()
        .filter(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok())
        .collect())
}

/// Pages of address space in use.
fn address_space() -> Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    Ok(statm.split(' ').next().unwrap_or_default().parse()?)
}
