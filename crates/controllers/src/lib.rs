//! The controllers: each a pure step and a thin runner.
