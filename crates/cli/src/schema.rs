//! The schema of a command: descriptors in files first, then what the server's reflection adds.
//!
//! Reflection is asked only for what is needed, and only if the files do not have it. A type that turns up in an answer and is
//! not known yet, such as an error detail's, is fetched then.

use oxgrpc_schema::code_name;
use oxgrpc_schema::prost_reflect::MethodDescriptor;
use oxgrpc_schema::{ReflectionClient, ReflectionError, Schema};
use tonic::Code;

use crate::arguments::SchemaArguments;
use crate::connect::Connection;
use crate::failure::{Failure, Kind};
use crate::metadata::Headers;
use crate::trace::Trace;

/// Where descriptors come from, and those that were learned.
pub(crate) struct Sources<'a> {
    pub(crate) schema: Schema,
    arguments: &'a SchemaArguments,
    connection: Option<(Connection, Headers)>,
    reflection: Option<ReflectionClient>,
    trace: &'a Trace,
}

impl<'a> Sources<'a> {
    /// Reads the files that the flags name.
    pub(crate) async fn read(
        arguments: &'a SchemaArguments,
        header: &Headers,
        connection: Option<Connection>,
        trace: &'a Trace,
    ) -> Result<Self, Failure> {
        let mut schema = Schema::default();
        for path in &arguments.protoset {
            let octets = std::fs::read(path)
                .map_err(|error| Failure::io(format!("--protoset {}: {error}", path.display())))?;
            let set = Schema::from_descriptor_set(&octets).map_err(|error| {
                Failure::schema(format!("--protoset {}: {error}", path.display()))
            })?;
            schema.merge(&set);
        }
        if !arguments.proto.is_empty() {
            let mut roots = arguments.import_path.clone();
            if roots.is_empty() {
                roots.push(".".into());
            }
            let files = arguments.proto.iter().map(|path| under(&roots, path)).collect::<Vec<_>>();
            let compiled = Schema::from_proto_files(&files, &roots).map_err(|error| {
                Failure::schema(format!("--proto: {error}"))
                    .hint("--import-path DIR says where files and their imports lie")
            })?;
            schema.merge(&compiled);
        }
        let connection = match connection {
            Some(connection) if !arguments.no_reflection => {
                let own = Headers::read(&arguments.reflect_header).await?;
                Some((connection, header.clone().with(&own)))
            }
            _ => None,
        };
        Ok(Self { schema, arguments, connection, reflection: None, trace })
    }

    /// The server's reflection; `None` if it is not to be asked.
    async fn reflection(&mut self) -> Result<Option<&mut ReflectionClient>, Failure> {
        let Some((connection, headers)) = &self.connection else { return Ok(None) };
        if self.reflection.is_none() {
            let client = ReflectionClient::connect(connection.clone(), &headers.map)
                .await
                .map_err(|error| reflection_failure(&error))?;
            self.trace.mark("reflection", || format!("{} services", client.services().len()));
            self.reflection = Some(client);
        }
        Ok(self.reflection.as_mut())
    }

    /// Fetches the files of `symbols` and adds them.
    async fn fetch(&mut self, symbols: &[String]) -> Result<(), Failure> {
        let Some(client) = self.reflection().await? else { return Ok(()) };
        let fetched =
            client.schema_of(symbols).await.map_err(|error| reflection_failure(&error))?;
        self.schema.merge(&fetched);
        self.trace.mark("schema", || symbols.join(", "));
        Ok(())
    }

