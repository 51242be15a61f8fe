//! Supplies that run out: each an error that names the supply, nothing left behind, and work goes on afterwards.

use std::process::{Command, Output};

use crate::harness::NARROWS;

/// Runs a shell script; `$N` is the command.
fn shell(wrapper: &[&str], script: &str) -> Output {
    let mut command = Command::new(wrapper.first().unwrap_or(&"timeout"));
    let rest = if wrapper.is_empty() { &["60"][..] } else { &wrapper[1..] };
    command.args(rest).args(["sh", "-c", script]).env("N", NARROWS).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn a_full_dev_shm_is_told_and_what_is_there_goes_on() {
    // A /dev/shm of its own, of 1 MiB; it goes with the last process of the namespace.
    let wrapper = ["timeout", "60", "unshare", "--mount"];
    let trial = shell(&wrapper, "mount -t tmpfs -o size=1m tmpfs /dev/shm");
    if !trial.status.success() {
        println!("SKIPPED: no right to make a mount namespace with unshare(1)");
        return;
    }
    let script = r#"
        mount -t tmpfs -o size=1m tmpfs /dev/shm || exit 99
        $N send shm:small first || exit 90
        head -c 3000000 /dev/zero | $N send shm:small --frame raw; echo "large: $?"
        i=0
        while $N send shm:filler$i x 2>/tmp/narrows-$$; do i=$((i+1)); [ $i -lt 100 ] || exit 91; done
        cat /tmp/narrows-$$; rm /tmp/narrows-$$
        before=$(ls -A /dev/shm | wc -l)
        $N send shm:one.more x; echo "another: $?"
        [ $(ls -A /dev/shm | wc -l) = $before ] || exit 92
        $N recv shm:filler0 -n 1 || exit 93
        $N send shm:one.more x || exit 94
        $N recv shm:small || exit 95
    "#;
    let output = shell(&wrapper, script);
    let text = said(&output);
    assert!(output.status.success(), "{:?}: {text}", output.status);
    for part in ["large: 5", "another: 5", "/dev/shm of 1 MiB", "docker run --shm-size", "first"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn descriptors_and_address_space_that_run_out_are_named() {
    for (limit, part) in [("-n 6", "ulimit -n"), ("-v 2000000", "memory_max")] {
        let name = format!("starving{}", std::process::id());
        let output = shell(&[], &format!("ulimit {limit}; $N send shm:{name} x"));
        assert_eq!(output.status.code(), Some(5), "{}", said(&output));
        assert!(said(&output).contains(part), "{}", said(&output));
        assert!(!std::path::Path::new("/dev/shm").join(name).exists());
    }
}
