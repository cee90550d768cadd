//! What the user typed after `weir serve`: words and numbers as they came, defaults in the help text only.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use weir_protocol::duration;

/// Flags of `weir serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Address to listen on for NATS clients
    #[arg(long, short = 'a', value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,

    /// Port for NATS clients; -1 takes a free one and prints it
    #[arg(long, short, value_name = "PORT", default_value_t = 4222, allow_negative_numbers = true)]
    pub port: i64,

    /// Directory that keeps streams, buckets and recordings; without it all data is temporary and removed on a clean stop
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,

    /// Address of the HTTP monitor and API; port 0 takes a free one, `off` starts none
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:5555")]
    pub http: String,

    /// Host name, besides addresses and localhost, under which the HTTP monitor may be addressed; may be given several times
    #[arg(long, value_name = "NAME")]
    pub http_host: Vec<String>,

    /// Origin whose pages may use the HTTP API, such as `https://console.example`; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    pub http_origin: Vec<String>,

    /// Port of the NATS monitoring pages (/healthz, /varz, ...); off unless given, -1 takes a free one
    #[arg(long, short = 'm', value_name = "PORT", allow_negative_numbers = true)]
    pub monitor_port: Option<i64>,

    /// Run the services against this NATS server (2.12 or newer, with JetStream) and start no broker
    #[arg(long, value_name = "URL", conflicts_with_all = ["store", "host", "port", "monitor_port", "name", "ports_file_dir"])]
    pub server: Option<String>,

    /// Name of the server, as clients see it
    #[arg(long, short, value_name = "NAME")]
    pub name: Option<String>,

    /// JetStream is always on; accepted so that commands written for nats-server work
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub jetstream: Option<bool>,

    /// Write the log to this file instead of the standard error
    #[arg(long, short, value_name = "FILE")]
    pub log: Option<PathBuf>,

    /// Write the process id to this file
    #[arg(long, short = 'P', value_name = "FILE")]
    pub pid: Option<PathBuf>,

    /// Write `nats-server_<pid>.ports` with the addresses in use into this directory
    #[arg(long, value_name = "DIR")]
    pub ports_file_dir: Option<PathBuf>,

    /// Send a signal to a running server and end: ldm (leave slowly), quit, term or stop, with its process id or its --pid file
    #[arg(long, value_name = "NAME=PROCESS")]
    pub signal: Option<String>,

    /// Log debugging messages
    #[arg(long, short = 'D', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub debug: bool,

    /// Log protocol traces
    #[arg(long, short = 'V', value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", hide_default_value = true, hide_possible_values = true)]
    pub trace: bool,

    /// What the services are called
    #[command(flatten)]
    pub services: ServiceArgs,
}

/// Flags of the services: monitor, buffer, recorder.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Services")]
pub struct ServiceArgs {
    /// First token(s) of the devices' subjects: messages of a device are on `PREFIX.<device>`
    #[arg(long, value_name = "PREFIX", default_value = "monitor", alias = "monitor-subject")]
    pub monitor_prefix: String,

    /// Subject on which the controller takes commands
    #[arg(long, value_name = "SUBJECT", default_value = "streams.record.cmd")]
    pub command_subject: String,

    /// Bucket with the devices
    #[arg(long, value_name = "BUCKET", default_value = "streams_devices")]
    pub device_bucket: String,

    /// Bucket with the sessions' descriptions
    #[arg(long, value_name = "BUCKET", default_value = "streams_session")]
    pub session_bucket: String,

    /// Bucket with the recordings' states
    #[arg(long, value_name = "BUCKET", default_value = "streams_record_state")]
    pub state_bucket: String,

    /// Bucket with the replays' positions
    #[arg(long, value_name = "BUCKET", default_value = "streams_replay_state")]
    pub replay_bucket: String,

    /// How often buffers are compared with the devices' settings; a change is applied at once where it is seen
    #[arg(long, value_name = "SPAN", default_value = "15s", value_parser = duration::parse, allow_hyphen_values = true)]
    pub buffer_refresh: Duration,

    /// Buffer every device for this long, unless it has its own window
    #[arg(long, value_name = "SPAN", num_args = 0..=1, require_equals = false, default_missing_value = "5m", value_parser = duration::parse)]
    pub default_buffer: Option<Duration>,

    /// Record every device from its first message on
    #[arg(long)]
    pub auto_record: bool,
}
