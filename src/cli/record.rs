//! `weir record`: asks the controller, wherever it runs, and prints its answer.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use weir_protocol::duration;

use super::controller::{Controller, ControllerArgs};
use super::failure::{Failure, Outcome};
use super::{identity, output, task};
use crate::service::command::{Listed, Request, Response, Start};
use crate::service::session::{Session, State};
use crate::service::span;

/// How long a recording may take to end, beyond its post-roll: the controller itself gives up earlier.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub(crate) enum RecordCommand {
    /// Begin a recording, of one device or of all, also in the past
    #[command(visible_alias = "begin")]
    Start(StartArgs),

    /// End a recording, all of a device, or all
    #[command(visible_alias = "end")]
    Stop(StopArgs),

    /// List the recordings
    #[command(visible_alias = "ls")]
    List(ListArgs),

    /// Show what a recording is
    #[command(visible_alias = "info")]
    Show(SessionArgs),

    /// Show how far a recording is
    #[command(visible_alias = "state")]
    Status(SessionArgs),

    /// Delete a recording that does not run
    #[command(visible_alias = "rm")]
    Delete(SessionArgs),

    /// Stop and delete all recordings
    PurgeAll(PurgeArgs),
}

/// Flags of `record start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Device to record; all devices when left out
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: Option<String>,

    /// The device by its subject, such as monitor.dev-1
    #[arg(long, value_name = "SUBJECT", conflicts_with = "device_id")]
    subject: Option<String>,

    /// Id of the recording [default: a UUID]
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,

    /// How far back it reaches; the device's buffer must reach as far
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    pre_roll: Option<Duration>,

    /// How long it goes on after the stop
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    post_roll: Option<Duration>,

    /// Age at which recorded messages are deleted [default: never]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    retention: Option<Duration>,

    /// A note for those who look at it later
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    /// Refuse while the device is being recorded, and keep others from starting
    #[arg(long)]
    exclusive: bool,

    /// Print the controller's answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    controller: ControllerArgs,
}

/// Flags of `record stop`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["session", "session_id", "device_id", "all"])))]
pub(crate) struct StopArgs {
    /// The recording
    #[arg(value_name = "SESSION")]
    session: Option<String>,

    /// The recording
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,

    /// All recordings of this device
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: Option<String>,

    /// All recordings
    #[arg(long)]
    all: bool,

    /// Return at once instead of waiting until the last message is in
    #[arg(long)]
    no_wait: bool,

    /// Print the controller's answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    controller: ControllerArgs,
}

/// Flags of `record list`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only recordings of this device
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: Option<String>,

    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    controller: ControllerArgs,
}

/// Flags of the commands for one recording.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["session", "session_id"])))]
pub(crate) struct SessionArgs {
    /// The recording
    #[arg(value_name = "SESSION")]
    session: Option<String>,

    /// The recording
    #[arg(long, value_name = "ID")]
    session_id: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    controller: ControllerArgs,
}

/// Flags of `record purge-all`.
#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// Do not ask
    #[arg(long, short, alias = "force")]
    yes: bool,

    /// Print the controller's answer as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    controller: ControllerArgs,
}

/// Runs one of the record commands.
pub(crate) fn run(command: RecordCommand) -> Outcome {
    task::block_on(async {
        match command {
            RecordCommand::Start(args) => start(args).await,
            RecordCommand::Stop(args) => stop(args).await,
            RecordCommand::List(args) => list(args).await,
            RecordCommand::Show(args) => show(args).await,
            RecordCommand::Status(args) => status(args).await,
            RecordCommand::Delete(args) => delete(args).await,
            RecordCommand::PurgeAll(args) => purge_all(args).await,
        }
    })
}

fn one_of(session: Option<String>, session_id: Option<String>) -> Outcome<String> {
    let typed = session.or(session_id).unwrap_or_default();
    Ok(identity::session(&typed)?.to_string())
}

async fn start(args: StartArgs) -> Outcome {
    if let Some(device) = &args.device_id {
        identity::device(device)?;
    }
    if let Some(session) = &args.session_id {
        identity::session(session)?;
    }
    let controller = args.controller.connect().await?;
    let request = Request::Start(Start {
        device_id: args.device_id,
        subject: args.subject,
        session_id: args.session_id,
        pre_roll: args.pre_roll,
        post_roll: args.post_roll,
        retention: args.retention,
        note: args.note,
        exclusive: args.exclusive,
    });
    let response = controller.ask(&request).await?;
    answer(&response, args.json)
}

