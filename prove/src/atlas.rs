//! Addresses as names that the next run understands, and as places in the source.

use std::ffi::c_void;

use anyhow::{Context, Result};

use crate::tracer::Place;

/// Where this process's code lies.
pub(crate) struct Atlas(Vec<Module>);

struct Module {
    name: String,
    start: u64,
    end: u64,
    offset: u64,
}

impl Atlas {
    pub(crate) fn new() -> Result<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps")?;
        Ok(Self(maps.lines().filter_map(module).collect()))
    }

    /// `narrows-prove+0x1234`.
    pub(crate) fn name(&self, address: u64) -> String {
        let module = self.0.iter().find(|module| (module.start..module.end).contains(&address));
        module.map_or_else(
            || format!("{address:#x}"),
            |module| format!("{}+{:#x}", module.name, address - module.start + module.offset),
        )
    }

    /// A place as the next run understands it, and as the source has it.
    pub(crate) fn place(&self, place: Place) -> String {
        format!("{}#{} ({})", self.name(place.address), place.nth, source(place.address))
    }

    /// Whether it is code of this program, and not of a library whose way depends on what was allocated before.
    pub(crate) fn is_ours(&self, address: u64) -> bool {
        let own = source as *const () as u64;
        let holds = |module: &&Module, address| (module.start..module.end).contains(&address);
        self.0.iter().find(|module| holds(module, own)).is_some_and(|module| holds(&module, address))
    }

    pub(crate) fn address(&self, name: &str) -> Result<u64> {
        let (module, offset) = name.split_once("+0x").with_context(|| format!("{name} is no place"))?;
        let offset = u64::from_str_radix(offset, 16)?;
        let holds = |known: &&Module| {
            known.name == module && (known.offset..known.offset + known.end - known.start).contains(&offset)
        };
        let module = self.0.iter().find(holds).with_context(|| format!("{name} is not mapped"))?;
        Ok(module.start + offset - module.offset)
    }
}

fn module(line: &str) -> Option<Module> {
    let mut words = line.split_whitespace();
    let (range, rights, offset) = (words.next()?, words.next()?, words.next()?);
    let path = words.nth(2)?;
    if !rights.contains('x') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text: &str| u64::from_str_radix(text, 16).ok();
    let name = path.rsplit('/').next()?.to_owned();
    Some(Module { name, start: number(start)?, end: number(end)?, offset: number(offset)? })
}

/// The function and the line that an address belongs to.
fn source(address: u64) -> String {
    let mut found = String::new();
    backtrace::resolve(address as *mut c_void, |symbol| {
        if found.is_empty() {
            let line = symbol.lineno().map_or(String::new(), |line| format!(":{line}"));
            let file = symbol.filename().map_or(String::new(), |file| format!(" {}{line}", file.display()));
            found = format!("{}{file}", symbol.name().map_or(String::new(), |name| format!("{name:#}")));
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn landmark() {
        std::hint::black_box(());
    }

    #[test]
    fn a_name_leads_back_to_its_address() {
        let atlas = Atlas::new().unwrap();
        let address = landmark as *const () as u64;
        let name = atlas.name(address);
        assert_eq!(atlas.address(&name).unwrap(), address, "{name}");
    }
}
