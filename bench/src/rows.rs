//! The rows of the table, each with its goal against nats-server [`PEER`] and what it measures.
//!
//! A row gives one or several lines. The order is that of the table; ids are what `--rows` chooses by.

use crate::consume::{Consume, How};
use crate::flow::Flow;
use crate::footprint::{Binary, Memory, Start, Written};
use crate::lab::Measure;
use crate::latency::RequestReply;
use crate::sample::Metric;
use crate::shape::{SHAPES, Shape};
use crate::stream::{Publish, Way};

/// The version of nats-server that the goals are set against.
pub(crate) const PEER: &str = "2.14.5";
/// Messages in the store of the row `start` that its goal is set for.
pub(crate) const STORED: u64 = 10_000_000;

/// What a line is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// First server over the other, at least.
    Ratio(f64),
    /// First server over the other, at most.
    Share(f64),
    /// The first server's own figure, at most.
    Value(f64),
}

/// One line of the table.
pub(crate) struct Line {
    pub(crate) title: String,
    pub(crate) metric: Metric,
    pub(crate) goal: Option<Goal>,
}

/// One measurement.
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) lines: Vec<Line>,
    /// The server's processor time per message, first server over the other, at most.
    pub(crate) cpu_goal: Option<f64>,
    pub(crate) measure: Box<dyn Measure>,
}

impl Row {
    fn new(id: impl Into<String>, measure: impl Measure + 'static) -> Self {
        Self { id: id.into(), lines: Vec::new(), cpu_goal: None, measure: Box::new(measure) }
    }

    fn line(mut self, title: impl Into<String>, metric: Metric, goal: impl Into<Option<Goal>>) -> Self {
        self.lines.push(Line { title: title.into(), metric, goal: goal.into() });
        self
    }

    /// The goals are those of Weir against nats-server [`PEER`]: other pairs have none.
    pub(crate) fn forget_goals(&mut self) {
        self.cpu_goal = None;
        for line in &mut self.lines {
            line.goal = None;
        }
    }
}

/// Every row; `stored` messages are in the store of the row `start`.
fn all(stored: u64) -> Vec<Row> {
    let mut rows = core();
    rows.push(
        Row::new("request", RequestReply { size: 16 })
            .line("request/reply 16 B, p50", Metric::Median, Goal::Share(0.9))
            .line("request/reply 16 B, p99", Metric::P99, Goal::Share(0.8)),
    );
    rows.extend(publishing());
    rows.extend(reading());
    rows.push(
        Row::new("memory", Memory)
            .line("RSS idle", Metric::Idle, Goal::Value(8e6))
            .line("RSS with 1,000 idle connections", Metric::Idle1000, Goal::Value(12e6))
            .line("RSS with 10,000 idle connections", Metric::Idle10000, Goal::Value(60e6)),
    );
    rows.push(Row::new("start", Start::default()).line(
        format!("start with {} messages after kill -9, first answer", thousands(stored)),
        Metric::Start,
        (stored >= STORED).then_some(Goal::Value(0.5)),
    ));
    rows.push(Row::new("written", Written).line(
        "bytes to the device per payload byte, 1 KiB in groups",
        Metric::Written,
        Goal::Value(2.5),
    ));
    rows.push(Row::new("binary", Binary).line("static release binary", Metric::Binary, Goal::Value(12e6)));
    rows
}

fn core() -> Vec<Row> {
    let mut rows = Vec::new();
    for shape in SHAPES {
        let (title, goals): (_, &[(usize, f64)]) = match shape {
            Shape::OneToOne => ("core 1->1", &[(16, 6.0), (128, 3.5), (1024, 1.8), (65_536, 1.4)]),
            Shape::OneToTen => {
                ("core 1->10, delivered", &[(16, 6.0), (128, 3.0), (1024, 1.1), (65_536, 0.9)])
            }
            Shape::TenToTen => ("core 10->10", &[(16, 5.0), (128, 2.5), (1024, 1.5), (65_536, 1.1)]),
            Shape::Queue => ("queue group of 10", &[(16, 3.5), (128, 2.0), (1024, 1.1), (65_536, 1.2)]),
            Shape::Rotating => ("1000 subjects to a wildcard", &[(16, 5.0), (128, 3.0), (1024, 1.8)]),
        };
        for &(size, goal) in goals {
            let mut row = Row::new(format!("core-{}-{size}", shape.name()), Flow { shape, size }).line(
                format!("{title}, {}", bytes(size)),
                Metric::Rate,
                Goal::Ratio(goal),
            );
            row.cpu_goal = Some(if size > 1024 { 1.0 } else { 0.5 });
            rows.push(row);
        }
    }
    rows
}

