//! The templates of `data generate`: text with calls between `{{` and `}}`, in the syntax of Go's text/template.
//!
//! A call is a function's name and its arguments: numbers, `"strings"`, `` `raw strings` ``, or calls in parentheses;
//! `|` hands a result on as the last argument. `{{-` and `-}}` trim the space beside them, `{{/* */}}` is a comment.
//! Deliberately absent are conditions, loops, variables and fields: a template describes one record.

use std::fmt;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    /// Steps of a pipeline and the line they stand on.
    Action {
        steps: Vec<Expression>,
        line: usize,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Literal(Value),
    Call { name: String, arguments: Vec<Expression> },
}

/// What a function takes and gives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Something wrong in a template, and the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct TemplateError {
    pub(crate) line: usize,
    pub(crate) reason: String,
}

/// The functions a template can call.
pub(crate) trait Functions {
    /// Whether a function of this name exists; else the names that do.
    fn knows(&self, name: &str) -> Result<(), String>;
    /// Calls a function.
    fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String>;
}

impl Template {
    /// Parses a template and checks that each function in it exists.
    ///
    /// # Errors
    /// The line, and what is wrong on it.
    pub(crate) fn parse(text: &str, functions: &impl Functions) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut line = 1;
        let mut trim_next = false;
        loop {
            let (before, action) = match rest.split_once("{{") {
                Some((before, action)) => (before, Some(action)),
                None => (rest, None),
            };
            let mut shown = if trim_next { before.trim_start() } else { before };
            let trim_before =
                action.is_some_and(|text| text.strip_prefix('-').is_some_and(starts_with_space));
            if trim_before {
                shown = shown.trim_end();
            }
            if !shown.is_empty() {
                pieces.push(Piece::Text(shown.to_owned()));
            }
            line += before.matches('\n').count();
            let Some(action) = action else {
                return Ok(Self { pieces });
            };
            let fail = |reason: String| TemplateError { line, reason };
            let length = action_length(action).ok_or_else(|| fail("`{{` without `}}`".to_owned()))?;
            let (inside, after) = action.split_at(length);
            let after = after.strip_prefix("}}").unwrap_or(after);
            let mut body = inside;
            if trim_before {
                body = body.strip_prefix('-').unwrap_or(body);
            }
            trim_next = body.strip_suffix('-').is_some_and(ends_with_space);
            if trim_next {
                body = body.strip_suffix('-').unwrap_or(body);
            }
            let body = body.trim();
            if !(body.starts_with("/*") && body.ends_with("*/")) {
                let steps = pipeline(body, functions).map_err(fail)?;
                pieces.push(Piece::Action { steps, line });
            }
            line += inside.matches('\n').count();
            rest = after;
        }
    }

    /// Renders the template once.
    ///
    /// # Errors
    /// The line of the call that failed, and its reason.
    pub(crate) fn render(&self, functions: &mut impl Functions) -> Result<String, TemplateError> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Action { steps, line } => {
                    let mut handed_on = None;
                    for step in steps {
                        let value = evaluate(step, handed_on, functions)
                            .map_err(|reason| TemplateError { line: *line, reason })?;
                        handed_on = Some(value);
                    }
                    if let Some(value) = handed_on {
                        text.push_str(&value.to_string());
                    }
                }
            }
        }
        Ok(text)
    }
}

fn starts_with_space(text: &str) -> bool {
    text.starts_with(char::is_whitespace)
}

fn ends_with_space(text: &str) -> bool {
    text.ends_with(char::is_whitespace)
}

/// The length of an action up to its `}}`; those inside a string or a comment do not count.
fn action_length(text: &str) -> Option<usize> {
    let body = text.strip_prefix("- ").unwrap_or(text).trim_start();
    if body.starts_with("/*") {
        let end = text.find("*/")?;
        return text.get(end..)?.find("}}").map(|offset| end + offset);
    }
    let mut quote = None;
    let mut escaped = false;
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '"' || character == '`' => quote = Some(character),
            None if character == '}' && characters.peek().is_some_and(|(_, next)| *next == '}') => {
                return Some(index);
            }
            None => {}
        }
    }
    None
}

