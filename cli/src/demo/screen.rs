//! Lines of coloured words, for a terminal, a pipe, or a picture.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};

/// Cells of the longest bar.
pub(crate) const BAR: usize = 22;
/// A bar's last cell, in eighths.
const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
const FULL: char = '█';

/// What a word is painted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    Plain,
    Bold,
    Dim,
    Good,
    Bad,
    /// The first, second, third of three.
    First,
    Second,
    Third,
}

impl Ink {
    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Bold => Style::new().bold(),
            Self::Dim => Style::new().dimmed(),
            Self::Good => colour(AnsiColor::Green).bold(),
            Self::Bad => colour(AnsiColor::Red).bold(),
            Self::First => colour(AnsiColor::Cyan),
            Self::Second => colour(AnsiColor::Blue),
            Self::Third => colour(AnsiColor::Magenta),
        }
    }

    /// Its name in a picture.
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Bold => "bold",
            Self::Dim => "dim",
            Self::Good => "good",
            Self::Bad => "bad",
            Self::First => "first",
            Self::Second => "second",
            Self::Third => "third",
        }
    }
}

/// A line of words that follow each other.
#[derive(Debug, Clone, Default)]
pub(crate) struct Line(Vec<(String, Ink)>);

impl Line {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Goes on with more words.
    pub(crate) fn with(mut self, ink: Ink, words: impl Into<String>) -> Self {
        self.0.push((words.into(), ink));
        self
    }

    /// Goes on with words that end `width` cells later.
    pub(crate) fn right(self, ink: Ink, width: usize, words: impl AsRef<str>) -> Self {
        let words = words.as_ref();
        let space = " ".repeat(width.saturating_sub(words.chars().count()));
        self.with(Ink::Plain, space).with(ink, words)
    }

    /// Goes on with words and the space up to `width` cells.
    pub(crate) fn left(self, ink: Ink, width: usize, words: impl AsRef<str>) -> Self {
        let words = words.as_ref();
        let space = " ".repeat(width.saturating_sub(words.chars().count()));
        self.with(ink, words).with(Ink::Plain, space)
    }

    /// Goes on with a bar of at most [`BAR`] cells, and the space up to that.
    pub(crate) fn bar(self, ink: Ink, part: f64) -> Self {
        let eighths = (part.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
        let mut bar = FULL.to_string().repeat(eighths / 8);
        if !eighths.is_multiple_of(8) {
            bar.push(EIGHTHS[eighths % 8]);
        }
        self.left(ink, BAR, bar)
    }

    /// The line as text, without space at its end.
    pub(crate) fn paint(&self, coloured: bool) -> String {
        let mut text = String::new();
        let last = self.0.iter().rposition(|(words, _)| !words.trim_end().is_empty());
        for (words, ink) in &self.0[..last.map_or(0, |last| last + 1)] {
            let style = if coloured { ink.style() } else { Style::new() };
            let _ = write!(text, "{style}{words}{style:#}");
        }
        text
    }
}

/// A cell of the picture, in its units.
const CELL: (f64, f64) = (8.4, 19.0);
const MARGIN: f64 = 22.0;
/// Columns of the picture.
const COLUMNS: usize = 80;

/// Its colours, for light and for dark surroundings.
const STYLE: &str = "
  text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace; white-space: pre }
  .paper { fill: #fbfbfa; stroke: #d8dbdf }
  .plain, .bold { fill: #24292f } .dim { fill: #6a737d } .good { fill: #18794e } .bad { fill: #c62a2f }
  .first { fill: #0b7a91 } .second { fill: #3b6fd4 } .third { fill: #9a4fb8 }
  .bold, .good, .bad { font-weight: bold }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #14181d; stroke: #30363d }
    .plain, .bold { fill: #dde3ea } .dim { fill: #8b949e } .good { fill: #4cc38a } .bad { fill: #ff6369 }
    .first { fill: #4cc4dd } .second { fill: #79a8ff } .third { fill: #cf91ea }
  }
";

/// The lines as a picture (SVG). Every word says how wide it is, so that any font keeps the columns.
pub(crate) fn picture(title: &str, lines: &[Line]) -> String {
    let width = CELL.0 * COLUMNS as f64 + 2.0 * MARGIN;
    let height = CELL.1 * lines.len() as f64 + 2.0 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" x=\"0.5\" y=\"0.5\" width=\"{:.0}\" height=\"{:.0}\" rx=\"8\"/>\n",
        escaped(title),
        width - 1.0,
        height - 1.0
    );
    for (row, line) in lines.iter().enumerate() {
        let top = MARGIN + row as f64 * CELL.1;
        let mut column = 0;
        for (words, ink) in &line.0 {
            let start = column + words.chars().take_while(|letter| *letter == ' ').count();
            column += words.chars().count();
            let words = words.trim_matches(' ');
            if !words.is_empty() {
                shape(&mut svg, MARGIN + start as f64 * CELL.0, top, words, *ink);
            }
        }
    }
    svg + "</svg>\n"
}

/// A word, or a bar, which is drawn without the gaps that letters have.
fn shape(svg: &mut String, x: f64, top: f64, words: &str, ink: Ink) {
    let (class, cells) = (ink.class(), words.chars().count() as f64);
    let eighths = |letter| match letter {
        FULL => Some(8),
        _ => EIGHTHS[1..].iter().position(|eighth| *eighth == letter).map(|at| at + 1),
    };
    let _ = match words.chars().map(eighths).sum::<Option<usize>>() {
        Some(eighths) => writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\"/>",
            top + 3.0,
            eighths as f64 / 8.0 * CELL.0,
            CELL.1 - 6.0
        ),
        None => writeln!(
            svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{:.1}\">{}</text>",
            top + 14.0,
            cells * CELL.0,
            escaped(words)
        ),
    };
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_have_eighths_and_a_width() {
        for (part, bar) in
            [(0.0, ""), (0.5, "███████████"), (1.0 / 22.0 / 2.0, "▌"), (2.0, "██████████████████████")]
        {
            let line = Line::new().bar(Ink::First, part).with(Ink::Plain, "|");
            let space = " ".repeat(BAR - bar.chars().count());
            assert_eq!(line.paint(false), format!("{bar}{space}|"));
        }
    }

    #[test]
    fn a_picture_is_well_formed_and_escapes() {
        let line = Line::new().with(Ink::Bold, "<a & b>").with(Ink::Plain, "  ").bar(Ink::First, 0.25);
        let svg = picture("t", &[line.clone(), Line::new()]);
        assert!(svg.contains("&lt;a &amp; b&gt;") && svg.contains("width=\"46.2\""), "{svg}");
        assert_eq!(svg.matches("<text ").count(), svg.matches("</text>").count());
        assert!(
            line.paint(true).contains("\u{1b}[1m<a & b>\u{1b}[0m") && !line.paint(false).contains('\u{1b}')
        );
    }
}
