//! The command `narrows`: one file per verb.
//!
//! | file | what is there |
//! |---|---|
//! | `send` `recv` | messages, from and to the shell |
//! | `ls` `rm` | what exists, and its removal |
//! | `check` | whether a channel's memory is sound |
//! | `peek` `poke` | plain bytes of shared memory and files |
//! | `mechanisms` | the table of transports |
//! | `bench` (the crate `narrows-bench`) | measurements |
//! | `demo` | all of it at once, for who has never seen it |
//! | `completion` `man` | what shells and man(1) read |
//! | `arguments` `exit` | how every verb reads its words, and how it ends |
//! | `interrupt` `input` `output` | waiting that Ctrl-C ends in order, standard input and output |
//! | `envelope` `table` | messages as JSON, objects as rows |

mod arguments;
mod check;
mod completion;
mod demo;
mod envelope;
mod exit;
mod input;
mod interrupt;
mod ls;
mod man;
mod mechanisms;
mod output;
mod peek;
mod poke;
mod recv;
mod rm;
mod send;
mod table;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

const EXAMPLES: &str = "\
Addresses are SCHEME:NAME[,KEY=VALUE]...; a bare name means shm: (see `narrows mechanisms`).

Examples:
  narrows recv jobs                             print what is sent to shared memory
  narrows send jobs 'rebuild index' 'tidy up'   send two messages
  tail -f app.log | narrows send unix:/run/log  send every line
  narrows ls                                    what exists, and who uses it

Exit codes: 0 done, 1 other failures, 2 usage, 3 not found, 4 no permission, 5 busy or full, \
6 peer gone, 7 mismatch, wrong kind or corrupt, 124 timed out, 130 Ctrl-C. \
A closed standard output is no failure.";

const BENCH_EXAMPLES: &str = "\
Examples:
  narrows bench --quick                        a first look
  narrows bench shm unix --scenario latency    two mechanisms, one kind of scenario
  narrows bench shm --size 4096 --json         one object a line
  narrows bench --goals                        the ratios that narrows is held to";

/// Messages between processes, through every mechanism that Linux has
#[derive(Parser)]
#[command(name = "narrows", version, after_help = EXAMPLES, max_term_width = 110)]
#[command(subcommand_value_name = "COMMAND")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Send(send::Args),
    Recv(recv::Args),
    Ls(ls::Args),
    Rm(rm::Args),
    Check(check::Args),
    Peek(peek::Args),
    Poke(poke::Args),
    Mechanisms(mechanisms::Args),
    /// Measure channels and the machine's floors, between two processes on a core each
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(narrows_bench::cli::Args),
    Demo(demo::Args),
    Completion(completion::Args),
    Man(man::Args),
}

/// The command as people see it: without the parts that verbs start themselves for, and the options of our own tools.
fn shown() -> clap::Command {
    Cli::command().mut_subcommands(|verb| {
        clap::Command::new(verb.get_name().to_owned())
            .about(verb.get_about().cloned().unwrap_or_default())
            .after_help(verb.get_after_help().cloned().unwrap_or_default())
            .args(verb.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
    })
}

fn main() -> ExitCode {
    narrows::guard::install();
    run(Cli::parse().verb).unwrap_or_else(|error| exit::report(&error))
}

fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Send(args) => send::run(&args)?,
        Verb::Recv(args) => recv::run(&args)?,
        Verb::Ls(args) => ls::run(&args)?,
        Verb::Rm(args) => rm::run(&args)?,
        Verb::Check(args) => check::run(&args)?,
        Verb::Peek(args) => peek::run(&args)?,
        Verb::Poke(args) => poke::run(&args)?,
        Verb::Mechanisms(args) => mechanisms::run(&args)?,
        Verb::Demo(args) => demo::run(&args)?,
        Verb::Completion(args) => completion::run(&args, shown())?,
        Verb::Man(args) => man::run(&args, shown())?,
        Verb::Bench(args) => return narrows_bench::cli::run(&args, &["bench"]),
    }
    Ok(ExitCode::SUCCESS)
}
