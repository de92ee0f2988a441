//! The revisioned, watchable, durable log of objects.
