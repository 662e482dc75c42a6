//! How methods and services are named by people: `Method`, `Service.Method`, `package.Service/Method`.

use http::uri::PathAndQuery;
use prost_reflect::{MethodDescriptor, ServiceDescriptor};

use crate::Schema;

/// Services that belong to the infrastructure of gRPC rather than to an application.
const INFRASTRUCTURE: [&str; 4] =
    ["grpc.reflection.", "grpc.health.", "grpc.channelz.", "grpc.admin."];

/// Returns whether a service is reflection, health or the like.
pub fn is_infrastructure(service: &str) -> bool {
    INFRASTRUCTURE.iter().any(|prefix| service.starts_with(prefix))
}

/// Returns the path of a call to the method: `/package.Service/Method`.
pub fn path(method: &MethodDescriptor) -> PathAndQuery {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    // Identifiers and dots are valid in a path; "/" stands where a descriptor has other names.
    PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/"))
}

/// A name that no method, or more than one, has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodNotFound {
    /// No method has it.
    Unknown {
        /// The name that was looked for.
        name: String,
        /// Full names of methods that are similar, nearest first.
        similar: Vec<String>,
    },
    /// Methods of several services have it.
    Ambiguous {
        /// The name that was looked for.
        name: String,
        /// Their full names.
        candidates: Vec<String>,
    },
}

impl std::error::Error for MethodNotFound {}

impl std::fmt::Display for MethodNotFound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown { name, similar } if similar.is_empty() => {
                write!(formatter, "no method {name:?}")
            }
            Self::Unknown { name, similar } => {
                write!(formatter, "no method {name:?}; similar: {}", similar.join(", "))
            }
            Self::Ambiguous { name, candidates } => {
                write!(
                    formatter,
                    "method {name:?} is ambiguous, name one of: {}",
                    candidates.join(", ")
                )
            }
        }
    }
}

impl Schema {
    /// Finds a service by its full name, or by its last part if that is unique.
    pub fn find_service(&self, name: &str) -> Option<ServiceDescriptor> {
        self.pool().get_service_by_name(name).or_else(|| {
            let mut matching = self.pool().services().filter(|service| service.name() == name);
            matching.next().filter(|_| matching.next().is_none())
        })
    }

    /// Finds a method by `Method`, `Service.Method` or `package.Service.Method`; the last dot may be a slash, and a path's
    /// leading slash is ignored. A short name must be unique; application services take precedence over infrastructure.
    pub fn find_method(&self, name: &str) -> Result<MethodDescriptor, MethodNotFound> {
        let trimmed = name.strip_prefix('/').unwrap_or(name);
        let (service, method) = match trimmed.rsplit_once('/').or_else(|| trimmed.rsplit_once('.'))
        {
            Some((service, method)) => (Some(service), method),
            None => (None, trimmed),
        };
        let mut candidates: Vec<MethodDescriptor> = self
            .pool()
            .services()
            .filter(|candidate| service.is_none_or(|service| names(candidate, service)))
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .filter(|candidate| candidate.name() == method)
            .collect();
        if candidates.len() > 1 {
            // A full name beats another service's suffix.
            if let Some(exact) = candidates
                .iter()
                .find(|candidate| Some(candidate.parent_service().full_name()) == service)
            {
                return Ok(exact.clone());
            }
            candidates
                .retain(|candidate| !is_infrastructure(candidate.parent_service().full_name()));
        }
        match candidates.len() {
            1 => Ok(candidates.remove(0)),
            0 => Err(MethodNotFound::Unknown {
                name: name.to_owned(),
                similar: self.similar(method),
            }),
            _ => Err(MethodNotFound::Ambiguous {
                name: name.to_owned(),
                candidates: candidates
                    .iter()
                    .map(|candidate| candidate.full_name().to_owned())
                    .collect(),
            }),
        }
    }

    fn similar(&self, method: &str) -> Vec<String> {
        let wanted = method.to_lowercase();
        let mut near: Vec<(usize, String)> = self
            .services(false)
            .iter()
            .flat_map(|service| service.methods().collect::<Vec<_>>())
            .map(|candidate| {
                let distance = distance(&candidate.name().to_lowercase(), &wanted);
                (distance, candidate.full_name().to_owned())
            })
            .filter(|(distance, _)| *distance <= 1 + wanted.chars().count() / 3)
            .collect();
        near.sort();
        near.into_iter().take(3).map(|(_, name)| name).collect()
    }
}

fn names(service: &ServiceDescriptor, name: &str) -> bool {
    let full_name = service.full_name();
    full_name == name || full_name.strip_suffix(name).is_some_and(|package| package.ends_with('.'))
}

/// Returns the Levenshtein distance of two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}
