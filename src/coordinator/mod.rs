//! Coordinators as pure state machines: (event, now) → effects.
//!
//! Relies on base, config and the record codecs of metadata. Never does I/O,
//! never reads a clock or draws random bytes, never awaits: the shard does all
//! of that, so that everything in here runs in virtual time under a test.

pub mod group;
