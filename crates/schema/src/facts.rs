//! Reading `facts.tsv`, which `cargo xtask tables` writes from the types of one Kubernetes version.
//!
//! A line without a leading tab opens a struct: `core/v1.PodSpec`. The lines after it are its fields, tab-separated:
//! JSON name (empty: inlined), protobuf field number (0: not in the message), type, flags (`p` pointer, `o` omitempty,
//! `z` omitzero), patch strategies, patch merge key, list type, list map keys. Trailing empty columns are left off.
//!
//! A type is `string`, `int32`, `int64`, `bool`, `float64`, `bytes`, `time`, `microtime`, `duration`, `quantity`, `intorstring`, `raw`,
//! `fields`, or the name of a struct; before it `[]` for a list, `{}` for a map, `()` for a list that is a protobuf message of
//! its own; after it `=v1.Name` when Go names the scalar, `@v1.Name` when Go names the list or map.

/// The table.
pub(crate) const TABLE: &str = include_str!("facts.tsv");

/// One field's line.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Line {
    pub(crate) json: &'static str,
    pub(crate) number: u16,
    pub(crate) ty: &'static str,
    pub(crate) flags: &'static str,
    pub(crate) strategy: &'static str,
    pub(crate) merge_key: &'static str,
    pub(crate) list_type: &'static str,
    pub(crate) list_keys: &'static str,
}

/// Every struct with its fields, in the table's order: sorted by name.
pub(crate) fn structs() -> impl Iterator<Item = (&'static str, Vec<Line>)> {
    let mut lines = TABLE.lines().peekable();
    std::iter::from_fn(move || {
        let name = lines.next()?;
        let mut fields = Vec::new();
        while let Some(line) = lines.peek().and_then(|l| l.strip_prefix('\t')) {
            fields.push(field(line));
            lines.next();
        }
        Some((name, fields))
    })
}

fn field(line: &'static str) -> Line {
    let mut columns = line.split('\t');
    let mut next = || columns.next().unwrap_or("");
    Line {
        json: next(),
        number: next().parse().unwrap_or(0),
        ty: next(),
        flags: next(),
        strategy: next(),
        merge_key: next(),
        list_type: next(),
        list_keys: next(),
    }
}
