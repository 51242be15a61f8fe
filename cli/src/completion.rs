//! `narrows completion`: what a shell needs to complete this command's words.

use clap_complete::Shell;

use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  source <(narrows completion bash)           a line for ~/.bashrc
  narrows completion zsh > ~/.zfunc/_narrows  a directory of $fpath, before compinit
  narrows completion fish > ~/.config/fish/completions/narrows.fish";

/// Print a script by which a shell completes verbs and options
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, mut command: clap::Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    Output::text(&String::from_utf8(script)?)
}
