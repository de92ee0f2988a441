use super::{all, by_kind, by_plural};
use std::collections::BTreeSet;

#[test]
fn every_row_is_whole_and_found_by_its_names() {
    let mut seen = BTreeSet::new();
    for kind in all() {
        assert!(!kind.kind.is_empty() && !kind.plural.is_empty() && !kind.singular.is_empty() && !kind.storage.is_empty(), "{}", kind.kind);
        assert!(seen.insert((kind.group, kind.plural)), "{} twice", kind.resource());
        assert!(std::ptr::eq(by_plural(kind.group, kind.version, kind.plural).expect("by plural"), *kind));
        assert!(std::ptr::eq(by_kind(&kind.api_version(), kind.kind).expect("by kind"), *kind));
        let storage = if kind.group.is_empty() || kind.convert.is_some() { kind.plural.to_owned() } else { format!("{}/{}", kind.group, kind.plural) };
        assert_eq!(kind.storage, storage);
        assert!(kind.columns.iter().any(|c| c.name == "Name"), "{}", kind.kind);
    }
}
