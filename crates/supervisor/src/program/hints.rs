//! The errors that libcontainer logs, since those that it returns have lost their causes.
//!
//! The first one of each process (they are forked, and log on their way out) goes as `{"hint": "…"}` into the pipe that reports how the start went.

use std::fmt::Write as _;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The pipe; -1 when nobody wants to know.
static PIPE: AtomicI32 = AtomicI32::new(-1);
/// The longest hint, in bytes: a pipe takes it whole.
const MAX_HINT: usize = 1024;

/// From now on, here and in processes forked from here.
pub fn send_to(pipe: RawFd) {
    PIPE.store(pipe, Ordering::Relaxed);
    // A second launch in one process does not happen.
    let _ = tracing::subscriber::set_global_default(Hints);
}

/// No more.
pub fn stop() {
    PIPE.store(-1, Ordering::Relaxed);
}

struct Hints;

impl Subscriber for Hints {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::ERROR && PIPE.load(Ordering::Relaxed) >= 0
    }

    fn event(&self, event: &Event<'_>) {
        let pipe = PIPE.swap(-1, Ordering::Relaxed);
        if pipe < 0 {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let mut hint = text.message + &text.fields;
        hint.truncate(hint.floor_char_boundary(MAX_HINT));
        crate::confine::report(pipe, &serde_json::json!({ "hint": hint }));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, ", {name} {value:?}"),
        };
        debug_assert!(written.is_ok());
    }
}
