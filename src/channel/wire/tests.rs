use super::*;
use crate::channel::wire::header;
use proptest::prelude::*;

const SETTINGS: Settings = Settings { wire: Wire::Frames, max_message: 1 << 20 };

fn frame(kind: Kind, payload: &[u8]) -> Vec<u8> {
    [&header(kind, payload.len())[..], payload].concat()
}

/// Feeds the bytes in pieces of these sizes, over and over, and gives what came out.
fn decode(settings: Settings, bytes: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<Fault>, u64) {
    let mut decoder = Decoder::new(settings, BUFFER);
    let (mut messages, mut rest, mut sizes) = (Vec::new(), bytes, pieces.iter().cycle());
    loop {
        match decoder.next() {
            Ok(Some(message)) => messages.push(message.to_vec()),
            Err(Refusal::Fault(fault)) => return (messages, Some(fault), decoder.died()),
            Err(Refusal::NoMemory { size }) => panic!("no memory for {size} bytes"),
            Ok(None) if rest.is_empty() => break,
            Ok(None) => {
                let space = decoder.space();
                let len = rest.len().min(space.len()).min(*sizes.next().unwrap());
                space[..len].copy_from_slice(&rest[..len]);
                decoder.filled(len);
                rest = &rest[len..];
                assert!(
                    decoder.message.capacity() <= KEEP.max(2 * bytes.len()),
                    "memory follows what arrived"
                );
            }
        }
    }
    messages.extend(decoder.finish(false).map(<[u8]>::to_vec));
    (messages, None, decoder.died())
}

#[test]
fn parts_are_joined_unfinished_ones_forgotten_and_the_dead_counted() {
    let stream = [
        frame(Kind::Hello, b""),
        frame(Kind::Part, b"another receiver had "),
        frame(Kind::End, b"the start of this"),
        frame(Kind::Start, b"never "),
        frame(Kind::Start, b"nor "),
        frame(Kind::Message, b"whole"),
        frame(Kind::End, b"this"),
        frame(Kind::Start, b"re"),
        frame(Kind::Part, b"ad"),
        frame(Kind::End, b"ings"),
        frame(Kind::Message, b""),
        frame(Kind::Start, b"its sender dies"),
        frame(Kind::Hello, b""),
        frame(Kind::Message, b"next"),
        frame(Kind::Bye, b""),
    ]
    .concat();
    let (messages, fault, died) = decode(SETTINGS, &stream, &[1]);
    assert_eq!(
        (messages, fault),
        (vec![b"whole".to_vec(), b"readings".to_vec(), vec![], b"next".to_vec()], None)
    );
    assert_eq!(died, 1);
    let (_, _, died) = decode(SETTINGS, &stream[..stream.len() - HEADER], &[7]);
    assert_eq!(died, 2, "the last one said no goodbye");
}

#[test]
fn what_contradicts_the_format_is_refused_at_its_first_byte() {
    for (bytes, words) in [
        (&b"hi\n"[..], "'hi\\n', which is no frame"),
        (b"nw2m", "version 2"),
        (b"nw1?\0\0\0\0", "no frame"),
        (b"nw1b\x01\0\0\0", "no frame"),
        (b"nw1m\xff\xff\xff\xff", "4294967295 bytes or more"),
    ] {
        let (_, fault, _) = decode(SETTINGS, bytes, &[bytes.len()]);
        let fault = fault.unwrap_or_else(|| panic!("{bytes:?} was taken"));
        assert!(fault.found.contains(words), "{fault:?}");
    }
    let parts = [frame(Kind::Start, &[7; 1 << 16]), frame(Kind::End, &[7; 1 << 16])].concat();
    let (messages, fault, _) = decode(Settings { max_message: (1 << 17) - 1, ..SETTINGS }, &parts, &[999]);
    assert_eq!(messages.len(), 0);
    assert!(fault.unwrap().found.contains("131072"), "parts count together");
}

#[test]
fn lines_end_with_a_newline_or_with_the_stream() {
    let settings = Settings { wire: Wire::Lines, max_message: 10 };
    let (lines, fault, died) = decode(settings, b"one\n\ntwo\nlast", &[1]);
    assert_eq!(lines, [&b"one"[..], b"", b"two", b"last"]);
    assert_eq!((fault, died), (None, 0));
    assert!(decode(settings, b"much too long", &[4]).1.is_some());
}

#[test]
fn a_packet_is_one_frame() {
    let whole = frame(Kind::Message, b"hello");
    let cut = |bytes: &[u8], len| match cut_packet(bytes, len, SETTINGS) {
        Ok(Packet::Message(message)) => Some(message.to_vec()),
        Ok(Packet::Bye) => None,
        Err(fault) => Some(fault.found.into_bytes()),
    };
    assert_eq!(cut(&whole, whole.len()).unwrap(), b"hello");
    assert_eq!(cut(&frame(Kind::Bye, b""), HEADER), None);
    assert!(cut(&whole[..9], 9).unwrap().ends_with(b"no frame"));
    assert!(cut(&whole, 1 << 30).unwrap().starts_with(b"a message of"));
}

