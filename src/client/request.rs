//! Requests: one inbox subscription for all of them, a number per request as its last token.
//!
//! A request is open until its [`Replies`] are dropped; answers that come later are thrown away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::connection::Core;
use super::{Client, LONGEST, Message, RequestError};

/// The answers to one request.
pub struct Replies {
    core: Arc<Core>,
    token: u64,
    subject: String,
    timeout: Duration,
    deadline: Instant,
    queue: mpsc::UnboundedReceiver<Message>,
}

pub(super) async fn start(
    client: &Client,
    subject: &str,
    headers: Option<&Bytes>,
    payload: Bytes,
    timeout: Duration,
) -> Result<Replies, RequestError> {
    let core = client.core.clone();
    let (sender, queue) = mpsc::unbounded_channel();
    let (token, inbox) = core.open_request(sender);
    let deadline = Instant::now() + timeout.min(LONGEST);
    let replies = Replies { core, token, subject: subject.to_owned(), timeout, deadline, queue };
    replies.core.publish(subject, Some(&inbox), headers, &payload).await?;
    Ok(replies)
}

impl Replies {
    /// The only answer.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn reply(mut self) -> Result<Message, RequestError> {
        self.next().await
    }

    /// The next answer. The time allowed starts anew with each.
    ///
    /// # Errors
    /// No responders, no answer in time, or the connection broke.
    pub async fn next(&mut self) -> Result<Message, RequestError> {
        let message = match tokio::time::timeout_at(self.deadline, self.queue.recv()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(RequestError::Disconnected),
            Err(_) => {
                return Err(RequestError::Timeout { subject: self.subject.clone(), timeout: self.timeout });
            }
        };
        if message.payload.is_empty() && message.status() == Some(503) {
            return Err(RequestError::NoResponders { subject: self.subject.clone() });
        }
        self.deadline = Instant::now() + self.timeout.min(LONGEST);
        Ok(message)
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.core.close_request(self.token);
    }
}
