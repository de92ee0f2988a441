//! ConfigMap and Secret: keys and bytes.

use crate::columns::{AGE, NAME};
use crate::value::{Access, Object, dig, fill_text, put, same, take};
use crate::{Column, Errors, Field, Path, names};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// All values of one object together.
const MAX_BYTES: usize = 1024 * 1024;
const IMMUTABLE_SET: &str = "field is immutable when `immutable` is set";

pub(super) const CONFIG_MAP_COLUMNS: &[Column] = &[
    NAME,
    Column::new("Data", "string", "How many keys it holds.", |o, _| (o.object("data").len() + o.object("binaryData").len()).into()),
    AGE,
];

pub(super) const SECRET_COLUMNS: &[Column] = &[
    NAME,
    Column::new("Type", "string", "What reads it, and so which keys it must have.", |o, _| o.text("type").into()),
    Column::new("Data", "string", "How many keys it holds.", |o, _| o.object("data").len().into()),
    AGE,
];

pub(super) const SECRET_FIELDS: &[Field] = &[Field { name: "type", value: |o| o.text("type").to_owned() }];

/// `stringData` is write-only: it is encoded into `data`.
pub(super) fn default_secret(secret: &mut Value) {
    fill_text(secret, "type", "Opaque");
    let Some(Value::Object(plain)) = take(secret, "stringData") else { return };
    let data = dig(secret, "data");
    for (key, value) in plain {
        put(data, &key, BASE64_STANDARD.encode(value.as_str().unwrap_or("")));
    }
}

pub(super) fn validate_config_map(map: &Value, errors: &mut Errors) {
    let (data, binary) = (map.object("data"), map.object("binaryData"));
    let (data_path, binary_path) = (Path::new("data"), Path::new("binaryData"));
    for key in data.keys() {
        errors.rule(data_path.key(key), key, names::config_key);
        if binary.contains_key(key) {
            errors.invalid_text(data_path.key(key), key, "duplicate of key present in binaryData");
        }
    }
    for key in binary.keys() {
        errors.rule(binary_path.key(key), key, names::config_key);
    }
    let plain: usize = data.values().map(|v| v.as_str().map_or(0, str::len)).sum();
    if plain + decoded_bytes(binary) > MAX_BYTES {
        errors.too_long("", MAX_BYTES);
    }
}

pub(super) fn validate_config_map_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        errors.forbidden("immutable", IMMUTABLE_SET);
    }
    for field in ["data", "binaryData"] {
        if !same(new.at(field), old.at(field)) {
            errors.forbidden(field, IMMUTABLE_SET);
        }
    }
}

/// What base64 texts decode to; the schema walk has checked that they do.
fn decoded_bytes(data: &Object) -> usize {
    data.values().filter_map(Value::as_str).map(|text| text.len() / 4 * 3 - text.bytes().rev().take_while(|c| *c == b'=').count().min(2)).sum()
}

pub(super) fn validate_secret(secret: &Value, errors: &mut Errors) {
    let data = secret.object("data");
    let path = Path::new("data");
    for key in data.keys() {
        errors.rule(path.key(key), key, names::config_key);
    }
    if decoded_bytes(data) > MAX_BYTES {
        errors.too_long("data", MAX_BYTES);
    }
    match secret.text("type") {
        "kubernetes.io/service-account-token" => {
            let key = "kubernetes.io/service-account.name";
            if secret.object("metadata.annotations").get(key).and_then(Value::as_str).unwrap_or("").is_empty() {
                errors.required(Path::new("metadata.annotations").key(key), "");
            }
        }
        "kubernetes.io/dockercfg" => must_be_json(data, ".dockercfg", &path, errors),
        "kubernetes.io/dockerconfigjson" => must_be_json(data, ".dockerconfigjson", &path, errors),
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            errors.required(path.key("username"), "");
            errors.required(path.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if data.get("ssh-privatekey").and_then(Value::as_str).unwrap_or("").is_empty() => {
            errors.required(path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if !data.contains_key(key) {
                    errors.required(path.key(key), "");
                }
            }
        }
        _ => {}
    }
}

fn must_be_json(data: &Object, key: &str, path: &Path<'_>, errors: &mut Errors) {
    let Some(text) = data.get(key).and_then(Value::as_str) else {
        return errors.required(path.key(key), "");
    };
    let parsed = BASE64_STANDARD.decode(text).ok().map(|bytes| serde_json::from_slice::<Object>(&bytes));
    if let Some(Err(error)) = parsed {
        errors.invalid_text(path.key(key), "<secret contents redacted>", &error.to_string());
    }
}

pub(super) fn validate_secret_update(new: &Value, old: &Value, errors: &mut Errors) {
    if new.text("type") != old.text("type") {
        errors.invalid("type", new.at("type"), "field is immutable");
    }
    if !old.flag("immutable") {
        return;
    }
    if !new.flag("immutable") {
        errors.forbidden("immutable", IMMUTABLE_SET);
    }
    if !same(new.at("data"), old.at("data")) {
        errors.forbidden("data", IMMUTABLE_SET);
    }
}
