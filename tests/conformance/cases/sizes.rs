//! Messages of every size, and the limits.

use narrows::Capability::InPlace;
use narrows::Error;

use crate::Case;
use crate::account::pattern;
use crate::peer::Peer;
use crate::place::{LONG, Place, SHORT, Trial, eventually};

pub(super) const CASES: &[Case] = &[
    Case { name: "sizes", needs: &[], run: sizes },
    Case { name: "limit", needs: &[], run: limit },
    Case { name: "memory returns", needs: &[InPlace], run: memory_returns },
    Case { name: "one GiB", needs: &[InPlace], run: one_gib },
];

/// Around every boundary: the inline bytes of a slot (48, or `slot_bytes`), cache lines, PIPE_BUF, pages, a
/// pipe's capacity.
const SIZES: [usize; 29] = [
    0,
    1,
    2,
    7,
    8,
    47,
    48,
    49,
    63,
    64,
    65,
    255,
    256,
    257,
    1023,
    1024,
    4084,
    4088,
    4095,
    4096,
    4097,
    16384,
    65535,
    65536,
    65537,
    200_000,
    1 << 20,
    (1 << 20) + 1,
    3 << 20,
];

fn sizes(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = place.receiver();
    let mut peer = Peer::start(&place);
    let limit = limit_of(trial, &place);
    peer.sender();
    for size in SIZES.into_iter().filter(|size| *size as u64 <= limit) {
        for seed in 0..2 {
            peer.tell(&format!("pattern {size} {seed}"));
            let message = receiver.recv_by(LONG).unwrap().expect("a message");
            assert_eq!(message.len(), size);
            assert!(*message == *pattern(size, seed), "{size} bytes arrived damaged");
            peer.answer().unwrap();
        }
    }
}

/// The largest message, as the error tells it; unbounded where only memory sets a limit.
fn limit_of(trial: &Trial, place: &Place) -> u64 {
    if trial.variant.has(InPlace) {
        return u64::MAX;
    }
    match place.sender().send_by(&vec![b'x'; 65 << 20], LONG) {
        Err(Error::TooLarge { size, limit, .. }) if size == 65 << 20 => limit,
        other => panic!("65 MiB: {other:?}"),
    }
}

/// The largest message passes, one byte more is refused with the figures, and the channel goes on.
fn limit(trial: &Trial) {
    let options = if trial.variant.has(InPlace) { "memory_max=2M" } else { "max_message=70000" };
    let place = trial.place(options);
    let mut receiver = place.receiver();
    let mut sender = place.sender();
    let limit = match sender.send_by(&vec![b'x'; 65 << 20], LONG) {
        Err(Error::TooLarge { size, limit, .. }) if size == 65 << 20 => limit,
        other => panic!("65 MiB: {other:?}"),
    };
    assert!((1000..=2 << 20).contains(&limit), "{limit}");
    if trial.variant.has(InPlace) {
        assert!(matches!(sender.loan(limit as usize + 1), Err(Error::TooLarge { .. })));
    }
    let mut message = pattern(limit as usize + 1, 0);
    for _ in 0..3 {
        match sender.send_by(&message, LONG) {
            Err(Error::TooLarge { size, limit: told, .. }) => assert_eq!((size, told), (limit + 1, limit)),
            other => panic!("{} bytes: {other:?}", limit + 1),
        }
        message.pop();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| sender.send_by(&message, LONG));
            let received = receiver.recv_by(LONG).unwrap().unwrap();
            assert!(*received == *message, "the largest message arrived damaged");
            sending.join().unwrap().unwrap();
        });
        message.push(b'x');
    }
}

/// What large messages took is given back to the system once they are gone.
fn memory_returns(trial: &Trial) {
    let place = trial.place("");
    if trial.variant.scheme == narrows::Scheme::Memfd {
        return; // It has no file to look at.
    }
    let (mut sender, mut receiver) = place.pair();
    let message = pattern(8 << 20, 0);
    for _ in 0..6 {
        sender.send_by(&message, LONG).unwrap();
    }
    let bytes = || std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&place.path).unwrap()) * 512;
    assert!(bytes() > 48 << 20);
    for _ in 0..6 {
        receiver.recv_by(LONG).unwrap().unwrap();
    }
    eventually("the memory of six messages returns while nothing comes", || {
        assert!(receiver.recv_by(SHORT).is_err());
        bytes() < 16 << 20
    });
    sender.send_by(&message, LONG).unwrap();
    assert!(*receiver.recv_by(LONG).unwrap().unwrap() == *message, "and can be had again");
}

fn one_gib(trial: &Trial) {
    const GIB: usize = 1 << 30;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|text| text.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0);
    let (mut sender, mut receiver) = trial.place("").pair();
    if kib * 1024 < 8 * GIB || trial.variant.name != "shm" {
        return; // The same code, or a machine that is too small.
    }
    let mut loan = match sender.loan(GIB) {
        Err(Error::NoSpace { .. }) => return, // A container's small /dev/shm.
        loan => loan.unwrap(),
    };
    let places = [0, 4095, GIB / 2, GIB - 8];
    places.iter().for_each(|&at| loan.write_at(at, &(at as u64).to_le_bytes()));
    sender.commit_by(loan, LONG).unwrap();
    let message = receiver.recv_in_place(LONG).unwrap().unwrap();
    assert_eq!(message.len(), GIB);
    for at in places {
        let mut bytes = [0; 8];
        message.read_at(at, &mut bytes);
        assert_eq!(u64::from_le_bytes(bytes), at as u64);
    }
}
