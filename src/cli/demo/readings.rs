//! Readings of this machine in words, as they come by on a subject.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::cli::failure::{Failure, Outcome};
use crate::client::Client;
use crate::client::json::Plain;

/// How long is waited for one reading of each kind.
const PATIENCE: Duration = Duration::from_secs(1);

/// The next reading of each kind on a subject. A kind that this machine does not have is absent.
pub(super) async fn next(client: &Client, subject: &str) -> Outcome<String> {
    let mut messages = client.subscribe(subject).map_err(|error| Failure::new(error.to_string()))?;
    let mut readings: BTreeMap<String, String> = BTreeMap::new();
    let listened = tokio::time::timeout(PATIENCE, async {
        while let Some(message) = messages.next().await {
            let symbol = message.header("X-Monitor-Symbol").unwrap_or_default().to_owned();
            let data = serde_json::from_slice::<Plain>(&message.payload).ok();
            let words = data.and_then(|Plain(data)| words(&symbol, &data));
            let Some(words) = words else { continue };
            // The second reading of a kind means that all kinds have come by.
            if readings.insert(symbol, words).is_some() {
                return;
            }
        }
    });
    // Fewer kinds than usual are waited for in vain, which is no failure.
    let _ = listened.await;
    if readings.is_empty() {
        return Ok("nothing within a second".to_owned());
    }
    Ok(readings.into_values().collect::<Vec<_>>().join(", "))
}

/// One reading for people.
fn words(symbol: &str, data: &Value) -> Option<String> {
    let number = |name: &str| data.get(name).and_then(Value::as_f64);
    const GIB_IN_KIB: f64 = 1_048_576.0;
    match symbol {
        "machine/cpu" => Some(format!("CPU {:.0} % busy", number("busy")? * 100.0)),
        "machine/memory" => {
            let (total, available) = (number("total_kib")?, number("available_kib")?);
            Some(format!(
                "memory {:.1} of {:.1} GiB used",
                (total - available) / GIB_IN_KIB,
                total / GIB_IN_KIB
            ))
        }
        "machine/disk" => Some(format!(
            "disk {} read, {} written",
            rate(number("read_bytes_per_s")?),
            rate(number("written_bytes_per_s")?)
        )),
        "machine/network" => Some(format!(
            "network {} in, {} out",
            rate(number("received_bytes_per_s")?),
            rate(number("sent_bytes_per_s")?)
        )),
        _ => None,
    }
}

/// Bytes per second with a unit that keeps the number short.
fn rate(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{:.1} MB/s", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{:.1} kB/s", bytes / 1e3),
        bytes => format!("{bytes:.0} B/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn readings_are_short() {
        for (symbol, data, text) in [
            ("machine/cpu", json!({"busy": 0.234}), "CPU 23 % busy"),
            (
                "machine/memory",
                json!({"total_kib": 4_194_304, "available_kib": 1_048_576}),
                "memory 3.0 of 4.0 GiB used",
            ),
            (
                "machine/disk",
                json!({"read_bytes_per_s": 0, "written_bytes_per_s": 1_500_000}),
                "disk 0 B/s read, 1.5 MB/s written",
            ),
            (
                "machine/network",
                json!({"received_bytes_per_s": 2_040, "sent_bytes_per_s": 9}),
                "network 2.0 kB/s in, 9 B/s out",
            ),
        ] {
            assert_eq!(words(symbol, &data).as_deref(), Some(text));
        }
        assert_eq!(words("pump/state", &json!({})), None);
        assert_eq!(words("machine/cpu", &json!({"busy": "no"})), None);
    }
}
