//! JetStream's API as a client sees it: streams, messages, publishing with acknowledgement, sequential reading.
//!
//! Each call is one request on `$JS.API`; the answer's error keeps the server's number ([`JetStreamError::err_code`]).
//! Configurations pass through [`StreamConfig`], which keeps the fields it does not know, so that an update against a
//! newer server loses nothing.

mod error;
mod ordered;
mod publish;
mod read;
mod types;

use std::time::Duration;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use error::{ApiError, JetStreamError};
pub use ordered::{DeliverPolicy, Delivery, OrderedConsumer, OrderedOptions};
pub use publish::{PendingAck, PubAck};
pub use read::{Batch, MessageSelector, Reader, StoredMessage};
pub use types::{AccountInfo, Mirror, MirrorInfo, Retention, Storage, StreamConfig, StreamInfo, StreamState};

use super::Client;

const API_TIMEOUT: Duration = Duration::from_secs(5);

/// JetStream's API over a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JetStream {
    client: Client,
    timeout: Duration,
}

/// What a purge removes; everything by default.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Purge {
    /// Only messages below this sequence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Only messages whose subject matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// All but the last so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u64>,
}

impl JetStream {
    pub(super) fn new(client: Client) -> Self {
        Self { client, timeout: API_TIMEOUT }
    }