fn evaluate(
    expression: &Expression,
    handed_on: Option<Value>,
    functions: &mut impl Functions,
) -> Result<Value, String> {
    match expression {
        Expression::Literal(value) => Ok(value.clone()),
        Expression::Call { name, arguments } => {
            let mut values = Vec::with_capacity(arguments.len() + 1);
            for argument in arguments {
                values.push(evaluate(argument, None, functions)?);
            }
            values.extend(handed_on);
            functions.call(name, &values).map_err(|reason| format!("{name}: {reason}"))
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Name(String),
    Literal(Value),
    Open,
    Close,
    Pipe,
}

/// Parses the inside of an action.
fn pipeline(body: &str, functions: &impl Functions) -> Result<Vec<Expression>, String> {
    let mut tokens = tokens(body)?.into_iter().peekable();
    let mut steps = Vec::new();
    loop {
        steps.push(command(&mut tokens, functions, 0)?);
        if steps.len() > 1 && matches!(steps.last(), Some(Expression::Literal(_))) {
            return Err("a value cannot take what `|` hands on".to_owned());
        }
        match tokens.next() {
            None => return Ok(steps),
            Some(Token::Pipe) => {}
            Some(_) => return Err("`)` without `(`".to_owned()),
        }
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// A function with its arguments, or one literal; ends before `|`, `)` or the end.
fn command(tokens: &mut Tokens, functions: &impl Functions, depth: usize) -> Result<Expression, String> {
    /// Parentheses inside each other.
    const DEPTH_MAX: usize = 32;
    if depth > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} parentheses inside each other"));
    }
    let name = match tokens.next() {
        Some(Token::Name(name)) => name,
        Some(Token::Literal(value)) => {
            return match tokens.peek() {
                None | Some(Token::Pipe | Token::Close) => Ok(Expression::Literal(value)),
                Some(_) => Err(format!("`{value}` is no function")),
            };
        }
        Some(Token::Open) => {
            let inner = command(tokens, functions, depth + 1)?;
            return match tokens.next() {
                Some(Token::Close) => Ok(inner),
                _ => Err("`(` without `)`".to_owned()),
            };
        }
        Some(Token::Close | Token::Pipe) | None => return Err("a function is missing".to_owned()),
    };
    functions.knows(&name)?;
    let mut arguments = Vec::new();
    loop {
        match tokens.peek() {
            None | Some(Token::Pipe | Token::Close) => return Ok(Expression::Call { name, arguments }),
            Some(Token::Open) => {
                tokens.next();
                arguments.push(command(tokens, functions, depth + 1)?);
                if tokens.next() != Some(Token::Close) {
                    return Err("`(` without `)`".to_owned());
                }
            }
            Some(Token::Literal(_)) => {
                if let Some(Token::Literal(value)) = tokens.next() {
                    arguments.push(Expression::Literal(value));
                }
            }
            Some(Token::Name(argument)) => {
                functions.knows(argument)?;
                let call = Expression::Call { name: argument.clone(), arguments: Vec::new() };
                arguments.push(call);
                tokens.next();
            }
        }
    }
}

fn tokens(body: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = body.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            '"' => quoted(rest)?,
            '`' => {
                let inner = rest.get(1..).unwrap_or("");
                let end = inner.find('`').ok_or("a string without its end")?;
                (Token::Literal(Value::Text(inner.get(..end).unwrap_or("").to_owned())), end + 2)
            }
            '0'..='9' | '-' | '+' | '.' => number(rest)?,
            '$' => return Err("variables are not supported: a template calls functions only".to_owned()),
            first if first.is_alphabetic() || first == '_' => {
                let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                (Token::Name(rest.get(..length).unwrap_or("").to_owned()), length)
            }
            other => return Err(format!("`{other}` has no meaning here")),
        };
        tokens.push(token);
        rest = rest.get(length..).unwrap_or("").trim_start();
    }
    Ok(tokens)
}

