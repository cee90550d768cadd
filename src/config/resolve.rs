//! What `weir serve` does: addresses, places and names, checked, with nothing left to decide.
//!
//! Nothing is opened or started here: what is wrong with the flags is said before anything is touched, with the flag, its
//! value and what would be right.

use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_protocol::subject::{is_literal, is_valid_subject, matches};

use super::typed::{ServeArgs, ServiceArgs};
use crate::client::Tcp;
use crate::client::connector::DEFAULT_PORT;
use crate::client::kv::is_valid_bucket;
use crate::service::monitor::HttpConfig;
use crate::service::names::Names;
use crate::service::span;

/// A typed configuration that cannot be meant. Names the flag, the value and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{flag}{}{value}: {reason}", if .value.is_empty() { "" } else { " " })]
pub struct ConfigError {
    flag: &'static str,
    value: String,
    reason: String,
}

fn refuse(flag: &'static str, value: impl ToString, reason: impl Into<String>) -> ConfigError {
    ConfigError { flag, value: value.to_string(), reason: reason.into() }
}

/// What `weir serve` runs.
#[derive(Debug, Clone)]
pub struct Serve {
    /// Where the services' messages go.
    pub broker: Broker,
    /// The HTTP monitor and API. None: not started.
    pub http: Option<HttpConfig>,
    /// Names and habits of the services.
    pub services: Services,
    /// What is logged, and where to.
    pub log: Log,
    /// File that holds the process id while the server runs.
    pub pid_file: Option<PathBuf>,
}

/// The broker behind the services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broker {
    /// The one in this process.
    Embedded {
        /// Host name or address to listen on.
        host: String,
        /// Port to listen on; 0 takes a free one.
        port: u16,
        /// Where the data lives.
        store: Place,
        /// Port of the monitoring pages; 0 takes a free one. None: not started.
        monitor_port: Option<u16>,
        /// Name of the server; None: made up.
        name: Option<String>,
        /// Directory for the file that lists the addresses in use.
        ports_file_dir: Option<PathBuf>,
    },
    /// Another server.
    External {
        /// Its `nats://` address.
        url: String,
    },
}

/// Where data lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a directory that is removed on a clean stop.
    Temporary,
    /// In a directory that stays.
    Directory(PathBuf),
}

/// Names and habits of the services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Services {
    /// Subjects and buckets.
    pub names: Names,
    /// Time between two comparisons of buffers and settings.
    pub buffer_refresh: Duration,
    /// Window of every device that has none of its own.
    pub default_buffer: Option<Duration>,
    /// Whether every device is recorded from its first message on.
    pub auto_record: bool,
}

/// What is logged, and where to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// Debugging messages too.
    pub debug: bool,
    /// Protocol traces too.
    pub trace: bool,
    /// File that takes the log. None: the standard error.
    pub file: Option<PathBuf>,
}

impl Serve {
    /// Checks what was typed.
    ///
    /// # Errors
    /// When a value is outside its limits or two values exclude each other.
    pub fn resolve(typed: ServeArgs) -> Result<Self, ConfigError> {
        if typed.jetstream == Some(false) {
            return Err(refuse(
                "--jetstream",
                "false",
                "buffers and recordings are JetStream streams; leave the flag out",
            ));
        }
        let http = match typed.http.as_str() {
            "off" | "none" => None,
            address => Some(HttpConfig {
                listen: host_and_port("--http", address)?,
                hosts: typed.http_host.iter().map(|name| http_host(name)).collect::<Result<_, _>>()?,
                origins: typed
                    .http_origin
                    .iter()
                    .map(|origin| http_origin(origin))
                    .collect::<Result<_, _>>()?,
                ..HttpConfig::default()
            }),
        };
        let broker = match typed.server {
            Some(url) => Broker::External { url: server_url("--server", &url)? },
            None => Broker::Embedded {
                host: host(&typed.host)?,
                // As with nats-server, 0 is the usual port.
                port: if typed.port == 0 { DEFAULT_PORT } else { port("--port", typed.port)? },
                store: typed
                    .store
                    .map_or(Ok(Place::Temporary), |path| directory("--store", path).map(Place::Directory))?,
                monitor_port: typed
                    .monitor_port
                    .filter(|given| *given != 0)
                    .map(|given| port("--monitor-port", given))
                    .transpose()?,
                name: typed.name.map(server_name).transpose()?,
                ports_file_dir: typed
                    .ports_file_dir
                    .map(|path| existing("--ports-file-dir", path))
                    .transpose()?,
            },
        };
        Ok(Self {
            broker,
            http,
            services: Services::resolve(typed.services)?,
            log: Log { debug: typed.debug, trace: typed.trace, file: typed.log },
            pid_file: typed.pid,
        })
    }
}

