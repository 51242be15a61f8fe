//! What one process can see of a segment; `tests_alive` has what needs several.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use super::*;

/// A name that no other test has, in `/dev/shm`; removed at the end, also of a failed test.
pub(super) struct Name(pub(super) Address);

impl Name {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("narrows-segment-{}-{count}", std::process::id());
        Self(Address::new(crate::Scheme::Shm, name).unwrap())
    }

    pub(super) fn place(&self) -> Place {
        Place::of(&self.0).unwrap()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.place().path().unwrap()
    }

    pub(super) fn create(&self) -> Option<Segment> {
        Segment::create(&self.0, &self.place(), 1 << 20, 8192, 0o640, &mut |_| Ok(())).unwrap()
    }

    pub(super) fn open(&self) -> Option<Segment> {
        Segment::open(&self.0, &self.place()).unwrap()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        std::fs::remove_file(self.path()).ok();
    }
}

#[track_caller]
pub(super) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(super) fn word(segment: &Segment) -> &AtomicU32 {
    // SAFETY: mapped for at least 4096 bytes, aligned to a page, only used as an atomic.
    unsafe { AtomicU32::from_ptr(segment.base().cast()) }
}

/// To its peers a process that lost its memory is dead, and what it opens next is whole.
#[test]
fn memory_that_went_away_reads_as_zeros_and_its_place_is_free() {
    crate::sys::guard::install();
    let name = Name::new();
    let (lost, looking) = (name.create().unwrap(), name.open().unwrap());
    assert!(lost.try_lock(3).unwrap());
    lost.pin();
    word(&lost).store(7, Ordering::Relaxed);
    assert_eq!(looking.holder(3), Holder::Held);
    std::fs::File::options().write(true).open(name.path()).unwrap().set_len(0).unwrap();
    assert!(!lost.mark().is_void(), "nobody has touched it yet");
    assert_eq!(word(&lost).load(Ordering::Relaxed), 0);
    assert!(lost.mark().is_void() && lost.mark().is_lost() && !lost.mark().is_forked());
    assert!(matches!(lost.intact(), Err(Error::Corrupt { .. })));
    eventually("its lock falls with the mapping", || looking.holder(3) == Holder::Free);
    assert!(looking.intact().is_ok());
    assert!(matches!(looking.measure(), Err(Error::Corrupt { .. })) && looking.intact().is_err());
    drop((lost, looking));
    let other = Name::new();
    let whole = other.create().unwrap();
    word(&whole).store(7, Ordering::Relaxed);
    assert!(whole.intact().is_ok() && whole.measure().is_ok() && !whole.mark().is_void());
}

#[test]
fn two_openers_see_the_same_bytes() {
    let name = Name::new();
    assert!(name.open().is_none());
    let made = name.create().unwrap();
    assert!(name.create().is_none(), "the name is taken");
    let opened = name.open().unwrap();
    word(&made).store(7, Ordering::Relaxed);
    assert_eq!(word(&opened).load(Ordering::Relaxed), 7);
    assert_eq!((opened.len(), opened.identity), (1 << 20, made.identity));
    let metadata = opened.metadata().unwrap();
    assert_eq!((metadata.mode, metadata.allocated), (0o640, 8192));
    let looked = Segment::open_read_only(&name.0, &name.place()).unwrap().unwrap();
    assert_eq!(word(&looked).load(Ordering::Relaxed), 7);
    assert!(looked.try_lock(1).is_err(), "a place is for writers");
}

#[test]
fn a_place_is_held_by_the_mapping() {
    let name = Name::new();
    let (one, other) = (name.create().unwrap(), name.open().unwrap());
    assert_eq!(other.holder(3), Holder::Free);
    assert!(one.try_lock(3).unwrap());
    assert!(!other.try_lock(3).unwrap());
    assert!(other.try_lock(4).unwrap());
    one.unlock(3);
    assert!(other.try_lock(3).unwrap());
    other.pin();
    assert!(other.try_lock(5).is_err(), "nothing is locked any more once it is pinned");
    other.unlock(3);
    assert_eq!((one.holder(3), one.holder(4), one.holder(5)), (Holder::Held, Holder::Held, Holder::Free));
    assert_eq!(other.holder(3), Holder::Held, "also in its own eyes");
    drop(other);
    // Another test's child may have been forked while the descriptor was still open, and not have come to its exec.
    eventually("both are free", || one.holder(3) == Holder::Free && one.holder(4) == Holder::Free);
}

