//! What exists: listed, described, removed.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{NARROWS, Place, Running, narrows, narrows_on, start, until, until_peers};

/// The channel as `ls --json` shows it.
fn shown(address: &str) -> Value {
    serde_json::from_slice(&narrows(["ls", address, "--json"]).ok()).unwrap()
}

/// The addresses that `ls --json` prints, of this place.
fn listed(place: &Place) -> Vec<String> {
    let said = narrows(["ls", "--json"]).code(0);
    let objects = said.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let addresses = objects.map(|object| object["address"].as_str().unwrap().to_owned());
    addresses.filter(|address| address.contains(place.name())).collect()
}

#[test]
fn a_channel_is_live_then_unread_then_gone() {
    let place = Place::new();
    let address = place.shm();
    narrows(["ls", &address]).code(3);
    let receiver = start(["recv", &address, "-n", "1"]);
    until_peers(&address, "receivers", 1);
    let live = shown(&address);
    assert_eq!((&live["state"], &live["receivers"], &live["depth"]), (&"live".into(), &1.into(), &0.into()));
    assert_eq!(live["peers"][0]["pid"], receiver.pid());
    assert_eq!(live["peers"][0]["name"], "narrows");
    narrows(["send", &address, "a", "b"]).ok();
    receiver.said().ok();
    let unread = shown(&address);
    assert_eq!((&unread["state"], &unread["depth"]), (&"unread".into(), &1.into()));
    assert!(unread["sent"].as_u64() >= Some(2), "{unread}");
    assert_eq!(listed(&place), std::slice::from_ref(&address));
    narrows(["recv", &address]).ok();
    assert!(listed(&place).is_empty());
}

#[test]
fn every_address_that_is_printed_can_be_pasted_back() {
    let place = Place::new();
    let odd = format!("shm:{}%20%2C%25x", place.name());
    narrows(["send", &odd, "a"]).ok();
    let [address] = &listed(&place)[..] else { panic!("one is listed") };
    assert_eq!(narrows(["recv", address]).ok(), b"a\n");
}

#[test]
fn options_are_shown_as_they_were_given() {
    let place = Place::new();
    narrows(["send", &format!("{},capacity=7", place.shm()), "a"]).ok();
    let channel = shown(&place.shm());
    assert_eq!((&channel["capacity"], &channel["options"]["capacity"]), (&7.into(), &"7".into()));
    let said = narrows(["send", &format!("{},capacity=9", place.shm()), "a"]).code(7);
    assert!(said.err.contains("capacity=7"), "{}", said.err);
    narrows(["rm", &place.shm()]).ok();
}

#[test]
fn removal_goes_on_after_a_failure_and_reports_it() {
    let place = Place::new();
    let address = place.shm();
    narrows(["send", &address, "a"]).ok();
    let said = narrows(["rm", &format!("{address}.none"), &address]).code(3);
    assert!(said.err.contains("does not exist"), "{}", said.err);
    assert!(place.leftovers().is_empty());
}

#[test]
fn pipes_and_sockets_are_removed_and_nothing_else() {
    let place = Place::new();
    let path = place.path("x");
    let (fifo, unix) = (format!("fifo:{}", path.display()), format!("unix:{}", path.display()));
    narrows(["rm", &fifo]).code(3);
    std::fs::write(&path, "text").unwrap();
    narrows(["rm", &fifo, &unix]).code(7);
    std::fs::remove_file(&path).unwrap();
    drop(UnixListener::bind(&path).unwrap());
    narrows(["rm", &fifo]).code(7);
    narrows(["rm", &unix]).ok();
    assert!(!path.exists());
    let mut receiver = start(["recv", &fifo]);
    until("the pipe is made", || path.exists());
    receiver.kill();
    narrows(["rm", &fifo]).ok();
    assert!(!path.exists());
    narrows(["rm", "unix:@x"]).code(1);
}

