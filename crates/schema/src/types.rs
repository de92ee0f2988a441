//! A compact, shared picture of every type, which `walk`, `openapi` and the patches read.

/// A type in the picture: copyable, 4 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type(pub(crate) u32);

/// What a value of the type must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// JSON object with known fields.
    Struct,
    /// JSON object with free keys and one type of value.
    Map,
    /// JSON array.
    List,
    /// JSON string (also quantities, times, base64 bytes; see `walk`).
    String,
    /// 32- or 64-bit integer.
    Integer,
    /// Any JSON number.
    Number,
    /// true or false.
    Boolean,
    /// IntOrString.
    IntOrString,
    /// Quantity: a string or a number, kept canonical as a string.
    Quantity,
    /// Anything (RawExtension, JSON).
    Any,
}

/// How strategic merge patch treats a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeStrategy {
    /// `x-kubernetes-patch-strategy` has `merge`.
    pub merge: bool,
    /// … has `retainKeys`.
    pub retain_keys: bool,
    /// `x-kubernetes-patch-merge-key`, for lists of objects.
    pub merge_key: Option<&'static str>,
}

/// The type of a whole object, by `apiVersion` and `kind`.
pub fn root(_api_version: &str, _kind: &str) -> Option<Type> {
    todo!()
}

impl Type {
    /// What a value must be.
    pub fn kind(self) -> TypeKind {
        todo!()
    }
    /// The type of a struct's field, or of any value of a map.
    pub fn field(self, _name: &str) -> Option<Type> {
        todo!()
    }
    /// The type of a list's items.
    pub fn items(self) -> Option<Type> {
        todo!()
    }
    /// How a strategic merge patch treats the named field of this struct.
    pub fn merge_strategy(self, _field: &str) -> MergeStrategy {
        todo!()
    }
}
