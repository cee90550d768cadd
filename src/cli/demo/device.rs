//! The devices of the demo: this machine, and a few simulated ones with habits of their own.

use std::f64::consts::TAU;
use std::time::Duration;

use serde_json::{Value, json};

use super::proc::{Machine, Readings};
use crate::sys::random::Random;

/// The id of the device that is this machine.
pub(crate) const MACHINE: &str = "machine";

/// Something that has events to tell at regular times.
pub(crate) struct Device {
    /// Its id.
    pub(crate) id: &'static str,
    /// What it is, for people.
    pub(crate) about: &'static str,
    /// Time between two tellings.
    pub(crate) period: Duration,
    source: Source,
    random: Random,
    told: u64,
}

enum Source {
    Machine(Machine),
    /// A pump: pressure and temperature swing slowly, with noise.
    Pump,
    /// An energy meter: a counter that grows.
    Meter {
        watt_hours: f64,
    },
    /// A door: nothing for a while, then several events at once.
    Door {
        quiet_ticks: u64,
    },
}

/// All devices of the demo. `random` decides what the simulated ones tell.
pub(crate) fn all(random: &Random) -> Vec<Device> {
    let device = |id, about, millis, source| Device {
        id,
        about,
        period: Duration::from_millis(millis),
        source,
        random: random.clone(),
        told: 0,
    };
    vec![
        device(
            MACHINE,
            "this machine: CPU, memory, disk, network",
            100,
            Source::Machine(Machine::new("/proc")),
        ),
        device("pump-1", "a simulated pump", 200, Source::Pump),
        device("meter-1", "a simulated energy meter", 50, Source::Meter { watt_hours: 0.0 }),
        device("door-1", "a simulated door that talks in bursts", 250, Source::Door { quiet_ticks: 0 }),
    ]
}

impl Device {
    /// The events due at `now` (monotonic) as the monitor wants them, each with an id of its own.
    pub(crate) fn events(&mut self, now: Duration) -> Vec<Event> {
        let data = match &mut self.source {
            Source::Machine(machine) => machine_events(&machine.read(now)),
            Source::Pump => {
                let turn = now.as_secs_f64() / 20.0 * TAU;
                let pressure = 2.1 + 0.3 * turn.sin() + noise(&self.random, 0.02);
                let celsius = 31.0 + 6.0 * (turn / 3.0).cos() + noise(&self.random, 0.1);
                vec![(
                    "pump/state",
                    json!({ "pressure_bar": round(pressure, 3), "temperature_c": round(celsius, 2) }),
                )]
            }
            Source::Meter { watt_hours } => {
                let watts = 420.0 + 80.0 * (now.as_secs_f64() / 7.0).sin() + noise(&self.random, 5.0);
                *watt_hours += watts * self.period.as_secs_f64() / 3600.0;
                vec![("meter/power", json!({ "watts": round(watts, 1), "total_wh": round(*watt_hours, 4) }))]
            }
            Source::Door { quiet_ticks } => {
                if *quiet_ticks > 0 {
                    *quiet_ticks -= 1;
                    Vec::new()
                } else {
                    *quiet_ticks = 4 + self.random.below(12);
                    ["unlocked", "opened", "passed", "closed", "locked"]
                        .map(|state| ("door/state", json!({ "state": state })))
                        .into()
                }
            }
        };
        data.into_iter()
            .map(|(symbol, data)| {
                self.told += 1;
                Event {
                    number: self.told,
                    body: json!({
                        "id": event_id(self.id, self.told), "type": "state", "symbol": symbol, "data": data,
                    }),
                }
            })
            .collect()
    }
}

/// An event and its number among those of its device, from 1.
pub(crate) struct Event {
    /// The number.
    pub(crate) number: u64,
    /// The event as the monitor takes it.
    pub(crate) body: Value,
}

/// The id under which an event travels.
fn event_id(device: &str, number: u64) -> String {
    format!("{device}-{number}")
}

/// The number in an event's id; None when it is no id of this device.
pub(crate) fn event_number(device: &str, id: &str) -> Option<u64> {
    id.strip_prefix(device)?.strip_prefix('-')?.parse().ok()
}

/// The events of this machine: what it does not have is absent.
fn machine_events(readings: &Readings) -> Vec<(&'static str, Value)> {
    let mut events = Vec::new();
    if let Some(busy) = readings.cpu_busy {
        events.push(("machine/cpu", json!({ "busy": round(busy, 4) })));
    }
    if let Some(memory) = readings.memory {
        events.push((
            "machine/memory",
            json!({ "total_kib": memory.total_kib, "available_kib": memory.available_kib }),
        ));
    }
    if let Some(disk) = readings.disk {
        events.push((
            "machine/disk",
            json!({ "read_bytes_per_s": disk.in_bytes, "written_bytes_per_s": disk.out_bytes }),
        ));
    }
    if let Some(network) = readings.network {
        events.push((
            "machine/network",
            json!({ "received_bytes_per_s": network.in_bytes, "sent_bytes_per_s": network.out_bytes }),
        ));
    }
    events
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// A value between -`size` and `size`.
fn noise(random: &Random, size: f64) -> f64 {
    let step = u32::try_from(random.below(2001)).unwrap_or_default();
    (f64::from(step) / 1000.0 - 1.0) * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_number_the_events_of_a_device() {
        let mut devices = all(&Random::from_seed(1));
        for device in &mut devices {
            let mut numbers = Vec::new();
            for tick in 1..=40 {
                for event in device.events(device.period * tick) {
                    let id = event.body["id"].as_str().unwrap();
                    assert_eq!(event_number(device.id, id), Some(event.number), "{id}");
                    assert!(event.body["data"].is_object() && event.body["symbol"].is_string());
                    numbers.push(event.number);
                }
            }
            assert!(!numbers.is_empty() || device.id == MACHINE, "{} told nothing", device.id);
            assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "{}", device.id);
        }
        assert_eq!(event_number("pump-1", "pump-1-7"), Some(7));
        assert_eq!(event_number("pump-1", "pump-2-7"), None);
        assert_eq!(event_number("pump-1", "pump-1-x"), None);
    }

    #[test]
    fn the_machine_tells_only_what_it_has() {
        assert!(machine_events(&Readings::default()).is_empty());
        let events = machine_events(&Readings { cpu_busy: Some(0.123_456), ..Readings::default() });
        assert_eq!(events, [("machine/cpu", json!({ "busy": 0.1235 }))]);
    }
}
