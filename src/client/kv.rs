//! Key-value buckets: a view of a stream with one subject per key.
//!
//! A key's revision is the sequence of its last message. Deleting writes a marker, so watchers see it.

use bytes::Bytes;
use weir_protocol::header;

use super::jetstream::{
    DeliverPolicy, JetStream, JetStreamError, MessageSelector, OrderedConsumer, OrderedOptions, Purge,
    Storage, StoredMessage, StreamConfig,
};

const OPERATION: &str = "KV-Operation";
const EXPECTED_SEQUENCE: &str = "Nats-Expected-Last-Subject-Sequence";
const DUPLICATE_WINDOW: i64 = 120_000_000_000;

/// A bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bucket {
    jetstream: JetStream,
    name: String,
    stream: String,
    prefix: String,
}

/// How a bucket is made.
#[derive(Clone, Debug)]
pub struct BucketConfig {
    /// Its name: `[A-Za-z0-9_-]+`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Values kept per key, 1 to 64.
    pub history: i64,
    /// Where it is kept.
    pub storage: Storage,
}

impl BucketConfig {
    /// A bucket on file that keeps the last value of each key.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), description: String::new(), history: 1, storage: Storage::File }
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It has a value.
    Put,
    /// It was deleted.
    Delete,
    /// It was deleted with its history.
    Purge,
}

/// A key's state at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value; empty for a deleted key.
    pub value: Bytes,
    /// The revision.
    pub revision: u64,
    /// When it was written, nanoseconds since 1970.
    pub time: i64,
    /// Whether it has a value.
    pub operation: Operation,
}

/// A call on a bucket that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Outside `[-/_=.A-Za-z0-9]`, empty, or with a dot at an end.
    #[error("key {0:?} is not valid: it must be of [-/_=.A-Za-z0-9] without a dot at its ends")]
    Key(String),
    /// Outside `[A-Za-z0-9_-]`, or empty.
    #[error("bucket name {0:?} is not valid: it must be of [A-Za-z0-9_-]")]
    Bucket(String),
    /// The key exists, or has another revision than expected.
    #[error("key {key:?} was changed by somebody else")]
    Conflict {
        /// Which.
        key: String,
    },
    /// The server.
    #[error(transparent)]
    JetStream(#[from] JetStreamError),
}

/// Whether `name` can be a bucket's.
#[must_use]
pub fn is_valid_bucket(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether `key` can be a key.
#[must_use]
pub fn is_valid_key(key: &str) -> bool {
    !key.is_empty()
        && !key.starts_with('.')
        && !key.ends_with('.')
        && !key.contains("..")
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'/' | b'_' | b'=' | b'.'))
}

impl Bucket {
    /// A bucket that exists already, or that is made as `config` says. An existing one is taken as it is.
    ///
    /// # Errors
    /// A bad name, or the server's error.
    pub async fn open_or_create(jetstream: &JetStream, config: &BucketConfig) -> Result<Self, KvError> {
        let bucket = Self::named(jetstream, &config.name)?;
        if jetstream.find_stream(&bucket.stream).await?.is_some() {
            return Ok(bucket);
        }
        let stream = StreamConfig {
            description: config.description.clone(),
            subjects: vec![format!("$KV.{}.>", config.name)],
            storage: config.storage,
            max_msgs_per_subject: config.history,
            duplicate_window: DUPLICATE_WINDOW,
            allow_direct: true,
            deny_delete: true,
            allow_rollup_hdrs: true,
            discard: "new".to_owned(),
            ..StreamConfig::named(&bucket.stream)
        };
        match jetstream.create_stream(&stream).await {
            // Somebody else was faster, with other options: theirs is the bucket.
            Err(error) if error.err_code() == Some(10_058) => Ok(bucket),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(bucket),
        }
    }

    /// A bucket that must exist.
    ///
    /// # Errors
    /// A bad name, or 10059 when there is no such bucket.
    pub async fn open(jetstream: &JetStream, name: &str) -> Result<Self, KvError> {
        let bucket = Self::named(jetstream, name)?;
        jetstream.stream_info(&bucket.stream).await?;
        Ok(bucket)
    }

    fn named(jetstream: &JetStream, name: &str) -> Result<Self, KvError> {
        if !is_valid_bucket(name) {
            return Err(KvError::Bucket(name.to_owned()));
        }
        Ok(Self {
            jetstream: jetstream.clone(),
            name: name.to_owned(),
            stream: format!("KV_{name}"),
            prefix: format!("$KV.{name}."),
        })
    }