fn wire() -> impl Strategy<Value = Wire> {
    prop_oneof![Just(Wire::Frames), Just(Wire::Lines), Just(Wire::Raw)]
}

proptest! {
    #[test]
    fn the_split_of_the_bytes_does_not_matter(
        messages in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), 1..100usize), 0..20),
        pieces in proptest::collection::vec(1..200usize, 1..20),
    ) {
        let mut stream = Vec::new();
        for (message, part) in &messages {
            match message.len() {
                0..100 => stream.extend(frame(Kind::Message, message)),
                _ => {
                    let (first, rest) = message.split_at(*part);
                    stream.extend(frame(Kind::Start, first));
                    rest.chunks(*part).for_each(|part| stream.extend(frame(Kind::Part, part)));
                    stream.extend(frame(Kind::End, b""));
                }
            }
        }
        stream.extend(frame(Kind::Bye, b""));
        let (decoded, fault, died) = decode(SETTINGS, &stream, &pieces);
        prop_assert_eq!((fault, died), (None, 0));
        prop_assert!(decoded.iter().eq(messages.iter().map(|(message, _)| message)));
    }

    #[test]
    fn garbage_is_an_error_and_nothing_worse(
        wire in wire(),
        bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'n'), Just(b'\n')], 0..2000),
        frames in 0..4usize,
        pieces in proptest::collection::vec(1..200usize, 1..20),
    ) {
        let stream = [frame(Kind::Message, b"good").repeat(frames), bytes.clone()].concat();
        let settings = Settings { wire, max_message: u64::MAX };
        let one_by_one = decode(settings, &stream, &[1]);
        let (messages, fault, died) = decode(settings, &stream, &pieces);
        if wire == Wire::Raw {
            prop_assert_eq!(messages.concat(), stream);
        } else {
            prop_assert_eq!((&messages, fault.is_some(), died), (&one_by_one.0, one_by_one.1.is_some(), one_by_one.2));
        }
        if wire == Wire::Frames {
            prop_assert!(messages.len() >= frames);
            prop_assert!(fault.is_some() || bytes.is_empty() || bytes[0] == b'n');
        }
    }
}

/// Has memory for so many bytes.
struct Narrow(usize, Vec<u8>);

impl Inbox for Narrow {
    fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        self.1.resize(len, 0);
        (len <= self.0).then_some(&mut self.1[..])
    }
}

#[test]
fn what_there_is_no_memory_for_comes_again() {
    let what = Text::from("unix:x");
    let message = vec![b'x'; BUFFER + 1];
    let frames = [frame(Kind::Message, &message[..100]), frame(Kind::Message, &message)].concat();
    let lines = [&message[..100], b"\n", &message].concat();
    for (wire, bytes) in [(Wire::Frames, frames), (Wire::Lines, lines), (Wire::Raw, message[..100].to_vec())]
    {
        let mut decoder = Decoder::new(Settings { wire, ..SETTINGS }, 2 * BUFFER);
        decoder.space()[..bytes.len()].copy_from_slice(&bytes);
        decoder.filled(bytes.len());
        let mut deliver = |room| {
            let mut inbox = Narrow(room, Vec::new());
            let delivered = match decoder.deliver_next(&what, &mut inbox) {
                Ok(None) => decoder.deliver_last(false, &what, &mut inbox),
                delivered => delivered.unwrap(),
            };
            delivered.map(|delivered| delivered.map(|()| inbox.1))
        };
        for len in [100, message.len()] {
            for room in [10, 11] {
                assert!(matches!(deliver(room), Some(Err(Error::NoSpace { .. }))), "{wire:?}");
            }
            assert_eq!(deliver(len).unwrap().unwrap(), message[..len], "{wire:?}");
            if wire == Wire::Raw {
                break;
            }
        }
        assert!(deliver(1).is_none(), "{wire:?}");
    }
}

#[test]
fn what_the_fuzzer_kept_is_decoded_as_the_format_says() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folders = ["corpus/frames", "regressions/frames"].map(|folder| std::fs::read_dir(fuzz.join(folder)));
    let mut inputs = folders.into_iter().flatten().flatten().map(|entry| entry.unwrap().path()).peekable();
    assert!(inputs.peek().is_some() || !fuzz.exists(), "the corpus was not found");
    inputs.for_each(|path| crate::channel::judge_stream(&std::fs::read(path).unwrap()));
}
