//! Fuzzes `bodies::offset_commit_request`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::offset_commit_request(data));
