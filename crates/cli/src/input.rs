//! Requests as JSON text: from `-d`, from a file, or from standard input, where each is taken as soon as it is whole.
//!
//! JSON values follow one another with or without white space between; a value may span lines, and a line may hold several.

use serde::de::IgnoredAny;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

use crate::failure::Failure;

/// Where a call's requests come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// These, from the start.
    Given(Vec<String>),
    /// Standard input, as it comes.
    Stdin,
}

impl Input {
    /// Reads `-d`: JSON, `@` or `@FILE`. Without it a stream of requests is read from standard input, and a single request is
    /// empty.
    pub(crate) fn read(data: Option<&str>, streams: bool) -> Result<Self, Failure> {
        match data {
            None if streams => Ok(Self::Stdin),
            None => Ok(Self::Given(vec!["{}".to_owned()])),
            Some("@" | "@-") => Ok(Self::Stdin),
            Some(text) => match text.strip_prefix('@') {
                Some(path) => {
                    let text = std::fs::read_to_string(path)
                        .map_err(|error| Failure::io(format!("-d @{path}: {error}")))?;
                    all(&text, &format!("-d @{path}")).map(Self::Given)
                }
                None => all(text, "-d").map(Self::Given),
            },
        }
    }
}

/// Splits text that is whole.
fn all(text: &str, origin: &str) -> Result<Vec<String>, Failure> {
    let mut buffer = Values { buffer: text.to_owned() };
    let mut values = Vec::new();
    while let Some(value) = buffer.next().map_err(|error| not_json(origin, &error))? {
        values.push(value);
    }
    buffer.finish(origin)?;
    Ok(values)
}

/// Reads JSON values from lines.
#[derive(Debug)]
pub(crate) struct LineInput<R> {
    lines: R,
    values: Values,
}

impl<R: AsyncBufRead + Unpin> LineInput<R> {
    pub(crate) fn new(lines: R) -> Self {
        Self { lines, values: Values { buffer: String::new() } }
    }

    /// The next value; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(value) =
                self.values.next().map_err(|error| not_json("standard input", &error))?
            {
                return Ok(Some(value));
            }
            let octets = self
                .lines
                .read_line(&mut self.values.buffer)
                .await
                .map_err(|error| Failure::io(format!("standard input: {error}")))?;
            if octets == 0 {
                self.values.finish("standard input")?;
                return Ok(None);
            }
        }
    }
}

/// Text that JSON values are taken off.
#[derive(Debug)]
struct Values {
    buffer: String,
}

impl Values {
    /// Takes the first value; `None` if none is whole.
    fn next(&mut self) -> Result<Option<String>, serde_json::Error> {
        let mut stream = serde_json::Deserializer::from_str(&self.buffer).into_iter::<IgnoredAny>();
        match stream.next() {
            None => {
                self.buffer.clear();
                Ok(None)
            }
            Some(Ok(_)) => {
                let end = stream.byte_offset();
                let rest = self.buffer.split_off(end);
                Ok(Some(std::mem::replace(&mut self.buffer, rest)))
            }
            Some(Err(error)) if error.is_eof() => Ok(None),
            Some(Err(error)) => Err(error),
        }
    }

    /// Fails if something is left that is not whole.
    fn finish(&self, origin: &str) -> Result<(), Failure> {
        if self.buffer.trim().is_empty() {
            return Ok(());
        }
        Err(Failure::schema(format!("{origin}: the JSON ends in the middle of a value")))
    }
}

fn not_json(origin: &str, error: &serde_json::Error) -> Failure {
    Failure::schema(format!("{origin}: not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_wherever_they_end() {
        let Ok(Input::Given(values)) = Input::read(Some("{\"a\":1}{\"b\":\n2} 3"), true) else {
            panic!("not given")
        };
        assert_eq!(values, ["{\"a\":1}", "{\"b\":\n2}", " 3"]);
        assert_eq!(Input::read(Some(" "), true).unwrap(), Input::Given(vec![]));
        assert!(Input::read(Some("{\"a\":"), true).is_err());
        assert!(Input::read(Some("{]"), true).is_err());
    }

    #[tokio::test]
    async fn lines_give_values_as_soon_as_they_are_whole() {
        let mut input = LineInput::new(&b"{\"a\":1}\n{\"b\":\n2}{}\n"[..]);
        let mut values = Vec::new();
        while let Some(value) = input.next().await.unwrap() {
            values.push(value.trim().to_owned());
        }
        assert_eq!(values, ["{\"a\":1}", "{\"b\":\n2}", "{}"]);
    }
}