#[test]
fn every_failure_has_its_exit_code() {
    let place = Place::new();
    let (shm, socket) = (place.shm(), format!("unix:{}", place.path("socket").display()));
    narrows(["recv", &format!("{shm},create=never")]).code(3);
    std::fs::write(place.path("text"), "no segment").unwrap();
    narrows(["recv", &format!("file:{}", place.path("text").display())]).code(7);
    narrows(["recv", &format!("{shm},ack=maybe")]).code(2);
    let receiver = start(["recv", &socket]);
    until("the socket is bound", || place.path("socket").exists());
    let said = narrows(["recv", &socket]).code(5);
    assert!(said.err.contains(&format!("process {}", receiver.pid())), "{}", said.err);
}

#[test]
fn what_belongs_to_another_user_is_refused_and_counted() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let place = Place::new();
    let address = place.shm();
    narrows(["send", &address, "a"]).ok();
    // The other user may not reach the command where it was built.
    let copy = place.path("narrows");
    std::fs::copy(NARROWS, &copy).unwrap();
    std::fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
    let as_nobody = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        Running::spawn(command.uid(65534).gid(65534).args(arguments).stdout(Stdio::piped())).said()
    };
    for verb in [&["recv", &address][..], &["send", &address, "b"], &["ls", &address], &["rm", &address]] {
        let said = as_nobody(verb).code(4);
        assert!(said.err.contains(&address) && said.err.contains("uid 0"), "{}", said.err);
    }
    assert!(as_nobody(&["ls"]).code(0).err.contains("may not be looked into"));
    assert_eq!(narrows(["recv", &address]).ok(), b"a\n");
}

#[test]
fn what_a_crash_leaves_is_shown_and_removed_only_on_demand() {
    let place = Place::new();
    let address = place.shm();
    let mut receiver = start(["recv", &address]);
    until_peers(&address, "receivers", 1);
    receiver.kill();
    until("its death is seen", || shown(&address)["state"] == "stale");
    let dry = narrows(["rm", "--stale"]).code(0);
    assert!(dry.text().lines().any(|line| line == address), "{}", dry.text());
    assert!(dry.err.contains("--yes"), "{}", dry.err);
    assert_eq!(listed(&place), std::slice::from_ref(&address));
    // Named, so that nobody else's objects are removed by a test.
    let done = narrows(["rm", "--stale", "--yes", &address]).code(0);
    assert_eq!(done.text(), format!("{address}\n"));
    assert!(listed(&place).is_empty());
}

#[test]
fn what_is_live_or_unread_is_not_stale() {
    let place = Place::new();
    let (unread, live) = (place.shm(), format!("{}.live", place.shm()));
    narrows(["send", &unread, "a"]).ok();
    let receiver = start(["recv", &live, "-n", "1"]);
    until_peers(&live, "receivers", 1);
    let dry = narrows(["rm", "--stale", "--json"]).code(0);
    assert!(!dry.text().contains(place.name()), "{}", dry.text());
    narrows(["rm", "--stale", "--yes", &unread, &live]).ok();
    narrows(["send", &live, "a"]).ok();
    receiver.said().ok();
    narrows(["recv", &unread]).ok();
}

#[test]
fn the_table_of_mechanisms_has_every_scheme_in_every_form() {
    let plain = narrows(["mechanisms"]).ok();
    let markdown = narrows(["mechanisms", "--markdown"]).ok();
    let json = narrows(["mechanisms", "--json"]).code(0);
    assert_eq!(json.text().lines().count(), ::narrows::channel::Transport::ALL.len());
    for (row, line) in ::narrows::channel::Transport::ALL.iter().zip(json.text().lines()) {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["scheme"], row.scheme.name());
        assert_eq!(object["capabilities"].as_array().unwrap().len(), row.capabilities.iter().count());
        assert_eq!(object["options"].as_array().unwrap().len(), row.options.len());
        let scheme = format!("{}:", row.scheme);
        assert!(String::from_utf8_lossy(&plain).contains(&scheme));
        assert!(String::from_utf8_lossy(&markdown).contains(&scheme));
    }
}