impl Default for Services {
    fn default() -> Self {
        Self {
            names: Names::default(),
            buffer_refresh: Duration::from_secs(15),
            default_buffer: None,
            auto_record: false,
        }
    }
}

impl Services {
    fn resolve(typed: ServiceArgs) -> Result<Self, ConfigError> {
        /// The shortest time between two comparisons.
        const REFRESH_MIN: Duration = Duration::from_millis(100);
        if typed.buffer_refresh < REFRESH_MIN {
            return Err(refuse(
                "--buffer-refresh",
                span::format(typed.buffer_refresh),
                "100ms is the shortest",
            ));
        }
        if let Some(window) = typed.default_buffer.filter(|window| *window < REFRESH_MIN) {
            return Err(refuse(
                "--default-buffer",
                span::format(window),
                "100ms is the shortest; leave the flag out for no buffer",
            ));
        }
        let names = Names {
            monitor: typed.monitor_prefix,
            command: typed.command_subject,
            devices: typed.device_bucket,
            sessions: typed.session_bucket,
            record_state: typed.state_bucket,
            replay_state: typed.replay_bucket,
            ..Names::default()
        };
        check_names(&names)?;
        Ok(Self {
            names,
            buffer_refresh: typed.buffer_refresh,
            default_buffer: typed.default_buffer,
            auto_record: typed.auto_record,
        })
    }
}

/// Each name alone, then against the others.
fn check_names(names: &Names) -> Result<(), ConfigError> {
    for (flag, name) in [("--monitor-prefix", &names.monitor), ("--command-subject", &names.command)] {
        if !is_valid_subject(name.as_bytes()) || !is_literal(name.as_bytes()) || name.starts_with('$') {
            let reason = "give a subject: words joined by dots, without spaces, * or >, not beginning with $";
            return Err(refuse(flag, format!("\"{name}\""), reason));
        }
    }
    let buckets = [
        ("--device-bucket", &names.devices),
        ("--session-bucket", &names.sessions),
        ("--state-bucket", &names.record_state),
        ("--replay-bucket", &names.replay_state),
    ];
    for (index, (flag, name)) in buckets.iter().enumerate() {
        if !is_valid_bucket(name) {
            return Err(refuse(
                flag,
                format!("\"{name}\""),
                "a bucket's name has letters, digits, _ and - only",
            ));
        }
        if let Some((other, _)) = buckets.iter().take(index).find(|(_, taken)| taken == name) {
            return Err(refuse(flag, name, format!("{other} has the same name; each bucket needs its own")));
        }
    }
    let devices = names.all_devices_filter();
    let command = &names.command;
    if matches(command.as_bytes(), devices.as_bytes()) || *command == names.monitor {
        let reason = format!("it lies under the devices' subjects {devices}; choose one outside");
        return Err(refuse("--command-subject", command, reason));
    }
    names.check().map_err(|error| refuse("names", "of the services", error.to_string()))
}

