//! What is there is not ours, not of this version, or broken: an error, no harm, no change.

use std::fs;
use std::os::unix::fs::FileExt;

use narrows::{Deadline, Error, Receiver, Scheme, Sender};

use crate::Case;
use crate::place::{LONG, Place, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "a foreign file", needs: &[], run: foreign_file },
    Case { name: "a directory", needs: &[], run: directory },
    Case { name: "a truncated segment", needs: &[], run: truncated },
    Case { name: "another version, kind, machine", needs: &[], run: headers },
    Case { name: "a damaged segment", needs: &[], run: damaged },
];

/// The errors of opening either end.
fn open(place: &Place) -> [Result<(), Error>; 2] {
    [
        Sender::<[u8]>::open_by(&place.bare, SHORT).map(drop),
        Receiver::<[u8]>::open_by(&place.bare, SHORT).map(drop),
    ]
}

#[track_caller]
fn assert_refused(place: &Place, what: &str) {
    for result in open(place) {
        match result.expect_err(what) {
            Error::WrongKind { .. } | Error::Corrupt { .. } | Error::Unsupported { .. } => {}
            error => panic!("{what}: {error:?}"),
        }
    }
}

fn is_named(trial: &Trial) -> bool {
    trial.variant.scheme != Scheme::Memfd
}

fn foreign_file(trial: &Trial) {
    if !is_named(trial) {
        return;
    }
    for content in [&b"some text\n"[..], &[0; 4096], &[b'x'; 200_000]] {
        let place = trial.place("");
        fs::write(&place.path, content).unwrap();
        assert_refused(&place, "a foreign file");
        assert!(fs::read(&place.path).unwrap() == content, "it was changed");
        fs::remove_file(&place.path).unwrap();
    }
}

fn directory(trial: &Trial) {
    if !is_named(trial) {
        return;
    }
    let place = trial.place("");
    fs::create_dir(&place.path).unwrap();
    assert_refused(&place, "a directory");
    fs::remove_dir(&place.path).unwrap();
}

/// A channel with a message in it that nobody has open: its first bytes, and its length.
struct Left {
    place: Place,
    bytes: Vec<u8>,
    length: u64,
}

fn left_channel(trial: &Trial) -> Option<Left> {
    if !trial.variant.is_memory() || !is_named(trial) {
        return None;
    }
    let place = trial.place("");
    place.sender().send_by(b"unread", LONG).unwrap();
    let file = fs::File::open(&place.path).unwrap();
    let mut bytes = vec![0; 64 << 10];
    file.read_exact_at(&mut bytes, 0).unwrap();
    Some(Left { place, bytes, length: file.metadata().unwrap().len() })
}

impl Left {
    /// Writes the channel anew. Sparse, as it was: only what is not zero is written.
    fn restore(&self, bytes: &[u8]) {
        let _ = fs::remove_file(&self.place.path);
        let file = fs::File::create_new(&self.place.path).unwrap();
        file.set_len(self.length).unwrap();
        for (page, content) in
            (0..).zip(bytes.chunks(4096)).filter(|(_, page)| page.iter().any(|byte| *byte != 0))
        {
            file.write_all_at(content, page * 4096).unwrap();
        }
    }
}

/// Cut at every length that matters: no error may be a SIGBUS.
fn truncated(trial: &Trial) {
    let Some(left) = left_channel(trial) else { return };
    let (place, bytes) = (&left.place, &left.bytes);
    for length in [0, 1, 7, 8, 63, 64, 100, 1000, 4095, 4096, 8192, 20_000] {
        fs::write(&place.path, &bytes[..length.min(bytes.len() / 2)]).unwrap();
        assert_refused(place, &format!("{length} bytes of it"));
    }
    fs::remove_file(&place.path).unwrap();
}

/// What a word of the header is changed to, whether the checksum is mended, and what the error says.
const HEADERS: &[(usize, u64, bool, &str)] = &[
    (0, u64::from_le_bytes(*b"narrows?"), true, "no segment of narrows"),
    (0, u64::from_be_bytes(*b"NARROWS\x01"), true, "big-endian"),
    (8, 2 | 1 << 32, true, "layout version 2"),
    (8, 1 | 77 << 32, true, "kind 77"),
    (24, 1 << 5, true, "features 0x20"),
    (32, 1 << 20, true, "impossible"),
    (40, 8, false, "checksum"),
    (32, 1 << 40, true, "bytes and should have"),
    (40, 0, true, "impossible"),
    (48, 100, true, "impossible"),
    (56, 0, true, "impossible"),
    (64, 9, true, "impossible"),
];

/// The error tells another version, kind or machine from a damaged header.
fn headers(trial: &Trial) {
    let Some(left) = left_channel(trial) else { return };
    let (place, bytes) = (&left.place, &left.bytes);
    for &(at, word, mended, text) in HEADERS {
        left.restore(&with_header(bytes, at, word, mended));
        for result in open(place) {
            let error = result.expect_err(text);
            assert!(matches!(error, Error::WrongKind { .. } | Error::Corrupt { .. }), "{error:?}");
            assert!(error.to_string().contains(text), "word {at}: {error}");
        }
    }
    // A feature that may be ignored is ignored.
    left.restore(&with_header(bytes, 16, 1 << 40, true));
    drop(Receiver::<[u8]>::open_by(&place.bare, SHORT).unwrap());
    let _ = fs::remove_file(&place.path);
}

/// The channel with one word of its header changed: 31 words, then their FNV-1a.
fn with_header(bytes: &[u8], at: usize, word: u64, mended: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    if mended {
        let words = bytes[..248].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap()));
        let sum =
            words.fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| (sum ^ word).wrapping_mul(0x100_0000_01b3));
        bytes[248..256].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// Whatever stands in it, opening and using it ends, in a message or an error.
fn damaged(trial: &Trial) {
    let Some(left) = left_channel(trial) else { return };
    // The header, the shared words, the first participants and endpoints, the slots.
    let places = (16..256).step_by(8).chain((256..1200).step_by(8)).chain((4096..4352).step_by(4));
    for at in places.chain((12_288..12_544).step_by(8)).chain((32_768..33_024).step_by(4)) {
        for flip in [0x01, 0xff] {
            let mut bytes = left.bytes.clone();
            bytes[at] ^= flip;
            left.restore(&bytes);
            if let Ok(mut receiver) = Receiver::<[u8]>::open_by(&left.place.bare, Deadline::Now) {
                let _ = receiver.recv_by(Deadline::Now);
            }
            if let Ok(mut sender) = Sender::<[u8]>::open_by(&left.place.bare, Deadline::Now) {
                let _ = sender.send_by(&[b'x'; 100], Deadline::Now);
            }
        }
    }
    let _ = fs::remove_file(&left.place.path);
}
