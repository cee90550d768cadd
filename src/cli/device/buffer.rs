//! `weir device buffer`: the setting in a device's row, and what has become of it.
//!
//! A setting is a wish; the services make the buffer. `enable` and `disable` wait until it is so, and say what stands in
//! the way when it is not.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;
use weir_protocol::duration;

use super::{AllArgs, DeviceArgs, Devices, OneArgs, StoreArgs, buffer_word, refused};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::client::jetstream::{Storage, StreamInfo};
use crate::service::device::{BufferChange, BufferSetting, DeviceChange};
use crate::service::id::Id;
use crate::service::names::{self, Names};
use crate::service::span;

/// How long `enable` and `disable` wait for the services.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// What to do with buffers.
#[derive(Debug, Subcommand)]
pub(crate) enum BufferCommand {
    /// Keep the last messages of a device
    #[command(visible_alias = "on")]
    Enable(EnableArgs),

    /// Keep no messages of a device
    #[command(visible_alias = "off")]
    Disable(OneArgs),

    /// Show a device's buffer
    #[command(visible_alias = "show")]
    Info(OneArgs),

    /// List all buffers
    #[command(visible_alias = "ls")]
    List(AllArgs),
}

/// Where a buffer lives.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Place {
    /// In memory: gone with a restart.
    Memory,
    /// On disk.
    File,
}

/// Flags of `device buffer enable`.
#[derive(Debug, Args)]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// How long a message stays [default: what it was, or 5m]
    #[arg(long, value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    window: Option<Duration>,

    /// Where it is kept [default: what it was, or memory]
    #[arg(long, value_name = "PLACE")]
    storage: Option<Place>,

    /// Bytes above which the oldest messages go before their time [default: what it was, or 256 MiB]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(i64).range(1..), allow_negative_numbers = true)]
    max_bytes: Option<i64>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Runs one of the buffer commands.
pub(super) async fn run(command: BufferCommand) -> Outcome {
    match command {
        BufferCommand::Enable(args) => enable(args).await,
        BufferCommand::Disable(args) => disable(args).await,
        BufferCommand::Info(args) => info(args).await,
        BufferCommand::List(args) => list(args).await,
    }
}

async fn enable(args: EnableArgs) -> Outcome {
    let id = args.device.id()?;
    let devices = args.store.open().await?;
    let change = BufferChange {
        enabled: Some(true),
        window: args.window,
        storage: args.storage.map(|place| match place {
            Place::Memory => Storage::Memory,
            Place::File => Storage::File,
        }),
        max_bytes: args.max_bytes.map(i64::unsigned_abs),
    };
    if let Some((stream, subject)) = taken(&devices, &id).await? {
        return Err(Failure::new(format!(
            "device {id} cannot be buffered: stream {stream} takes {subject} already"
        ))
        .hint("delete that stream or change its subjects"));
    }
    let buffer = set(&devices, &id, change).await?;
    let wanted = |stream: Option<&StreamInfo>| {
        stream.is_some_and(|stream| {
            stream.config.max_age == span::nanos(buffer.window) && stream.config.storage == buffer.storage
        })
    };
    wait(&devices, &id, wanted).await?;
    if args.json {
        return output::record(&row(&devices, &id).await?);
    }
    output::line(format!(
        "buffer of {id} enabled: the last {}, {}",
        span::format(buffer.window),
        place(buffer.storage)
    ))
}

async fn disable(args: OneArgs) -> Outcome {
    let id = args.device.id()?;
    let devices = args.store.find().await?;
    devices.store.get(&id).await.map_err(|error| refused(&id, error))?;
    set(&devices, &id, BufferChange { enabled: Some(false), ..BufferChange::default() }).await?;
    wait(&devices, &id, |stream| stream.is_none()).await?;
    if args.json {
        return output::record(&row(&devices, &id).await?);
    }
    output::line(format!("buffer of {id} disabled"))
}

/// Changes a setting; returns it as it is then.
async fn set(devices: &Devices, id: &Id, change: BufferChange) -> Outcome<BufferSetting> {
    let change = DeviceChange { buffer: Some(change), ..DeviceChange::default() };
    let device = devices.store.set(id, change).await.map_err(|error| refused(id, error))?;
    Ok(device.buffer.unwrap_or_default())
}

