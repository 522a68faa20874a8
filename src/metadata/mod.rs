//! The metadata log: Kafka's records, the image they make, the controller that
//! plans new ones, and the journal they lie in.
//!
//! Everything corelog knows of topics, options and brokers comes from one ordered
//! log with one writer. An intention becomes records ([`Controller`]), the records
//! become durable (the journal), every core applies them to its own image
//! ([`Replay`]), and only then the answer leaves. No core changes metadata by
//! itself.
//!
//! Relies on `log` for the journal's bytes. Never knows shards, connections or
//! Kafka's error codes.

mod checkpoint;
pub mod configs;
pub mod controller;
pub mod image;
pub mod journal;
pub mod offline;
pub mod properties;
pub mod quorum;
pub mod records;

pub use controller::{Answer, Controller, Intention, Plan, Reason, Refusal};
pub use image::{Delta, Image, Replay};
pub use journal::{Journal, JournalError, JournalOptions};
