//! `mainstay completion`.

use clap::CommandFactory as _;

#[derive(clap::Args)]
pub(super) struct Args {
    /// bash, zsh, fish, elvish or powershell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    clap_complete::generate(args.shell, &mut super::Cli::command(), "mainstay", &mut std::io::stdout());
    Ok(())
}
