//! What addresses parse to, print as, and are refused with.

use super::*;
use proptest::prelude::*;

fn text_of(error: Error) -> String {
    error.to_string()
}

#[test]
fn a_bare_name_is_shared_memory() {
    let address: Address = "a-b.c_9".parse().unwrap();
    assert_eq!((address.scheme(), address.to_string().as_str()), (Scheme::Shm, "shm:a-b.c_9"));
    assert!("-".parse::<Address>().is_err());
}

#[test]
fn every_refusal_says_what_to_write() {
    for (text, hint) in [
        ("shm:a/b/c", "shm:a.b.c"),
        ("shn:x", "did you mean shm:?"),
        ("gopher:x", "the schemes are shm: file:"),
        ("/tmp", "file:, fifo: or unix: before a path"),
        ("/etc/passwd", "file:/etc/passwd"),
        ("shm:", "write shm:NAME"),
        ("shm:sem.x", "choose another name"),
        ("shm:a,capacity", "key=value"),
        ("shm:a,x=1,x=2", "stands twice"),
        ("shm:a%2", "%25"),
        ("shm:a,Capacity=1", "lower-case"),
        ("fd:x", "number"),
        ("a b", "write shm:a%20b"),
    ] {
        let error = text_of(text.parse::<Address>().unwrap_err());
        assert!(error.contains(hint), "{text}: {error}");
    }
    let long = format!("shm:{}", "x".repeat(256));
    assert!(text_of(long.parse::<Address>().unwrap_err()).contains("255"));
    let address: Address = "shm:a,capactiy=4".parse().unwrap();
    let error = text_of(address.check_options(["capacity", "mode"].into_iter()).unwrap_err());
    assert!(error.contains("did you mean capacity=?"), "{error}");
}

#[test]
fn paths_become_absolute_and_abstract_names_do_not() {
    let here = std::env::current_dir().unwrap();
    let file = "file:./x/./y".parse::<Address>().unwrap().absolute().unwrap();
    assert_eq!(file.to_string(), format!("file:{}/x/y", here.display()));
    let socket = "unix:@x".parse::<Address>().unwrap().absolute().unwrap();
    assert_eq!(socket.to_string(), "unix:@x");
    let named = "unix:./@x".parse::<Address>().unwrap().absolute().unwrap();
    assert_eq!(named.path(), here.join("@x"));
}

#[test]
fn what_would_print_too_long_is_refused_and_any_path_is_not() {
    let path = vec![0xff; 4095];
    let longest = Address::new(Scheme::File, OsStr::from_bytes(&path)).unwrap();
    assert_eq!(longest.to_string().parse::<Address>().unwrap(), longest);
    let grows = format!("memfd:,x={}", "?".repeat(ADDRESS_MAX / 2));
    let built = longest.clone().with("x", "?".repeat(ADDRESS_MAX / 2));
    for refused in [grows.parse::<Address>(), built, "x".repeat(ADDRESS_MAX + 1).parse()] {
        let error = text_of(refused.unwrap_err());
        assert!(error.contains("longer than 16384 bytes") && error.len() < 100, "{error}");
    }
    for (scheme, len) in [("fifo", 4095), ("unix", 107)] {
        let relative: Address = format!("{scheme}:{}", "x".repeat(len)).parse().unwrap();
        let error = text_of(relative.absolute().unwrap_err());
        assert!(error.contains("has at most"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(
        scheme in 0..Scheme::ALL.len(),
        name in proptest::collection::vec(1u8.., 1..60),
        options in proptest::collection::btree_map("[a-z0-9_]{1,8}", ".{0,12}", 0..4),
    ) {
        if let Ok(mut address) = Address::new(Scheme::ALL[scheme], OsStr::from_bytes(&name)) {
            for (key, value) in &options {
                address = address.with(key, value).unwrap();
            }
            let text = address.to_string();
            prop_assert!(!text.chars().any(|c| c.is_whitespace() || "?&*$;|<>'\"`".contains(c)), "{}", text);
            prop_assert_eq!(text.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,80}") {
        if let Ok(address) = text.parse::<Address>() {
            prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
        }
    }
}
