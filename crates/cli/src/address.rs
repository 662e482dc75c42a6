//! Where a server is, as the user writes it: `host:port`, `unix:PATH`, or a URL whose scheme says whether TLS is used.
//!
//! The forms are those of gRPC's naming document (`dns:` and `unix:`), with `http` and `https` URLs beside them.

use std::path::PathBuf;

use crate::failure::Failure;

/// A server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) place: Place,
    /// What the scheme says of TLS; `None` leaves it to the flags.
    pub(crate) tls: Option<bool>,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Parses an address.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (rest, tls, default_port) = if let Some(rest) = text.strip_prefix("http://") {
            (rest, Some(false), 80)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (rest, Some(true), 443)
        } else {
            (text, None, 443)
        };
        if tls.is_none()
            && let Some(path) = rest.strip_prefix("unix:")
        {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(malformed(text, "the path is missing"));
            }
            return Ok(Self { place: Place::Unix(path.into()), tls });
        }
        let rest = match rest.strip_prefix("dns:") {
            Some(name) if tls.is_none() => name.strip_prefix("///").unwrap_or(name),
            _ => rest,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('/') {
            return Err(malformed(text, "a path is not part of a gRPC address"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| malformed(text, "the port is wrong"))?;
        if host.is_empty() {
            return Err(malformed(text, "the host is missing"));
        }
        Ok(Self {
            place: Place::Tcp { host: host.to_owned(), port: port.unwrap_or(default_port) },
            tls,
        })
    }

    /// The host without its port: the name that a certificate must have.
    pub(crate) fn host(&self) -> &str {
        match &self.place {
            Place::Tcp { host, .. } => host,
            Place::Unix(_) => "localhost",
        }
    }

    /// The `:authority` of requests.
    pub(crate) fn authority(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp { host, port } => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Tcp { .. } => formatter.write_str(&self.authority()),
            Place::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Returns true if `text` can only be an address: names of services and methods have no colon.
pub(crate) fn looks_like_address(text: &str) -> bool {
    text.contains(':')
}

fn malformed(text: &str, why: &str) -> Failure {
    Failure::usage(format!("`{text}` is not an address: {why}"))
        .hint("write host:port, [::1]:port, unix:PATH, http://host:port or https://host:port")
}

/// Splits `host:port`, `[v6]:port` or a bare host; `None` if the port is not a number up to 65535.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port.parse().ok()?))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: Option<bool>) -> Address {
        Address { place: Place::Tcp { host: host.into(), port }, tls }
    }

    #[test]
    fn reads_every_form() {
        for (text, want) in [
            ("localhost:5002", tcp("localhost", 5002, None)),
            ("example.org", tcp("example.org", 443, None)),
            ("[::1]:5002", tcp("::1", 5002, None)),
            ("::1", tcp("::1", 443, None)),
            ("dns:///a.b:1", tcp("a.b", 1, None)),
            ("http://a:5001/", tcp("a", 5001, Some(false))),
            ("https://a", tcp("a", 443, Some(true))),
            ("unix:/tmp/s", Address { place: Place::Unix("/tmp/s".into()), tls: None }),
            ("unix:///tmp/s", Address { place: Place::Unix("/tmp/s".into()), tls: None }),
        ] {
            assert_eq!(Address::parse(text).unwrap(), want, "{text}");
        }
        for text in ["a:b", "a:70000", "http://a/b", ":5", "unix:", "[::1"] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }
}
