//! The programs that tests use and that come from the system.

use std::path::Path;
use std::process::Command;

/// Installs what is missing where that is ours to do (as root, or with `CI=true`), else says what is missing.
pub(crate) fn provide(programs: &[&'static str]) {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| !is_there(program)).collect();
    if missing.is_empty() {
        return;
    }
    let packages: Vec<&str> = missing.iter().map(|program| package(program)).collect();
    let is_root = rustix::process::geteuid().is_root();
    if is_root || std::env::var_os("CI").is_some_and(|value| value == "true") {
        let apt = |arguments: &[&str]| {
            let mut command = if is_root { Command::new("apt-get") } else { Command::new("sudo") };
            if !is_root {
                command.args(["-n", "apt-get"]);
            }
            command.env("DEBIAN_FRONTEND", "noninteractive").args(["-qq", "-y"]).args(arguments);
            command.status().is_ok_and(|status| status.success())
        };
        let install: Vec<&str> = ["install", "--no-install-recommends"].into_iter().chain(packages).collect();
        if apt(&install) || (apt(&["update"]) && apt(&install)) {
            return;
        }
    }
    println!("missing: {} (the tests that need them are skipped)", missing.join(", "));
}

fn package(program: &'static str) -> &'static str {
    match program {
        "cc" => "gcc",
        "c++" => "g++",
        program => program,
    }
}

pub(crate) fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| Path::new(&folder).join(program).exists())
}