#[test]
fn bytes_of_anybody_are_shown_and_changed() {
    let place = Place::new();
    let shared = Path::new("/dev/shm").join(place.name());
    let file = place.path("file");
    for (path, address) in [(&shared, place.shm()), (&file, format!("file:{}", file.display()))] {
        std::fs::write(path, vec![0; 5000]).unwrap();
        narrows(["poke", &address, "--offset=4094", "hello"]).ok();
        narrows(["poke", &address, "--offset=8", "--u64=0x0102030405060708"]).ok();
        narrows(["poke", &address, "--offset=3", "--u32", "258"]).ok();
        narrows(["poke", &address, "--offset=4999", "--hex", "fF"]).ok();
        narrows_on(["poke", &address, "--offset=100"], b"\0\xFF\n").ok();
        let mut expected = vec![0; 5000];
        expected[4094..4099].copy_from_slice(b"hello");
        expected[8..16].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected[3..5].copy_from_slice(&[2, 1]);
        expected[4999] = 0xFF;
        expected[100..103].copy_from_slice(b"\0\xFF\n");
        assert!(narrows(["peek", &address, "--raw"]).ok() == expected);
        assert_eq!(narrows(["peek", &address, "--offset=4K", "--length=3", "--hex"]).ok(), b"6c6c6f\n");
        let json: Value = serde_json::from_slice(&narrows(["peek", &address, "--json"]).ok()).unwrap();
        assert_eq!((&json["total_bytes"], &json["address"]), (&5000.into(), &address.into()));
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_range_beyond_the_end_is_refused_and_nothing_is_written() {
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, b"0123456789").unwrap();
    let address = format!("file:{}", file.display());
    for arguments in [
        &["peek", &address, "--offset=11"][..],
        &["peek", &address, "--offset=8", "--length=3"],
        &["peek", &address, "--offset=0xFFFFFFFFFFFFFFFF", "--length=2"],
        &["poke", &address, "--offset=8", "abc"],
        &["poke", &address, "--offset=8", "--u32=1"],
    ] {
        let said = narrows(arguments).code(1);
        assert!(said.out.is_empty() && said.err.contains(&address), "{}", said.err);
    }
    let said = narrows_on(["poke", &address, "--offset=8"], &[b'x'; 1 << 20]).code(1);
    assert!(said.err.contains(&address), "{}", said.err);
    assert_eq!(std::fs::read(&file).unwrap(), b"0123456789");
    narrows(["peek", &format!("{address}.none")]).code(3);
    narrows(["poke", &address, "--offset=0", "--u32=1", "--u64=1"]).code(2);
}

#[test]
fn a_path_that_is_no_text_is_a_path() {
    let place = Place::new();
    let file = place.path("").join(OsStr::from_bytes(b"\xFF,\n"));
    std::fs::write(&file, b"0123456789").unwrap();
    let mut address = OsString::from("file:");
    address.push(place.path(""));
    // A comma begins an option, so it is escaped; other bytes pass as they are.
    address.push(OsStr::from_bytes(b"\xFF%2C\n"));
    let said = narrows([OsStr::new("peek"), &address, OsStr::new("--json")]).code(0);
    let json: Value = serde_json::from_slice(&said.out).unwrap();
    let printed = json["address"].as_str().unwrap();
    assert!(printed.ends_with("%FF%2C%0A"), "{printed}");
    assert_eq!(narrows(["peek", printed, "--raw"]).ok(), b"0123456789");
}

#[test]
fn a_check_tells_what_a_death_left_from_damage() {
    let place = Place::new();
    let address = place.shm();
    let mut receiver = start(["recv", &address, "--follow"]);
    until_peers(&address, "receivers", 1);
    assert!(narrows(["check", &address]).code(0).text().starts_with("sound, in use\n"));
    receiver.kill();
    until("its death is seen", || shown(&address)["state"] == "stale");
    let checked = narrows(["check", &address, "--json"]).code(0);
    let checked: Value = serde_json::from_slice(&checked.out).unwrap();
    assert_eq!((&checked["sound"], &checked["at_rest"]), (&true.into(), &true.into()), "{checked}");
    assert_eq!(checked["pending"][0]["place"], "participant 1");
    assert_eq!(checked["holdings"][0]["alive"], false);
    narrows(["poke", &address, "--offset", "512", "--u64", "9"]).ok();
    let damaged = narrows(["check", &address]).code(7);
    assert!(damaged.text().contains("fault: HEAD: "), "{}", damaged.text());
    narrows(["rm", &address]).ok();
    narrows(["check", &address]).code(3);
}
