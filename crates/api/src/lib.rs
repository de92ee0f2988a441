//! What each kind means: one row a kind, its defaults, validation and columns beside it.