/// Waits until the services have done what the setting says.
async fn wait(devices: &Devices, id: &Id, done: impl Fn(Option<&StreamInfo>) -> bool) -> Outcome {
    let mut stream = None;
    let waited = tokio::time::timeout(PATIENCE, async {
        loop {
            stream = find(devices, id).await?;
            if done(stream.as_ref()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    });
    match waited.await {
        Ok(result) => result,
        Err(_) => Err(unfinished(id, stream.as_ref())),
    }
}

/// What stands in the way of a setting.
fn unfinished(id: &Id, buffer: Option<&StreamInfo>) -> Failure {
    let stored = format!("device {id}: the setting is stored, but after {} s", PATIENCE.as_secs());
    if buffer.is_some() {
        return Failure::new(format!("{stored} the buffer is still as it was")).hint(
            "a buffer that is being recorded changes when its last recording ends; see `weir record list`",
        );
    }
    Failure::new(format!("{stored} there is no buffer"))
        .hint("the services make it: is `weir serve` running against this server?")
}

/// The stream of somebody else that takes a subject of the device, and the subject.
async fn taken(devices: &Devices, id: &Id) -> Outcome<Option<(String, String)>> {
    let own = names::buffer_stream(id);
    for subject in Names::default().device_filters(id) {
        let streams = devices.jetstream.stream_names(Some(&subject)).await;
        let streams = streams.map_err(|error| Failure::new(error.to_string()))?;
        if let Some(stream) = streams.into_iter().find(|stream| *stream != own) {
            return Ok(Some((stream, subject)));
        }
    }
    Ok(None)
}

async fn find(devices: &Devices, id: &Id) -> Outcome<Option<StreamInfo>> {
    let stream = names::buffer_stream(id);
    devices
        .jetstream
        .find_stream(&stream)
        .await
        .map_err(|error| Failure::new(format!("stream {stream}: {error}")))
}

/// A device's buffer: what is wished, and what is there.
#[derive(Debug, Serialize)]
struct Row {
    device_id: Id,
    /// Absent: as the service's default says.
    #[serde(skip_serializing_if = "Option::is_none")]
    setting: Option<BufferSetting>,
    /// Whether there is a buffer.
    active: bool,
    /// Absent: there is no buffer.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamRow>,
    /// Why it is not as it is wished. Absent: it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct StreamRow {
    name: String,
    window: String,
    storage: Storage,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<String>,
}

async fn row(devices: &Devices, id: &Id) -> Outcome<Row> {
    let setting = devices.store.buffer(id).await.map_err(|error| refused(id, error))?;
    let stream = find(devices, id).await?.map(|info| StreamRow {
        window: span::format(Duration::from_nanos(info.config.max_age.unsigned_abs())),
        storage: info.config.storage,
        messages: info.state.messages,
        bytes: info.state.bytes,
        first: info.state.first_ts.filter(|_| info.state.messages > 0).map(output::moment),
        last: info.state.last_ts.filter(|_| info.state.messages > 0).map(output::moment),
        name: info.config.name,
    });
    let wished = setting.as_ref().is_some_and(|setting| setting.enabled);
    let problem = match (wished, &stream) {
        (true, None) => Some(match taken(devices, id).await? {
            Some((stream, subject)) => format!("stream {stream} takes {subject} already"),
            None => "the services have not made it".to_owned(),
        }),
        (false, Some(_)) if setting.is_some() => Some("it goes when its last recording ends".to_owned()),
        _ => None,
    };
    Ok(Row { device_id: id.clone(), setting, active: stream.is_some(), stream, problem })
}

async fn info(args: OneArgs) -> Outcome {
    let id = args.device.id()?;
    let devices = args.store.find().await?;
    devices.store.get(&id).await.map_err(|error| refused(&id, error))?;
    let row = row(&devices, &id).await?;
    if args.json {
        return output::record(&row);
    }
    let mut pairs = vec![("device", id.to_string()), ("buffer", word(&row))];
    if let Some(setting) = row.setting.as_ref().filter(|setting| setting.enabled) {
        pairs.push(("storage", place(setting.storage).to_owned()));
        pairs.push(("limit", format!("{} bytes", setting.max_bytes)));
    }
    pairs.push(("problem", row.problem.clone().unwrap_or_default()));
    if let Some(stream) = &row.stream {
        pairs.extend([
            ("stream", stream.name.clone()),
            ("messages", stream.messages.to_string()),
            ("bytes", stream.bytes.to_string()),
            ("first", stream.first.clone().unwrap_or_default()),
            ("last", stream.last.clone().unwrap_or_default()),
        ]);
    }
    output::pairs(&pairs)
}

async fn list(args: AllArgs) -> Outcome {
    let devices = args.store.find().await?;
    let mut rows = Vec::new();
    for device in devices.store.list() {
        rows.push(row(&devices, &device.device_id).await?);
    }
    if args.json {
        return rows.iter().try_for_each(output::record);
    }
    if rows.is_empty() {
        return output::line("no devices");
    }
    let mut table =
        output::Table::new(&["DEVICE", "BUFFER", "STORAGE", "MESSAGES", "BYTES", "FIRST", "PROBLEM"]);
    for row in rows {
        let number = |of: fn(&StreamRow) -> u64| {
            row.stream.as_ref().map(of).map(|n| n.to_string()).unwrap_or_default()
        };
        table.row([
            row.device_id.to_string(),
            word(&row),
            row.stream.as_ref().map(|stream| place(stream.storage).to_owned()).unwrap_or_default(),
            number(|stream| stream.messages),
            number(|stream| stream.bytes),
            row.stream.as_ref().and_then(|stream| stream.first.clone()).unwrap_or_default(),
            row.problem.unwrap_or_default(),
        ]);
    }
    table.print()
}

/// The window that is wished; else the one that is there by default.
fn word(row: &Row) -> String {
    match (&row.setting, &row.stream) {
        (None, Some(stream)) => format!("{} (default)", stream.window),
        (None, None) => "none".to_owned(),
        (setting, _) => buffer_word(setting.as_ref()),
    }
}

fn place(storage: Storage) -> &'static str {
    match storage {
        Storage::Memory => "in memory",
        Storage::File => "on file",
    }
}
