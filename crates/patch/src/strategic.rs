//! Strategic merge patch, as upstream applies it on the server (apimachinery, pkg/util/strategicpatch/patch.go, `mergeMap` with
//! `MergeParallelList` and `IgnoreUnmatchedNulls`).

use crate::Error;
use crate::error::{go_type, go_value};
use mainstay_schema::{MergeStrategy, Type, TypeKind};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;

/// Kubernetes' strategic merge patch with `$patch`, `$setElementOrder`, `$retainKeys`, `$deleteFromPrimitiveList`.
/// The object is left unchanged when there is an error.
///
/// # Errors
/// `Malformed`, with upstream's words, when a directive is wrong or an item lacks its merge key.
pub fn strategic(object: &mut Value, patch: &Value, ty: Type) -> Result<(), Error> {
    let (Value::Object(live), Value::Object(patch)) = (&*object, patch) else {
        return Err(malformed("invalid JSON document"));
    };
    *object = Value::Object(merge_map(live.clone(), patch.clone(), Some(ty))?);
    Ok(())
}

fn malformed(message: impl Into<String>) -> Error {
    Error::Malformed(message.into())
}

fn bad_type(expected: &Value, actual: &Value) -> Error {
    malformed(format!("expected a {}, but received a {}", go_type(expected), go_type(actual)))
}

fn no_merge_key(item: &Value, key: &str) -> Error {
    malformed(format!("map: {} does not contain declared merge key: {key}", go_value(item)))
}

fn bad_patch_type(directive: &Value, item: &Object) -> Error {
    malformed(format!("unknown patch type: {} in map: {}", go_value(directive), go_value(&Value::Object(item.clone()))))
}

/// What the schema says of a field: its type (of the value, or of a list's items) and strategy.
struct FieldMeta {
    ty: Type,
    strategy: MergeStrategy,
}

/// `ty` is `None` inside free-form values, where upstream has no struct to look in.
fn look_up(ty: Option<Type>, field: &str) -> Result<FieldMeta, Error> {
    let unknown = || malformed(format!("unable to find api field in struct {} for the json field {field:?}", ty.map_or_else(|| "RawExtension".to_owned(), short_name)));
    let parent = ty.filter(|t| matches!(t.kind(), TypeKind::Struct | TypeKind::Map)).ok_or_else(unknown)?;
    let found = parent.field(field).ok_or_else(unknown)?;
    let strategy = if parent.kind() == TypeKind::Struct { parent.merge_strategy(field) } else { MergeStrategy::default() };
    Ok(FieldMeta { ty: found, strategy })
}

fn short_name(ty: Type) -> String {
    let name = ty.go_name();
    name.rsplit('.').next().unwrap_or(&name).to_owned()
}

fn merge_map(mut live: Object, mut patch: Object, ty: Option<Type>) -> Result<Object, Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(bad_patch_type(directive, &patch)),
        };
    }
    retain_keys(&mut live, &mut patch)?;
    order_lists(&mut live, &mut patch, ty)?;
    for (key, value) in patch {
        if let Some(rest) = key.strip_prefix(DELETE_FROM) {
            let field = rest.strip_prefix('/').ok_or_else(|| malformed("invalid patch format of primitive list"))?;
            delete_from_list(&mut live, field, value)?;
        } else {
            merge_field(&mut live, key, value, ty)?;
        }
    }
    Ok(live)
}

fn merge_field(live: &mut Object, key: String, value: Value, ty: Option<Type>) -> Result<(), Error> {
    if value.is_null() {
        live.remove(&key);
        return Ok(());
    }
    let merged = match (live.remove(&key), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let meta = look_up(ty, &key)?;
            Some(Value::Object(if meta.strategy.replace { new } else { merge_map(old, new, Some(meta.ty))? }))
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let meta = look_up(ty, &key)?;
            Some(Value::Array(if meta.strategy.merge { merge_list(old, new, &meta)? } else { new }))
        }
        (old, mut new) => {
            // Upstream discards nulls only where value and patch differ in type; a scalar has none anyway.
            if old.is_none() || new.is_object() || new.is_array() {
                discard_nulls(&mut new);
            }
            without_directives(new)
        }
    };
    if let Some(merged) = merged {
        live.insert(key, merged);
    }
    Ok(())
}

/// `$retainKeys`: everything the list does not name goes, and the patch must not set anything else.
fn retain_keys(live: &mut Object, patch: &mut Object) -> Result<(), Error> {
    let Some(list) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || malformed("invalid patch format of retainKeys");
    let list = list.as_array().ok_or_else(bad)?;
    let named = |key: &str| list.iter().any(|k| k.as_str() == Some(key));
    if patch.iter().any(|(k, v)| !v.is_null() && !k.starts_with(DELETE_FROM) && !k.starts_with(ORDER) && !named(k)) {
        return Err(bad());
    }
    live.retain(|key, _| named(key));
    Ok(())
}

