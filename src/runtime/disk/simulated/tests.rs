//! What the simulated disk promises to tests, and that it keeps no more.

use super::*;
use crate::runtime::run_one;
use proptest::prelude::*;

fn blocks(bytes: &[u8]) -> Rc<Buffer> {
    let mut buffer = Buffer::with_capacity(bytes.len() * BLOCK_BYTES);
    for byte in bytes {
        buffer.push(&[*byte; BLOCK_BYTES]);
    }
    Rc::new(buffer)
}

const DIR: &str = "/data";

async fn with_file() -> (SimulatedDisk, crate::runtime::disk::File, PathBuf) {
    let simulated = SimulatedDisk::new();
    let disk = simulated.disk();
    let path = Path::new(DIR).join("f");
    disk.create_dir_all(Path::new(DIR)).await.unwrap();
    disk.sync_dir(Path::new("/")).await.unwrap();
    let file = disk.open(&path, Open::CREATE).await.unwrap();
    disk.sync_dir(Path::new(DIR)).await.unwrap();
    (simulated, file, path)
}

#[test]
fn flushed_bytes_survive_and_others_may() {
    run_one(async {
        let mut seen = HashSet::new();
        for seed in 0..200 {
            let (simulated, file, path) = with_file().await;
            file.write(blocks(b"ab"), 0).await.unwrap();
            file.flush().await.unwrap();
            file.write(blocks(b"xyz"), 4096).await.unwrap();
            let after = simulated.reopen(seed);
            assert!(file.read(0, 1).await.is_err(), "the old disk is off");
            let bytes = after.disk().read_file(&path).await.unwrap();
            assert!(bytes[..4096].iter().all(|byte| *byte == b'a'), "seed {seed}");
            assert!(bytes.len() == 8192 || bytes.len() == 16384, "seed {seed}");
            for (index, sector) in bytes.chunks(512).enumerate().skip(8) {
                let allowed: &[u8] = match index / 8 {
                    1 => b"bx",
                    2 => b"\0y",
                    _ => b"\0z",
                };
                let byte = sector[0];
                assert!(allowed.contains(&byte) && sector.iter().all(|b| *b == byte), "seed {seed}, {index}");
            }
            seen.insert(bytes);
        }
        assert!(seen.len() > 20, "only {} different images", seen.len());
    });
}

