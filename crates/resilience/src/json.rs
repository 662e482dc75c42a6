//! Reading protobuf's JSON with all its mistakes: each is noted with the place it stands at, in grpcio's words, and reading
//! goes on.

use serde_json::{Map, Value};
use std::fmt::Display;
use std::time::Duration;

/// Seconds of the longest duration that protobuf's JSON knows: 10,000 years.
const MAX_SECONDS: u64 = 315_576_000_000;

/// What is wrong, and where.
#[derive(Default)]
pub(crate) struct Mistakes(Vec<(String, String)>);

impl Mistakes {
    pub(crate) fn note(&mut self, path: &str, text: impl Display) {
        self.0.push((path.to_owned(), text.to_string()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, (path, text)) in self.0.iter().enumerate() {
            let between = if at == 0 { "" } else { "; " };
            write!(f, "{between}field:{path} error:{text}")?;
        }
        Ok(())
    }
}

/// A value and the place it stands at.
pub(crate) struct Field<'a> {
    pub(crate) value: &'a Value,
    pub(crate) path: String,
}

/// An object and the place it stands at.
pub(crate) struct Object<'a> {
    pub(crate) fields: &'a Map<String, Value>,
    pub(crate) path: String,
}

impl<'a> Object<'a> {
    /// A field, unless it is absent or null, which is the same.
    pub(crate) fn field(&self, name: &str) -> Option<Field<'a>> {
        let value = self.fields.get(name).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { name.into() } else { format!("{}.{name}", self.path) };
        Some(Field { value, path })
    }

    /// A field that has to be there.
    pub(crate) fn required(&self, name: &str, mistakes: &mut Mistakes) -> Option<Field<'a>> {
        let field = self.field(name);
        if field.is_none() {
            mistakes.note(&format!("{}.{name}", self.path), "field not present");
        }
        field
    }
}

impl<'a> Field<'a> {
    /// Notes what is wrong with it.
    pub(crate) fn wrong<T>(&self, mistakes: &mut Mistakes, text: impl Display) -> Option<T> {
        mistakes.note(&self.path, text);
        None
    }

    pub(crate) fn object(self, mistakes: &mut Mistakes) -> Option<Object<'a>> {
        match self.value.as_object() {
            Some(fields) => Some(Object { fields, path: self.path }),
            None => self.wrong(mistakes, "is not an object"),
        }
    }

    pub(crate) fn array(&self, mistakes: &mut Mistakes) -> Vec<Field<'a>> {
        let Some(values) = self.value.as_array() else {
            mistakes.note(&self.path, "is not an array");
            return Vec::new();
        };
        let field = |(at, value)| Field { value, path: format!("{}[{at}]", self.path) };
        values.iter().enumerate().map(field).collect()
    }

    pub(crate) fn string(&self, mistakes: &mut Mistakes) -> Option<&'a str> {
        self.value.as_str().or_else(|| self.wrong(mistakes, "is not a string"))
    }

    pub(crate) fn boolean(&self, mistakes: &mut Mistakes) -> Option<bool> {
        self.value.as_bool().or_else(|| self.wrong(mistakes, "is not a boolean"))
    }

    /// A whole number that is not negative, or a string that holds one.
    pub(crate) fn number(&self, mistakes: &mut Mistakes) -> Option<u32> {
        let number = match self.value {
            Value::Number(number) => number.as_u64().and_then(|number| number.try_into().ok()),
            Value::String(text) => text.parse().ok(),
            _ => return self.wrong(mistakes, "is not a number"),
        };
        number.or_else(|| self.wrong(mistakes, "failed to parse non-negative number"))
    }

    /// A number, or a string that holds one.
    pub(crate) fn decimal(&self, mistakes: &mut Mistakes) -> Option<f64> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => return self.wrong(mistakes, "is not a number"),
        };
        let number = number.filter(|number| number.is_finite());
        number.or_else(|| self.wrong(mistakes, "failed to parse number"))
    }

    /// Seconds with up to nine decimal places and an `s` behind them.
    pub(crate) fn duration(&self, mistakes: &mut Mistakes) -> Option<Duration> {
        let text = self.string(mistakes)?;
        let Some(text) = text.strip_suffix('s') else {
            return self.wrong(mistakes, "Not a duration (no s suffix)");
        };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        if decimals.len() > 9 {
            return self.wrong(mistakes, "Not a duration (too many digits after decimal)");
        }
        if whole.starts_with('-') {
            return self.out_of_range(mistakes);
        }
        let is_number = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(decimals) {
            return self.wrong(mistakes, "Not a duration (not a number of seconds)");
        }
        let seconds = whole.parse().ok().filter(|seconds| *seconds <= MAX_SECONDS);
        let Some(seconds) = seconds else { return self.out_of_range(mistakes) };
        let nanos = format!("{decimals:0<9}").parse().unwrap_or(0);
        Some(Duration::new(seconds, nanos))
    }

    fn out_of_range<T>(&self, mistakes: &mut Mistakes) -> Option<T> {
        self.wrong(mistakes, format!("seconds must be in the range [0, {MAX_SECONDS}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn duration(text: &str) -> Result<Duration, String> {
        let value = Value::String(text.to_owned());
        let mut mistakes = Mistakes::default();
        let field = Field { value: &value, path: "d".into() };
        field.duration(&mut mistakes).ok_or_else(|| mistakes.to_string())
    }

    #[test]
    fn durations_are_protobufs() {
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0.000000001s"), Ok(Duration::from_nanos(1)));
        assert_eq!(duration("10.s"), Ok(Duration::from_secs(10)));
        for wrong in ["", "1", "s", "1 s", "+1s", "1e3s", ".5s", "1.5.5s", "0.0000000001s", "-1s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            duration("315576000001s"),
            Err("field:d error:seconds must be in the range [0, 315576000000]".into())
        );
    }

    proptest! {
        #[test]
        fn what_protobuf_writes_is_read(seconds in 0..=MAX_SECONDS, nanos in 0u32..1_000_000_000) {
            let text = format!("{seconds}.{nanos:09}s");
            prop_assert_eq!(duration(&text), Ok(Duration::new(seconds, nanos)));
        }

        #[test]
        fn nothing_makes_it_panic(text in ".*") {
            let _ = duration(&text);
        }
    }
}
