//! The results of all rounds, as a table for readers and as JSON.
//!
//! A ratio is taken inside a round and the median of the rounds' ratios is shown with the smallest and the largest: two
//! servers in the same minute of a shared machine can be compared, two minutes cannot. A row in which one round of a
//! server failed or lost messages shows that in the place of the server's figure.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::fault::Fault;
use crate::rows::{Goal, Line, Row};
use crate::sample::{Metric, Sample};

/// Where a rate is so near to the relay's, and the relay with the generator takes so much of the machine, the machine is
/// what is measured.
const NEAR: f64 = 0.9;

/// What became of one row: a result per round for each server, and for the relay if the row has one.
pub(crate) struct Results {
    /// Processor cores of the machine.
    pub(crate) cores: u16,
    pub(crate) servers: Vec<Vec<Result<Sample, Fault>>>,
    pub(crate) relay: Vec<Result<Sample, Fault>>,
}

/// Median and range of some values.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match (values.get(middle.wrapping_sub(1)), values.get(middle)) {
            (Some(low), Some(high)) if values.len().is_multiple_of(2) => f64::midpoint(*low, *high),
            (_, Some(middle)) => *middle,
            (_, None) => return None,
        };
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }

    fn json(self) -> Value {
        json!({ "median": self.median, "min": self.least, "max": self.most })
    }
}

impl Results {
    /// The values of a server's rounds, or why there are none.
    fn values(rounds: &[Result<Sample, Fault>], metric: Metric) -> Result<Option<Spread>, &Fault> {
        let mut values = Vec::new();
        for round in rounds {
            values.extend(round.as_ref()?.get(&metric));
        }
        Ok(Spread::of(values))
    }

    /// The first server over another, round by round.
    fn ratio(
        first: &[Result<Sample, Fault>],
        other: &[Result<Sample, Fault>],
        metric: Metric,
    ) -> Option<Spread> {
        let value = |round: &Result<Sample, Fault>| round.as_ref().ok()?.get(&metric).copied();
        let pairs: Option<Vec<f64>> =
            first.iter().zip(other).map(|(first, other)| Some(value(first)? / value(other)?)).collect();
        Spread::of(pairs?)
    }

    fn server(&self, place: usize) -> &[Result<Sample, Fault>] {
        self.servers.get(place).map_or(&[], Vec::as_slice)
    }

    /// What stands in the way of taking the figures for the server's: the first server is as fast as the relay and that
    /// needs the whole machine; in a row without a relay, the generator needs more of the machine than the server.
    fn bound(&self) -> Option<String> {
        let cores = |rounds, metric| Self::values(rounds, metric).ok().flatten().map(|cores| cores.median);
        let busy =
            |rounds| Some((cores(rounds, Metric::ServerCores)?, cores(rounds, Metric::GeneratorCores)?));
        if !self.relay.is_empty() {
            let share = Self::ratio(self.server(0), &self.relay, Metric::Rate)?.median;
            let (relay, generator) = busy(&self.relay)?;
            let (taken, machine) = (relay + generator, f64::from(self.cores));
            return (share >= NEAR && taken >= NEAR * machine).then(|| {
                format!("as fast as the relay, which takes {taken:.2} of {machine} cores with the generator")
            });
        }
        let (server, generator) = busy(self.server(0))?;
        (generator > server)
            .then(|| format!("the generator takes {generator:.2} cores, the server {server:.2}"))
    }
}

/// The table's head for servers of these titles.
pub(crate) fn head(titles: &[String]) -> String {
    let mut head = String::from("| row |");
    let mut rule = String::from("|---|");
    let mut column = |name: &str, right: bool| {
        let _ = write!(head, " {name} |");
        rule.push_str(if right { "---:|" } else { "---|" });
    };
    for title in titles {
        column(title, true);
    }
    for title in titles.iter().skip(1) {
        let other = if titles.len() > 2 { format!(" to {title}") } else { String::new() };
        column(&format!("ratio{other} (min-max)"), true);
        column(&format!("CPU ratio{other}"), true);
    }
    for name in ["CPU per message", "of the relay", "goal", ""] {
        column(name, !name.is_empty());
    }
    format!("{head}\n{rule}")
}

