//! The `corelog` program. See [`corelog::cli`].

// mimalloc reserves lazily: an absurd count in a frame ends as an unused
// reservation of addresses, not as an abort (see `tests/bad_input.rs`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    corelog::cli::run(option_env!("CORELOG_COMMIT"))
}