    /// The names of all services, sorted.
    pub(crate) async fn service_names(&mut self) -> Result<Vec<String>, Failure> {
        let mut names: Vec<String> = self
            .schema
            .services(true)
            .iter()
            .map(|service| service.full_name().to_owned())
            .collect();
        match self.reflection().await {
            Ok(Some(client)) => names.extend(client.services().iter().cloned()),
            Ok(None) => {}
            // What files say stands without the server.
            Err(failure) if names.is_empty() => return Err(failure),
            Err(_) => {}
        }
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Learns everything that the server's services need.
    pub(crate) async fn learn_all(&mut self) -> Result<(), Failure> {
        let names = self.service_names().await?;
        let missing: Vec<String> =
            names.into_iter().filter(|name| !self.has_service(name)).collect();
        if missing.is_empty() { Ok(()) } else { self.fetch(&missing).await }
    }

    fn has_service(&self, name: &str) -> bool {
        self.schema.pool().get_service_by_name(name).is_some()
    }

    /// Finds a method, and asks the server for its service if the files do not have it.
    pub(crate) async fn method(&mut self, name: &str) -> Result<MethodDescriptor, Failure> {
        let usable = |schema: &Schema| {
            schema.find_method(name).ok().filter(|method| schema.check(method).is_ok())
        };
        if let Some(method) = usable(&self.schema) {
            return Ok(method);
        }
        let trimmed = name.strip_prefix('/').unwrap_or(name);
        let service = trimmed.rsplit_once(['/', '.']).map(|(service, _)| service.to_owned());
        let mut candidates = Vec::new();
        if let Some(client) = self.reflection().await? {
            candidates = match &service {
                Some(service) => client
                    .services()
                    .iter()
                    .filter(|known| {
                        *known == service
                            || known
                                .strip_suffix(service.as_str())
                                .is_some_and(|package| package.ends_with('.'))
                    })
                    .cloned()
                    .collect(),
                None => client.services().to_vec(),
            };
        }
        if candidates.is_empty()
            && let Some(service) = &service
            && self.schema.find_service(service).is_none()
        {
            let known = self.service_names().await.unwrap_or_default();
            let failure = Failure::schema(format!("there is no service `{service}`"));
            return Err(if known.is_empty() {
                failure.hint("--protoset FILE or --proto FILE tell what the server does not")
            } else {
                failure.hint(format!("the services are {}", known.join(", ")))
            });
        }
        if !candidates.is_empty() {
            self.fetch(&candidates).await?;
        }
        let method =
            self.schema.find_method(name).map_err(|error| self.not_found(&error.to_string()))?;
        self.schema.check(&method).map_err(|error| {
            Failure::schema(error.to_string()).hint(
                "--proto FILE with --import-path DIR, or --protoset FILE, add the missing file",
            )
        })?;
        Ok(method)
    }

    fn not_found(&self, error: &str) -> Failure {
        let failure = Failure::schema(error);
        match self.schema.gaps() {
            [] => failure.hint("`oxgrpc list ADDRESS SERVICE` lists a service's methods"),
            gaps => {
                let gaps: Vec<_> = gaps.iter().map(ToString::to_string).collect();
                failure.hint(format!("descriptors are missing: {}", gaps.join("; ")))
            }
        }
    }

    /// Makes sure that a message, enum, service or method of this name is known, if anybody knows it.
    pub(crate) async fn learn(&mut self, symbol: &str) -> Result<(), Failure> {
        if self.knows(symbol) {
            return Ok(());
        }
        self.fetch(&[symbol.to_owned()]).await
    }

    /// Returns true if a message of this name is known, google.rpc's and the well-known types among them.
    pub(crate) fn knows(&self, symbol: &str) -> bool {
        let pool = self.schema.pool();
        pool.get_message_by_name(symbol).is_some()
            || pool.get_enum_by_name(symbol).is_some()
            || pool.get_service_by_name(symbol).is_some()
            || oxgrpc_schema::details::builtin().get_message_by_name(symbol).is_some()
    }

    /// Does what `--save-schema` asks for.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let Some(path) = &self.arguments.save_schema else { return Ok(()) };
        std::fs::write(path, self.schema.to_descriptor_set())
            .map_err(|error| Failure::io(format!("--save-schema {}: {error}", path.display())))
    }
}

/// A `--proto` file as it is imported: relative to the import path that it lies under.
fn under(roots: &[std::path::PathBuf], path: &std::path::Path) -> std::path::PathBuf {
    roots
        .iter()
        .find_map(|root| path.strip_prefix(root).ok())
        .map_or_else(|| path.to_owned(), std::path::Path::to_owned)
}

fn reflection_failure(error: &ReflectionError) -> Failure {
    match error {
        ReflectionError::Unsupported => {
            Failure::schema("the server has no reflection, so its schema is not known")
                .hint("--protoset FILE or --proto FILE give the schema")
        }
        ReflectionError::Failed(status) => {
            let failure = Failure::new(
                match status.code() {
                    Code::Unauthenticated | Code::PermissionDenied => Kind::Rpc(status.code()),
                    _ => Kind::Schema,
                },
                format!(
                    "reflection failed with {}: {}",
                    code_name(status.code()),
                    status.message()
                ),
            );
            match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => failure.hint(
                    "-H 'name: value' sends credentials, --reflect-header to reflection only",
                ),
                _ => failure.hint("--protoset FILE or --proto FILE give the schema instead"),
            }
        }
    }
}
