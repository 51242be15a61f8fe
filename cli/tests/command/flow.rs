//! Messages flow: between processes, through pipes, whole and in order.

use std::process::Stdio;

use crate::harness::{BOUND, Place, Running, narrows, narrows_on, shell, start, until_peers};

/// Waits as long as a test may for a receiver that was started beside.
fn patience() -> String {
    format!("--timeout={}s", BOUND.as_secs())
}

/// Messages that are no text, no line, or look like JSON.
fn awkward() -> Vec<Vec<u8>> {
    let all: Vec<u8> = (0..=255).collect();
    let texts =
        ["", "\n", "a\nb", "{}", r#"{"b": 1.50, "a": "\u00e4"}"#, r#"{"base64":"AA=="}"#, "ä\t\u{7}", "-5"];
    texts
        .iter()
        .map(|text| text.as_bytes().to_vec())
        .chain([all, vec![0; 5000], vec![0xFF; 70_000]])
        .collect()
}

fn with_lengths(messages: &[Vec<u8>]) -> Vec<u8> {
    messages
        .iter()
        .flat_map(|message| [&(message.len() as u32).to_le_bytes()[..], message].concat())
        .collect()
}

#[test]
fn arguments_arrive_over_every_transport() {
    let place = Place::new();
    for address in place.every_address() {
        let receiver = start(["recv", &address, &patience()]);
        narrows(["send", &address, &patience(), "a", "b c", "", "-5"]).ok();
        assert_eq!(receiver.said().ok(), b"a\nb c\n\n-5\n", "{address}");
    }
}

#[test]
fn any_bytes_arrive_over_every_transport() {
    let place = Place::new();
    let input = with_lengths(&awkward());
    for address in place.every_address() {
        let receiver = start(["recv", &address, "--frame=len", &patience()]);
        narrows_on(["send", &address, "--frame=len", &patience()], &input).ok();
        assert_eq!(receiver.said().ok(), input, "{address}");
    }
}

#[test]
fn envelopes_carry_any_bytes_from_one_channel_to_another() {
    let place = Place::new();
    let input = with_lengths(&awkward());
    let (first, second) = (place.shm(), format!("{}.b", place.shm()));
    narrows_on(["send", &first, "--frame=len"], &input).ok();
    let envelopes = narrows(["recv", &first, "--json"]).ok();
    assert_eq!(envelopes.iter().filter(|byte| **byte == b'\n').count(), awkward().len());
    narrows_on(["send", &second, "--json"], &envelopes).ok();
    assert_eq!(narrows(["recv", &second, "--frame=len"]).ok(), input);
}

#[test]
fn an_envelope_may_be_an_argument() {
    let place = Place::new();
    let address = place.shm();
    narrows(["send", &address, "--json", r#"{"data":{"n": 1}}"#, r#"{"data":"x"}"#]).ok();
    assert_eq!(narrows(["recv", &address]).ok(), b"{\"n\": 1}\nx\n");
}

#[test]
fn a_bad_envelope_is_named_by_its_line_and_the_lines_before_it_were_sent() {
    let place = Place::new();
    let address = place.shm();
    let said = narrows_on(["send", &address, "--json"], b"{\"data\":\"x\"}\nhello\n").code(1);
    assert!(said.err.contains("line 2 of standard input"), "{}", said.err);
    assert_eq!(narrows(["recv", &address]).ok(), b"x\n");
}

#[test]
fn pipes_go_in_and_come_out() {
    let place = Place::new();
    for address in place.every_address() {
        let line = format!(
            "narrows recv {address} {0} | tr a-z A-Z & printf 'one\\n\\ntwo' | narrows send {address} {0}; wait",
            patience()
        );
        assert_eq!(shell(&line).ok(), b"ONE\n\nTWO\n", "{address}");
    }
}

#[test]
fn a_count_takes_no_more_than_it_says() {
    let place = Place::new();
    let address = place.shm();
    narrows(["send", &address, "a", "b", "c", "d"]).ok();
    assert_eq!(narrows(["recv", &address, "-n", "0"]).ok(), b"");
    assert_eq!(narrows(["recv", &address, "-n", "1"]).ok(), b"a\n");
    assert_eq!(narrows(["recv", &address, "-n2"]).ok(), b"b\nc\n");
    assert_eq!(narrows(["recv", &address, "-n", "9"]).ok(), b"d\n");
}

#[test]
fn frames_print_messages_as_they_say() {
    let place = Place::new();
    let address = place.shm();
    for (frame, printed) in [("line", &b"ab\nc\n"[..]), ("raw", b"abc"), ("len", b"\x02\0\0\0ab\x01\0\0\0c")]
    {
        narrows(["send", &address, "ab", "c"]).ok();
        assert_eq!(narrows(["recv", &address, "--frame", frame]).ok(), printed);
    }
    narrows_on(["send", &address, "--frame=raw"], b"a\nb\n").ok();
    assert_eq!(narrows(["recv", &address, "--json"]).ok(), b"{\"data\":\"a\\nb\\n\"}\n");
}

#[test]
fn a_message_that_ends_too_early_is_not_sent() {
    let place = Place::new();
    let address = place.shm();
    let said = narrows_on(["send", &address, "--frame=len"], b"\x01\0\0\0a\x05\0\0\0bc").code(1);
    assert!(said.err.contains("ends within a message"), "{}", said.err);
    assert_eq!(narrows(["recv", &address]).ok(), b"a\n");
}

#[test]
fn following_outlasts_the_senders() {
    let place = Place::new();
    for address in place.every_address() {
        let receiver = start(["recv", &address, "--follow", "-n", "3", &patience()]);
        for message in ["a", "b", "c"] {
            narrows(["send", &address, &patience(), message]).ok();
        }
        assert_eq!(receiver.said().ok(), b"a\nb\nc\n", "{address}");
    }
}

#[test]
fn several_receivers_share_the_messages() {
    let place = Place::new();
    let address = place.shm();
    let receivers = [(); 3].map(|()| start(["recv", &address]));
    until_peers(&address, "receivers", 3);
    let numbers: String = (0..3000).map(|number| format!("{number}\n")).collect();
    narrows_on(["send", &address], numbers.as_bytes()).ok();
    let mut all: Vec<u32> = Vec::new();
    for receiver in receivers {
        let got: Vec<u32> =
            receiver.said().code(0).text().lines().map(|line| line.parse().unwrap()).collect();
        assert!(got.is_sorted(), "each of them keeps the order");
        all.extend(got);
    }
    all.sort_unstable();
    assert!(all.into_iter().eq(0..3000));
}

#[test]
fn several_senders_end_together() {
    let place = Place::new();
    let address = place.shm();
    let receiver = start(["recv", &address]);
    until_peers(&address, "receivers", 1);
    let senders = [(); 2].map(|()| Running::start(["send", &address], Stdio::piped()));
    until_peers(&address, "senders", 2);
    for (sender, start) in senders.into_iter().zip([0, 500]) {
        let numbers: String = (start..start + 500).map(|number| format!("{number}\n")).collect();
        sender.feed(numbers.as_bytes()).said().ok();
    }
    let mut got: Vec<u32> =
        receiver.said().code(0).text().lines().map(|line| line.parse().unwrap()).collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(0..1000));
}

#[test]
fn a_message_of_64_mib_arrives_whole() {
    let place = Place::new();
    let address = place.shm();
    let big = noise(64 << 20);
    let receiver = start(["recv", &address, "-n", "1", "--frame=raw"]);
    narrows_on(["send", &address, "--frame=raw"], &big).ok();
    assert!(receiver.said().ok() == big);
}

#[test]
fn a_stream_of_64_mib_arrives_over_every_transport() {
    let place = Place::new();
    let messages: Vec<Vec<u8>> = (0..1024).map(|_| noise(64 << 10)).collect();
    let input = with_lengths(&messages);
    for address in place.every_address() {
        let receiver = start(["recv", &address, "--frame=len", &patience()]);
        narrows_on(["send", &address, "--frame=len", &patience()], &input).ok();
        assert!(receiver.said().ok() == input, "{address}");
    }
}

/// Bytes without a pattern that a shifted or doubled block would keep.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let step = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn a_wait_that_is_too_long_has_its_exit_code() {
    let place = Place::new();
    for address in place.every_address() {
        let said = narrows(["recv", &address, "--timeout=50ms"]).code(124);
        assert!(said.err.contains("timed out") && said.err.contains(&address), "{}", said.err);
    }
    for address in place.every_address().iter().filter(|address| address.starts_with("unix:")) {
        let said = narrows(["send", address, "--timeout=50ms", "a"]).code(124);
        assert!(said.err.contains(&format!("narrows recv {address}")), "{}", said.err);
    }
}

#[test]
fn a_full_channel_has_its_exit_codes() {
    let place = Place::new();
    let address = format!("{},capacity=1", place.shm());
    narrows(["send", &address, "a"]).ok();
    narrows(["send", &address, "--timeout=50ms", "b"]).code(124);
    narrows(["send", &address, "--timeout=0s", "b"]).code(5);
    let sender = start(["send", &address, "b", "c"]);
    until_peers(&place.shm(), "senders", 1);
    assert_eq!(narrows(["recv", &address, "-n", "3"]).ok(), b"a\nb\nc\n");
    sender.said().ok();
}
