//! corelog: a Kafka-protocol broker in which one pinned core is one io_uring
//! reactor with its own partitions.
//!
//! The modules form levels; a module uses only modules of lower levels
//! (`tests/tidy.rs` holds the table and enforces it):
//!
//! | level | modules |
//! |---|---|
//! | 0 | [`base`] |
//! | 1 | [`config`], [`metrics`], [`record`] |
//! | 2 | [`runtime`], [`wire`] |
//! | 3 | [`log`] |
//! | 4 | [`partition`], [`metadata`] |
//! | 5 | [`coordinator`] |
//! | 6 | [`shard`] |
//! | 7 | [`api`] |
//! | 8 | [`admin`], [`connection`], [`inspect`], [`tune`] |
//! | 9 | [`cli`] |
//!
//! `docs/architecture.md` walks one record through them.

pub mod admin;
pub mod api;
pub mod base;
pub mod cli;
pub mod config;
pub mod connection;
pub mod coordinator;
pub mod inspect;
pub mod log;
pub mod metadata;
pub mod metrics;
pub mod partition;
pub mod record;
pub mod runtime;
pub mod shard;
pub mod tune;
pub mod wire;