    /// The connection below.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The same API with another time allowed for each answer (default 5 s).
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { client: self.client.clone(), timeout }
    }

    /// One request on `$JS.API.<call>`.
    ///
    /// # Errors
    /// No answer, an answer that is no JSON of the wanted shape, or the server's own error.
    pub async fn call<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T, JetStreamError> {
        let subject = format!("$JS.API.{call}");
        let payload = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let reply = self.client.request(&subject, None, payload, self.timeout).await?;
        error::parse(&subject, &reply.payload)
    }

    /// Use and limits of the account.
    ///
    /// # Errors
    /// As [`call`](Self::call); [`JetStreamError::is_disabled`] when the server has no JetStream.
    pub async fn account_info(&self) -> Result<AccountInfo, JetStreamError> {
        self.call("INFO", &Value::Null).await
    }

    /// Makes a stream. An equal one that exists already is success.
    ///
    /// # Errors
    /// As [`call`](Self::call): 10058 when the name is taken by another configuration, 10065 when subjects overlap.
    pub async fn create_stream(&self, config: &StreamConfig) -> Result<StreamInfo, JetStreamError> {
        self.call(&format!("STREAM.CREATE.{}", config.name), &error::to_json(config)?).await
    }

    /// Changes a stream's configuration.
    ///
    /// # Errors
    /// As [`call`](Self::call): 10059 when there is no such stream.
    pub async fn update_stream(&self, config: &StreamConfig) -> Result<StreamInfo, JetStreamError> {
        self.call(&format!("STREAM.UPDATE.{}", config.name), &error::to_json(config)?).await
    }

    /// Configuration and state of a stream.
    ///
    /// # Errors
    /// As [`call`](Self::call): 10059 when there is no such stream.
    pub async fn stream_info(&self, stream: &str) -> Result<StreamInfo, JetStreamError> {
        self.call(&format!("STREAM.INFO.{stream}"), &Value::Null).await
    }

    /// As [`stream_info`](Self::stream_info); `None` when there is no such stream.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn find_stream(&self, stream: &str) -> Result<Option<StreamInfo>, JetStreamError> {
        match self.stream_info(stream).await {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`stream_info`](Self::stream_info), with every deleted sequence in `state.deleted`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn stream_info_with_deleted(&self, stream: &str) -> Result<StreamInfo, JetStreamError> {
        self.call(&format!("STREAM.INFO.{stream}"), &json!({"deleted_details": true})).await
    }

    /// Deletes a stream with all it holds; false when there was none.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn delete_stream(&self, stream: &str) -> Result<bool, JetStreamError> {
        match self.call::<IgnoredAny>(&format!("STREAM.DELETE.{stream}"), &Value::Null).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes messages and says how many.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn purge_stream(&self, stream: &str, purge: &Purge) -> Result<u64, JetStreamError> {
        #[derive(Deserialize)]
        struct Purged {
            #[serde(default)]
            purged: u64,
        }
        let body = error::to_json(purge)?;
        let Purged { purged } = self.call(&format!("STREAM.PURGE.{stream}"), &body).await?;
        Ok(purged)
    }

    /// The names of all streams, or of those whose subjects meet `subject`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn stream_names(&self, subject: Option<&str>) -> Result<Vec<String>, JetStreamError> {
        #[derive(serde::Deserialize)]
        struct Page {
            total: u64,
            streams: Option<Vec<String>>,
        }
        let mut names = Vec::new();
        loop {
            let page: Page = self.call("STREAM.NAMES", &page_request(names.len(), subject)).await?;
            let found = page.streams.unwrap_or_default();
            let done = found.is_empty();
            names.extend(found);
            if done || names.len() as u64 >= page.total {
                return Ok(names);
            }
        }
    }

    /// All streams, or those whose subjects meet `subject`.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn streams(&self, subject: Option<&str>) -> Result<Vec<StreamInfo>, JetStreamError> {
        #[derive(serde::Deserialize)]
        struct Page {
            total: u64,
            streams: Option<Vec<StreamInfo>>,
        }
        let mut streams = Vec::new();
        loop {
            let page: Page = self.call("STREAM.LIST", &page_request(streams.len(), subject)).await?;
            let found = page.streams.unwrap_or_default();
            let done = found.is_empty();
            streams.extend(found);
            if done || streams.len() as u64 >= page.total {
                return Ok(streams);
            }
        }
    }

    /// One message of a stream, by the message API: always allowed, slower than a direct get.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn get_message(
        &self,
        stream: &str,
        selector: &MessageSelector,
    ) -> Result<Option<StoredMessage>, JetStreamError> {
        read::get(self, stream, selector).await
    }

    /// One message of a stream with `allow_direct`.
    ///
    /// # Errors
    /// As [`call`](Self::call); no responders when the stream does not allow it.
    pub async fn direct_get(
        &self,
        stream: &str,
        selector: &MessageSelector,
    ) -> Result<Option<StoredMessage>, JetStreamError> {
        read::direct_get(self, stream, selector).await
    }

    /// Deletes one message, leaving its bytes to be overwritten later; false when it was not there.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn delete_message(&self, stream: &str, sequence: u64) -> Result<bool, JetStreamError> {
        let body = json!({"seq": sequence, "no_erase": true});
        match self.call::<IgnoredAny>(&format!("STREAM.MSG.DELETE.{stream}"), &body).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.err_code(), Some(10_043 | 10_057)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Publishes and waits until a stream has stored the message.
    ///
    /// # Errors
    /// No stream listens on the subject, the stream refuses, or no answer in time.
    pub async fn publish(
        &self,
        subject: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
    ) -> Result<PubAck, JetStreamError> {
        self.start_publish(subject, headers, payload).await?.ack().await
    }

    /// Publishes and returns the acknowledgement still to come, so that many can be under way. Order is kept.
    ///
    /// # Errors
    /// When the message cannot be sent at all.
    pub async fn start_publish(
        &self,
        subject: &str,
        headers: Option<&Bytes>,
        payload: Bytes,
    ) -> Result<PendingAck, JetStreamError> {
        publish::start(self, subject, headers, payload, self.timeout).await
    }

    /// Reads a stream from `sequence` on in bounded steps; keeps nothing on the server.
    #[must_use]
    pub fn reader(&self, stream: &str, sequence: u64, filter: Option<&str>) -> Reader {
        Reader::new(self.clone(), stream, sequence, filter)
    }

    /// Follows a stream in order over an ephemeral push consumer that is made anew whenever something is missing.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn ordered_consumer(
        &self,
        stream: &str,
        options: OrderedOptions,
    ) -> Result<OrderedConsumer, JetStreamError> {
        OrderedConsumer::start(self.clone(), stream, options).await
    }

    /// The names of a stream's consumers.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn consumer_names(&self, stream: &str) -> Result<Vec<String>, JetStreamError> {
        #[derive(serde::Deserialize)]
        struct Page {
            total: u64,
            consumers: Option<Vec<String>>,
        }
        let mut names = Vec::new();
        loop {
            let call = format!("CONSUMER.NAMES.{stream}");
            let page: Page = self.call(&call, &page_request(names.len(), None)).await?;
            let found = page.consumers.unwrap_or_default();
            let done = found.is_empty();
            names.extend(found);
            if done || names.len() as u64 >= page.total {
                return Ok(names);
            }
        }
    }

    /// Deletes a consumer; false when there was none.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn delete_consumer(&self, stream: &str, consumer: &str) -> Result<bool, JetStreamError> {
        match self.call::<IgnoredAny>(&format!("CONSUMER.DELETE.{stream}.{consumer}"), &Value::Null).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn page_request(offset: usize, subject: Option<&str>) -> Value {
    match subject {
        Some(subject) => json!({"offset": offset, "subject": subject}),
        None => json!({"offset": offset}),
    }
}