    /// The bucket's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn subject(&self, key: &str) -> Result<String, KvError> {
        if !is_valid_key(key) {
            return Err(KvError::Key(key.to_owned()));
        }
        Ok(format!("{}{key}", self.prefix))
    }

    /// The last entry of a key, deleted or not; `None` when there never was one.
    ///
    /// # Errors
    /// A bad key, or the server's error.
    pub async fn entry(&self, key: &str) -> Result<Option<Entry>, KvError> {
        let selector = MessageSelector::last_on(&self.subject(key)?);
        let message = match self.jetstream.direct_get(&self.stream, &selector).await {
            // Somebody made this bucket without direct get.
            Err(error) if error.is_unavailable() => {
                self.jetstream.get_message(&self.stream, &selector).await?
            }
            other => other?,
        };
        Ok(message.and_then(|message| self.read(message)))
    }

    /// The value of a key; `None` when it has none.
    ///
    /// # Errors
    /// As [`entry`](Self::entry).
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, KvError> {
        let entry = self.entry(key).await?.filter(|entry| entry.operation == Operation::Put);
        Ok(entry.map(|entry| entry.value))
    }

    /// Sets a key and returns its revision. Durable when this returns.
    ///
    /// # Errors
    /// A bad key, or the server's error.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        Ok(self.jetstream.publish(&self.subject(key)?, None, value).await?.sequence)
    }

    /// Sets a key that has no value.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it has one; a bad key, or the server's error.
    pub async fn create(&self, key: &str, value: Bytes) -> Result<u64, KvError> {
        match self.update(key, value.clone(), 0).await {
            Err(KvError::Conflict { .. }) => {}
            other => return other,
        }
        // The last entry may be a marker of a deleted key, which has a revision too.
        match self.entry(key).await? {
            Some(entry) if entry.operation != Operation::Put => self.update(key, value, entry.revision).await,
            _ => Err(KvError::Conflict { key: key.to_owned() }),
        }
    }

    /// Sets a key whose last revision is `revision`.
    ///
    /// # Errors
    /// [`KvError::Conflict`] when it is another one; a bad key, or the server's error.
    pub async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, KvError> {
        let headers = header::Builder::new().add_number(EXPECTED_SEQUENCE, revision).finish();
        self.write(key, &headers, value).await
    }

    /// Deletes a key. A key that is not there is deleted all the same.
    ///
    /// # Errors
    /// A bad key, or the server's error.
    pub async fn delete(&self, key: &str) -> Result<(), KvError> {
        let headers = header::Builder::new().add(OPERATION, "DEL").finish();
        self.write(key, &headers, Bytes::new()).await.map(drop)
    }

    /// Deletes a key with its history.
    ///
    /// # Errors
    /// A bad key, or the server's error.
    pub async fn purge(&self, key: &str) -> Result<(), KvError> {
        let headers = header::Builder::new().add(OPERATION, "PURGE").add("Nats-Rollup", "sub").finish();
        self.write(key, &headers, Bytes::new()).await.map(drop)
    }

    /// Removes every trace of a key. Whoever follows the bucket is not told, so it is for keys that nobody follows.
    ///
    /// # Errors
    /// A bad key, or the server's error.
    pub async fn erase(&self, key: &str) -> Result<(), KvError> {
        let purge = Purge { filter: Some(self.subject(key)?), ..Purge::default() };
        Ok(self.jetstream.purge_stream(&self.stream, &purge).await.map(drop)?)
    }

    async fn write(&self, key: &str, headers: &Bytes, value: Bytes) -> Result<u64, KvError> {
        match self.jetstream.publish(&self.subject(key)?, Some(headers), value).await {
            Ok(ack) => Ok(ack.sequence),
            Err(error) if error.is_wrong_last_sequence() => Err(KvError::Conflict { key: key.to_owned() }),
            Err(error) => Err(error.into()),
        }
    }

    /// All keys that have a value, with it, in the order in which they were last written.
    ///
    /// # Errors
    /// The server's error.
    pub async fn entries(&self) -> Result<Vec<Entry>, KvError> {
        let mut reader = self.jetstream.reader(&self.stream, 1, Some(&format!("{}>", self.prefix)));
        let mut last = std::collections::BTreeMap::new();
        loop {
            let batch = reader.next_batch().await?;
            let done = batch.pending == 0;
            for entry in batch.messages.into_iter().filter_map(|message| self.read(message)) {
                last.insert(entry.key.clone(), entry);
            }
            if done {
                break;
            }
        }
        let mut entries: Vec<Entry> =
            last.into_values().filter(|entry| entry.operation == Operation::Put).collect();
        entries.sort_by_key(|entry| entry.revision);
        Ok(entries)
    }

    /// All keys that have a value, sorted.
    ///
    /// # Errors
    /// The server's error.
    pub async fn keys(&self) -> Result<Vec<String>, KvError> {
        let mut keys: Vec<String> = self.entries().await?.into_iter().map(|entry| entry.key).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// The last entry of each key, then every change.
    ///
    /// # Errors
    /// The server's error.
    pub async fn watch(&self) -> Result<Watch, KvError> {
        let options = OrderedOptions {
            deliver: DeliverPolicy::LastPerSubject,
            filter: Some(format!("{}>", self.prefix)),
            headers_only: false,
        };
        let consumer = self.jetstream.ordered_consumer(&self.stream, options).await?;
        let initial = consumer.initial_pending();
        Ok(Watch { bucket: self.clone(), consumer, initial })
    }

    fn read(&self, message: StoredMessage) -> Option<Entry> {
        let key = message.subject.strip_prefix(&self.prefix)?.to_owned();
        let operation = match header::get(&message.headers, OPERATION) {
            Some(b"DEL") => Operation::Delete,
            Some(b"PURGE") => Operation::Purge,
            Some(_) | None => match header::get(&message.headers, "Nats-Marker-Reason") {
                Some(b"MaxAge" | b"Purge") => Operation::Purge,
                Some(_) => Operation::Delete,
                None => Operation::Put,
            },
        };
        Some(Entry { key, value: message.payload, revision: message.sequence, time: message.time, operation })
    }
}

/// The changes of a bucket. See [`Bucket::watch`].
pub struct Watch {
    bucket: Bucket,
    consumer: OrderedConsumer,
    initial: u64,
}

impl Watch {
    /// Entries that were there when the watch began and are still to come; then `next` waits for changes.
    #[must_use]
    pub fn initial_left(&self) -> u64 {
        self.initial
    }

    /// The next entry, deletions included.
    ///
    /// # Errors
    /// When the bucket is gone or the client closed.
    pub async fn next(&mut self) -> Result<Entry, KvError> {
        loop {
            let delivery = self.consumer.next().await?;
            self.initial = self.initial.saturating_sub(1).min(delivery.pending);
            if let Some(entry) = self.bucket.read(delivery.message) {
                return Ok(entry);
            }
        }
    }
}