async fn stop(args: StopArgs) -> Outcome {
    let controller = args.controller.connect().await?;
    let session = args.session.or(args.session_id);
    let request = match (&session, &args.device_id) {
        (None, None) => Request::StopAll {},
        _ => Request::Stop { session_id: session.clone(), device_id: args.device_id.clone() },
    };
    // What runs now is what the request will end.
    let running = if args.no_wait {
        Vec::new()
    } else {
        running(&controller, session.as_deref(), args.device_id).await?
    };
    let mut response = controller.ask(&request).await?;
    if !args.json && response.state.is_some_and(State::is_active) && !running.is_empty() {
        // Waiting may take a while, and whoever waits can end it.
        output::remark(&response.message);
    }
    for session in &running {
        let id = session.session_id.as_str();
        let status = controller.ended(id, STOP_TIMEOUT.saturating_add(session.post_roll)).await?;
        if status.state == State::Failed {
            let reason = status.reason.unwrap_or_else(|| "the controller gave no reason".to_owned());
            return Err(Failure::new(format!("session {id} failed: {reason}")));
        }
        if response.session_id.as_deref() == Some(id) {
            response.state = Some(status.state);
        }
        if !args.json {
            output::line(format!(
                "session {id} {}: {}",
                status.state.as_str(),
                output::count(status.message_count, "message")
            ))?;
        }
    }
    if args.json || running.is_empty() { answer(&response, args.json) } else { Ok(()) }
}

/// The sessions on which somebody works now, children of an asked one included.
async fn running(
    controller: &Controller,
    session: Option<&str>,
    device: Option<String>,
) -> Outcome<Vec<Session>> {
    let sessions = controller.sessions(device).await?;
    let meant = |listed: &Listed| {
        let (id, parent) = (&listed.session.session_id, &listed.session.parent);
        session.is_none_or(|asked| {
            id.as_str() == asked || parent.as_ref().is_some_and(|id| id.as_str() == asked)
        })
    };
    let active = |listed: &Listed| listed.state.is_none_or(State::is_active);
    Ok(sessions
        .into_iter()
        .filter(|listed| meant(listed) && active(listed))
        .map(|listed| listed.session)
        .collect())
}

async fn list(args: ListArgs) -> Outcome {
    let controller = args.controller.connect().await?;
    let sessions = controller.sessions(args.device_id.clone()).await?;
    if args.json {
        return sessions.iter().try_for_each(output::record);
    }
    if sessions.is_empty() {
        return output::line(match args.device_id {
            Some(device) => format!("no recordings of device {device}"),
            None => "no recordings".to_owned(),
        });
    }
    let mut table = output::Table::new(&[
        "SESSION", "DEVICE", "STATE", "START", "END", "PRE-ROLL", "DURATION", "MESSAGES",
    ]);
    for Listed { state, session } in sessions {
        table.row([
            session.session_id.to_string(),
            session.device_id.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string),
            state.map_or("starting", State::as_str).to_owned(),
            output::moment(session.start),
            session.end.map(output::moment).unwrap_or_default(),
            pre_roll(&session),
            length(&session),
            session.message_count.to_string(),
        ]);
    }
    table.print()
}

/// How far it reaches back before its start.
fn pre_roll(session: &Session) -> String {
    if session.pre_roll.is_zero() { String::new() } else { span::format(session.pre_roll) }
}

