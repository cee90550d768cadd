//! What a server is started with. Names and defaults are nats-server's, but for the address: the loopback.
//!
//! Plain values that are checked once, at the start. Where they come from, flags or another program, is not known here.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::sys::clock::{SharedClock, SystemClock};
use crate::sys::net::Place;
use crate::sys::random::Random;

/// Longest time between two PINGs that can be counted with.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. `None`: no socket is opened, connections come in process alone.
    pub listen: Option<Address>,
    /// Where the monitoring pages are served. `None`: they are not.
    pub monitor: Option<Address>,
    /// Streams, consumers, key-value buckets. `None`: core NATS alone.
    pub jetstream: Option<JetStreamConfig>,
    /// The name in INFO; the server's id if there is none.
    pub server_name: Option<String>,
    /// Sizes, counts and times.
    pub limits: Limits,
    /// The clock of everything the server stamps and measures.
    pub clock: SharedClock,
    /// The source of ids and of the choice among queue members.
    pub random: Random,
}

/// A host (name or address) and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// An address, or a name that resolves to one.
    pub host: String,
    /// 0 takes a free port.
    pub port: u16,
}

/// How JetStream is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamConfig {
    /// Where streams are kept.
    pub store: StoreFolder,
    /// Size of a journal file in bytes. 16 MiB; at least twice `max_payload`.
    pub journal_file_bytes: u64,
    /// redb's cache in bytes. 64 MiB.
    pub cache_bytes: usize,
}

/// The folder of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreFolder {
    /// A new one among the system's temporary files, removed on a clean stop.
    Temporary,
    /// This one; made if it is not there, mode 0700.
    Path(PathBuf),
}

/// Sizes in bytes, counts and times that bound what a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time. 65,536.
    pub max_connections: usize,
    /// Subscriptions of one connection; 0 is no limit. 0.
    pub max_subscriptions: usize,
    /// Tokens in the subject of a subscription; 0 is no limit. 0.
    pub max_sub_tokens: usize,
    /// The arguments of a control line. 4,096.
    pub max_control_line: usize,
    /// A message, headers included. 1 MiB; at most `max_pending`.
    pub max_payload: usize,
    /// What may wait to be written to one connection. 64 MiB.
    pub max_pending: usize,
    /// How long writing what waits may take. 10 s.
    pub write_deadline: Duration,
    /// The time between two PINGs. 2 minutes; at most a year.
    pub ping_interval: Duration,
    /// Unanswered PINGs before a connection is stale. 2.
    pub ping_max: u32,
    /// Ended connections that the monitoring remembers. 10,000.
    pub max_closed_clients: usize,
    /// In lame duck mode, the time from the last accepted connection to the last closed one. 2 minutes.
    pub lame_duck_duration: Duration,
    /// The part of it that clients are given before the first is closed. 10 s.
    pub lame_duck_grace_period: Duration,
}

/// A configuration that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {value}: {problem}")]
pub struct ConfigError {
    /// The limit's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Some(Address::loopback(4222)),
            monitor: None,
            jetstream: None,
            server_name: None,
            limits: Limits::default(),
            clock: SystemClock::shared(),
            random: Random::from_system(),
        }
    }
}

impl Default for JetStreamConfig {
    fn default() -> Self {
        Self { store: StoreFolder::Temporary, journal_file_bytes: 16 << 20, cache_bytes: 64 << 20 }
    }
}

impl JetStreamConfig {
    /// The defaults with a store that outlives the server.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { store: StoreFolder::Path(path.into()), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_subscriptions: 0,
            max_sub_tokens: 0,
            max_control_line: 4096,
            max_payload: 1024 * 1024,
            max_pending: 64 * 1024 * 1024,
            write_deadline: Duration::from_secs(10),
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            max_closed_clients: 10_000,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
        }
    }
}

impl Address {
    /// A port of this machine that only this machine reaches; 0 takes a free one.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        Self { host: "127.0.0.1".to_owned(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Place { host: &self.host, port: self.port }.fmt(f)
    }
}

impl Config {
    /// Checks what is not checked by the types.
    ///
    /// # Errors
    /// When a limit has a value that no server could work with.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        let refuse = |name, value: &dyn fmt::Display, problem: String| {
            Err(ConfigError { name, value: value.to_string(), problem })
        };
        if limits.max_payload > limits.max_pending {
            let problem = format!("a message has to fit into max_pending of {} bytes", limits.max_pending);
            return refuse("max_payload", &limits.max_payload, problem);
        }
        // Sizes on the wire have nine digits.
        if limits.max_payload > 999_999_999 {
            return refuse(
                "max_payload",
                &limits.max_payload,
                "999999999 is the largest size the protocol can say".to_owned(),
            );
        }
        if limits.max_control_line == 0 {
            return refuse(
                "max_control_line",
                &0,
                "no control line would be short enough; 4096 is usual".to_owned(),
            );
        }
        if limits.ping_interval.is_zero() {
            return refuse("ping_interval", &"0s", "the time between two PINGs; 2m is usual".to_owned());
        }
        if limits.ping_interval > LONGEST {
            let problem = format!("longer than a year of {} seconds; 2m is usual", LONGEST.as_secs());
            return refuse("ping_interval", &format!("{}s", limits.ping_interval.as_secs()), problem);
        }
        if limits.write_deadline.is_zero() {
            return refuse("write_deadline", &"0s", "no write would be fast enough; 10s is usual".to_owned());
        }
        if let Some(name) = &self.server_name
            && (name.is_empty() || name.contains(char::is_whitespace))
        {
            return refuse(
                "server_name",
                &format!("{name:?}"),
                "a name has no spaces and is not empty".to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_named() {
        type Change = fn(&mut Config);
        let cases: [(Change, &str); 7] = [
            (
                |c| c.limits.max_pending = 10,
                "max_payload 1048576: a message has to fit into max_pending of 10 bytes",
            ),
            (
                |c| (c.limits.max_payload, c.limits.max_pending) = (1_000_000_000, 2_000_000_000),
                "max_payload 1000000000: 999999999 is the largest size the protocol can say",
            ),
            (
                |c| c.limits.max_control_line = 0,
                "max_control_line 0: no control line would be short enough; 4096 is usual",
            ),
            (
                |c| c.limits.ping_interval = Duration::ZERO,
                "ping_interval 0s: the time between two PINGs; 2m is usual",
            ),
            (
                |c| c.limits.ping_interval = Duration::MAX,
                "ping_interval 18446744073709551615s: longer than a year of 31536000 seconds; 2m is usual",
            ),
            (
                |c| c.limits.write_deadline = Duration::ZERO,
                "write_deadline 0s: no write would be fast enough; 10s is usual",
            ),
            (
                |c| c.server_name = Some("a b".to_owned()),
                "server_name \"a b\": a name has no spaces and is not empty",
            ),
        ];
        assert_eq!(Config::default().check(), Ok(()));
        for (change, expected) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().to_string(), expected);
        }
    }
}
