//! `weir device`: the rows in the device bucket, and through them the buffers. What a row says is done by the services,
//! wherever they run.

mod buffer;

use std::time::Duration;

use clap::{Args, Subcommand};
use weir_protocol::duration;

use super::connection::ServerArgs;
use super::failure::{Failure, Outcome};
use super::{identity, output, task};
use crate::client::jetstream::JetStream;
use crate::service::device::{BufferChange, BufferSetting, Device, DeviceChange, DeviceError, DeviceStore};
use crate::service::id::Id;
use crate::service::span;
use crate::sys::clock::SystemClock;

/// What to do with devices.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Describe a device; fields that are not given stay as they are
    #[command(visible_alias = "update")]
    Set(SetArgs),

    /// Show a device
    #[command(visible_alias = "show")]
    Get(OneArgs),

    /// List the devices
    #[command(visible_alias = "ls")]
    List(AllArgs),

    /// Delete a device's row, and with it its buffer
    #[command(visible_alias = "rm")]
    Delete(OneArgs),

    /// Keep the last minutes of a device
    #[command(subcommand)]
    Buffer(buffer::BufferCommand),
}

/// Where the devices are.
#[derive(Debug, Clone, Args)]
pub(crate) struct StoreArgs {
    /// Bucket with the devices
    #[arg(long, value_name = "BUCKET", default_value = "streams_devices")]
    device_bucket: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// Which device.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["device", "device_id"])))]
pub(crate) struct DeviceArgs {
    /// The device
    #[arg(value_name = "DEVICE")]
    device: Option<String>,

    /// The device
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: Option<String>,
}

impl DeviceArgs {
    fn id(&self) -> Outcome<Id> {
        identity::device(self.device.as_ref().or(self.device_id.as_ref()).map_or("", String::as_str))
    }
}

/// Flags of `device set`.
#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// What it is
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,

    /// Where it is
    #[arg(long, value_name = "TEXT")]
    location: Option<String>,

    /// Whose it is
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,

    /// Window of its buffer, such as 5m; `off` for none
    #[arg(long, value_name = "SPAN", value_parser = parse_window, allow_hyphen_values = true)]
    buffer: Option<Window>,

    /// Print the device as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// A buffer as typed in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Window {
    Off,
    Of(Duration),
}

fn parse_window(text: &str) -> Result<Window, String> {
    if text == "off" {
        return Ok(Window::Off);
    }
    duration::parse(text).map(Window::Of).map_err(|error| format!("{error}; or `off`"))
}

/// Flags of the commands for one device.
#[derive(Debug, Args)]
pub(crate) struct OneArgs {
    #[command(flatten)]
    device: DeviceArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Flags of the commands for all devices.
#[derive(Debug, Args)]
pub(crate) struct AllArgs {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Runs one of the device commands.
pub(crate) fn run(command: DeviceCommand) -> Outcome {
    task::block_on(async {
        match command {
            DeviceCommand::Set(args) => set(args).await,
            DeviceCommand::Get(args) => get(args).await,
            DeviceCommand::List(args) => list(args).await,
            DeviceCommand::Delete(args) => delete(args).await,
            DeviceCommand::Buffer(command) => buffer::run(command).await,
        }
    })
}

/// The rows, over a connection of its own.
struct Devices {
    store: DeviceStore,
    jetstream: JetStream,
}

impl StoreArgs {
    /// The rows there are; a command that only looks makes no bucket.
    async fn find(&self) -> Outcome<Devices> {
        let jetstream = self.server.connect("device").await?.jetstream();
        let bucket = &self.device_bucket;
        let stream = jetstream.find_stream(&format!("KV_{bucket}")).await;
        if stream.map_err(|error| Failure::new(format!("bucket {bucket}: {error}")))?.is_none() {
            return Err(Failure::new(format!("there is no bucket {bucket}"))
                .hint("`weir serve` makes it with its services, `weir device set` with the first device"));
        }
        self.open_on(jetstream).await
    }

    /// The rows; makes the bucket when there is none.
    async fn open(&self) -> Outcome<Devices> {
        let jetstream = self.server.connect("device").await?.jetstream();
        self.open_on(jetstream).await
    }

