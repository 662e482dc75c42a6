//! What a user writes to name a server (gRPC naming.md).

use crate::address::Address;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of a name without one: gRPC's default.
const DEFAULT_PORT: u16 = 443;

/// A name server's port.
const DNS_PORT: u16 = 53;

/// Where a channel leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Addresses, to be tried in this order; none for a target without a name.
    Addresses(Vec<Address>),
    /// A name that has to be looked up.
    Name {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// The name server to ask, where the target names one.
        server: Option<SocketAddr>,
    },
}

/// A target that cannot be understood; says what to write instead where that is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetError(String);

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Reads a target: `host:port`, `dns:///host:port`, `dns://name-server/host:port`, `ipv4:a:p,b:p`, `ipv6:[a]:p`, `unix:path`, `unix:///path`,
    /// `unix-abstract:name`.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.is_empty() {
            // Programs make such a channel where none is needed: it is their calls that lead nowhere.
            return Ok(Self::Addresses(Vec::new()));
        }
        if let Some((scheme @ ("http" | "https"), rest)) = text.split_once("://") {
            let host = rest.split(['/', '?']).next().unwrap_or_default();
            let credentials = match scheme {
                "http" => "insecure_channel",
                _ => "secure_channel with ssl_channel_credentials()",
            };
            return Err(TargetError(format!(
                "'{text}' is a URL, not a gRPC target: write '{host}' and use {credentials}"
            )));
        }
        match text.split_once(':') {
            Some(("unix", path)) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() {
                    return Err(TargetError(format!("'{text}' names no file")));
                }
                Ok(Self::Addresses(vec![Address::Unix(path.into())]))
            }
            Some(("unix-abstract", name)) => {
                Ok(Self::Addresses(vec![Address::UnixAbstract(name.as_bytes().to_vec())]))
            }
            Some((scheme @ ("ipv4" | "ipv6"), list)) => {
                let list = list.strip_prefix("///").or(list.strip_prefix('/')).unwrap_or(list);
                let addresses: Result<_, _> =
                    list.split(',').map(|address| literal(address, scheme, text)).collect();
                Ok(Self::Addresses(addresses?))
            }
            Some(("dns" | "passthrough", rest)) => {
                let (authority, name) = match rest.strip_prefix("//") {
                    Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
                    None => ("", rest),
                };
                let mut target = Self::host_and_port(name, text)?;
                if let Self::Name { server, .. } = &mut target {
                    *server = name_server(authority, text)?;
                }
                Ok(target)
            }
            _ => Self::host_and_port(text, text),
        }
    }

    /// The `:authority` that stands for this target unless told otherwise.
    pub fn authority(text: &str) -> String {
        match text.split_once(':') {
            Some(("unix" | "unix-abstract", _)) => "localhost".into(),
            Some(("dns" | "passthrough" | "ipv4" | "ipv6", rest)) => {
                let rest = match rest.strip_prefix("//") {
                    Some(rest) => rest.split_once('/').map_or(rest, |(_, name)| name),
                    None => rest,
                };
                rest.split(',').next().unwrap_or(rest).into()
            }
            _ => text.into(),
        }
    }

    /// The host of an authority: what stands before the port.
    pub fn host(authority: &str) -> &str {
        match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, _)) => host,
            None if authority.matches(':').count() == 1 => {
                authority.split_once(':').map_or(authority, |(host, _)| host)
            }
            None => authority,
        }
    }

    fn host_and_port(name: &str, text: &str) -> Result<Self, TargetError> {
        let (host, port) = split(name, text)?;
        // RFC 6761 §6.3: localhost is the loopback, whoever is asked.
        if host.eq_ignore_ascii_case("localhost") {
            let loopback = [IpAddr::from(Ipv6Addr::LOCALHOST), Ipv4Addr::LOCALHOST.into()];
            let addresses = loopback.map(|ip| Address::Tcp((ip, port).into()));
            return Ok(Self::Addresses(addresses.into()));
        }
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => Self::Addresses(vec![Address::Tcp((ip, port).into())]),
            Err(_) => Self::Name { host: host.into(), port, server: None },
        })
    }
}

/// Reads `dns://authority/…`: a name server's IP address, with a port or without.
fn name_server(authority: &str, text: &str) -> Result<Option<SocketAddr>, TargetError> {
    if authority.is_empty() {
        return Ok(None);
    }
    let bare = authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = bare.unwrap_or(authority).parse::<IpAddr>() {
        return Ok(Some((ip, DNS_PORT).into()));
    }
    authority.parse().map(Some).map_err(|_| {
        TargetError(format!("'{authority}' in '{text}' is no name server: write its IP address"))
    })
}