/// `$deleteFromPrimitiveList/<field>`.
fn delete_from_list(live: &mut Object, field: &str, gone: Value) -> Result<(), Error> {
    if gone.is_null() {
        // A null under any key deletes the field it names.
        live.remove(field);
        return Ok(());
    }
    if let (Some(Value::Array(list)), Value::Array(gone)) = (live.get_mut(field), gone) {
        same_type(list, &gone)?;
        list.retain(|item| !gone.contains(item));
    }
    Ok(())
}

/// `$setElementOrder/<field>`: merges that field's list now, and puts the result into the order asked for.
fn order_lists(live: &mut Object, patch: &mut Object, ty: Option<Type>) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(bad_type(&Value::Array(vec![]), &other.unwrap_or_default())),
        };
        let field = directive.strip_prefix(ORDER).and_then(|r| r.strip_prefix('/')).ok_or_else(|| malformed("invalid patch format of setElementOrder list"))?;
        let old = take_list(live, field)?;
        let new = take_list(patch, field)?;
        if old.is_none() && new.is_none() {
            continue;
        }
        let meta = look_up(ty, field)?;
        let key = meta.strategy.merge_key;
        check_order(new.as_deref().unwrap_or_default(), &order, key)?;
        let server_order = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (Some(old), None) => old,
            (Some(old), Some(new)) if meta.strategy.merge => merge_list(old, new, &meta)?,
            (_, new) => new.unwrap_or_default().into_iter().filter_map(without_directives).collect(),
        };
        let (patched, server_only) = partition(merged, &order, key)?;
        let both = interleave(sort_by(patched, &order, key)?, sort_by(server_only, &server_order, key)?, &server_order, key);
        live.insert(field.to_owned(), Value::Array(both));
    }
    Ok(())
}

fn take_list(map: &mut Object, field: &str) -> Result<Option<Vec<Value>>, Error> {
    match map.remove(field) {
        None => Ok(None),
        Some(Value::Array(list)) => Ok(Some(list)),
        Some(other) => Err(bad_type(&Value::Array(vec![]), &other)),
    }
}

/// The patch's items must stand in the order list, in the same order (deletions and directives apart).
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Result<(), Error> {
    if items.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in items {
        let Some(key) = key else {
            if !rest.by_ref().any(|o| o == item) {
                return Err(order_mismatch(items, order));
            }
            continue;
        };
        let map = item.as_object().ok_or_else(|| bad_type(&Value::Object(Object::new()), item))?;
        if map.contains_key(DIRECTIVE) {
            continue;
        }
        let wanted = map.get(key).ok_or_else(|| no_merge_key(item, key))?;
        let mut found = false;
        for entry in rest.by_ref() {
            let entry_map = entry.as_object().ok_or_else(|| bad_type(&Value::Object(Object::new()), entry))?;
            if entry_map.get(key).ok_or_else(|| no_merge_key(entry, key))? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            return Err(order_mismatch(items, order));
        }
    }
    Ok(())
}

fn order_mismatch(items: &[Value], order: &[Value]) -> Error {
    malformed(format!("The order in patch list:\n{}\n doesn't match {ORDER} list:\n{}\n", go_value(&Value::Array(items.to_vec())), go_value(&Value::Array(order.to_vec()))))
}

