//! The functions that a template of `data generate` can call.
//!
//! All but `timestamp` follow from the seed alone, so the same seed gives the same file.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::template::{Functions, Value};
use super::{faker, layout};
use crate::sys::clock::SharedClock;

const NAMES: &[&str] = &["seq", "uuid", "timestamp", "randInt", "randFloat", "pick", "faker", "printf"];

/// The functions with their state: the sequence and the source of random numbers.
pub(crate) struct Generator {
    rng: StdRng,
    clock: SharedClock,
    sequence: i64,
}

impl Generator {
    /// Functions whose random values follow from `seed`.
    pub(crate) fn new(seed: u64, clock: SharedClock) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), clock, sequence: 0 }
    }
}

impl Functions for Generator {
    fn knows(&self, name: &str) -> Result<(), String> {
        match name {
            "if" | "range" | "with" | "end" | "else" | "define" | "template" | "block" | "break"
            | "continue" => Err(format!("`{name}` is not supported: a template calls functions only")),
            _ if NAMES.contains(&name) => Ok(()),
            _ => Err(format!("unknown function `{name}`; known are {}", NAMES.join(", "))),
        }
    }

    fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String> {
        match (name, arguments) {
            ("seq", []) => {
                self.sequence += 1;
                Ok(Value::Int(self.sequence))
            }
            ("uuid", []) => Ok(Value::Text(faker::uuid(&mut self.rng))),
            ("timestamp", []) => layout::write(self.clock.wall(), "").map(Value::Text),
            ("timestamp", [Value::Text(pattern)]) => {
                layout::write(self.clock.wall(), pattern).map(Value::Text)
            }
            ("randInt", [Value::Int(low), Value::Int(high)]) => {
                if low > high {
                    return Err(format!("{low} is greater than {high}"));
                }
                Ok(Value::Int(self.rng.random_range(*low..=*high)))
            }
            ("randFloat", [low, high]) => {
                let (Some(low), Some(high)) = (float(low), float(high)) else {
                    return Err("it takes two numbers".to_owned());
                };
                if low > high {
                    return Err(format!("{low} is greater than {high}"));
                }
                if !(high - low).is_finite() {
                    return Err(format!("{low} and {high} are too far apart"));
                }
                Ok(Value::Float(self.rng.random_range(low..=high)))
            }
            ("pick", [_, ..]) => {
                let index = self.rng.random_range(0..arguments.len());
                arguments.get(index).cloned().ok_or_else(|| "nothing to pick from".to_owned())
            }
            ("faker", [Value::Text(path)]) => faker::value(path, &mut self.rng).map(Value::Text),
            ("printf", [Value::Text(format), rest @ ..]) => printf(format, rest).map(Value::Text),
            _ => Err(usage(name)),
        }
    }
}

fn usage(name: &str) -> String {
    match name {
        "seq" | "uuid" => "it takes no argument",
        "timestamp" => "it takes no argument or a layout in quotes, such as \"2006-01-02\"",
        "randInt" => "it takes two whole numbers: randInt MIN MAX",
        "randFloat" => "it takes two numbers: randFloat MIN MAX",
        "pick" => "it takes the values to pick from",
        "faker" => "it takes a path in quotes, such as \"person.name\"",
        _ => "it takes a format in quotes and its values",
    }
    .to_owned()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a bound beyond 2^53 loses digits nobody asks a random number for"
)]
fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        Value::Text(_) => None,
    }
}

