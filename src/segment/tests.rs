//! What one process can see of a segment; `tests_alive` has what needs several.

use std::sync::atomic::{AtomicU32, Ordering};

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

pub(super) fn word(segment: &Segment) -> &AtomicU32 {
    // SAFETY: mapped for at least 4096 bytes, aligned to a page, only used as an atomic.
    unsafe { AtomicU32::from_ptr(segment.base().cast()) }
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
    assert_eq!((opened.len(), opened.identity()), (1 << 20, made.identity()));
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
    assert_eq!((one.holder(3), one.holder(4)), (Holder::Free, Holder::Free));
}
