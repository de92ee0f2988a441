//! Small notations that several parts read, each parsed in one place.
//!
//! * [`schedule`]: when a CronJob is due.

pub mod schedule;
