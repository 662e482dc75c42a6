//! Request metadata from `-H 'name: value'`, with values that a command gives.
//!
//! `-H 'authorization: !print-token'` runs `print-token` with `sh -c` once a call and sends the output's first line. Neither
//! the command's output nor what comes with a name that usually carries secrets is ever printed.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tokio::process::Command;
use tonic::metadata::{
    AsciiMetadataKey, AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue, KeyAndValueRef,
    MetadataMap,
};

use crate::failure::Failure;

/// Request metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    pub(crate) map: MetadataMap,
    /// Names whose values are never printed.
    secret: Vec<String>,
}

/// Names whose values are secrets wherever they come from.
const SECRET_NAMES: [&str; 5] =
    ["authorization", "cookie", "proxy-authorization", "x-api-key", "x-auth-token"];

impl Headers {
    /// Reads `-H` values in their order, and runs the commands among them.
    pub(crate) async fn read(lines: &[String]) -> Result<Self, Failure> {
        let mut headers = Self::default();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                return Err(Failure::usage(format!("-H `{line}` has no colon"))
                    .hint("write -H 'name: value'"));
            };
            let name = name.trim().to_ascii_lowercase();
            let value = value.trim();
            if let Some(command) = value.strip_prefix('!') {
                let output = run(&name, command).await?;
                headers.secret.push(name.clone());
                headers.add(&name, &output)?;
            } else {
                headers.add(&name, value.strip_prefix("\\!").map_or(value, |_| &value[1..]))?;
            }
        }
        Ok(headers)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        if name.starts_with("grpc-") || matches!(name, "te" | "content-type" | "host") {
            return Err(Failure::usage(format!("-H `{name}`: gRPC itself sets this header"))
                .hint("--max-time sets the deadline, --authority the host"));
        }
        if name.ends_with("-bin") {
            let octets = STANDARD
                .decode(value)
                .or_else(|_| STANDARD_NO_PAD.decode(value))
                .map_err(|_| Failure::usage(format!("-H `{name}`: the value is not base64")))?;
            let key = BinaryMetadataKey::from_bytes(name.as_bytes())
                .map_err(|_| Failure::usage(format!("-H `{name}` is not a header name")))?;
            self.map.append_bin(key, BinaryMetadataValue::from_bytes(&octets));
        } else {
            let key = AsciiMetadataKey::from_bytes(name.as_bytes())
                .map_err(|_| Failure::usage(format!("-H `{name}` is not a header name")))?;
            let value = AsciiMetadataValue::try_from(value).map_err(|_| {
                Failure::usage(format!("-H `{name}`: the value is not printable ASCII"))
                    .hint("a name that ends in -bin takes any octets, in base64")
            })?;
            self.map.append(key, value);
        }
        Ok(())
    }

    /// Adds those of `other`.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        for entry in other.map.iter() {
            match entry {
                KeyAndValueRef::Ascii(key, value) => {
                    self.map.append(key, value.clone());
                }
                KeyAndValueRef::Binary(key, value) => {
                    self.map.append_bin(key, value.clone());
                }
            }
        }
        self.secret.extend(other.secret.iter().cloned());
        self
    }

    /// Returns `name: value` lines, secrets left out.
    pub(crate) fn printable(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, values) in by_name(&self.map) {
            for value in values {
                let secret = SECRET_NAMES.contains(&name.as_str()) || self.secret.contains(&name);
                lines.push(format!("{name}: {}", if secret { "(not shown)" } else { &value }));
            }
        }
        lines
    }
}

/// Metadata by name, in the order of first appearance; binary values in base64.
pub(crate) fn by_name(map: &MetadataMap) -> Vec<(String, Vec<String>)> {
    let mut names: Vec<(String, Vec<String>)> = Vec::new();
    for entry in map.iter() {
        let (name, value) = match entry {
            KeyAndValueRef::Ascii(key, value) => {
                (key.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            }
            KeyAndValueRef::Binary(key, value) => (
                key.as_str(),
                value.to_bytes().map_or_else(
                    |_| String::from_utf8_lossy(value.as_encoded_bytes()).into_owned(),
                    |octets| STANDARD.encode(octets),
                ),
            ),
        };
        match names.iter_mut().find(|(known, _)| known == name) {
            Some((_, values)) => values.push(value),
            None => names.push((name.to_owned(), vec![value])),
        }
    }
    names
}

/// Runs a header's command and returns the first line of its output.
async fn run(name: &str, command: &str) -> Result<String, Failure> {
    let output = Command::new("sh")
        .arg("-c")
        .arg(command)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Failure::usage(format!("-H `{name}`: sh cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Failure::usage(format!(
            "-H `{name}`: `{command}` ended with {}",
            output.status
        )));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| {
        Failure::usage(format!("-H `{name}`: the output of `{command}` is not UTF-8"))
    })?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Failure::usage(format!("-H `{name}`: `{command}` printed nothing"))),
    }
}