#[test]
fn a_descriptor_number_that_became_another_file_is_neither_believed_nor_closed() {
    let name = Name::new();
    let (mut segment, other) = (name.create().unwrap(), name.open().unwrap());
    assert!(other.try_lock(1).unwrap());
    let reuse = |segment: &Segment| {
        let null = std::fs::File::open("/dev/null").unwrap();
        let number = segment.checking.get().unwrap().0.as_raw_fd();
        // SAFETY: the number is the segment's alone, and what it refers to is what this test is about.
        assert_eq!(unsafe { libc::dup3(null.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
        number
    };
    let is_null =
        |number| std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap() == Path::new("/dev/null");
    let number = reuse(&segment);
    assert_eq!((segment.holder(1), segment.holder(2)), (Holder::Held, Holder::Free), "found again by name");
    segment.metadata().unwrap();
    assert!(is_null(number));

    let second = reuse(&segment);
    std::fs::remove_file(name.path()).unwrap();
    let successor = name.create().unwrap();
    assert!(successor.try_lock(2).unwrap(), "a lock on the wrong file");
    let holders = (segment.holder(1), segment.holder(2));
    // By the mapping, which the kernel allows to those with CAP_CHECKPOINT_RESTORE.
    assert!(
        [(Holder::Held, Holder::Free), (Holder::Unknown, Holder::Unknown)].contains(&holders),
        "{holders:?}"
    );
    assert!(is_null(second));

    segment.checking.close();
    segment.path = None;
    segment.reserve(1 << 16, 1 << 16).unwrap();
    word(&segment).store(1, Ordering::Relaxed);
    drop(segment);
    assert!(is_null(number) && is_null(second), "not its own any more, so not closed");
    // SAFETY: opened by this test.
    unsafe { (rustix::io::close(number), rustix::io::close(second)) };
}

#[test]
fn a_successors_name_is_never_removed() {
    let name = Name::new();
    let old = name.create().unwrap();
    assert!(old.is_named());
    std::fs::remove_file(name.path()).unwrap();
    assert!(!old.is_named());
    assert!(!old.unlink(Deadline::Now).unwrap());
    let new = name.create().unwrap();
    assert!(!old.is_named() && new.is_named());
    assert!(!old.unlink(Deadline::Now).unwrap());
    assert!(name.path().exists());
    assert!(new.unlink(Deadline::Now).unwrap());
    assert!(!name.path().exists() && !new.unlink(Deadline::Now).unwrap());
}

#[test]
fn a_name_is_removed_by_one_at_a_time() {
    let name = Name::new();
    let segment = name.create().unwrap();
    let helper = std::fs::File::options().write(true).open(name.path()).unwrap();
    assert!(lock::try_lock_byte(helper.as_fd(), REMOVAL).unwrap());
    let error = segment.unlink(Deadline::from(Duration::from_millis(20))).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(name.path().exists());
    let opened = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|file| file == name.path())).count()
    };
    let before = opened();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| segment.unlink(Deadline::Never));
        eventually("it has looked at the name and waits for the lock", || opened() == before + 2);
        // The helper puts a successor in the place before it lets go.
        std::fs::remove_file(name.path()).unwrap();
        let successor = name.create().unwrap();
        lock::unlock_byte(helper.as_fd(), REMOVAL).unwrap();
        assert!(!slow.join().unwrap().unwrap());
        assert!(successor.is_named());
    });
}

#[test]
fn room_is_reserved_given_back_and_refused() {
    let name = Name::new();
    let room = rustix::fs::statfs("/dev/shm").unwrap();
    let more = (room.f_blocks * room.f_bsize as u64 * 2).next_multiple_of(1 << 21);
    let make = |len| Segment::create(&name.0, &name.place(), len, 4096, 0o600, &mut |_| Ok(())).unwrap();
    let segment = make(more).unwrap();
    let allocated = || segment.metadata().unwrap().allocated;
    assert_eq!(allocated(), 4096, "sparse");
    word(&segment).store(9, Ordering::Relaxed);
    for _ in 0..2 {
        segment.reserve(0, 1 << 20).unwrap();
        assert_eq!((allocated(), word(&segment).load(Ordering::Relaxed)), (1 << 20, 9));
    }
    let error = segment.reserve(0, more).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::NoSpace { .. }) && text.contains(" MiB free"), "{text}");
    assert!(
        text.contains("/dev/shm") && text.contains("narrows rm --stale") && text.contains("64 MiB"),
        "{text}"
    );
    assert_eq!(allocated(), 1 << 20, "what was reserved in vain is given back");
    segment.punch(4096, (1 << 20) - 4096);
    assert_eq!((allocated(), word(&segment).load(Ordering::Relaxed)), (4096, 9));
    segment.punch(0, 4096);
    assert_eq!((allocated(), word(&segment).load(Ordering::Relaxed)), (0, 0));

    let other = Name::new();
    let refused = Segment::create(&other.0, &other.place(), more, more, 0o600, &mut |_| Ok(()));
    assert!(matches!(refused, Err(Error::NoSpace { .. })) && !other.path().exists());
}