fn merge_list(live: Vec<Value>, patch: Vec<Value>, meta: &FieldMeta) -> Result<Vec<Value>, Error> {
    if live.is_empty() && patch.is_empty() {
        return Ok(live);
    }
    if !same_type(&live, &patch)? {
        let mut merged: Vec<Value> = Vec::with_capacity(live.len() + patch.len());
        for item in live.iter().chain(&patch) {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        let (patched, server_only) = partition(merged, &patch, None)?;
        return Ok(interleave(sort_by(patched, &patch, None)?, sort_by(server_only, &live, None)?, &live, None));
    }
    let key = meta.strategy.merge_key.ok_or_else(|| malformed("cannot merge lists without merge key for slice"))?;
    let (live, patch) = apply_item_directives(live, patch, key)?;
    let merged = merge_items(live.clone(), &patch, key, meta.ty.items())?;
    // Upstream looks at the live list after the merge, whose keys are those from before.
    let (patched, server_only) = partition(merged, &patch, Some(key))?;
    Ok(interleave(sort_by(patched, &patch, Some(key))?, sort_by(server_only, &live, Some(key))?, &live, Some(key)))
}

/// True if the items are objects, false if scalars; an error where they are mixed, or lists.
fn same_type(one: &[Value], other: &[Value]) -> Result<bool, Error> {
    let mut first: Option<&'static str> = None;
    for item in one.iter().chain(other) {
        let name = go_type(item);
        match first {
            None if item.is_array() => return Err(malformed("lists of lists are not supported")),
            None => first = Some(name),
            Some(first) if first != name => {
                let shown = Value::Array(vec![Value::Array(one.to_vec()), Value::Array(other.to_vec())]);
                return Err(malformed(format!("list element types are not identical: {}", go_value(&shown))));
            }
            Some(_) => {}
        }
    }
    Ok(first == Some("map[string]interface {}"))
}

/// Carries out `$patch` in items. Returns the live list that remains and the ordinary items.
fn apply_item_directives(mut live: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut ordinary = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(map) = item.as_object().filter(|m| m.contains_key(DIRECTIVE)) else {
            ordinary.push(item);
            continue;
        };
        match map[DIRECTIVE].as_str() {
            Some("delete") => {
                let gone = map.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                live.retain(|l| l.get(key) != Some(gone));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(malformed("merging lists cannot yet be specified in the patch")),
            _ => return Err(bad_patch_type(&map[DIRECTIVE], map)),
        }
    }
    Ok(if replace { (ordinary, Vec::new()) } else { (live, ordinary) })
}

fn merge_items(mut live: Vec<Value>, patch: &[Value], key: &str, ty: Option<Type>) -> Result<Vec<Value>, Error> {
    for item in patch {
        let wanted = item.get(key).ok_or_else(|| no_merge_key(item, key))?;
        match live.iter().position(|l| l.get(key) == Some(wanted)) {
            Some(at) => {
                if let (Value::Object(old), Value::Object(new)) = (std::mem::take(&mut live[at]), item.clone()) {
                    live[at] = Value::Object(merge_map(old, new, ty)?);
                }
            }
            None => live.push(item.clone()),
        }
    }
    Ok(live)
}

/// Items that `by` names, and the others.
fn partition(list: Vec<Value>, by: &[Value], key: Option<&str>) -> Result<(Vec<Value>, Vec<Value>), Error> {
    if let Some(key) = key {
        if let Some(item) = list.iter().find(|item| item.get(key).is_none()) {
            return Err(if item.is_object() { no_merge_key(item, key) } else { bad_type(&Value::Object(Object::new()), item) });
        }
    }
    Ok(list.into_iter().partition(|item| index(by, item, key).is_some()))
}

fn index(list: &[Value], item: &Value, key: Option<&str>) -> Option<usize> {
    match key {
        Some(key) => list.iter().position(|l| l.get(key) == item.get(key)),
        None => list.iter().position(|l| l == item),
    }
}

/// Stable; what the order does not name comes first.
fn sort_by(mut list: Vec<Value>, order: &[Value], key: Option<&str>) -> Result<Vec<Value>, Error> {
    if let Some(key) = key {
        if let Some(item) = order.iter().chain(&list).find(|item| item.get(key).is_none()) {
            return Err(no_merge_key(item, key));
        }
    }
    list.sort_by_cached_key(|item| index(order, item, key));
    Ok(list)
}

/// Puts the server's own items among the patch's: each before the first patch item that stood after it on the server. A patch item
/// the server did not have goes before the server's items that remain.
fn interleave(patched: Vec<Value>, server_only: Vec<Value>, server_order: &[Value], key: Option<&str>) -> Vec<Value> {
    let mut result = Vec::with_capacity(patched.len() + server_only.len());
    let (mut patched, mut server_only) = (patched.into_iter().peekable(), server_only.into_iter().peekable());
    while let (Some(ours), Some(theirs)) = (patched.peek(), server_only.peek()) {
        let server_first = matches!((index(server_order, theirs, key), index(server_order, ours, key)), (Some(theirs), Some(ours)) if theirs < ours);
        result.extend(if server_first { server_only.next() } else { patched.next() });
    }
    result.extend(patched);
    result.extend(server_only);
    result
}

/// The value without anything that carries a `$patch`, and without the keys that direct a merge; `None` if it carries a `$patch` itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => Some(Value::Object(map.into_iter().filter(|(k, _)| !directs(k)).filter_map(|(k, v)| Some((k, without_directives(v)?))).collect())),
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(discard_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

fn directs(key: &str) -> bool {
    key == RETAIN_KEYS || [ORDER, DELETE_FROM].iter().any(|d| key.strip_prefix(d).is_some_and(|rest| rest.starts_with('/')))
}
