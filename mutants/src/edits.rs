//! Text put around pieces of a file, so that what is between stays as it was.

use std::ops::Range;

/// Something that stands before a piece of the text, and something behind it.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) mutant: u32,
    pub(crate) place: Range<usize>,
    pub(crate) before: String,
    pub(crate) behind: String,
}

impl Edit {
    pub(crate) fn around(
        mutant: u32,
        place: Range<usize>,
        before: impl Into<String>,
        behind: impl Into<String>,
    ) -> Self {
        Self { mutant, place, before: before.into(), behind: behind.into() }
    }

    pub(crate) fn at(mutant: u32, offset: usize, text: impl Into<String>) -> Self {
        Self::around(mutant, offset..offset, text, "")
    }
}

/// What is put in at one offset.
struct Part<'a> {
    offset: usize,
    /// First what ends there (the innermost first), then what is put between, then what begins (the outermost first).
    rank: (u8, isize, isize),
    text: &'a str,
    mutant: u32,
}

impl<'a> Part<'a> {
    fn of((order, edit): (usize, &'a Edit)) -> Vec<Self> {
        let (Range { start, end }, order, mutant) = (edit.place.clone(), order as isize, edit.mutant);
        if start == end {
            return vec![Self { offset: start, rank: (1, order, 0), text: &edit.before, mutant }];
        }
        let begins = Self { offset: start, rank: (2, -(end as isize), order), text: &edit.before, mutant };
        let ends = Self { offset: end, rank: (0, -(start as isize), -order), text: &edit.behind, mutant };
        vec![begins, ends]
    }
}

/// A file with its mutants.
pub(crate) struct Mutated {
    pub(crate) text: String,
    /// Where in it each mutant's own text stands.
    regions: Vec<(Range<usize>, u32)>,
}

impl Mutated {
    /// Puts all edits into the text; their places are one inside the other, or apart.
    pub(crate) fn of(source: &str, edits: &[Edit]) -> Self {
        let mut parts: Vec<Part<'_>> = edits.iter().enumerate().flat_map(Part::of).collect();
        parts.sort_by_key(|part| (part.offset, part.rank));
        let (mut text, mut regions, mut done) = (String::new(), Vec::new(), 0);
        for part in parts {
            text.push_str(&source[done..part.offset]);
            done = part.offset;
            regions.push((text.len()..text.len() + part.text.len(), part.mutant));
            text.push_str(part.text);
        }
        text.push_str(&source[done..]);
        Self { text, regions }
    }

    /// Whose text stands there.
    pub(crate) fn culprit(&self, place: &Range<usize>) -> Option<u32> {
        let inside =
            |region: &&(Range<usize>, u32)| region.0.start <= place.start && place.end <= region.0.end;
        self.regions.iter().find(inside).map(|region| region.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_nest() {
        let edits = [
            Edit::around(1, 0..4, "(", ")"),
            Edit::around(2, 0..4, "[", "]"),
            Edit::around(3, 0..1, "<", ">"),
            Edit::at(4, 0, "early "),
            Edit::around(5, 3..4, "{", "}"),
        ];
        let mutated = Mutated::of("a; b", &edits);
        assert_eq!(mutated.text, "early ([<a>; {b}])");
        assert_eq!(mutated.culprit(&(1..3)), Some(4));
        assert_eq!(mutated.culprit(&(9..10)), None);
    }
}
