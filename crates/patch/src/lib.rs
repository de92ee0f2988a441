//! JSON, merge and strategic merge patches: pure, Value to Value.
