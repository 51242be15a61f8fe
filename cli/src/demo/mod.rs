//! `narrows demo`: real data through three mechanisms, processes killed, nothing lost, nothing left.
//!
//! | file | what is there |
//! |---|---|
//! | `race` `stream` | the first act: who starts and measures it, its two processes |
//! | `storm` `traffic` `ledger` | the second: who kills, who is killed, what they write down |
//! | `subject` | the file that is raced with |
//! | `scene` `cast` `board` | names and bounds, processes, memory that outlives them |
//! | `checksum` | of every byte, cheaper than a copy |
//! | `words` `screen` | what is said, and how it is painted |

mod board;
mod cast;
mod checksum;
mod ledger;
mod race;
mod scene;
mod screen;
mod storm;
mod stream;
mod subject;
mod traffic;
mod words;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::output::Output;
use crate::{interrupt, table};
use scene::Scene;
use screen::Line;
use subject::Subject;

const EXAMPLES: &str = "\
Examples:
  narrows demo                    about 12 s
  narrows demo --file video.mkv   race with a file of yours; its first 256 MiB
  narrows demo --json             one object

Exit code 1 where anything was lost, torn or left behind.";

/// See it work: real data through three mechanisms, processes killed, nothing lost
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Race with this file; without it, with this program's own
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// How long each mechanism streams; the killing takes twice as long
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    seconds: f64,
    /// How many processes are killed
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u64).range(1..=5000))]
    kills: u64,
    /// Print one object
    #[arg(long)]
    json: bool,
    /// Also draw what was said as a picture
    #[arg(long, value_name = "PATH", hide = true)]
    svg: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What the demo starts itself for.
#[derive(clap::Subcommand)]
enum Part {
    #[command(hide = true)]
    Near(stream::Args),
    #[command(hide = true)]
    Far(stream::Args),
    #[command(hide = true)]
    Sender(traffic::Args),
    #[command(hide = true)]
    Receiver(traffic::Args),
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=4.0).contains(seconds));
    seconds.ok_or_else(|| "write seconds, from 0.05 to 4".to_owned())
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.part {
        None => play(args),
        Some(part) => act(part),
    }
}

fn act(part: &Part) -> anyhow::Result<()> {
    let (Part::Near(stream::Args { parent, .. })
    | Part::Far(stream::Args { parent, .. })
    | Part::Sender(traffic::Args { parent, .. })
    | Part::Receiver(traffic::Args { parent, .. })) = part;
    cast::follow(*parent)?;
    match part {
        Part::Near(args) => stream::near(args),
        Part::Far(args) => stream::far(args),
        Part::Sender(args) => traffic::send(args),
        Part::Receiver(args) => traffic::receive(args),
    }
}

fn play(args: &Args) -> anyhow::Result<()> {
    let subject = Subject::new(args.file.as_deref())?;
    interrupt::install()?;
    let mut paper = Paper { is_silent: args.json, coloured: table::coloured(), lines: Vec::new() };
    let scene = Scene::new(Output::is_terminal() && !args.json, paper.coloured)?;

    paper.say(words::title())?;
    paper.say(words::race_heading(&subject, args.seconds))?;
    let race = race::run(&scene, &subject.path, args.seconds)?;
    scene.clear();
    paper.say(race::rows(&race).iter().map(words::race_row).collect())?;
    paper.say(words::race_check(&subject, &race))?;

    paper.say(words::storm_heading())?;
    let storm = storm::run(&scene, args.kills, Duration::from_secs_f64(2.0 * args.seconds))?;
    scene.clear();
    paper.say(words::storm_account(&storm))?;

    let left = scene.left()?;
    paper.say(words::leftovers(&left, scene.started()))?;
    paper.say(words::next(&own_name()))?;

    let is_same = race.iter().all(|outcome| outcome.sha256 == subject.sha256);
    if args.json {
        let file = serde_json::json!({
            "path": subject.path.to_string_lossy(), "bytes": subject.len, "sha256": subject.sha256,
        });
        let object = serde_json::json!({
            "file": file, "race": race, "same": is_same, "killing": storm, "leftovers": left,
        });
        Output::text(&format!("{object}\n"))?;
    }
    if let Some(path) = &args.svg {
        let picture = screen::picture("narrows demo", &paper.lines);
        std::fs::write(path, picture).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match () {
        () if !is_same => bail!("a file arrived with other bytes than it has"),
        () if !storm.account.is_clean() => bail!("messages were lost, torn, doubled or out of order"),
        () if !left.is_empty() => bail!("something was left behind; it is removed now"),
        () => Ok(()),
    }
}

/// What was said, as it is said.
struct Paper {
    is_silent: bool,
    coloured: bool,
    lines: Vec<Line>,
}

impl Paper {
    fn say(&mut self, lines: Vec<Line>) -> anyhow::Result<()> {
        if !self.is_silent {
            let text: String = lines.iter().map(|line| line.paint(self.coloured) + "\n").collect();
            Output::text(&text)?;
        }
        self.lines.extend(lines);
        Ok(())
    }
}

/// How the user starts this command again: as it was started now.
fn own_name() -> String {
    if std::env::var_os("CARGO").is_some() {
        let profile = if cfg!(debug_assertions) { "" } else { "--release " };
        return format!("cargo run -q {profile}--");
    }
    let name = std::env::args().next().unwrap_or_default();
    if name.is_empty() { "narrows".to_owned() } else { name }
}
