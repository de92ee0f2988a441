//! Pod to node: filters and scores, pure, and the runner that binds.