#[test]
fn names_survive_once_their_directory_is_synced() {
    run_one(async {
        let mut seen = HashSet::new();
        for seed in 0..100 {
            let (simulated, _, path) = with_file().await;
            let disk = simulated.disk();
            let moved = Path::new(DIR).join("g");
            drop(disk.open(&Path::new(DIR).join("new"), Open::CREATE_NEW).await.unwrap());
            disk.rename(&path, &moved).await.unwrap();
            let list = simulated.reopen(seed).disk().list(Path::new(DIR)).await.unwrap();
            let names: Vec<String> = list.into_iter().map(|entry| entry.name).collect();
            assert_eq!(names.iter().filter(|name| *name == "f" || *name == "g").count(), 1, "{names:?}");
            seen.insert(names);
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
    });
}

#[test]
fn a_small_file_is_replaced_or_not_whatever_the_moment() {
    run_one(async {
        let path = Path::new(DIR).join("checkpoint");
        let mut seen = HashSet::new();
        for seed in 0..60 {
            let (simulated, _, _) = with_file().await;
            let disk = simulated.disk();
            disk.write_file(&path, b"one".to_vec()).await.unwrap();
            simulated.cut(When::verb(Verb::WriteFile));
            disk.write_file(&path, b"two".to_vec()).await.unwrap_err();
            let bytes = simulated.reopen(seed).disk().read_file(&path).await.unwrap();
            assert!(bytes == b"one" || bytes == b"two");
            seen.insert(bytes);
        }
        assert_eq!(seen.len(), 2);
    });
}

#[test]
fn the_chosen_operation_fails_and_no_other() {
    run_one(async {
        let (simulated, file, path) = with_file().await;
        simulated.fail(When::verb(Verb::Write).on(|path| path.ends_with("f")).after(1), Fault::NoSpace);
        simulated.fail(When::verb(Verb::Flush).from_then_on(), Fault::Broken);
        file.write(blocks(b"a"), 0).await.unwrap();
        let error = file.write(blocks(b"b"), 0).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write(blocks(b"c"), 4096).await.unwrap();
        for _ in 0..3 {
            assert_eq!(file.flush().await.unwrap_err().raw_os_error(), Some(libc::EIO));
        }
        simulated.clear_rules();
        file.flush().await.unwrap();
        assert_eq!(simulated.disk().read_file(&path).await.unwrap()[4095..4097], *b"ac");
        assert_eq!(simulated.count(Verb::Flush, |_| true), 4);
    });
}

#[test]
fn a_stalled_write_may_be_on_the_drive_when_the_power_fails() {
    run_one(async {
        let mut seen = HashSet::new();
        for seed in 0..40 {
            let (simulated, file, path) = with_file().await;
            file.write(blocks(b"a"), 0).await.unwrap();
            file.flush().await.unwrap();
            let stall = simulated.stall(When::verb(Verb::Write));
            let write = file.write(blocks(b"b"), 0);
            let cut = async {
                stall.reached().await;
                simulated.reopen(seed)
            };
            let (written, after) = futures_lite::future::zip(write, cut).await;
            written.unwrap_err();
            seen.insert(after.disk().read_file(&path).await.unwrap());
        }
        assert!(seen.len() > 3, "old, new and torn: {}", seen.len());
    });
}

#[test]
fn a_stalled_operation_goes_on_when_released() {
    run_one(async {
        let (simulated, file, _) = with_file().await;
        let stall = simulated.stall(When::verb(Verb::Flush));
        let other = async {
            stall.reached().await;
            file.write(blocks(b"a"), 0).await.unwrap();
            stall.release();
        };
        let (flushed, ()) = futures_lite::future::zip(file.flush(), other).await;
        flushed.unwrap();
    });
}

#[test]
fn a_full_disk_refuses_growth_only() {
    run_one(async {
        let (simulated, file, _) = with_file().await;
        simulated.set_capacity(Some(8192));
        file.allocate(0, 8192).await.unwrap();
        file.write(blocks(b"ab"), 0).await.unwrap();
        assert_eq!(file.write(blocks(b"c"), 8192).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.allocate(0, 8193).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(simulated.disk().free_bytes(Path::new(DIR)).await.unwrap(), 0);
    });
}

#[test]
fn a_killed_process_loses_nothing_that_completed() {
    run_one(async {
        let (simulated, file, path) = with_file().await;
        file.write(blocks(b"a"), 0).await.unwrap();
        let after = simulated.reopen_after_kill(1);
        assert_eq!(after.disk().read_file(&path).await.unwrap(), [b'a'; 4096]);
        // And it is no more durable than before.
        let lost = (0..50).any(|seed| {
            let image = SimulatedDisk::with(after.0.contents.borrow().clone()).reopen(seed);
            let contents = image.0.contents.borrow();
            contents.files.values().all(|file| file.live.len == 0)
        });
        assert!(lost);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, Vec<u8>),
    Flush,
    SetLength(u64),
    Allocate(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..6u64, prop::collection::vec(1..=255u8, 1..4)).prop_map(|(at, bytes)| Step::Write(at * 4096, bytes)),
        2 => Just(Step::Flush),
        1 => (0..30_000u64).prop_map(Step::SetLength),
        1 => (0..30_000u64).prop_map(Step::Allocate),
    ];
    prop::collection::vec(step, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Against flat bytes: what is read is what was written, and after a cut every
    /// byte is one it had since the last flush, the length too.
    #[test]
    fn bytes_follow_a_flat_model(steps in steps(), seed: u64) {
        run_one(async {
            let (simulated, file, path) = with_file().await;
            let mut model: Vec<u8> = Vec::new();
            let mut since_flush: Vec<Vec<u8>> = vec![Vec::new()];
            for step in &steps {
                match step {
                    Step::Write(at, bytes) => {
                        file.write(blocks(bytes), *at).await.unwrap();
                        let end = *at as usize + bytes.len() * BLOCK_BYTES;
                        model.resize(model.len().max(end), 0);
                        for (index, byte) in bytes.iter().enumerate() {
                            model[*at as usize + index * BLOCK_BYTES..][..BLOCK_BYTES].fill(*byte);
                        }
                    }
                    Step::Flush => {
                        file.flush().await.unwrap();
                        since_flush.clear();
                    }
                    Step::SetLength(len) => {
                        file.set_length(*len).await.unwrap();
                        model.resize(*len as usize, 0);
                    }
                    Step::Allocate(len) => {
                        file.allocate(0, *len).await.unwrap();
                        model.resize(model.len().max(*len as usize), 0);
                    }
                }
                since_flush.push(model.clone());
                prop_assert_eq!(file.length(), model.len() as u64);
                prop_assert!(file.read(0, 100_000).await.unwrap().as_slice() == model);
            }
            let bytes = simulated.reopen(seed).disk().read_file(&path).await.unwrap();
            prop_assert!(since_flush.iter().any(|state| state.len() == bytes.len()));
            for (index, byte) in bytes.iter().enumerate() {
                let had = since_flush.iter().any(|state| state.get(index).copied().unwrap_or(0) == *byte);
                prop_assert!(had, "byte {index} is {byte}");
            }
            Ok(())
        })?;
    }
}
