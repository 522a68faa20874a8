//! What a core counts and times about itself: a catalogue in which each metric is
//! declared once, plain values that one core alone touches, and snapshots that
//! may leave the core to be added up.
//!
//! Relies on `base` only. Never reads a clock (times come in as values), never
//! does I/O, and shares nothing between cores: no atomics, no locks. Whoever
//! wants the values of all cores asks each of them for a snapshot by message.

mod catalogue;
mod requests;
mod timeline;
mod values;

pub use catalogue::{CoreMetrics, Kind, Reading, Row, Snapshot, Spec, Unit};
pub use requests::{ApiDistributions, Finished, Requests, SLOWEST, SlowRequest};
pub use timeline::{Stage, Timeline};
pub use values::{Counter, Gauge, Timing};