fn literal(address: &str, scheme: &str, text: &str) -> Result<Address, TargetError> {
    let (host, port) = split(address, text)?;
    let ip: Option<IpAddr> = match scheme {
        "ipv4" => host.parse::<Ipv4Addr>().ok().map(Into::into),
        _ => host.parse::<Ipv6Addr>().ok().map(Into::into),
    };
    let ip =
        ip.ok_or_else(|| TargetError(format!("'{address}' in '{text}' is no {scheme} address")))?;
    Ok(Address::Tcp(SocketAddr::new(ip, port)))
}

/// Splits `host:port`, `[v6]:port`, `host`, `v6`.
fn split<'a>(name: &'a str, text: &str) -> Result<(&'a str, u16), TargetError> {
    let wrong = || TargetError(format!("'{text}' is no gRPC target; write host:port"));
    let (host, port) = if let Some(rest) = name.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        match rest {
            "" => (host, None),
            _ => (host, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        }
    } else if name.matches(':').count() > 1 {
        (name, None) // a bare IPv6 address
    } else {
        name.split_once(':').map_or((name, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() || host.contains([' ', ',']) {
        return Err(wrong());
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().map_err(|_| wrong())?,
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(addresses: &[&str]) -> Target {
        let address = |text: &&str| Address::Tcp(text.parse().unwrap());
        Target::Addresses(addresses.iter().map(address).collect())
    }

    fn name(host: &str, port: u16) -> Target {
        Target::Name { host: host.into(), port, server: None }
    }

    fn asking(server: &str) -> Target {
        let server = Some(server.parse().unwrap());
        Target::Name { host: "example.com".into(), port: 80, server }
    }

    #[test]
    fn targets_of_all_kinds() {
        for (text, target) in [
            ("", tcp(&[])),
            ("127.0.0.1:80", tcp(&["127.0.0.1:80"])),
            ("[::1]:80", tcp(&["[::1]:80"])),
            ("::1", tcp(&["[::1]:443"])),
            ("localhost:80", tcp(&["[::1]:80", "127.0.0.1:80"])),
            ("example.com:80", name("example.com", 80)),
            ("example.com", name("example.com", 443)),
            // No name at all, but that is for who looks it up to say.
            ("some/path", name("some/path", 443)),
            ("dns:///example.com:80", name("example.com", 80)),
            ("dns:example.com:80", name("example.com", 80)),
            ("dns://8.8.8.8/example.com:80", asking("8.8.8.8:53")),
            ("dns://8.8.8.8:5353/example.com:80", asking("8.8.8.8:5353")),
            ("dns://[::1]/example.com:80", asking("[::1]:53")),
            ("dns://[::1]:5353/example.com:80", asking("[::1]:5353")),
            ("dns://8.8.8.8/10.0.0.1:80", tcp(&["10.0.0.1:80"])),
            ("ipv4:10.0.0.1:1,10.0.0.2:2", tcp(&["10.0.0.1:1", "10.0.0.2:2"])),
            ("ipv6:[::1]:1,[::2]:2", tcp(&["[::1]:1", "[::2]:2"])),
            ("unix:rel/path", Target::Addresses(vec![Address::Unix("rel/path".into())])),
            ("unix:///abs", Target::Addresses(vec![Address::Unix("/abs".into())])),
            ("unix-abstract:n", Target::Addresses(vec![Address::UnixAbstract(b"n".into())])),
        ] {
            assert_eq!(Target::parse(text), Ok(target), "{text}");
        }
    }

    #[test]
    fn a_url_is_told_what_to_write() {
        let hint = |text| Target::parse(text).unwrap_err().to_string();
        assert!(hint("http://host:80/x").contains("write 'host:80' and use insecure_channel"));
        assert!(hint("https://host").contains("secure_channel"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "host:port",
            "host:99999",
            "[::1",
            "[::1]x",
            "unix:",
            "ipv4:::1",
            ":80",
            "dns://ns.test/x:80",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn authorities() {
        for (text, authority) in [
            ("host:80", "host:80"),
            ("dns:///host:80", "host:80"),
            ("dns://server/host:80", "host:80"),
            ("unix:/a", "localhost"),
            ("ipv4:1.2.3.4:5,1.2.3.5:6", "1.2.3.4:5"),
        ] {
            assert_eq!(Target::authority(text), authority);
        }
    }

    #[test]
    fn hosts() {
        for (authority, host) in [
            ("host:80", "host"),
            ("host", "host"),
            ("[::1]:80", "::1"),
            ("::1", "::1"),
            ("1.2.3.4:5", "1.2.3.4"),
        ] {
            assert_eq!(Target::host(authority), host);
        }
    }
}
