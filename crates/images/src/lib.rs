//! OCI images: pull, import, unpack, keep.
