//! The gateway's environment variables, as flags: they are put before the command line's own, which therefore win.
//!
//! The names are those of the platform's deployments; `:` and `__` part the levels of a name alike.

use std::ffi::OsString;

/// Variables with one value, and their flags.
const SINGLE: [(&str, &str); 5] = [
    ("HttpPort", "http-port"),
    ("GrpcPort", "grpc-port"),
    ("ServicesConfigPath", "services"),
    ("Grpc:DefaultTimeoutSeconds", "default-timeout"),
    ("Logging:LogLevel:Default", "log-level"),
];

/// Returns the flags that the environment stands for.
pub(crate) fn flags(variables: impl Iterator<Item = (OsString, OsString)>) -> Vec<OsString> {
    let mut flags = Vec::new();
    let mut variables: Vec<(String, String)> = variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .map(|(name, value)| (name.replace("__", ":"), value))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    variables.sort();
    for (name, value) in variables {
        let single = SINGLE.iter().find(|(known, _)| *known == name);
        if let Some((_, flag)) = single {
            let value = if *flag == "log-level" { level(&value) } else { value };
            flags.push(format!("--{flag}={value}").into());
        } else if let Some(key) = name.strip_prefix("ApiAuth:Keys:") {
            flags.push(format!("--api-key={key}={value}").into());
        } else if name.strip_prefix("Cors:AllowedOrigins:").is_some() {
            flags.push(format!("--cors-origin={value}").into());
        }
    }
    flags
}

/// The names of .NET's levels.
fn level(name: &str) -> String {
    match name {
        "Trace" => "trace",
        "Debug" => "debug",
        "Information" => "info",
        "Warning" => "warn",
        "Error" | "Critical" => "error",
        "None" => "off",
        other => other,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_flags() {
        let variables = [
            ("GrpcPort", "6002"),
            ("ApiAuth__Keys__alice", "s=1"),
            ("Cors:AllowedOrigins:0", "https://a.example"),
            ("Cors__AllowedOrigins__1", "https://b.example"),
            ("Logging__LogLevel__Default", "Information"),
            ("Grpc__DefaultTimeoutSeconds", "5"),
            ("HttpPort", ""),
            ("PATH", "/bin"),
        ];
        let flags = flags(variables.iter().map(|(name, value)| (name.into(), value.into())));
        assert_eq!(
            flags,
            [
                "--api-key=alice=s=1",
                "--cors-origin=https://a.example",
                "--cors-origin=https://b.example",
                "--default-timeout=5",
                "--grpc-port=6002",
                "--log-level=info",
            ]
        );
    }
}
