//! `cargo xtask tables`: reads the `types.go` files of a published Kubernetes version and writes the facts that neither
//! JSON nor `k8s-openapi` carries: Go's names, pointer or value, `omitempty`, merge keys, list types, protobuf numbers.
//!
//! The table holds facts only, one field a line; its form is described at the top of `crates/schema/src/facts.rs`.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The group-versions whose types are wanted.
const GROUP_VERSIONS: &[&str] = &[
    "admissionregistration/v1",
    "apps/v1",
    "authentication/v1",
    "authorization/v1",
    "autoscaling/v1",
    "autoscaling/v2",
    "batch/v1",
    "certificates/v1",
    "coordination/v1",
    "core/v1",
    "discovery/v1",
    "events/v1",
    "networking/v1",
    "node/v1",
    "policy/v1",
    "rbac/v1",
    "scheduling/v1",
    "storage/v1",
];

/// Types of `meta/v1` that never stand in a body by themselves or are served by the server's own code.
const LEFT_OUT: &[&str] = &["Table", "TableOptions", "TableColumnDefinition", "TableRow", "TableRowCondition", "TypeMeta", "InternalEvent"];

#[derive(Default)]
struct Source {
    /// Named types that are not structs: Go name → underlying Go type.
    named: BTreeMap<String, String>,
    structs: BTreeMap<String, Vec<Field>>,
    imports: BTreeMap<String, String>,
}

struct Field {
    json: String,
    go_type: String,
    tags: String,
    markers: Vec<(String, String)>,
}

/// Reads both checkouts and writes the table.
pub fn run(api: &Path, apimachinery: &Path, output: &Path) -> Result<()> {
    let mut sources = BTreeMap::new();
    for group_version in GROUP_VERSIONS {
        let text = read(&api.join(group_version).join("types.go"))?;
        sources.insert((*group_version).to_owned(), parse(&text)?);
    }
    let text = read(&apimachinery.join("pkg/apis/meta/v1/types.go"))?;
    sources.insert("meta/v1".to_owned(), parse(&text)?);

    let mut table = String::new();
    let mut fields = 0;
    for package in sources.keys() {
        for (name, list) in &sources[package].structs {
            if package == "meta/v1" && LEFT_OUT.contains(&name.as_str()) {
                continue;
            }
            writeln!(table, "{package}.{name}")?;
            for field in list {
                if field.go_type.ends_with("TypeMeta") {
                    // Not in the protobuf message: the envelope carries it.
                    table.push_str("\tapiVersion\t0\tstring\to\n\tkind\t0\tstring\to\n");
                    continue;
                }
                let line = field_line(&sources, package, field).with_context(|| format!("{package}.{name}.{}", field.json))?;
                if let Some(line) = line {
                    writeln!(table, "\t{line}")?;
                    fields += 1;
                }
            }
        }
    }
    std::fs::write(output, &table).with_context(|| format!("write {}", output.display()))?;
    println!("{}: {fields} fields, {} bytes", output.display(), table.len());
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

fn parse(text: &str) -> Result<Source> {
    let mut source = Source::default();
    let mut current: Option<String> = None;
    let mut markers = Vec::new();
    let mut importing = false;
    for line in text.lines() {
        let line = line.trim();
        if importing {
            importing = line != ")";
            read_import(line, &mut source.imports);
        } else if line == "import (" {
            importing = true;
        } else if let Some(comment) = line.strip_prefix("//") {
            if let Some((key, value)) = comment.trim().strip_prefix('+').and_then(|m| m.split_once('=')) {
                markers.push((key.to_owned(), value.to_owned()));
            }
        } else if let Some(name) = &current {
            if line == "}" {
                current = None;
            } else if let Some(field) = read_field(line, std::mem::take(&mut markers)) {
                source.structs.entry(name.clone()).or_default().push(field);
            }
        } else {
            markers.clear();
            current = read_declaration(line, &mut source)?;
        }
    }
    Ok(source)
}

fn read_import(line: &str, imports: &mut BTreeMap<String, String>) {
    let mut words = line.split_whitespace();
    let (Some(first), second) = (words.next(), words.next()) else { return };
    let path = second.unwrap_or(first).trim_matches('"');
    let alias = if second.is_some() { first } else { path.rsplit('/').next().unwrap_or(path) };
    imports.insert(alias.to_owned(), path.to_owned());
}

/// `type X struct {` opens a struct and returns its name; `type X string` is remembered.
fn read_declaration(line: &str, source: &mut Source) -> Result<Option<String>> {
    let Some(rest) = line.strip_prefix("type ") else { return Ok(None) };
    let Some((name, what)) = rest.split_once(' ') else { return Ok(None) };
    let what = what.split("//").next().unwrap_or(what).trim();
    if let Some(end) = what.strip_prefix("struct") {
        source.structs.entry(name.to_owned()).or_default();
        return Ok((end.trim() == "{").then(|| name.to_owned()));
    }
    if what.is_empty() || what == "(" {
        bail!("cannot read {line:?}");
    }
    source.named.insert(name.to_owned(), what.to_owned());
    Ok(None)
}

fn read_field(line: &str, markers: Vec<(String, String)>) -> Option<Field> {
    let (head, rest) = line.split_once('`')?;
    let tags = rest.split('`').next()?.to_owned();
    let mut words = head.split_whitespace();
    let (first, second) = (words.next()?, words.next());
    let json = tag(&tags, "json")?;
    let name = json.split(',').next().unwrap_or("").to_owned();
    Some(Field { json: name, go_type: second.unwrap_or(first).to_owned(), tags, markers })
}

fn tag<'a>(tags: &'a str, key: &str) -> Option<&'a str> {
    let start = tags.find(&format!("{key}:\""))? + key.len() + 2;
    tags[start..].split('"').next()
}