/// From the beginning, pre-roll included, to the end; nothing while it runs.
fn length(session: &Session) -> String {
    let nanos = session.end.map(|end| end.saturating_sub(session.start));
    let span = nanos.and_then(|nanos| u64::try_from(nanos).ok()).map(Duration::from_nanos);
    span.map(|span| {
        let millis = span.saturating_add(session.pre_roll).as_millis();
        span::format(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    })
    .unwrap_or_default()
}

async fn show(args: SessionArgs) -> Outcome {
    let session_id = one_of(args.session, args.session_id)?;
    let controller = args.controller.connect().await?;
    let response = controller.ask(&Request::Show { session_id }).await?;
    let Some(session) = response.session else { return answer(&response, args.json) };
    if args.json {
        return output::record(&session);
    }
    let duration = length(&session);
    let with_pre_roll =
        |text: String| if text.is_empty() { text } else { format!("{text}, the pre-roll included") };
    let number = |value: u64| if value == 0 { String::new() } else { value.to_string() };
    let mut pairs = vec![
        ("session", session.session_id.to_string()),
        ("device", session.device_id.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string)),
        ("parent", session.parent.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("state", response.state.map(State::as_str).unwrap_or_default().to_owned()),
        ("subject", session.subject.clone()),
        ("stream", session.stream.clone()),
        ("start", output::moment(session.start)),
        ("end", session.end.map(output::moment).unwrap_or_default()),
        ("pre-roll", span::format(session.pre_roll)),
        ("duration", if session.pre_roll.is_zero() { duration } else { with_pre_roll(duration) }),
        ("post-roll", span::format(session.post_roll)),
        ("retention", session.retention.map_or_else(|| "for ever".to_owned(), span::format)),
        ("messages", session.message_count.to_string()),
        ("last message", session.last_message_at.map(output::moment).unwrap_or_default()),
        ("first sequence", number(session.start_sequence)),
        ("first live", number(session.first_live_sequence)),
        ("last sequence", session.end_sequence.map(|sequence| sequence.to_string()).unwrap_or_default()),
        ("exclusive", if session.exclusive { "yes".to_owned() } else { String::new() }),
        ("note", session.note.clone()),
    ];
    for device in &session.unrecorded {
        pairs.push(("not recorded", format!("{}: {}", device.device_id, device.reason)));
    }
    for gap in &session.gaps {
        pairs.push(("gap", format!("{} to {}: {}", gap.first_sequence, gap.last_sequence, gap.reason)));
    }
    output::pairs(&pairs)
}

async fn status(args: SessionArgs) -> Outcome {
    let session_id = one_of(args.session, args.session_id)?;
    let controller = args.controller.connect().await?;
    let response = controller.ask(&Request::Status { session_id }).await?;
    let Some(status) = response.status else { return answer(&response, args.json) };
    if args.json {
        return output::record(&status);
    }
    output::pairs(&[
        ("session", status.session_id.to_string()),
        ("device", status.device_id.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string)),
        ("state", status.state.as_str().to_owned()),
        ("reason", status.reason.unwrap_or_default()),
        ("messages", status.message_count.to_string()),
        ("started", output::moment(status.started_at)),
        ("last message", status.last_message_at.map(output::moment).unwrap_or_default()),
        ("stop asked", status.stop_at.map(output::moment).unwrap_or_default()),
        ("updated", output::moment(status.updated_at)),
        ("controller", status.controller),
    ])
}

async fn delete(args: SessionArgs) -> Outcome {
    let session_id = one_of(args.session, args.session_id)?;
    let controller = args.controller.connect().await?;
    let response = controller.ask(&Request::Delete { session_id }).await?;
    answer(&response, args.json)
}

async fn purge_all(args: PurgeArgs) -> Outcome {
    let controller = args.controller.connect().await?;
    if !args.yes {
        let sessions = controller.sessions(None).await?.len() as u64;
        let all = if sessions == 1 {
            "the only recording".to_owned()
        } else {
            format!("all {sessions} recordings")
        };
        if !std::io::stdin().is_terminal() {
            return Err(Failure::new(format!("this would delete {all}")).hint("--yes does it"));
        }
        let mut question = std::io::stderr().lock();
        let asked = write!(question, "Delete {all}? Type yes: ").and_then(|()| question.flush());
        let mut word = String::new();
        let answered = asked.and_then(|()| std::io::stdin().lock().read_line(&mut word));
        answered.map_err(|error| Failure::io("the answer", &error))?;
        if word.trim() != "yes" {
            return Err(Failure::new("nothing was deleted"));
        }
    }
    let response = controller.ask(&Request::PurgeAll {}).await?;
    answer(&response, args.json)
}

/// Prints what the controller said.
fn answer(response: &Response, json: bool) -> Outcome {
    if json {
        return output::record(response);
    }
    let mut text = response.message.clone();
    for part in [
        response.session_id.clone(),
        response.count.filter(|count| *count > 0).map(|count| count.to_string()),
    ]
    .into_iter()
    .flatten()
    {
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
    }
    output::line(text)
}
