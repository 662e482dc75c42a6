//! Profiles: named sets of flags in a TOML file.
//!
//! A profile is a table whose keys are `address` and the names of flags that every calling command has. They are put before the
//! command line's own flags, which therefore win; repeated flags such as `header` add up. Paths are relative to the file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Command, ValueHint};
use toml::{Table, Value};

use crate::failure::Failure;

/// The file of profiles: `$OXGRPC_CONFIG`, or `oxgrpc/profiles.toml` in the user's configuration.
pub(super) fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("OXGRPC_CONFIG") {
        return Some(path.into());
    }
    let base = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(base.join("oxgrpc/profiles.toml"))
}

/// Inserts the flags of the profile that the command line, or else `$OXGRPC_PROFILE`, names.
pub(super) fn apply(command: &Command, mut line: Vec<OsString>) -> Result<Vec<OsString>, Failure> {
    // The commands that call servers have the flag; a profile in the environment is nothing to the others.
    let Some(subcommand) = line
        .get(1)
        .and_then(|word| command.find_subcommand(word))
        .filter(|subcommand| find(subcommand, "profile").is_some())
    else {
        return Ok(line);
    };
    let Some(name) = named(&line).or_else(|| std::env::var("OXGRPC_PROFILE").ok()) else {
        return Ok(line);
    };
    let path = path().ok_or_else(|| {
        Failure::usage(format!("--profile {name}: there is no home directory"))
            .hint("OXGRPC_CONFIG=FILE names the file of profiles")
    })?;
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::usage(format!("--profile {name}: {}: {error}", path.display()))
    })?;
    let mut profiles: Table = toml::from_str(&text).map_err(|error| {
        Failure::usage(format!("{}: {}", path.display(), error.to_string().trim_end()))
    })?;
    let Some(Value::Table(profile)) = profiles.remove(&name) else {
        let names: Vec<_> = profiles.keys().map(String::as_str).collect();
        return Err(Failure::usage(format!("{} has no profile `{name}`", path.display()))
            .hint(format!("it has {}", names.join(", "))));
    };
    let base = path.parent().unwrap_or(Path::new("."));
    let flags = flags(subcommand, base, &profile).map_err(|failure| Failure {
        message: format!("{}: profile `{name}`: {failure}", path.display()),
        ..failure
    })?;
    line.splice(2..2, flags);
    Ok(line)
}

/// The value of `--profile`.
fn named(line: &[OsString]) -> Option<String> {
    let words = || line.iter().map_while(|word| word.to_str()).take_while(|word| *word != "--");
    let mut next = words().skip(1);
    words().find_map(|word| {
        let following = next.next();
        match word.strip_prefix("--profile")? {
            "" => following.map(str::to_owned),
            rest => rest.strip_prefix('=').map(str::to_owned),
        }
    })
}

fn find<'c>(command: &'c Command, name: &str) -> Option<&'c clap::Arg> {
    command.get_arguments().find(|argument| argument.get_long() == Some(name))
}

fn flags(command: &Command, base: &Path, profile: &Table) -> Result<Vec<OsString>, Failure> {
    let mut flags = Vec::new();
    for (key, value) in profile {
        if key == "address" {
            let Value::String(address) = value else {
                return Err(Failure::usage("`address` is not a string"));
            };
            flags.push(format!("--default-address={address}").into());
            continue;
        }
        let argument = find(command, key)
            .filter(|argument| matches!(argument.get_help_heading(), Some("Connection" | "Schema")))
            .filter(|_| key != "profile")
            .ok_or_else(|| {
                Failure::usage(format!("`{key}` is not a flag that a profile can have")).hint(
                    "address, and the flags under Connection and Schema in `oxgrpc list --help`",
                )
            })?;
        let is_path = matches!(argument.get_value_hint(), ValueHint::FilePath | ValueHint::DirPath);
        let mut push = |text: String| {
            let mut flag = OsString::from(format!("--{key}="));
            if is_path {
                flag.push(base.join(text));
            } else {
                flag.push(text);
            }
            flags.push(flag);
        };
        match value {
            Value::Boolean(true) if matches!(argument.get_action(), ArgAction::SetTrue) => {
                flags.push(format!("--{key}").into());
            }
            Value::Boolean(false) if matches!(argument.get_action(), ArgAction::SetTrue) => {}
            Value::String(text) => push(text.clone()),
            Value::Integer(number) => push(number.to_string()),
            Value::Float(number) => push(number.to_string()),
            Value::Array(values) => {
                for value in values {
                    let Value::String(text) = value else {
                        return Err(Failure::usage(format!("`{key}` holds more than strings")));
                    };
                    push(text.clone());
                }
            }
            _ => return Err(Failure::usage(format!("`{key}` has a value of the wrong type"))),
        }
    }
    Ok(flags)
}