/// `json  number  type  flags  strategy  merge key  list type  list keys`, trailing empty columns left off.
fn field_line(sources: &BTreeMap<String, Source>, package: &str, field: &Field) -> Result<Option<String>> {
    let json = tag(&field.tags, "json").unwrap_or("");
    if json == "-" {
        return Ok(None);
    }
    let number = tag(&field.tags, "protobuf").and_then(|p| p.split(',').nth(1)).unwrap_or("0");
    let (pointer, go_type) = match field.go_type.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, field.go_type.as_str()),
    };
    let mut flags = String::new();
    if pointer {
        flags.push('p');
    }
    if json.contains(",omitempty") {
        flags.push('o');
    }
    if json.contains(",omitzero") {
        flags.push('z');
    }
    let marker = |key: &str| -> BTreeSet<&str> { field.markers.iter().filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect() };
    let list_type = marker("listType").into_iter().chain(marker("mapType")).chain(marker("structType")).next().unwrap_or("");
    let keys: Vec<&str> = field.markers.iter().filter(|(k, _)| k == "listMapKey").map(|(_, v)| v.as_str()).collect();
    let columns = [
        field.json.as_str(),
        number,
        &type_text(sources, package, go_type)?,
        &flags,
        tag(&field.tags, "patchStrategy").unwrap_or(""),
        tag(&field.tags, "patchMergeKey").unwrap_or(""),
        list_type,
        &keys.join(","),
    ]
    .join("\t");
    Ok(Some(columns.trim_end_matches('\t').to_owned()))
}

/// A Go type in the table's notation.
fn type_text(sources: &BTreeMap<String, Source>, package: &str, go_type: &str) -> Result<String> {
    let go_type = go_type.trim_start_matches('*');
    if go_type == "[]byte" {
        return Ok("bytes".to_owned());
    }
    if let Some(item) = go_type.strip_prefix("[]") {
        return Ok(format!("[]{}", type_text(sources, package, item)?));
    }
    if let Some(rest) = go_type.strip_prefix("map[") {
        let (_, value) = rest.split_once(']').context("map")?;
        return Ok(format!("{{}}{}", type_text(sources, package, value)?));
    }
    if matches!(go_type, "string" | "int32" | "int64" | "bool" | "float64") {
        return Ok(go_type.to_owned());
    }
    let (owner, name) = match go_type.split_once('.') {
        Some((alias, name)) => (owner_of(sources, package, alias)?, name),
        None => (package.to_owned(), go_type),
    };
    if let Some(special) = special(&owner, name) {
        return Ok(special.to_owned());
    }
    let source = sources.get(&owner).with_context(|| format!("package {owner} of {go_type}"))?;
    if source.structs.contains_key(name) {
        return Ok(format!("{owner}.{name}"));
    }
    let underlying = source.named.get(name).with_context(|| format!("type {owner}.{name}"))?;
    let version = owner.rsplit('/').next().unwrap_or(&owner);
    // A named slice is a message of its own in protobuf; a named map is an ordinary map.
    Ok(match underlying.strip_prefix("[]") {
        Some(item) => format!("(){}@{version}.{name}", type_text(sources, &owner, item)?),
        None if underlying.starts_with("map[") => format!("{}@{version}.{name}", type_text(sources, &owner, underlying)?),
        None => format!("{}={version}.{name}", type_text(sources, &owner, underlying)?),
    })
}

fn owner_of(sources: &BTreeMap<String, Source>, package: &str, alias: &str) -> Result<String> {
    let path = sources[package].imports.get(alias).with_context(|| format!("import {alias}"))?;
    let short = path.trim_start_matches("k8s.io/api/").trim_start_matches("k8s.io/apimachinery/pkg/apis/");
    Ok(short.trim_start_matches("k8s.io/apimachinery/pkg/").to_owned())
}

/// Types with an encoding of their own.
fn special(owner: &str, name: &str) -> Option<&'static str> {
    Some(match (owner, name) {
        ("meta/v1", "Time") => "time",
        ("meta/v1", "MicroTime") => "microtime",
        ("meta/v1", "Duration") => "duration",
        ("meta/v1", "FieldsV1") => "fields",
        ("api/resource", "Quantity") => "quantity",
        ("util/intstr", "IntOrString") => "intorstring",
        ("runtime", "RawExtension" | "Object") => "raw",
        ("types", "UID") => "string=types.UID",
        ("types", "NodeName") => "string=types.NodeName",
        ("types", "NamespacedName") => return None,
        ("types", _) => "string",
        _ => return None,
    })
}