/// A port as typed: -1 means a free one.
fn port(flag: &'static str, value: i64) -> Result<u16, ConfigError> {
    if value == -1 {
        return Ok(0);
    }
    u16::try_from(value)
        .map_err(|_| refuse(flag, value, "a port lies between 1 and 65535; -1 takes a free one"))
}

fn host(value: &str) -> Result<String, ConfigError> {
    let value = value.trim();
    if value.is_empty() || value.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(refuse(
            "--host",
            format!("\"{value}\""),
            "give a host name or an address, for example 127.0.0.1",
        ));
    }
    Ok(value.to_owned())
}

/// Checks `HOST:PORT`; a missing host is the loopback.
fn host_and_port(flag: &'static str, value: &str) -> Result<String, ConfigError> {
    let wrong = || refuse(flag, format!("\"{value}\""), "give HOST:PORT, for example 127.0.0.1:5555");
    let (host, port) = value.trim().rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = if host.is_empty() { "127.0.0.1" } else { host };
    if host.contains(|c: char| c.is_whitespace() || c == '/')
        || (host.contains(':') && !host.starts_with('['))
    {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

/// Checks the address of a NATS server, or several of them.
fn server_url(flag: &'static str, value: &str) -> Result<String, ConfigError> {
    Tcp::parse(value).map_err(|error| refuse(flag, "", error.to_string()))?;
    Ok(value.trim().to_owned())
}

fn http_host(name: &str) -> Result<String, ConfigError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '/' || c == ':') {
        return Err(refuse("--http-host", format!("\"{name}\""), "give a host name without scheme and port"));
    }
    Ok(name.to_owned())
}

fn http_origin(origin: &str) -> Result<String, ConfigError> {
    let place = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    if place.is_none_or(|place| place.is_empty() || place.contains(|c: char| c.is_whitespace() || c == '/')) {
        let reason = "give scheme, host and port alone, such as https://console.example";
        return Err(refuse("--http-origin", format!("\"{origin}\""), reason));
    }
    Ok(origin.to_owned())
}

fn existing(flag: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.is_dir() { Ok(path) } else { Err(refuse(flag, path.display(), "there is no such directory")) }
}

