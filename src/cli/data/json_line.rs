//! JSON texts as one line: the same keys, order and digits, without the space between them.

use serde::de::IgnoredAny;

use crate::service::fields::syntax;

/// The text without insignificant space.
///
/// # Errors
/// When the text is no JSON value: what is wrong, with line and column.
pub(crate) fn compact(text: &str) -> Result<String, String> {
    check(text.as_bytes())
        .map_err(|error| format!("{} at line {}, column {}", syntax(&error), error.line(), error.column()))?;
    let mut line = String::with_capacity(text.len());
    let (mut inside, mut escaped) = (false, false);
    for character in text.chars() {
        if inside {
            line.push(character);
            (inside, escaped) = match character {
                _ if escaped => (true, false),
                '\\' => (true, true),
                '"' => (false, false),
                _ => (true, false),
            };
        } else if !matches!(character, ' ' | '\t' | '\n' | '\r') {
            inside = character == '"';
            line.push(character);
        }
    }
    Ok(line)
}

/// A line from [`compact`] over several lines, two spaces for each level.
pub(crate) fn indent(line: &str) -> String {
    let mut text = String::with_capacity(line.len() * 2);
    let (mut inside, mut escaped, mut depth) = (false, false, 0usize);
    let mut characters = line.chars().peekable();
    let start_line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(character) = characters.next() {
        if inside {
            text.push(character);
            (inside, escaped) = match character {
                _ if escaped => (true, false),
                '\\' => (true, true),
                '"' => (false, false),
                _ => (true, false),
            };
            continue;
        }
        match character {
            '{' | '[' if matches!(characters.peek(), Some('}' | ']')) => {
                text.push(character);
                text.extend(characters.next());
            }
            '{' | '[' => {
                depth += 1;
                text.push(character);
                start_line(&mut text, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                start_line(&mut text, depth);
                text.push(character);
            }
            ',' => {
                text.push(',');
                start_line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            plain => {
                inside = plain == '"';
                text.push(plain);
            }
        }
    }
    text
}

/// Checks that the bytes are one JSON value.
///
/// # Errors
/// What is wrong, and where.
pub(crate) fn check(text: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<IgnoredAny>(text).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keeps_order_digits_and_strings() {
        for (text, line) in [
            (" { \"b\" : 1.50 ,\n \"a\" : [ 1 , 2 ] } ", "{\"b\":1.50,\"a\":[1,2]}"),
            ("\"a \\\" b\\\\\"", "\"a \\\" b\\\\\""),
            ("{\"k e y\":\"ä  ö\"}", "{\"k e y\":\"ä  ö\"}"),
            (" null ", "null"),
        ] {
            assert_eq!(compact(text).as_deref(), Ok(line));
        }
        for text in ["", "{", "{\"a\":}", "1 2", "{'a':1}"] {
            assert!(compact(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn says_the_same_as_before(value in "[ -~äö\n]*", other in "[ -~]*", number in any::<i64>()) {
            let json = serde_json::json!({ value.clone(): [other, value], "n": number, "e": {}, "l": [] });
            let line = compact(&serde_json::to_string_pretty(&json).unwrap()).unwrap();
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(indent(&line), serde_json::to_string_pretty(&json).unwrap());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), json);
        }
    }
}
