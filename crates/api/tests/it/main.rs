//! The rows, driven in the server's order: default, prepare, admit, validate.

mod admission;
mod columns;
mod defaults;
mod updates;
mod warnings;
mod world;
mod wrong;