    async fn open_on(&self, jetstream: JetStream) -> Outcome<Devices> {
        let store = DeviceStore::open(&jetstream, &self.device_bucket, SystemClock::shared())
            .await
            .map_err(|error| Failure::new(format!("bucket {}: {error}", self.device_bucket)))?;
        Ok(Devices { store, jetstream })
    }
}

async fn set(args: SetArgs) -> Outcome {
    let id = args.device.id()?;
    let nothing = args.description.is_none()
        && args.location.is_none()
        && args.owner.is_none()
        && args.buffer.is_none();
    if nothing {
        return Err(refused(&id, DeviceError::NothingToSet));
    }
    let devices = args.store.open().await?;
    let buffer = args.buffer.map(|window| match window {
        Window::Off => BufferChange { enabled: Some(false), ..BufferChange::default() },
        Window::Of(window) => BufferChange { window: Some(window), ..BufferChange::default() },
    });
    let change =
        DeviceChange { description: args.description, location: args.location, owner: args.owner, buffer };
    let device = devices.store.set(&id, change).await.map_err(|error| refused(&id, error))?;
    if args.json { output::record(&device) } else { show(&device) }
}

async fn get(args: OneArgs) -> Outcome {
    let id = args.device.id()?;
    let devices = args.store.find().await?;
    let device = devices.store.get(&id).await.map_err(|error| refused(&id, error))?;
    if args.json { output::record(&device) } else { show(&device) }
}

async fn list(args: AllArgs) -> Outcome {
    let devices = args.store.find().await?.store.list();
    if args.json {
        return devices.iter().try_for_each(output::record);
    }
    if devices.is_empty() {
        return output::line("no devices");
    }
    let mut table = output::Table::new(&["DEVICE", "BUFFER", "DESCRIPTION", "LOCATION", "OWNER", "UPDATED"]);
    for device in devices {
        table.row([
            device.device_id.to_string(),
            buffer_word(device.buffer.as_ref()),
            device.description,
            device.location,
            device.owner,
            device.updated.map(output::moment).unwrap_or_default(),
        ]);
    }
    table.print()
}

async fn delete(args: OneArgs) -> Outcome {
    let id = args.device.id()?;
    let devices = args.store.find().await?;
    devices.store.delete(&id).await.map_err(|error| refused(&id, error))?;
    if args.json {
        output::record(&serde_json::json!({ "device_id": id, "deleted": true }))
    } else {
        output::line(format!("device {id} deleted"))
    }
}

fn show(device: &Device) -> Outcome {
    let mut pairs = vec![
        ("device", device.device_id.to_string()),
        ("description", device.description.clone()),
        ("location", device.location.clone()),
        ("owner", device.owner.clone()),
        ("buffer", buffer_word(device.buffer.as_ref())),
        ("updated", device.updated.map(output::moment).unwrap_or_default()),
    ];
    pairs.extend(device.other.iter().map(|(name, value)| (name.as_str(), value.to_string())));
    output::pairs(&pairs)
}

/// The window, `disabled`, or nothing when the row does not say.
fn buffer_word(setting: Option<&BufferSetting>) -> String {
    match setting {
        Some(setting) if setting.enabled => span::format(setting.window),
        Some(_) => "disabled".to_owned(),
        None => String::new(),
    }
}

fn refused(id: &Id, error: DeviceError) -> Failure {
    match error {
        DeviceError::NothingToSet => Failure::new(format!("device {id}: {error}"))
            .hint("--description, --location, --owner and --buffer set fields"),
        DeviceError::Unknown(_) => {
            Failure::new(error.to_string()).hint("`weir device list` shows the devices")
        }
        DeviceError::OtherCase { .. } => Failure::new(error.to_string()),
        DeviceError::Buffer(_) | DeviceError::Table(_) => Failure::new(format!("device {id}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_a_window_or_off() {
        assert_eq!(parse_window("off"), Ok(Window::Off));
        assert_eq!(parse_window("2m"), Ok(Window::Of(Duration::from_secs(120))));
        assert!(parse_window("soon").unwrap_err().contains("or `off`"));
        assert_eq!(buffer_word(None), "");
        let on = BufferSetting { window: Duration::from_secs(120), ..BufferSetting::default() };
        assert_eq!(buffer_word(Some(&on)), "2m");
        assert_eq!(buffer_word(Some(&BufferSetting { enabled: false, ..on })), "disabled");
    }
}
