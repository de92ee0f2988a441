//! Where a field is. A path lives on the stack, linked to its parent, and becomes text only when an error needs it: a
//! valid object costs no allocation.

use std::fmt::{Display, Formatter, Result};

/// `spec.containers[0].env[1].name`.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A path of fields, dotted: `spec.template`.
    pub const fn new(fields: &'a str) -> Self {
        Path { parent: None, part: Part::Field(fields) }
    }

    /// A field below, or several, dotted.
    pub const fn at(&'a self, fields: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Field(fields) }
    }

    /// An item of a list: `[3]`.
    pub const fn index(&'a self, index: usize) -> Path<'a> {
        Path { parent: Some(self), part: Part::Index(index) }
    }

    /// An entry of a map: `[key]`.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Key(key) }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.part {
            Part::Field(name) if self.parent.is_none() => f.write_str(name),
            Part::Field(name) => write!(f, ".{name}"),
            Part::Index(index) => write!(f, "[{index}]"),
            Part::Key(key) => write!(f, "[{key}]"),
        }
    }
}

impl From<&Path<'_>> for String {
    fn from(path: &Path<'_>) -> String {
        path.to_string()
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> String {
        path.to_string()
    }
}
