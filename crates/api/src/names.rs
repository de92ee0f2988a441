//! Rules for names, with apimachinery's messages (staging/src/k8s.io/apimachinery/pkg/util/validation/validation.go).

const LABEL_MAX: usize = 63;
const SUBDOMAIN_MAX: usize = 253;
const SUFFIX_LENGTH: usize = 5;
/// Vowels and digits that look like letters are left out, so that no suffix reads as a word.
const SAFE_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035_MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const NAME_PART: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE_MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// What a name must be; the error says what is wrong with it.
pub type Rule = fn(&str) -> Result<(), String>;

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn within(text: &str, max: usize) -> Result<(), String> {
    if text.len() > max { Err(too_long(max)) } else { Ok(()) }
}

fn lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Starts and ends with `edge`, and `edge` or `inner` between.
fn shaped(text: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|c| edge(*c) || inner.contains(c)),
        _ => false,
    }
}

/// RFC 1123 label: namespaces, containers, stateful sets.
pub fn dns_label(name: &str) -> Result<(), String> {
    within(name, LABEL_MAX)?;
    match () {
        () if shaped(name, lower_alphanumeric, b"-") => Ok(()),
        () if dns_subdomain(name).is_ok() => Err("must not contain dots".to_owned()),
        () => Err(LABEL_MESSAGE.to_owned()),
    }
}

/// RFC 1035 label (services): starts with a letter.
pub fn dns_1035_label(name: &str) -> Result<(), String> {
    within(name, LABEL_MAX)?;
    let starts = name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if starts && shaped(name, lower_alphanumeric, b"-") { Ok(()) } else { Err(LABEL_1035_MESSAGE.to_owned()) }
}

/// RFC 1123 subdomain: most names.
pub fn dns_subdomain(name: &str) -> Result<(), String> {
    within(name, SUBDOMAIN_MAX)?;
    let good = name.split('.').all(|part| shaped(part, lower_alphanumeric, b"-"));
    if good { Ok(()) } else { Err(SUBDOMAIN_MESSAGE.to_owned()) }
}

/// May stand in a URL's path (kinds whose names are free otherwise).
pub fn path_segment(name: &str) -> Result<(), String> {
    match name {
        "." | ".." => Err(format!("may not be '{name}'")),
        _ => match name.chars().find(|c| ['/', '%'].contains(c)) {
            Some(c) => Err(format!("may not contain '{c}'")),
            None => Ok(()),
        },
    }
}

/// Letters, digits and `-_.` between letters or digits: the name part of label keys, and label values.
fn is_name_part(text: &str) -> bool {
    shaped(text, |c| c.is_ascii_alphanumeric(), b"-_.")
}

/// `[prefix/]name`: label and annotation keys, finalizers, resources. All that is wrong with it.
pub fn qualified_name(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let mut wrong = Vec::new();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else if let Err(message) = dns_subdomain(prefix) {
                wrong.push(format!("prefix part {message}"));
            }
            *name
        }
        _ => return vec![format!("a qualified name {NAME_PART} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")],
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        wrong.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_name_part(name) {
        wrong.push(format!("name part {NAME_PART}"));
    }
    wrong
}

/// All that is wrong with a label's value.
pub fn label_value(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if text.len() > LABEL_MAX {
        wrong.push(too_long(LABEL_MAX));
    }
    if !text.is_empty() && !is_name_part(text) {
        wrong.push(LABEL_VALUE_MESSAGE.to_owned());
    }
    wrong
}

/// A key of a ConfigMap or Secret: a file name.
pub fn config_key(key: &str) -> Result<(), String> {
    within(key, SUBDOMAIN_MAX)?;
    if key.is_empty() || !key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        return Err("a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned());
    }
    match key {
        "." => Err("must not be '.'".to_owned()),
        ".." => Err("must not be '..'".to_owned()),
        _ if key.starts_with("..") => Err("must not start with '..'".to_owned()),
        _ => Ok(()),
    }
}

/// The name of an environment variable: printable ASCII without `=` (upstream's relaxed rule, on by default since 1.34).
pub fn environment_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("environment variable name must be non-empty".to_owned());
    }
    if name.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        return Ok(());
    }
    Err("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned())
}

/// A named port: letters, digits, single dashes, at most 15, at least one letter. All that is wrong with it.
pub fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 15 {
        wrong.push("must be no more than 15 characters".to_owned());
    }
    if name.is_empty() || !name.bytes().all(|c| lower_alphanumeric(c) || c == b'-') {
        wrong.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|c| c.is_ascii_lowercase()) {
        wrong.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        wrong.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        wrong.push("must not begin or end with a hyphen".to_owned());
    }
    wrong
}

/// Five characters that no word is made of.
pub fn random_suffix() -> String {
    let noise = uuid::Uuid::new_v4();
    // Bytes 6 and 8 of a version 4 UUID carry its version and variant; the first five are all random.
    noise.as_bytes()[..SUFFIX_LENGTH].iter().map(|b| char::from(SAFE_ALPHABET[usize::from(*b) % SAFE_ALPHABET.len()])).collect()
}

/// A name from `metadata.generateName`: its first 58 bytes and a random suffix.
pub fn generate_name(base: &str) -> String {
    let max = LABEL_MAX - SUFFIX_LENGTH;
    let end = (0..=base.len().min(max)).rev().find(|i| base.is_char_boundary(*i)).unwrap_or(0);
    format!("{}{}", &base[..end], random_suffix())
}