/// The lines of a row.
pub(crate) fn lines(row: &Row, results: &Results) -> Vec<String> {
    row.lines.iter().enumerate().map(|(place, line)| one(row, line, results, place == 0)).collect()
}

fn one(row: &Row, line: &Line, results: &Results, first_line: bool) -> String {
    let metric = line.metric;
    let mut text = format!("| {} |", line.title);
    for rounds in &results.servers {
        let cell = match Results::values(rounds, metric) {
            Ok(Some(spread)) => metric.show(spread.median),
            Ok(None) => "-".to_owned(),
            Err(fault) => fault.to_string(),
        };
        let _ = write!(text, " {cell} |");
    }
    let of = |first, other, metric| Results::ratio(first, other, metric).map_or("-".to_owned(), range);
    let first = results.server(0);
    for other in results.servers.iter().skip(1) {
        let _ = write!(text, " {} |", of(first, other, metric));
        let cpu = if first_line { of(first, other, Metric::Cpu) } else { "-".to_owned() };
        let _ = write!(text, " {cpu} |");
    }
    let cpu = Results::values(first, Metric::Cpu).ok().flatten().filter(|_| first_line);
    let _ = write!(text, " {} |", cpu.map_or("-".to_owned(), |cpu| Metric::Cpu.show(cpu.median)));
    let relay = Results::ratio(first, &results.relay, metric).map(range);
    let relay = match results.relay.iter().find_map(|round| round.as_ref().err()) {
        Some(fault) => fault.to_string(),
        None => relay.unwrap_or_else(|| "-".to_owned()),
    };
    let _ = write!(text, " {relay} |");
    let goal = line.goal.map_or("-".to_owned(), |goal| show(goal, metric));
    let _ = write!(text, " {goal} | {} |", remarks(row, line, results, first_line).join("; "));
    text
}

fn range(spread: Spread) -> String {
    let digits = |value: f64| if value >= 10.0 { format!("{value:.1}") } else { format!("{value:.2}") };
    format!("{} ({}-{})", digits(spread.median), digits(spread.least), digits(spread.most))
}

fn show(goal: Goal, metric: Metric) -> String {
    match goal {
        Goal::Ratio(least) => format!(">= {least}"),
        Goal::Share(most) => format!("<= {most}"),
        Goal::Value(most) => format!("<= {}", metric.show(most)),
    }
}

/// Whether the goal is met, by the median; none without figures.
fn met(line: &Line, results: &Results) -> Option<bool> {
    let own = Results::values(results.server(0), line.metric).ok().flatten();
    let ratio = Results::ratio(results.server(0), results.server(1), line.metric);
    Some(match line.goal? {
        Goal::Ratio(least) => ratio?.median >= least,
        Goal::Share(most) => ratio?.median <= most,
        Goal::Value(most) => own?.median <= most,
    })
}

fn remarks(row: &Row, line: &Line, results: &Results, first_line: bool) -> Vec<String> {
    let mut remarks = Vec::new();
    match met(line, results) {
        Some(true) => remarks.push("met".to_owned()),
        Some(false) => remarks.push("**below**".to_owned()),
        None => {}
    }
    if first_line {
        let cpu = Results::ratio(results.server(0), results.server(1), Metric::Cpu);
        if let (Some(most), Some(cpu)) = (row.cpu_goal, cpu)
            && cpu.median > most
        {
            remarks.push(format!("**CPU above {most}**"));
        }
        remarks.extend(results.bound());
    }
    remarks
}