/// Go's `printf` for `%d %s %v %q %f %%`, with a width, leading zeros and a precision.
fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    /// Columns and digits.
    const WIDTH_MAX: usize = 100;
    let mut text = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some((plain, verb)) = rest.split_once('%') {
        text.push_str(plain);
        if let Some(after) = verb.strip_prefix('%') {
            text.push('%');
            rest = after;
            continue;
        }
        let end = verb
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("\"{format}\" ends inside a verb"))?;
        let (flags, letter) = verb.split_at(end);
        let letter_length = letter.chars().next().map_or(0, char::len_utf8);
        let (letter, after) = letter.split_at(letter_length);
        rest = after;
        let (width, precision) = flags.split_once('.').unwrap_or((flags, ""));
        let zeros = width.starts_with('0');
        let size = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<usize>() };
        let (Ok(columns), Ok(digits)) = (size(width), size(precision)) else {
            return Err(format!("\"%{flags}{letter}\" has no meaning"));
        };
        if columns > WIDTH_MAX || digits > WIDTH_MAX {
            return Err(format!("\"%{flags}{letter}\" is wider than {WIDTH_MAX}"));
        }
        let value = arguments.next().ok_or_else(|| format!("\"{format}\" has more verbs than values"))?;
        let shown = match (letter, value) {
            ("d", Value::Int(number)) => number.to_string(),
            ("f", Value::Int(_) | Value::Float(_)) => {
                let digits = if flags.contains('.') { digits } else { 6 };
                format!("{:.digits$}", float(value).unwrap_or_default())
            }
            ("s", Value::Text(text)) => text.clone(),
            ("v", value) => value.to_string(),
            ("q", Value::Text(text)) => serde_json::Value::String(text.clone()).to_string(),
            _ => return Err(format!("\"%{flags}{letter}\" does not fit the value {value}")),
        };
        let missing = columns.saturating_sub(shown.chars().count());
        match shown.strip_prefix('-') {
            Some(number) if zeros => text.push_str(&format!("-{}{number}", "0".repeat(missing))),
            _ => text.push_str(&format!("{}{shown}", if zeros { "0" } else { " " }.repeat(missing))),
        }
    }
    text.push_str(rest);
    match arguments.next() {
        Some(value) => Err(format!("\"{format}\" has no verb for the value {value}")),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::template::Template;
    use super::*;
    use crate::sys::clock::ManualClock;

    fn render(text: &str) -> Result<String, String> {
        let mut generator = Generator::new(1, ManualClock::at(1_700_000_000_000_000_000));
        let template = Template::parse(text, &generator).map_err(|error| error.to_string())?;
        template.render(&mut generator).map_err(|error| error.to_string())
    }

    #[test]
    fn functions_give_values() {
        for (text, rendered) in [
            ("{{seq}} {{seq}} {{ seq }}", "1 2 3"),
            ("{{timestamp}}", "2023-11-14T22:13:20Z"),
            ("{{timestamp \"2006\"}}", "2023"),
            ("{{randInt 4 4}}", "4"),
            ("{{randInt -9223372036854775808 -9223372036854775808}}", "-9223372036854775808"),
            ("{{randFloat 2.5 2.5}}", "2.5"),
            ("{{pick \"a\"}}", "a"),
            (
                "{{printf \"%05d|%5.2f|%s|%q|%v|%%|%06.1f\" 42 (randFloat 1 1) \"x\" \"a\\\"b\" 1.5 -2.25}}",
                "00042| 1.00|x|\"a\\\"b\"|1.5|%|-002.2",
            ),
            ("{{ randInt 3 3 | printf \"%d\" }}", "3"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(rendered), "{text}");
        }
    }

    #[test]
    fn random_values_stay_in_their_bounds() {
        let mut generator = Generator::new(5, ManualClock::at(0));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..500 {
            let Ok(Value::Int(number)) = generator.call("randInt", &[Value::Int(-1), Value::Int(2)]) else {
                panic!()
            };
            seen.insert(number);
            let Ok(Value::Float(number)) = generator.call("randFloat", &[Value::Int(0), Value::Float(0.5)])
            else {
                panic!()
            };
            assert!((0.0..=0.5).contains(&number), "{number}");
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-1, 0, 1, 2]);
    }

    #[test]
    fn wrong_calls_say_what_is_right() {
        for (text, part) in [
            ("{{randInt 5 1}}", "randInt: 5 is greater than 1"),
            ("{{randInt 1}}", "randInt MIN MAX"),
            ("{{randInt 1.5 2}}", "two whole numbers"),
            ("{{randFloat \"a\" 2}}", "two numbers"),
            ("{{randFloat 2 1}}", "2 is greater than 1"),
            ("{{seq 1}}", "no argument"),
            ("{{faker}}", "a path in quotes"),
            ("{{faker \"no.such\"}}", "unknown faker path \"no.such\""),
            ("{{nope}}", "unknown function `nope`; known are seq, uuid"),
            ("{{if 1}}{{end}}", "`if` is not supported"),
            ("{{printf \"%d\"}}", "more verbs than values"),
            ("{{printf \"%d\" \"a\"}}", "does not fit the value a"),
            ("{{printf \"%1000d\" 1}}", "wider than 100"),
            ("{{printf \"a\" 1}}", "no verb for the value 1"),
            ("{{printf \"%5\" 1}}", "ends inside a verb"),
            ("{{pick}}", "values to pick from"),
        ] {
            let error = render(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
