use crate::Error;
use serde_json::Value;

/// RFC 7386.
///
/// # Errors
/// `Malformed` when the patch is not an object: any other would replace the whole object.
pub fn merge(object: &mut Value, patch: &Value) -> Result<(), Error> {
    if !patch.is_object() {
        return Err(Error::Malformed("Invalid JSON Patch".to_owned()));
    }
    json_patch::merge(object, patch);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_merge_nulls_delete_and_lists_are_replaced() {
        for (live, patch, expected) in [
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": null, "d": 3}}), json!({"a": {"c": 2, "d": 3}})),
            (json!({"a": [1, 2]}), json!({"a": [3]}), json!({"a": [3]})),
            (json!({}), json!({"a": {"b": null, "c": {"d": null}}}), json!({"a": {"c": {}}})),
            (json!({"a": 1}), json!({}), json!({"a": 1})),
        ] {
            let mut object = live.clone();
            merge(&mut object, &patch).unwrap();
            assert_eq!(object, expected, "{live} + {patch}");
        }
    }

    #[test]
    fn a_patch_that_is_no_object_is_refused() {
        for patch in [json!([]), json!("x"), json!(null)] {
            assert!(matches!(merge(&mut json!({}), &patch), Err(Error::Malformed(_))));
        }
    }
}
