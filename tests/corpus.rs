//! What the fuzzer kept, and what it broke, without the fuzzer: `fuzz/corpus` and `fuzz/regressions`.
//!
//! The target `frames` is judged beside the decoder, by the library's unit tests.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

#[allow(dead_code, unreachable_pub, reason = "there it is a library, used by the fuzzers")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// No input takes longer, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// Has each input of a target judged.
fn replay(target: &str, judge: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut count = 0;
    for folder in ["corpus", "regressions"] {
        for entry in fs::read_dir(fuzz.join(folder).join(target)).into_iter().flatten() {
            let path = entry.unwrap().path();
            let input = fs::read(&path).unwrap();
            let start = Instant::now();
            if std::panic::catch_unwind(|| judge(&input)).is_err() {
                panic!("{} breaks a promise, see above", path.display());
            }
            assert!(start.elapsed() < PATIENCE, "{} took {:?}", path.display(), start.elapsed());
            count += 1;
        }
    }
    assert!(count >= 10, "the corpus of {target} was not found");
}

#[test]
fn addresses() {
    replay("address", fuzz::address::judge);
}

#[test]
fn segments() {
    replay("segment", fuzz::segment::judge);
}