fn publishing() -> Vec<Row> {
    let mut rows = Vec::new();
    let loads = [
        ("waiting", "64 waiting", Way::Waiting(64), 128, 1.0),
        ("pipelined", "pipelined", Way::Pipelined, 128, 2.0),
        ("pipelined", "pipelined", Way::Pipelined, 1024, 1.2),
    ];
    for sync_always in [false, true] {
        for (name, title, way, size, goal) in loads {
            let (prefix, note, goal) =
                if sync_always { ("synced", ", both synced", 10.0) } else { ("publish", "", goal) };
            rows.push(Row::new(format!("{prefix}-{name}-{size}"), Publish { way, size, sync_always }).line(
                format!("JetStream publish, {title}, {}{note}", bytes(size)),
                Metric::Rate,
                Goal::Ratio(goal),
            ));
        }
    }
    rows
}

fn reading() -> Vec<Row> {
    // A push consumer is not slowed down: what the stream holds must fit into what a server keeps for a connection (64 MB).
    let kinds = [
        ("read-push-128", "push without acks", How::Push, 128, 250_000, 2.5),
        ("read-push-1024", "push without acks", How::Push, 1024, 50_000, 1.8),
        ("read-pull-128", "pull with explicit acks", How::PullWithAcks, 128, 100_000, 1.5),
    ];
    let row = |(id, title, how, size, messages, goal)| {
        Row::new(id, Consume { how, size, messages }).line(
            format!("JetStream read, {title}, {}", bytes(size)),
            Metric::Rate,
            Goal::Ratio(goal),
        )
    };
    kinds.into_iter().map(row).collect()
}

fn bytes(size: usize) -> String {
    if size >= 1024 { format!("{} KiB", size / 1024) } else { format!("{size} B") }
}

/// A count with its thousands apart: 10,000,000.
fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The rows whose id begins with one of `prefixes`, in the order of the table; all if there are none.
pub(crate) fn choose(prefixes: &[String], stored: u64) -> Result<Vec<Row>, String> {
    let rows = all(stored);
    if prefixes.is_empty() {
        return Ok(rows);
    }
    for prefix in prefixes {
        if !rows.iter().any(|row| row.id.starts_with(prefix.as_str())) {
            let ids: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
            return Err(format!("no row begins with '{prefix}'; there are {}", ids.join(", ")));
        }
    }
    let chosen = |row: &Row| prefixes.iter().any(|prefix| row.id.starts_with(prefix.as_str()));
    Ok(rows.into_iter().filter(chosen).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(prefixes: &[&str]) -> Result<Vec<String>, String> {
        let prefixes: Vec<_> = prefixes.iter().map(ToString::to_string).collect();
        Ok(choose(&prefixes, STORED)?.into_iter().map(|row| row.id).collect())
    }

    #[test]
    fn rows_are_chosen_by_the_beginning_of_their_id() {
        assert_eq!(ids(&["core-1-1-16", "binary"]).unwrap(), ["core-1-1-16", "binary"]);
        assert_eq!(ids(&["read"]).unwrap(), ["read-push-128", "read-push-1024", "read-pull-128"]);
        assert!(
            ids(&["speed"]).unwrap_err().starts_with("no row begins with 'speed'; there are core-1-1-16, ")
        );
    }

    #[test]
    fn the_goal_of_starting_is_for_a_store_of_ten_million() {
        for (stored, title, goal) in [
            (1000, "start with 1,000 messages after kill -9, first answer", None),
            (9_999_999, "start with 9,999,999 messages after kill -9, first answer", None),
            (STORED, "start with 10,000,000 messages after kill -9, first answer", Some(Goal::Value(0.5))),
            (
                123_456_789,
                "start with 123,456,789 messages after kill -9, first answer",
                Some(Goal::Value(0.5)),
            ),
        ] {
            let line = choose(&["start".to_owned()], stored).unwrap().remove(0).lines.remove(0);
            assert_eq!((line.title.as_str(), line.goal), (title, goal));
        }
    }

    #[test]
    fn ids_differ_and_every_row_has_lines() {
        let rows = all(STORED);
        let mut ids: Vec<_> = rows.iter().map(|row| &row.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), rows.len());
        assert!(rows.iter().all(|row| !row.lines.is_empty()));
    }
}
