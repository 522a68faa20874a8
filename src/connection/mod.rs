//! Client connections of one core: accepting them, reading their requests under a
//! memory budget, sending answers in request order, and ending the idle and the stuck.
//!
//! Relies on [`crate::api`] to handle a request. Knows no partition and no log.

mod accept;
mod finished;
mod read_buffer;
mod replies;
mod session;

pub use accept::{Connections, listen};
