//! Where `src/shared` can be broken, and how.
//!
//! | operator | what it does |
//! |---|---|
//! | ordering | a memory ordering is weakened |
//! | comparison | a compare-and-swap replaces whatever it finds |
//! | removal | a statement that touches shared memory is left out: a fence, a wake, a step of a repair |
//! | order | a statement that touches shared memory comes before the one that it follows |
//! | condition | a condition, or a part of one, is always true, or never; so is what a function answers |
//!
//! All mutants stand in one copy of the sources; a switch says which one is on.

mod code;
mod touching;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use quote::ToTokens;

use crate::edits::Edit;

/// Built only for tests or for the model checker.
fn is_left_out(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.meta.to_token_stream().to_string();
        ["test", "loom"]
            .iter()
            .any(|word| condition.contains(word) && !condition.contains(&format!("not ({word})")))
    })
}

/// What is done to a place. First what only a model checker can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operator {
    Ordering,
    Comparison,
    Removal,
    Order,
    Condition,
}

/// One way of breaking one place.
#[derive(Debug, Clone)]
pub(crate) struct Mutant {
    /// From 1 on; 0 is none.
    pub(crate) id: u32,
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) function: String,
    pub(crate) operator: Operator,
    pub(crate) what: String,
}

impl Mutant {
    /// What it is called wherever its line moves to.
    pub(crate) fn key(&self) -> String {
        format!("{} {}: {}", self.file.trim_start_matches("src/shared/"), self.function, self.what)
    }
}

/// All mutants of a tree, and what they change.
#[derive(Default)]
pub(crate) struct Mutants {
    pub(crate) list: Vec<Mutant>,
    pub(crate) edits: BTreeMap<String, Vec<Edit>>,
}

impl Mutants {
    /// Reads `src/shared` and finds every place.
    pub(crate) fn find(root: &Path) -> Result<Self> {
        let folder = "src/shared";
        let mut sources = BTreeMap::new();
        for entry in fs::read_dir(root.join(folder)).context(folder)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.ends_with(".rs") && !name.starts_with("tests") {
                let file = format!("{folder}/{name}");
                sources.insert(file.clone(), fs::read_to_string(root.join(file))?);
            }
        }
        let mut parsed = BTreeMap::new();
        for (file, text) in &sources {
            parsed.insert(file.clone(), syn::parse_file(text).with_context(|| file.clone())?);
        }
        let touching = touching::names(parsed.values());
        let mut all = Self::default();
        for (file, syntax) in &parsed {
            code::collect(file, &sources[file], syntax, &touching, &mut all);
        }
        all.tell_apart();
        Ok(all)
    }

    pub(crate) fn next(&self) -> u32 {
        self.list.len() as u32 + 1
    }

    /// Those that the compiler refuses are no mutants.
    pub(crate) fn without(&mut self, refused: &[u32]) {
        for edits in self.edits.values_mut() {
            edits.retain(|edit| !refused.contains(&edit.mutant));
        }
    }

    /// What is said twice of one function is numbered.
    fn tell_apart(&mut self) {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for mutant in &mut self.list {
            let count = seen.entry(mutant.key()).or_default();
            *count += 1;
            if *count > 1 {
                mutant.what = format!("{} ({count})", mutant.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_models_are_left_out() {
        let item = |text: &str| syn::parse_str::<syn::ItemMod>(text).unwrap();
        for (text, expected) in [
            ("#[cfg(test)] mod tests {}", true),
            ("#[cfg(all(test, not(loom)))] mod tests {}", true),
            ("#[cfg(loom)] mod model {}", true),
            ("#[cfg(not(loom))] mod real {}", false),
            ("mod real {}", false),
        ] {
            assert_eq!(is_left_out(&item(text).attrs), expected, "{text}");
        }
    }
}
