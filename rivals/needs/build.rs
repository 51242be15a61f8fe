//! Looks for what cmake, the C compiler and bindgen will want of this machine.

use std::io::Write;
use std::process::{Command, Stdio};

/// What Aeron's CMakeLists.txt asks for.
const CMAKE: (u32, u32) = (3, 30);
/// Compiles and links if the compiler is there, and the libraries with their headers.
const PROGRAM: &str = "#include <bsd/stdlib.h>\n#include <uuid/uuid.h>\nint main(void) { return 0; }\n";
const LIBRARIES: [&str; 3] = ["-lbsd", "-luuid", "-latomic"];

fn main() {
    println!("cargo::rerun-if-env-changed=PATH");
    println!("cargo::rerun-if-env-changed=CMAKE");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");
    let missing: Vec<String> = [cmake(), compiler(), libclang(), rustfmt()].into_iter().flatten().collect();
    if !missing.is_empty() {
        println!("cargo::error=Aeron cannot be built here: {} (rivals/README.md)", missing.join("; "));
    }
}

fn cmake() -> Option<String> {
    let program = std::env::var_os("CMAKE").unwrap_or_else(|| "cmake".into());
    let said =
        Command::new(&program).arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let found = said.lines().next().and_then(|line| line.strip_prefix("cmake version ")).unwrap_or("none");
    let mut numbers = found.split('.').map_while(|number| number.parse().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let (major, minor) = CMAKE;
    (version < CMAKE).then(|| {
        format!("cmake {major}.{minor} or newer, not {found}: apt install cmake, or pip install cmake")
    })
}

fn compiler() -> Option<String> {
    let builds = |compiler: &str, language: &str| -> std::io::Result<bool> {
        let out = std::env::var("OUT_DIR").unwrap_or_default() + "/needs";
        let mut command = Command::new(compiler);
        command.args(["-x", language, "-", "-o", &out]).args(LIBRARIES);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        if let Some(mut source) = child.stdin.take() {
            source.write_all(PROGRAM.as_bytes())?;
        }
        Ok(child.wait()?.success())
    };
    let is_whole = builds("cc", "c").unwrap_or(false) && builds("c++", "c++").unwrap_or(false);
    (!is_whole).then(|| "cc, c++, libbsd, libuuid: apt install g++ libbsd-dev uuid-dev".to_owned())
}

fn libclang() -> Option<String> {
    clang_sys::load().is_err().then(|| "libclang: apt install libclang-dev".to_owned())
}

fn rustfmt() -> Option<String> {
    let is_there =
        Command::new("rustfmt").arg("--version").output().is_ok_and(|output| output.status.success());
    (!is_there).then(|| "rustfmt: rustup component add rustfmt".to_owned())
}