#[test]
fn a_memfd_is_sealed_and_passed_on() {
    let address: Address = "memfd:passed".parse().unwrap();
    let place = Place::of(&address).unwrap();
    assert!(Segment::open(&address, &place).unwrap().is_none(), "not found by a name");
    let made = Segment::create(&address, &place, 1 << 20, 4096, 0o600, &mut |_| Ok(())).unwrap().unwrap();
    assert!(made.is_named() && !made.unlink(Deadline::Now).unwrap());
    assert_eq!(ftruncate(made.descriptor().unwrap(), 4096), Err(Errno::PERM));

    let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    crate::sys::pass_descriptor(&here, made.descriptor().unwrap()).unwrap();
    let passed = crate::sys::take_descriptor(&there).unwrap();
    let kept = passed.try_clone().unwrap();
    let taken = Segment::open(&address, &Place::Descriptor(passed)).unwrap().unwrap();
    assert!(taken.try_lock(1).unwrap());
    assert!(!made.try_lock(1).unwrap(), "reopened, so the locks are its own");
    word(&taken).store(3, Ordering::Relaxed);
    assert_eq!(word(&made).load(Ordering::Relaxed), 3);
    taken.pin();
    drop(taken);
    eventually("the place is free, though the descriptor is open", || made.holder(1) == Holder::Free);
    drop(kept);
}

#[test]
fn without_unnamed_files_a_hidden_name_serves() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("born"));
    let trouble = Trouble::new("file:born".into(), &place);
    let names = || {
        let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<Vec<_>>()
    };
    let born = || {
        let (directory, name) = place::split(&trouble, &place.path().unwrap()).unwrap();
        Newborn::hidden(&trouble, directory, name).unwrap()
    };
    let first = born();
    assert!(names()[0].to_string_lossy().starts_with(".narrows-"), "{:?}", names());
    assert!(first.publish(&trouble).unwrap());
    let second = born();
    assert!(!second.publish(&trouble).unwrap(), "the name is taken");
    drop((first, second));
    assert_eq!(names(), ["born"]);
    drop(born());
    assert_eq!(names(), ["born"]);
}

#[test]
fn what_is_no_segment_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    rustix::fs::mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
    std::os::unix::fs::symlink("/nowhere", at("link")).unwrap();
    std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    std::fs::write(at("short"), [1; 4095]).unwrap();
    std::fs::write(at("empty"), []).unwrap();
    let refusal = |path: &Path| {
        let address = Address::new(crate::Scheme::File, path).unwrap();
        Segment::open(&address, &Place::of(&address).unwrap()).unwrap_err().to_string()
    };
    for (path, words) in [
        (at("pipe"), "a named pipe, not a regular file: write fifo:"),
        (at("link"), "a symbolic link, not a regular file: give the path"),
        (at("socket"), "a socket, not a regular file: write unix:"),
        (at(""), "a directory, not a regular file"),
        (PathBuf::from("/dev/null"), "a character device, not a regular file"),
        (at("short"), "corrupt: truncated: 4095 bytes"),
        (at("short/x"), "no directory"),
        (at(&"x".repeat(256)), "longer than 255"),
        (at("empty"), "corrupt: truncated: 0 bytes"),
    ] {
        let error = refusal(&path);
        assert!(error.contains(words) && error.contains("file:/"), "{}: {error}", path.display());
    }
    let address = Address::new(crate::Scheme::File, at("missing/x")).unwrap();
    let made = Segment::create(&address, &Place::of(&address).unwrap(), 4096, 0, 0o600, &mut |_| Ok(()));
    let error = made.unwrap_err().to_string();
    assert!(error.contains("missing' does not exist: make it: mkdir -p"), "{error}");
    let closed = Place::of(&"fd:65535".parse().unwrap()).unwrap_err();
    assert!(matches!(closed, Error::NotFound { .. }), "{closed}");
    let silent = Place::of(&"unix:@x".parse().unwrap()).unwrap_err();
    assert!(matches!(silent, Error::Unsupported { .. }), "{silent}");
}

#[test]
fn options_are_checked() {
    let mode = |text: &str| mode_of(&format!("shm:x,mode={text}").parse().unwrap());
    assert_eq!((mode("0640").unwrap(), mode("6").unwrap()), (Some(0o640), Some(6)));
    for wrong in ["0700", "1777", "rw", "8", "", "+6", "-6", "0o640"] {
        assert!(mode(wrong).unwrap_err().to_string().contains("mode=0660"), "{wrong}");
    }
    assert_eq!(mode_of(&"shm:x".parse().unwrap()).unwrap(), None);
    assert_eq!(Creation::of(&"shm:x,create=only".parse().unwrap()).unwrap(), Some(Creation::Only));
    assert!(Creation::of(&"shm:x,create=maybe".parse().unwrap()).is_err());
}
