//! What is there is not ours, not of this version, or broken: an error, no harm, no change.

use std::fs;
use std::os::unix::fs::FileExt;

use narrows::{Error, Receiver, Scheme, Sender};

use crate::Case;
use crate::place::{LONG, Place, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "a foreign file", needs: &[], run: foreign_file },
    Case { name: "a directory", needs: &[], run: directory },
    Case { name: "a truncated segment", needs: &[], run: truncated },
    Case { name: "a damaged header", needs: &[], run: damaged_header },
    Case { name: "every byte of the header damaged", needs: &[], run: every_byte_damaged },
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

/// A channel with a message in it that nobody has open, and its first bytes.
fn left_channel(trial: &Trial) -> Option<(Place, Vec<u8>)> {
    if !trial.variant.is_memory() || !is_named(trial) {
        return None;
    }
    let place = trial.place("");
    place.sender().send_by(b"unread", LONG).unwrap();
    let mut bytes = vec![0; 64 << 10];
    fs::File::open(&place.path).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    Some((place, bytes))
}

/// Cut at every length that matters: no error may be a SIGBUS.
fn truncated(trial: &Trial) {
    let Some((place, bytes)) = left_channel(trial) else { return };
    for length in [0, 1, 7, 8, 63, 64, 100, 1000, 4095, 4096, 8192, 20_000] {
        fs::write(&place.path, &bytes[..length.min(bytes.len() / 2)]).unwrap();
        assert_refused(&place, &format!("{length} bytes of it"));
    }
    fs::remove_file(&place.path).unwrap();
}

/// The first bytes are the magic and the version: another one is said to be another one.
fn damaged_header(trial: &Trial) {
    let Some((place, bytes)) = left_channel(trial) else { return };
    for at in 0..16 {
        damage(&place, &bytes, at, 0xff);
        assert_refused(&place, &format!("byte {at}"));
    }
    fs::remove_file(&place.path).unwrap();
}

/// Whatever stands in a header, opening it and using it ends, in a message or an error.
fn every_byte_damaged(trial: &Trial) {
    let Some((place, bytes)) = left_channel(trial) else { return };
    for at in (16..512).chain((512..8192).step_by(8)) {
        for flip in [0x01, 0xff] {
            damage(&place, &bytes, at, flip);
            if let Ok(mut receiver) = Receiver::<[u8]>::open_by(&place.bare, SHORT) {
                let _ = receiver.recv_by(narrows::Deadline::Now);
            }
            if let Ok(mut sender) = Sender::<[u8]>::open_by(&place.bare, SHORT) {
                let _ = sender.send_by(&[b'x'; 100], narrows::Deadline::Now);
            }
        }
    }
    let _ = fs::remove_file(&place.path);
}

/// Writes the channel anew, with one byte changed.
fn damage(place: &Place, bytes: &[u8], at: usize, flip: u8) {
    let _ = fs::remove_file(&place.path);
    // Sparse, as it was: only what is not zero is written.
    let file = fs::File::create_new(&place.path).unwrap();
    file.set_len(64 << 30).unwrap();
    for (page, content) in
        bytes.chunks(4096).enumerate().filter(|(_, content)| content.iter().any(|byte| *byte != 0))
    {
        file.write_all_at(content, page as u64 * 4096).unwrap();
    }
    file.write_all_at(&[bytes[at] ^ flip], at as u64).unwrap();
}
