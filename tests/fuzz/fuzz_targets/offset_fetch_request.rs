//! Fuzzes `bodies::offset_fetch_request`.

#![no_main]

#[path = "../bodies.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::offset_fetch_request(data));
