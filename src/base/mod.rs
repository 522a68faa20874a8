//! The words every other module speaks: identifiers, offsets, times, limits,
//! pieces of bytes passed on uncopied, and waiting within one core.
//!
//! Relies on nothing of corelog. Never does I/O and never reads a clock.

pub mod budget;
pub mod crc;
pub mod hash;
pub mod ids;
pub mod java;
pub mod limits;
pub mod rope;
pub mod time;
pub mod wait;

pub use ids::{BrokerId, CoreIndex, DirIndex, LeaderEpoch, NodeId, Offset, TopicPartition, Uuid};
pub use rope::{Piece, Rope};
pub use time::{Moment, UnixMs};
