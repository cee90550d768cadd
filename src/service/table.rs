//! A bucket whose values are JSON rows of one type, with a copy in memory that follows the bucket.
//!
//! Writes go to the bucket first and reach the copy at once; changes by others reach it through a watch. So decisions that must
//! not race compare revisions at the bucket, and everything else reads the copy. A row that cannot be read is named in the
//! log and left alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::jetstream::JetStream;
use crate::client::kv::{Bucket, BucketConfig, Entry, KvError, Operation};
use crate::sys::task;

const RETRY: Duration = Duration::from_secs(1);

/// See the head of this file. Cheap to clone; the watch ends with the last clone.
pub struct Table<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

struct Inner<T> {
    bucket: Bucket,
    rows: Arc<Rows<T>>,
    follower: JoinHandle<()>,
}

struct Rows<T> {
    map: Mutex<BTreeMap<String, Row<T>>>,
    changed: watch::Sender<u64>,
}

/// A key's last revision and its value, if it has one.
struct Row<T> {
    revision: u64,
    value: Option<T>,
}

/// A call on a table that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The bucket.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The row is there but is no JSON of the right shape.
    #[error("row {key:?} of bucket {bucket} cannot be read: {reason}")]
    Unreadable {
        /// The bucket.
        bucket: String,
        /// The row.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl TableError {
    /// Somebody else wrote the row meanwhile.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kv(KvError::Conflict { .. }))
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl<T: Clone + Serialize + DeserializeOwned + Send + Sync + 'static> Table<T> {
    /// Opens the bucket, makes it if it is not there, and reads all of it.
    ///
    /// # Errors
    /// The server's error.
    pub async fn open(jetstream: &JetStream, name: &str, description: &str) -> Result<Self, TableError> {
        let config = BucketConfig { description: description.to_owned(), ..BucketConfig::named(name) };
        let bucket = Bucket::open_or_create(jetstream, &config).await?;
        let mut follow = bucket.watch().await?;
        let rows = Arc::new(Rows { map: Mutex::new(BTreeMap::new()), changed: watch::Sender::new(0) });
        while follow.initial_left() > 0 {
            let entry = follow.next().await?;
            rows.apply(name, entry);
        }
        let follower = task::spawn({
            let (rows, bucket, jetstream) = (rows.clone(), bucket.clone(), jetstream.clone());
            async move {
                loop {
                    let error = loop {
                        match follow.next().await {
                            Ok(entry) => rows.apply(bucket.name(), entry),
                            Err(error) => break error,
                        }
                    };
                    tracing::warn!(bucket = bucket.name(), %error, "the bucket cannot be followed; trying again");
                    follow = loop {
                        tokio::time::sleep(RETRY).await;
                        if Bucket::open_or_create(&jetstream, &config).await.is_ok()
                            && let Ok(again) = bucket.watch().await
                        {
                            break again;
                        }
                    };
                    rows.start_over();
                }
            }
        });
        Ok(Self { inner: Arc::new(Inner { bucket, rows, follower }) })
    }

    /// Stops following the bucket: the copy stays as it is but for what is written through it.
    pub fn close(&self) {
        self.inner.follower.abort();
    }

    /// The row as it is in the bucket now, with its revision.
    ///
    /// # Errors
    /// The server's error, or a row of another shape.
    pub async fn get(&self, key: &str) -> Result<Option<(T, u64)>, TableError> {
        let Some(entry) = self.inner.bucket.entry(key).await? else { return Ok(None) };
        if entry.operation != Operation::Put {
            return Ok(None);
        }
        let value = serde_json::from_slice(&entry.value).map_err(|error| TableError::Unreadable {
            bucket: self.inner.bucket.name().to_owned(),
            key: key.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some((value, entry.revision)))
    }

    /// The row as the copy has it.
    #[must_use]
    pub fn cached(&self, key: &str) -> Option<T> {
        self.inner.rows.lock().get(key).and_then(|row| row.value.clone())
    }

    /// All rows as the copy has them, by key.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.inner.rows.lock().values().filter_map(|row| row.value.clone()).collect()
    }

    /// Rises with every change of the copy.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.rows.changed.subscribe()
    }

    /// Writes a row that does not exist.
    ///
    /// # Errors
    /// [`TableError::is_conflict`] when it exists; the server's error.
    pub async fn create(&self, key: &str, value: &T) -> Result<u64, TableError> {
        let revision = self.inner.bucket.create(key, json(value)).await?;
        self.inner.rows.set(key, revision, Some(value.clone()));
        Ok(revision)
    }

    /// Writes a row whose last revision is `revision`.
    ///
    /// # Errors
    /// [`TableError::is_conflict`] when it is another one; the server's error.
    pub async fn update(&self, key: &str, value: &T, revision: u64) -> Result<u64, TableError> {
        let revision = self.inner.bucket.update(key, json(value), revision).await?;
        self.inner.rows.set(key, revision, Some(value.clone()));
        Ok(revision)
    }

    /// Reads a row, changes it, writes it back; again when somebody else was faster. `change` says false to leave it as it
    /// is. Returns the row as it is afterwards.
    ///
    /// # Errors
    /// The server's error, or a row of another shape.
    pub async fn modify(
        &self,
        key: &str,
        mut change: impl FnMut(&mut T) -> bool,
    ) -> Result<Option<T>, TableError> {
        loop {
            let Some((mut value, revision)) = self.get(key).await? else { return Ok(None) };
            if !change(&mut value) {
                return Ok(Some(value));
            }
            match self.update(key, &value, revision).await {
                Ok(_) => return Ok(Some(value)),
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Deletes a row with its history.
    ///
    /// # Errors
    /// The server's error.
    pub async fn delete(&self, key: &str) -> Result<(), TableError> {
        self.inner.bucket.purge(key).await?;
        let mut rows = self.inner.rows.lock();
        if let Some(row) = rows.get_mut(key) {
            row.value = None;
        }
        drop(rows);
        self.inner.rows.notify();
        Ok(())
    }
}

impl<T> Rows<T> {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Row<T>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn set(&self, key: &str, revision: u64, value: Option<T>) {
        let mut rows = self.lock();
        if rows.get(key).is_some_and(|row| row.revision >= revision) {
            return;
        }
        rows.insert(key.to_owned(), Row { revision, value });
        drop(rows);
        self.notify();
    }

    /// The bucket was made anew: its revisions begin again.
    fn start_over(&self) {
        self.lock().clear();
        self.notify();
    }
}

impl<T: DeserializeOwned> Rows<T> {
    fn apply(&self, bucket: &str, entry: Entry) {
        let value = match entry.operation {
            Operation::Put => match serde_json::from_slice(&entry.value) {
                Ok(value) => Some(value),
                Err(error) => {
                    tracing::warn!(bucket, key = %entry.key, %error, "a row cannot be read and is passed over");
                    None
                }
            },
            Operation::Delete | Operation::Purge => None,
        };
        self.set(&entry.key, entry.revision, value);
    }
}

fn json<T: Serialize>(value: &T) -> bytes::Bytes {
    #[expect(
        clippy::expect_used,
        reason = "rows are plain structs with string keys, which always become JSON"
    )]
    serde_json::to_vec(value).expect("a row becomes JSON").into()
}
