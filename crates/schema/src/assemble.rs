//! Builds a pool of files that may be incomplete.
//!
//! Files are added after their imports. Where an import is missing or broken, the types that its importers take from it are
//! replaced by empty placeholders in files of their own.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use prost::Message as _;
use prost_reflect::DescriptorPool;
use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto,
    FileDescriptorProto, FileDescriptorSet,
};

use crate::schema::{Gap, PLACEHOLDER, Schema};

/// Assembles the files; `known` has reasons for files that are known to be missing.
pub(crate) fn assemble(
    sources: BTreeMap<String, FileDescriptorProto>,
    known: BTreeMap<String, String>,
) -> Schema {
    let builtin = builtin_files();
    let mut work = Assembly {
        sources: &sources,
        builtin: &builtin,
        known,
        pool: DescriptorPool::new(),
        added: HashSet::new(),
        begun: HashSet::new(),
        gaps: BTreeMap::new(),
        placeholders: BTreeMap::new(),
    };
    for name in sources.keys() {
        work.add(name);
    }
    // Error details and `Any` are decoded with these; a schema that defines the same names elsewhere keeps its own.
    for file in &builtin {
        if !sources.contains_key(file.name()) && !work.added.contains(file.name()) {
            let _ = work.pool.add_file_descriptor_proto(file.clone());
        }
    }
    let Assembly { pool, gaps, placeholders, .. } = work;
    Schema { pool, placeholders, gaps: gaps.into_values().collect(), sources }
}

/// Returns the well-known types and google.rpc's error details.
pub(crate) fn builtin_files() -> Vec<FileDescriptorProto> {
    let mut files: Vec<_> = DescriptorPool::global().file_descriptor_protos().cloned().collect();
    // A constant of the crate that is generated with it: it decodes, or its own tests fail.
    if let Ok(set) = FileDescriptorSet::decode(tonic_types::pb::FILE_DESCRIPTOR_SET) {
        for file in set.file {
            if files.iter().all(|known| known.name() != file.name()) {
                files.push(file);
            }
        }
    }
    files
}

struct Assembly<'a> {
    sources: &'a BTreeMap<String, FileDescriptorProto>,
    builtin: &'a [FileDescriptorProto],
    known: BTreeMap<String, String>,
    pool: DescriptorPool,
    added: HashSet<String>,
    begun: HashSet<String>,
    gaps: BTreeMap<String, Gap>,
    placeholders: BTreeMap<String, Gap>,
}

impl Assembly<'_> {
    /// Adds a file after its imports, and returns whether it is there.
    fn add(&mut self, name: &str) -> bool {
        if self.added.contains(name) {
            return true;
        }
        if !self.begun.insert(name.to_owned()) {
            return false;
        }
        let Some(file) =
            self.sources.get(name).or_else(|| self.builtin.iter().find(|file| file.name() == name))
        else {
            let reason = self.known.get(name).cloned().unwrap_or_else(|| "not found".to_owned());
            self.gap(name, reason);
            return false;
        };
        let mut missing = Vec::new();
        for import in &file.dependency {
            if !self.add(import) {
                self.gap(import, "imports itself".to_owned());
                missing.push(import.clone());
            }
        }
        let added = if missing.is_empty() {
            self.pool.add_file_descriptor_proto(file.clone())
        } else {
            let patched = self.patch(file, &missing);
            self.pool.add_file_descriptor_proto(patched)
        };
        match added {
            Ok(()) => {
                self.added.insert(name.to_owned());
                true
            }
            Err(error) => {
                self.gap(name, error.to_string());
                false
            }
        }
    }

    fn gap(&mut self, name: &str, reason: String) {
        self.gaps.entry(name.to_owned()).or_insert_with(|| Gap { file: name.to_owned(), reason });
    }

    /// Replaces missing imports by placeholders of the types that the file takes from them.
    fn patch(&mut self, file: &FileDescriptorProto, missing: &[String]) -> FileDescriptorProto {
        let mut patched = file.clone();
        let mut own = HashSet::new();
        own_types(file, &mut own);
        let mut wanted = BTreeMap::new();
        references(file, &mut |name, is_enum| {
            let Some(full_name) = name.strip_prefix('.') else { return };
            let known = own.contains(full_name)
                || self.pool.get_message_by_name(full_name).is_some()
                || self.pool.get_enum_by_name(full_name).is_some();
            if !known || self.placeholders.contains_key(full_name) {
                wanted.insert(full_name.to_owned(), is_enum);
            }
        });
        // Indices of public and weak imports count from the list's start, so it is rebuilt without them.
        patched.public_dependency.clear();
        patched.weak_dependency.clear();
        patched.dependency.retain(|import| !missing.contains(import));
        let public: Vec<String> = file
            .public_dependency
            .iter()
            .filter_map(|&index| file.dependency.get(usize::try_from(index).ok()?).cloned())
            .collect();
        for import in public {
            if let Some(index) = patched.dependency.iter().position(|kept| *kept == import) {
                patched.public_dependency.extend(i32::try_from(index));
            }
        }
        patched.extension.retain(|extension| {
            extension.extendee().strip_prefix('.').is_none_or(|name| !wanted.contains_key(name))
        });
        for message in &mut patched.message_type {
            clear_enum_defaults(message, &wanted);
        }
        // The descriptors do not say which import a type would have come from: the nearest name is a good guess, the
        // first one always true for a single missing import.
        let gap = |full_name: &str, gaps: &BTreeMap<String, Gap>| {
            let package = package_of(full_name);
            let guess = missing
                .iter()
                .find(|file| {
                    file.rsplit_once('/').is_some_and(|(dir, _)| dir.replace('/', ".") == package)
                })
                .unwrap_or(&missing[0]);
            gaps.get(guess)
                .cloned()
                .unwrap_or_else(|| Gap { file: guess.clone(), reason: "not found".to_owned() })
        };
        for (full_name, is_enum) in &wanted {
            let placeholder = format!("{PLACEHOLDER}{full_name}");
            if !self.placeholders.contains_key(full_name) {
                let package = package_of(full_name);
                let added = self.pool.add_file_descriptor_proto(placeholder_file(
                    &placeholder,
                    package,
                    full_name,
                    *is_enum,
                ));
                if added.is_err() {
                    continue;
                }
                self.placeholders.insert(full_name.clone(), gap(full_name, &self.gaps));
            }
            patched.dependency.push(placeholder);
        }
        patched
    }
}

