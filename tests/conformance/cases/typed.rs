//! Messages of a type.

use narrows::{Error, Receiver, Sender};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::Case;
use crate::place::{LONG, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "typed messages", needs: &[], run: typed },
    Case { name: "another type", needs: &[], run: another_type },
];

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Debug, PartialEq, Clone, Copy)]
#[repr(C)]
struct Reading {
    at: [u8; 8],
    pressure: [u8; 8],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Large {
    rows: [[u8; 64]; 40],
}

const READING: Reading = Reading { at: *b"12:00:00", pressure: *b"0412 kPa" };

fn typed(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = Receiver::<Reading>::open_by(place.address(), LONG).unwrap();
    let mut sender = Sender::<Reading>::open_by(place.address(), LONG).unwrap();
    for digit in b'0'..=b'9' {
        let mut reading = READING;
        reading.pressure[0] = digit;
        sender.send_by(&reading, LONG).unwrap();
        assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), reading);
    }
    let place = trial.place("");
    let mut receiver = Receiver::<Large>::open_by(place.address(), LONG).unwrap();
    let mut sender = Sender::<Large>::open_by(place.address(), LONG).unwrap();
    sender
        .send_by(
            &Large { rows: [*b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; 40] },
            LONG,
        )
        .unwrap();
    assert_eq!(receiver.recv_by(LONG).unwrap().unwrap().rows[39][63], b'f');
}

/// A message of another size is an error that tells both sizes; it is consumed, and the next one arrives.
fn another_type(trial: &Trial) {
    let place = trial.place("");
    let mut receiver = Receiver::<Reading>::open_by(place.address(), LONG).unwrap();
    let mut sender = Sender::<[u8]>::open_by(place.address(), LONG).unwrap();
    for wrong in [&b"short"[..], &[b'x'; 17], &[b'x'; 4000]] {
        sender.send_by(wrong, LONG).unwrap();
        match receiver.recv_by(LONG) {
            Err(Error::Mismatch { theirs, ours, .. }) => {
                assert!(theirs.contains(&wrong.len().to_string()), "{theirs}");
                assert!(ours.contains("16"), "{ours}");
            }
            other => panic!("{other:?}"),
        }
    }
    sender.send_by(READING.as_bytes(), LONG).unwrap();
    assert_eq!(*receiver.recv_by(LONG).unwrap().unwrap(), READING);
}