/// A string in double quotes, with Go's common escapes.
fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Ok((Token::Literal(Value::Text(value)), index + 1)),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, plain @ ('"' | '\\' | '\''))) => value.push(plain),
                Some((_, other)) => return Err(format!("`\\{other}` in a string has no meaning")),
                None => break,
            },
            plain => value.push(plain),
        }
    }
    Err("a string without its end".to_owned())
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let length = text
        .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | '"' | '`'))
        .unwrap_or(text.len());
    let word = text.get(..length).unwrap_or("");
    if word.starts_with('.')
        && !word.get(1..).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Err(format!("fields such as `{word}` are not supported: a template calls functions only"));
    }
    let value = match word.parse::<i64>() {
        Ok(whole) => Value::Int(whole),
        Err(_) => match word.parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Float(number),
            _ => return Err(format!("`{word}` is no number")),
        },
    };
    Ok((Token::Literal(value), length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `join` joins its arguments with commas, `fail` fails, `n` is 7.
    struct Plain;

    impl Functions for Plain {
        fn knows(&self, name: &str) -> Result<(), String> {
            if ["join", "fail", "n"].contains(&name) {
                Ok(())
            } else {
                Err(format!("unknown function `{name}`"))
            }
        }

        fn call(&mut self, name: &str, arguments: &[Value]) -> Result<Value, String> {
            match name {
                "n" => Ok(Value::Int(7)),
                "fail" => Err("on purpose".to_owned()),
                _ => Ok(Value::Text(arguments.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))),
            }
        }
    }

    #[test]
    fn renders() {
        for (template, rendered) in [
            ("", ""),
            ("plain", "plain"),
            ("{{n}}", "7"),
            ("a {{ n }} b {{n}}", "a 7 b 7"),
            ("{{ join 1 -2 3.5 \"x y\" `raw\\` }}", "1,-2,3.5,x y,raw\\"),
            ("{{ join (join 1 2) n (n) }}", "1,2,7,7"),
            ("{{ 1 | join 2 | join 3 }}", "3,2,1"),
            ("{{ n | join }}", "7"),
            ("{{ \"}}\" }}", "}}"),
            ("{{ \"a\\\"b\\n\" }}", "a\"b\n"),
            ("a  {{- n -}}  b", "a7b"),
            ("a  {{- /* trimmed */ -}}  b", "ab"),
            ("a {{- n }} b", "a7 b"),
            ("a {{ n -}} b", "a 7b"),
            ("{{/* }} not the end */}}x", "x"),
            ("{\"a\": {\"b\": {{n}} }}", "{\"a\": {\"b\": 7 }}"),
        ] {
            let parsed =
                Template::parse(template, &Plain).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(parsed.render(&mut Plain).as_deref(), Ok(rendered), "{template}");
        }
    }

    #[test]
    fn refuses_and_says_where() {
        for (template, line, part) in [
            ("{{", 1, "without `}}`"),
            ("a\nb {{ nope }}", 2, "unknown function `nope`"),
            ("{{ }}", 1, "a function is missing"),
            ("{{ n | }}", 1, "a function is missing"),
            ("{{ n | 1 }}", 1, "cannot take"),
            ("{{ join (n }}", 1, "`(` without `)`"),
            ("{{ join n) }}", 1, "`)` without `(`"),
            ("{{ .Seq }}", 1, "fields such as `.Seq`"),
            ("{{ $x }}", 1, "variables"),
            ("{{ range 3 }}{{ end }}", 1, "unknown function `range`"),
            ("{{ join \"a }}", 1, "without `}}`"),
            ("{{ 1 2 }}", 1, "`1` is no function"),
            ("{{ join 1x }}", 1, "`1x` is no number"),
            ("{{ join \"\\q\" }}", 1, "`\\q`"),
            ("{{ ? }}", 1, "`?` has no meaning"),
        ] {
            let error = Template::parse(template, &Plain).expect_err(template);
            assert_eq!(error.line, line, "{template}: {error}");
            assert!(error.reason.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn a_failing_call_names_its_line() {
        let template = Template::parse("x\n\n{{ fail }}", &Plain).unwrap();
        let error = template.render(&mut Plain).unwrap_err();
        assert_eq!(error.to_string(), "line 3: fail: on purpose");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}\\-\"`()|a-z0-9 \n/*.$é]*") {
            if let Ok(template) = Template::parse(&text, &Plain) {
                let _ = template.render(&mut Plain);
            }
        }
    }
}