fn package_of(full_name: &str) -> &str {
    full_name.rsplit_once('.').map_or("", |(package, _)| package)
}

fn placeholder_file(
    file: &str,
    package: &str,
    full_name: &str,
    is_enum: bool,
) -> FileDescriptorProto {
    let name = full_name.rsplit_once('.').map_or(full_name, |(_, name)| name).to_owned();
    let mut placeholder = FileDescriptorProto {
        name: Some(file.to_owned()),
        package: (!package.is_empty()).then(|| package.to_owned()),
        syntax: Some("proto3".to_owned()),
        ..Default::default()
    };
    if is_enum {
        // Values of an enum share the scope of its name.
        let value = EnumValueDescriptorProto {
            name: Some(format!("{name}_IS_NOT_KNOWN")),
            number: Some(0),
            options: None,
        };
        placeholder.enum_type.push(EnumDescriptorProto {
            name: Some(name),
            value: vec![value],
            ..Default::default()
        });
    } else {
        placeholder.message_type.push(DescriptorProto { name: Some(name), ..Default::default() });
    }
    placeholder
}

/// Collects the full names of the types that a file defines.
fn own_types(file: &FileDescriptorProto, names: &mut HashSet<String>) {
    let join = |scope: &str, name: &str| {
        if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
    };
    names.extend(file.enum_type.iter().map(|kind| join(file.package(), kind.name())));
    let mut waiting: Vec<_> =
        file.message_type.iter().map(|message| (file.package().to_owned(), message)).collect();
    while let Some((scope, message)) = waiting.pop() {
        let full_name = join(&scope, message.name());
        names.extend(message.enum_type.iter().map(|kind| join(&full_name, kind.name())));
        waiting.extend(message.nested_type.iter().map(|nested| (full_name.clone(), nested)));
        names.insert(full_name);
    }
}

/// Calls `visit` with each type that a file refers to, and whether it is an enum.
fn references(file: &FileDescriptorProto, visit: &mut impl FnMut(&str, bool)) {
    let mut field = |field: &FieldDescriptorProto| {
        if !field.type_name().is_empty() {
            visit(field.type_name(), field.r#type() == Type::Enum);
        }
    };
    file.extension.iter().for_each(&mut field);
    let mut waiting: Vec<_> = file.message_type.iter().collect();
    while let Some(message) = waiting.pop() {
        message.field.iter().for_each(&mut field);
        message.extension.iter().for_each(&mut field);
        waiting.extend(&message.nested_type);
    }
    let extendees: BTreeSet<_> =
        file.extension.iter().map(|extension| extension.extendee()).collect();
    for extendee in extendees {
        visit(extendee, false);
    }
    for method in file.service.iter().flat_map(|service| &service.method) {
        visit(method.input_type(), false);
        visit(method.output_type(), false);
    }
}

/// A default that names a value of a missing enum cannot be kept.
fn clear_enum_defaults(message: &mut DescriptorProto, wanted: &BTreeMap<String, bool>) {
    for field in &mut message.field {
        if field.type_name().strip_prefix('.').is_some_and(|name| wanted.contains_key(name)) {
            field.default_value = None;
        }
    }
    for nested in &mut message.nested_type {
        clear_enum_defaults(nested, wanted);
    }
}
