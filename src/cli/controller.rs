//! The recordings' controller as the commands meet it: a subject that answers requests. It may run in this process or anywhere
//! else on the same NATS.
//!
//! A refusal is a failure of the command, in the controller's words.

use std::time::Duration;

use bytes::Bytes;
use clap::Args;

use super::connection::ServerArgs;
use super::failure::{Failure, Outcome};
use crate::client::{Client, RequestError};
use crate::service::command::{Listed, Request, Response};
use crate::service::session::RecordState;
use crate::service::span;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks at a recording that is ending.
const LOOK: Duration = Duration::from_millis(50);

/// Where the controller is.
#[derive(Debug, Clone, Args)]
pub(crate) struct ControllerArgs {
    /// Subject on which the controller takes commands
    #[arg(long, value_name = "SUBJECT", default_value = "streams.record.cmd")]
    command_subject: String,

    #[command(flatten)]
    server: ServerArgs,
}

/// The controller, as a client sees it.
pub(crate) struct Controller {
    client: Client,
    subject: String,
}

impl ControllerArgs {
    pub(crate) async fn connect(&self) -> Outcome<Controller> {
        let client = self.server.connect("record").await?;
        Ok(Controller::new(client, self.command_subject.clone()))
    }
}

impl Controller {
    /// The controller that answers on `subject`.
    pub(crate) fn new(client: Client, subject: String) -> Self {
        Self { client, subject }
    }

    /// Asks, and takes a refusal as a failure.
    pub(crate) async fn ask(&self, request: &Request) -> Outcome<Response> {
        let body = serde_json::to_vec(request)
            .map_err(|error| Failure::new(format!("the request does not fit JSON: {error}")))?;
        let reply = self.client.request(&self.subject, None, Bytes::from(body), TIMEOUT).await;
        let reply = reply.map_err(|error| match error {
            RequestError::NoResponders { .. } => Failure::new(format!(
                "no controller answers on {} at {}",
                self.subject,
                self.client.address()
            ))
            .hint("`weir serve` runs one; --server names another server, --command-subject another subject"),
            RequestError::Timeout { .. } | RequestError::Disconnected | RequestError::Publish(_) => {
                Failure::new(format!("the controller: {error}"))
            }
        })?;
        let response: Response = serde_json::from_slice(&reply.payload).map_err(|error| {
            Failure::new(format!("the controller's answer on {} is no JSON: {error}", self.subject))
        })?;
        if response.ok { Ok(response) } else { Err(Failure::new(response.message)) }
    }

    /// Every session, page by page.
    pub(crate) async fn sessions(&self, device_id: Option<String>) -> Outcome<Vec<Listed>> {
        let mut sessions = Vec::new();
        loop {
            let request = Request::List { device_id: device_id.clone(), offset: sessions.len(), limit: None };
            let page = self.ask(&request).await?;
            let found = page.sessions.unwrap_or_default();
            let done = found.is_empty();
            sessions.extend(found);
            if done || page.total.is_none_or(|total| sessions.len() >= total) {
                return Ok(sessions);
            }
        }
    }

    /// Waits until somebody's work on a session is done, and says how it ended.
    pub(crate) async fn ended(&self, session_id: &str, limit: Duration) -> Outcome<RecordState> {
        let waited = tokio::time::timeout(limit, async {
            loop {
                let answer = self.ask(&Request::Status { session_id: session_id.to_owned() }).await?;
                let Some(status) = answer.status else {
                    return Err(Failure::new(format!("session {session_id}: the controller told no state")));
                };
                if !status.state.is_active() {
                    return Ok(status);
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        waited.await.unwrap_or_else(|_| {
            Err(Failure::new(format!("session {session_id} is still ending after {}", span::format(limit)))
                .hint(format!("`weir record status {session_id}` shows how far it is")))
        })
    }
}