/// A row as JSON: every round's figures, and the ratios.
pub(crate) fn json(row: &Row, results: &Results) -> Value {
    let rounds = |rounds: &[Result<Sample, Fault>]| -> Value {
        rounds
            .iter()
            .map(|round| match round {
                Ok(sample) => {
                    sample.iter().map(|(metric, value)| (metric.name().to_owned(), json!(value))).collect()
                }
                Err(fault) => json!({ "fault": fault.to_string() }),
            })
            .collect()
    };
    let mut metrics: Vec<Metric> = row.lines.iter().map(|line| line.metric).collect();
    metrics.push(Metric::Cpu);
    let ratios: Value = results
        .servers
        .iter()
        .skip(1)
        .map(|other| -> Value {
            let ratio = |metric: &Metric| {
                let spread = Results::ratio(results.server(0), other, *metric)?;
                Some((metric.name().to_owned(), spread.json()))
            };
            metrics.iter().filter_map(ratio).collect::<serde_json::Map<_, _>>().into()
        })
        .collect();
    let met: Vec<_> = row.lines.iter().map(|line| met(line, results)).collect();
    json!({
        "row": row.id,
        "titles": row.lines.iter().map(|line| line.title.as_str()).collect::<Vec<_>>(),
        "servers": results.servers.iter().map(|server| rounds(server)).collect::<Vec<_>>(),
        "relay": rounds(&results.relay),
        "ratios": ratios,
        "met": met,
        "bound": results.bound(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(values: &[f64]) -> Vec<Result<Sample, Fault>> {
        values.iter().map(|value| Ok(Sample::from([(Metric::Rate, *value)]))).collect()
    }

    fn row() -> Row {
        crate::rows::choose(&["core-1-1-16".to_owned()], 1000).unwrap().remove(0)
    }

    #[test]
    fn ratios_are_taken_inside_a_round() {
        // The machine was ten times slower in the second round, for both.
        let results = Results {
            cores: 2,
            servers: vec![rates(&[60e6, 7e6, 80e6]), rates(&[10e6, 1e6, 10e6])],
            relay: rates(&[100e6, 10e6, 100e6]),
        };
        let line = lines(&row(), &results).remove(0);
        assert_eq!(
            line,
            "| core 1->1, 16 B | 60.0 M/s | 10.0 M/s | 7.00 (6.00-8.00) | - | - | 0.70 (0.60-0.80) | >= 6 | met |"
        );
    }

    #[test]
    fn a_round_that_lost_messages_takes_the_place_of_the_figure() {
        let mut first = rates(&[60e6, 60e6]);
        first.push(Err(Fault::Lost { what: "messages", sent: 10, received: 9 }));
        let servers = vec![first, rates(&[10e6, 10e6, 10e6])];
        let results = Results { cores: 2, servers, relay: Vec::new() };
        let line = lines(&row(), &results).remove(0);
        assert_eq!(line, "| core 1->1, 16 B | LOST: 9 of 10 messages | 10.0 M/s | - | - | - | - | >= 6 |  |");
        assert_eq!(json(&row(), &results)["servers"][0][2]["fault"], "LOST: 9 of 10 messages");
    }

    #[test]
    fn the_machine_is_the_bound_when_it_is_busy_with_a_relay_that_is_no_faster() {
        let round = |rate: f64, server: f64, generator: f64| {
            let cores = [(Metric::ServerCores, server), (Metric::GeneratorCores, generator)];
            vec![Ok(Sample::from_iter([(Metric::Rate, rate)].into_iter().chain(cores)))]
        };
        let as_fast = "as fast as the relay, which takes 1.90 of 2 cores with the generator";
        let generator = "the generator takes 1.00 cores, the server 0.50";
        for (server, relay, expected) in [
            (round(95e6, 0.5, 1.0), round(100e6, 0.8, 1.1), Some(as_fast)),
            (round(150e6, 0.5, 1.0), round(100e6, 0.8, 1.1), Some(as_fast)),
            (round(80e6, 0.5, 1.0), round(100e6, 0.8, 1.1), None),
            // Both wait for something: neither the machine nor the generator is the bound.
            (round(95e6, 0.5, 1.0), round(100e6, 0.3, 0.4), None),
            (round(95e6, 0.5, 1.0), vec![Err(Fault::failed("no relay"))], None),
            (round(95e6, 0.5, 1.0), Vec::new(), Some(generator)),
            (round(95e6, 1.0, 0.5), Vec::new(), None),
        ] {
            let results = Results { cores: 2, servers: vec![server], relay };
            assert_eq!(results.bound().as_deref(), expected);
        }
    }

    #[test]
    fn a_goal_is_missed_by_the_median() {
        let servers = vec![rates(&[5e6, 5e6, 9e6]), rates(&[1e6, 1e6, 1e6])];
        let results = Results { cores: 2, servers, relay: Vec::new() };
        assert!(lines(&row(), &results)[0].ends_with(">= 6 | **below** |"));
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
    }
}
