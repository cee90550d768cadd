//! How a command reaches the server: `--server URL`, or NATS_URL, or the local one.

use clap::Args;

use super::failure::{Failure, Outcome};
use crate::client::{Client, ConnectError, Options};

/// Which server a command talks to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    /// NATS server, or several equal ones separated by commas
    #[arg(
        long = "server",
        short = 's',
        value_name = "URL",
        env = "NATS_URL",
        hide_env_values = true,
        default_value = "nats://127.0.0.1:4222"
    )]
    url: String,
}

impl ServerArgs {
    /// Connects, and says who could not be reached.
    pub(crate) async fn connect(&self, command: &str) -> Outcome<Client> {
        Client::connect(&self.url, Options::named(&format!("weir {command}"))).await.map_err(|error| {
            match error {
                ConnectError::Url(_) => Failure::new(format!("--server: {error}")),
                ConnectError::Io(_) => Failure::new(format!("server {}: {error}", self.shown()))
                    .hint("`weir serve` starts a server; --server URL or NATS_URL names another one"),
                ConnectError::Protocol { .. } | ConnectError::Refused { .. } => {
                    Failure::new(error.to_string())
                }
            }
        })
    }

    /// The URL without the secrets in it.
    fn shown(&self) -> String {
        let hide = |url: &str| match url.rsplit_once('@') {
            Some((_, place)) => format!("nats://{place}"),
            None => url.to_owned(),
        };
        self.url.split(',').map(hide).collect::<Vec<_>>().join(",")
    }
}
