//! Names, options, permissions.

use std::os::unix::fs::MetadataExt;

use narrows::{Error, Receiver, Scheme, Sender};

use crate::Case;
use crate::account::read;
use crate::peer::Peer;
use crate::place::{LONG, Place, SHORT, Trial};

pub(super) const CASES: &[Case] = &[
    Case { name: "unknown options", needs: &[], run: unknown_options },
    Case { name: "bad values", needs: &[], run: bad_values },
    Case { name: "options that do not match", needs: &[], run: mismatch },
    Case { name: "create", needs: &[], run: create },
    Case { name: "permissions", needs: &[], run: permissions },
    Case { name: "another user", needs: &[], run: another_user },
    Case { name: "no such directory", needs: &[], run: no_such_directory },
    Case { name: "opened by several at once", needs: &[], run: several_at_once },
];

/// Whether a name in the file system leads to it.
fn is_named(trial: &Trial) -> bool {
    trial.variant.scheme != Scheme::Memfd
}

/// The errors of opening either end.
fn both(address: &str) -> [Option<Error>; 2] {
    [Sender::<[u8]>::open_by(address, SHORT).err(), Receiver::<[u8]>::open_by(address, SHORT).err()]
}

fn unknown_options(trial: &Trial) {
    let place = trial.place("");
    for (options, word) in [("colour=red", "colour"), ("mod=0600", "mode=")] {
        if options.starts_with("mod") && !trial.variant.has_option("mode") {
            continue;
        }
        for error in both(&place.with(options)) {
            let error = error.expect("refused");
            assert!(matches!(error, Error::InvalidAddress { .. }), "{error:?}");
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}

/// Every option that the table lists refuses nonsense, naming itself.
fn bad_values(trial: &Trial) {
    for option in trial.variant.row().options {
        let place = trial.place("");
        for value in ["nonsense", ""] {
            let address = place.with(&format!("{}={value}", option.key));
            let errors = both(&address);
            assert!(!place.path.exists(), "{address}: a refused address made something");
            // Some options concern one end only.
            let error = errors.iter().flatten().find(|error| matches!(error, Error::InvalidAddress { .. }));
            let error = error.unwrap_or_else(|| panic!("{address}: {errors:?}"));
            assert!(error.to_string().contains(option.key), "{error}");
        }
    }
}

/// An option that is given must be that of what exists; one that is not given is taken from it.
fn mismatch(trial: &Trial) {
    if !trial.variant.is_memory() || !is_named(trial) {
        return;
    }
    let place = trial.place("capacity=4");
    let _receiver = place.receiver();
    let other_ack = if trial.variant.options.contains("ack") { ("ack", "take") } else { ("ack", "release") };
    let other_peers =
        if trial.variant.options.contains("peers") { ("peers", "many") } else { ("peers", "one") };
    for (key, ours) in [("capacity", "8"), other_ack, other_peers, ("lifetime", "system")] {
        match Sender::<[u8]>::open_by(place.with(&format!("{key}={ours}")), SHORT).err() {
            Some(Error::Mismatch { option, theirs, ours: told, .. }) => {
                assert_eq!((&*option, &*told), (key, ours));
                assert_ne!(theirs, told);
            }
            other => panic!("{key}={ours}: {other:?}"),
        }
    }
    let mut taken = Sender::<[u8]>::open_by(&place.bare, LONG).unwrap();
    let sent = (0..10).take_while(|_| taken.send_by(b"x", narrows::Deadline::Now).is_ok()).count();
    assert_eq!(sent, 4, "the capacity of what exists");
    narrows::channel::remove(&place.bare.parse().unwrap()).unwrap();
}

fn create(trial: &Trial) {
    if !trial.variant.has_option("create") || !is_named(trial) {
        return;
    }
    let place = trial.place("");
    let never = place.with("create=never");
    for error in both(&never) {
        assert!(matches!(error, Some(Error::NotFound { .. } | Error::TimedOut { .. })), "{error:?}");
    }
    assert!(!place.path.exists());
    let receiver = place.receiver();
    drop(Sender::<[u8]>::open_by(&never, LONG).expect("it exists now"));
    match Receiver::<[u8]>::open_by(place.with("create=only"), SHORT).err() {
        Some(Error::Busy { .. }) => {}
        other => panic!("create=only: {other:?}"),
    }
    drop(receiver);
}

fn permissions(trial: &Trial) {
    if !trial.variant.has_option("mode") || !is_named(trial) {
        return;
    }
    for (options, mode) in [("", 0o600), ("mode=0640", 0o640), ("mode=0666", 0o666)] {
        let place = trial.place(options);
        let receiver = place.receiver();
        let found = std::fs::metadata(&place.path).unwrap().mode() & 0o777;
        assert_eq!(found, mode, "{options}: {found:o}");
        drop(receiver);
    }
}

/// A peer of an unprivileged user; none where this process may not start one.
fn stranger(trial: &Trial, place: &Place) -> Option<Peer> {
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let executable = trial.folder().join("peer");
    std::fs::set_permissions(trial.folder(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    Some(Peer::start_as(place, 65534, &executable))
}

/// Without permission the error says whose it is; with it, messages pass between users.
fn another_user(trial: &Trial) {
    if !trial.variant.has_option("mode") || !is_named(trial) {
        return;
    }
    let closed = trial.place("");
    let _receiver = closed.receiver();
    let Some(mut peer) = stranger(trial, &closed) else { return };
    let error = peer.ask_in_vain(&format!("sender {}", closed.peer_address()));
    assert!(error.starts_with("error Permission"), "{error}");
    assert!(error.contains("owner"), "it says whose it is: {error}");

    let open = trial.place("mode=0666");
    let mut receiver = open.receiver();
    peer.ask(&format!("sender {}", open.peer_address()));
    peer.ask("send 1 0 3 32");
    peer.ask("send 1 3 1 4000");
    for number in 0..4 {
        assert_eq!(read(&receiver.recv_by(LONG).unwrap().unwrap()), Ok((1, number)));
    }
    peer.ask("close");
}

fn no_such_directory(trial: &Trial) {
    let scheme = trial.variant.scheme;
    if !scheme.is_path() {
        return;
    }
    let address = format!("{scheme}:{}/missing/name", trial.folder().display());
    match Receiver::<[u8]>::open_by(&address, SHORT).err() {
        Some(error @ Error::NotFound { .. }) => assert!(error.to_string().contains("/missing"), "{error}"),
        other => panic!("{other:?}"),
    }
}

/// The race to create it has one winner, and everybody gets the same channel.
fn several_at_once(trial: &Trial) {
    for _ in 0..10 {
        let place = trial.place("");
        let mut peers = [(); 2].map(|()| Peer::start(&place));
        let [sends, receives] = &mut peers;
        sends.tell_open("sender");
        receives.tell_open("receiver");
        sends.answer().unwrap();
        receives.answer().unwrap();
        sends.ask("send 1 0 1 32");
        receives.tell("recv 1");
        assert_eq!(receives.received(), [(1, 0)]);
    }
}