fn directory(flag: &'static str, path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().is_empty() {
        return Err(refuse(flag, "\"\"", "give a directory, or leave the flag out for a temporary one"));
    }
    if path.exists() && !path.is_dir() {
        return Err(refuse(flag, path.display(), "this is a file, not a directory"));
    }
    if path.join("$G").join("streams").is_dir() {
        let reason = "this is the JetStream folder of a nats-server; \
             run both and let a stream here mirror or source each of its streams, or copy them with a client";
        return Err(refuse(flag, path.display(), reason));
    }
    Ok(absolute(&path))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn server_name(value: String) -> Result<String, ConfigError> {
    if value.is_empty() || value.contains(char::is_whitespace) {
        return Err(refuse(
            "--name",
            format!("\"{value}\""),
            "a server's name is not empty and has no spaces",
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn resolve(line: &str) -> Result<Serve, String> {
        let words =
            super::super::words::rewrite(format!("weir serve {line}").split_whitespace().map(Into::into));
        let typed = Line::try_parse_from(words.into_iter().filter(|word| word != "serve"));
        Serve::resolve(typed.map_err(|error| error.to_string())?.serve).map_err(|error| error.to_string())
    }

    #[test]
    fn without_flags_everything_is_local_and_temporary() {
        let serve = resolve("").unwrap();
        assert_eq!(
            serve.broker,
            Broker::Embedded {
                host: "127.0.0.1".into(),
                port: 4222,
                store: Place::Temporary,
                monitor_port: None,
                name: None,
                ports_file_dir: None
            }
        );
        assert_eq!(serve.http.map(|http| http.listen).as_deref(), Some("127.0.0.1:5555"));
        assert_eq!(serve.services.names, Names::default());
        assert_eq!(serve.services.buffer_refresh, Duration::from_secs(15));
        assert_eq!(serve.services.default_buffer, None);
    }

    #[test]
    fn flags_of_nats_server_mean_the_same() {
        let serve = resolve("-js -sd /tmp/some -p -1 -a 0.0.0.0 -n one -m 8222 -DV -P /tmp/pid").unwrap();
        assert_eq!(
            serve.broker,
            Broker::Embedded {
                host: "0.0.0.0".into(),
                port: 0,
                store: Place::Directory("/tmp/some".into()),
                monitor_port: Some(8222),
                name: Some("one".into()),
                ports_file_dir: None
            }
        );
        assert_eq!(serve.log, Log { debug: true, trace: true, file: None });
        assert_eq!(serve.pid_file, Some("/tmp/pid".into()));
    }

    #[test]
    fn port_0_means_what_it_means_to_nats_server() {
        let Broker::Embedded { port, monitor_port, .. } = resolve("-p 0 -m 0").unwrap().broker else {
            panic!("a broker")
        };
        assert_eq!((port, monitor_port), (4222, None));
    }

    #[test]
    fn the_default_buffer_is_five_minutes_or_as_said() {
        assert_eq!(
            resolve("--default-buffer").unwrap().services.default_buffer,
            Some(Duration::from_secs(300))
        );
        assert_eq!(
            resolve("--default-buffer 2m").unwrap().services.default_buffer,
            Some(Duration::from_secs(120))
        );
    }

    #[test]
    fn an_external_server_excludes_a_store() {
        let serve = resolve("--server localhost:4333").unwrap();
        assert_eq!(serve.broker, Broker::External { url: "localhost:4333".into() });
        assert!(resolve("--server localhost --store /tmp/x").unwrap_err().contains("--store"));
    }

    #[test]
    fn refusals_name_flag_value_and_limit() {
        for (line, parts) in [
            ("--port 70000", ["--port 70000", "65535"]),
            ("--port -2", ["--port -2", "-1 takes a free one"]),
            ("--http 5555", ["--http \"5555\"", "HOST:PORT"]),
            ("--http ::1:5555", ["--http \"::1:5555\"", "HOST:PORT"]),
            (
                "--http-origin console.example",
                ["--http-origin \"console.example\"", "https://console.example"],
            ),
            ("--http-host a:80", ["--http-host \"a:80\"", "without scheme and port"]),
            ("--jetstream=false", ["--jetstream false", "leave the flag out"]),
            ("--monitor-prefix a.*", ["--monitor-prefix \"a.*\"", "without spaces"]),
            ("--monitor-prefix $SYS", ["--monitor-prefix \"$SYS\"", "not beginning with $"]),
            ("--command-subject a..b", ["--command-subject \"a..b\"", "joined by dots"]),
            ("--command-subject monitor.cmd", ["--command-subject monitor.cmd", "monitor.>"]),
            ("--device-bucket a.b", ["--device-bucket \"a.b\"", "letters, digits"]),
            ("--device-bucket x --state-bucket x", ["--state-bucket x", "--device-bucket has the same"]),
            ("--buffer-refresh 1ms", ["--buffer-refresh 1ms", "100ms"]),
            ("--buffer-refresh 5", ["--buffer-refresh", "'5'"]),
            ("--buffer-refresh -5s", ["'-5s'", "negative"]),
            ("--default-buffer 1ms", ["--default-buffer 1ms", "100ms"]),
            ("--ports-file-dir /no/such", ["--ports-file-dir /no/such", "no such directory"]),
            ("--server a --port 4444", ["--server", "--port"]),
            ("--server a --host b", ["--server", "--host"]),
            ("--server tls://a", ["--server", "tls://a"]),
            ("--store /proc/cpuinfo", ["--store /proc/cpuinfo", "not a directory"]),
        ] {
            let error = resolve(line).expect_err(line);
            for part in parts {
                assert!(error.contains(part), "{line}: {error}");
            }
        }
    }
}
