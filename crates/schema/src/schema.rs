//! A set of descriptors with the gaps in it.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use prost::Message as _;
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use prost_types::{FileDescriptorProto, FileDescriptorSet};

use crate::assemble::assemble;
use crate::find::is_infrastructure;

/// How the names of the files that hold placeholders begin.
pub(crate) const PLACEHOLDER: &str = "placeholder:";

/// Descriptors of services and messages, and what is missing among them.
///
/// A type that is imported from a file that nobody could provide is represented by an empty placeholder, so that everything
/// else stays usable. [`Schema::check`] tells whether a method needs a placeholder.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub(crate) pool: DescriptorPool,
    /// Full names of placeholder types, each with its gap.
    pub(crate) placeholders: BTreeMap<String, Gap>,
    pub(crate) gaps: Vec<Gap>,
    /// The files as they were given, by name: what a merge starts from.
    pub(crate) sources: BTreeMap<String, FileDescriptorProto>,
}

/// A file that is missing or broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct Gap {
    /// The file's name, as it is imported.
    pub file: String,
    /// Why it is not there.
    pub reason: String,
}

/// A method cannot be called as JSON, because its messages need a type of a file that is missing or broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("method {method} needs type {type_name}, whose file is not available: {gap}")]
pub struct Incomplete {
    /// The method's full name.
    pub method: String,
    /// The type's full name.
    pub type_name: String,
    /// The file that should define it.
    pub gap: Gap,
}

/// Descriptors could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The octets are not a `FileDescriptorSet`.
    #[error("not a FileDescriptorSet (as written by `protoc --include_imports -o FILE`): {0}")]
    NotADescriptorSet(prost::DecodeError),
    /// A `.proto` file does not compile.
    #[error("{0}")]
    Compile(String),
}

impl Schema {
    /// Assembles a schema of files in any order. Missing and broken ones become [`Schema::gaps`].
    pub fn from_files(files: impl IntoIterator<Item = FileDescriptorProto>) -> Self {
        let mut sources = BTreeMap::new();
        for file in files {
            sources.entry(file.name().to_owned()).or_insert(file);
        }
        assemble(sources, BTreeMap::new())
    }

    /// Reads a serialized `google.protobuf.FileDescriptorSet`.
    pub fn from_descriptor_set(octets: &[u8]) -> Result<Self, LoadError> {
        let set = FileDescriptorSet::decode(octets).map_err(LoadError::NotADescriptorSet)?;
        Ok(Self::from_files(set.file))
    }

    /// Compiles `.proto` files, whose imports are looked for in `import_paths`.
    pub fn from_proto_files<P: AsRef<Path>, I: AsRef<Path>>(
        files: &[P],
        import_paths: &[I],
    ) -> Result<Self, LoadError> {
        let set = protox::compile(files.iter(), import_paths.iter())
            .map_err(|error| LoadError::Compile(compile_error(&error)))?;
        Ok(Self::from_files(set.file))
    }

    /// Adds the files of `other` that this schema lacks; a file that fills a gap makes the methods that need it usable.
    pub fn merge(&mut self, other: &Self) {
        let mut sources = std::mem::take(&mut self.sources);
        for (name, file) in &other.sources {
            sources.entry(name.clone()).or_insert_with(|| file.clone());
        }
        let known: BTreeMap<_, _> =
            self.gaps.iter().map(|gap| (gap.file.clone(), gap.reason.clone())).collect();
        *self = assemble(sources, known);
    }

    /// Returns the descriptors, placeholders included.
    pub fn pool(&self) -> &DescriptorPool {
        &self.pool
    }

    /// Returns the services in the order of their names; reflection, health and the like only if asked for.
    pub fn services(&self, infrastructure: bool) -> Vec<ServiceDescriptor> {
        let mut services: Vec<_> = self
            .pool
            .services()
            .filter(|service| infrastructure || !is_infrastructure(service.full_name()))
            .collect();
        services.sort_by(|left, right| left.full_name().cmp(right.full_name()));
        services
    }

    /// Returns a file as it was given, by its name.
    pub fn file(&self, name: &str) -> Option<&FileDescriptorProto> {
        self.sources.get(name).or_else(|| {
            let mut files = self.pool.file_descriptor_protos();
            files.find(|file| file.name() == name && !name.starts_with(PLACEHOLDER))
        })
    }

    /// Returns the name of the file that defines a service, a method, a type or an extension.
    pub fn file_of_symbol(&self, symbol: &str) -> Option<String> {
        let pool = &self.pool;
        let file = |name: &str| {
            pool.get_service_by_name(name)
                .map(|found| found.parent_file())
                .or_else(|| pool.get_message_by_name(name).map(|found| found.parent_file()))
                .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
                .or_else(|| pool.get_extension_by_name(name).map(|found| found.parent_file()))
        };
        let found = file(symbol).or_else(|| {
            // `package.Service.Method` and `package.Message.field` lie where their parents do.
            let (parent, child) = symbol.rsplit_once('.')?;
            let is_child = pool
                .get_service_by_name(parent)
                .is_some_and(|service| service.methods().any(|method| method.name() == child))
                || pool
                    .get_message_by_name(parent)
                    .is_some_and(|message| message.get_field_by_name(child).is_some());
            if is_child { file(parent) } else { None }
        })?;
        let name = found.name().to_owned();
        (!name.starts_with(PLACEHOLDER)).then_some(name)
    }

    /// Returns the files that are missing or broken.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Returns `Ok` if all types that the method's messages consist of are known.
    pub fn check(&self, method: &MethodDescriptor) -> Result<(), Incomplete> {
        if self.placeholders.is_empty() {
            return Ok(());
        }
        let mut seen = HashSet::new();
        let missing = self
            .first_placeholder(method.input(), &mut seen)
            .or_else(|| self.first_placeholder(method.output(), &mut seen));
        match missing {
            None => Ok(()),
            Some((type_name, gap)) => Err(Incomplete {
                method: method.full_name().to_owned(),
                type_name,
                gap: gap.clone(),
            }),
        }
    }

    fn first_placeholder(
        &self,
        message: MessageDescriptor,
        seen: &mut HashSet<String>,
    ) -> Option<(String, &Gap)> {
        let mut waiting = vec![message];
        while let Some(message) = waiting.pop() {
            let name = message.full_name();
            if !seen.insert(name.to_owned()) {
                continue;
            }
            if let Some(gap) = self.placeholders.get(name) {
                return Some((name.to_owned(), gap));
            }
            for field in message.fields() {
                match field.kind() {
                    Kind::Message(message) => waiting.push(message),
                    Kind::Enum(kind) => {
                        if let Some(gap) = self.placeholders.get(kind.full_name()) {
                            return Some((kind.full_name().to_owned(), gap));
                        }
                    }
                    _ => {}
                }
            }
        }
        None
    }

    /// Returns the files as they were given, as a serialized `FileDescriptorSet`: what `--protoset` and
    /// [`Schema::from_descriptor_set`] read.
    pub fn to_descriptor_set(&self) -> Vec<u8> {
        // Imports come before what imports them, as protoc writes them.
        let file = self
            .pool
            .files()
            .filter_map(|file| self.sources.get(file.name()).cloned())
            .collect::<Vec<_>>();
        FileDescriptorSet { file }.encode_to_vec()
    }
}

fn compile_error(error: &protox::Error) -> String {
    match error.file() {
        Some(file) => format!("{}: {error}", file),
        None => error.to_string(),
    }
}
