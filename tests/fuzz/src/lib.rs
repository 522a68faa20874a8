//! The modules of corelog that the fuzz targets reach, under corelog's name.
//!
//! They are compiled from their own files rather than taken from the `corelog`
//! package: its runtime and client libraries do not link with an address
//! sanitizer, which the decompressors' C code should be fuzzed under.

#[path = "../../../src/base/mod.rs"]
pub mod base;
/// Of this module the records alone: what is around them needs the runtime.
#[path = "."]
pub mod metadata {
    #[path = "../../../src/metadata/records/mod.rs"]
    pub mod records;
}
#[path = "../../../src/record/mod.rs"]
pub mod record;
#[path = "../../../src/wire/mod.rs"]
pub mod wire;
