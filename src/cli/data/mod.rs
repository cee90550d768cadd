//! `weir data`: messages from a template, into a file, onto a device's subject, and back onto the screen.

mod faker;
mod functions;
mod generate;
mod json_line;
mod layout;
mod lines;
mod publish;
mod tail;
mod template;

use clap::Subcommand;

use super::failure::Outcome;
use crate::sys::clock::SystemClock;

/// What to do with data.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Render a template into lines of JSON
    #[command(visible_alias = "gen")]
    Generate(generate::GenerateArgs),

    /// Publish each line of a file for a device
    #[command(visible_aliases = ["send", "pub"])]
    Publish(publish::PublishArgs),

    /// Print a device's messages as they come
    #[command(visible_aliases = ["follow", "watch"])]
    Tail(tail::TailArgs),
}

/// Runs one of the data commands.
pub(crate) fn run(command: DataCommand) -> Outcome {
    match command {
        DataCommand::Generate(args) => generate::run(&args, SystemClock::shared()),
        DataCommand::Publish(args) => publish::run(args),
        DataCommand::Tail(args) => tail::run(args),
    }
}
