//! Tests of the step, as sentences and tables; of its convergence, by simulation; of the whole, against the fake API.

mod live;
mod lines;
mod simulation;
mod tables;
