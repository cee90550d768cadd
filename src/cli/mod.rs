//! The command line: one file per group of commands. A command talks to the server through `client` alone, over the
//! controller's subject, key-value buckets and streams, so it works against any NATS server that the services use.
//!
//! A command that is not built yet is absent. Results go to the standard output, everything else to the standard
//! error, and the exit code is 0 only on success.

mod connection;
mod controller;
mod data;
mod demo;
mod device;
mod failure;
mod identity;
mod log;
mod output;
mod record;
mod replay;
mod serve;
mod signal;
mod stack;
mod task;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::{ServeArgs, words};
use failure::Outcome;

/// A NATS broker for edge devices with monitor, buffer, recordings and replay built in.
#[derive(Debug, Parser)]
#[command(name = "weir", version, subcommand_required = true, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker and the services
    #[command(visible_alias = "run")]
    Serve(Box<ServeArgs>),

    /// Watch it work: this machine as a device, recorded and replayed
    Demo(demo::DemoArgs),

    /// Describe devices and buffer their messages
    #[command(subcommand, visible_alias = "dev")]
    Device(device::DeviceCommand),

    /// Record devices, and look after recordings
    #[command(subcommand, visible_alias = "recordings")]
    Record(record::RecordCommand),

    /// Publish a recording again, with its timing
    #[command(visible_alias = "play")]
    Replay(Box<replay::ReplayArgs>),

    /// Generate messages from a template, publish them, watch them
    #[command(subcommand)]
    Data(data::DataCommand),

    /// Print the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os().peekable();
    if arguments.peek().is_some_and(words::called_nats_server) {
        let mut rest = std::env::args_os().skip(1);
        if rest.any(|word| matches!(word.to_str(), Some("-v" | "--version" | "-version" | "--v"))) {
            return finish(output::line(format!("nats-server: v{}", crate::server::NATS_VERSION)));
        }
    }
    finish(run(Line::parse_from(words::rewrite(arguments)).command))
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_reader_gone() => ExitCode::SUCCESS,
        Err(failure) => {
            output::remark(failure.to_string());
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Serve(args) => serve::run(*args),
        Command::Demo(args) => demo::run(args),
        Command::Device(command) => device::run(command),
        Command::Record(command) => record::run(command),
        Command::Replay(args) => replay::run(*args),
        Command::Data(command) => data::run(command),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Line::command(), "weir", &mut script);
    output::bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Line::command().debug_assert();
    }
}
