//! The runtime from outside: what needs a process of its own, because it counts
//! descriptors or memory, runs out of them, is sent signals, or ends the process.
//!
//! Each such test starts this test program again for itself alone.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use corelog::base::{CoreIndex, Rope};
use corelog::runtime::disk::{Buffer, Disk, Open};
use corelog::runtime::net::{Listener, Socket};
use corelog::runtime::task::{self, OnPanic, Queue, StopFlag};
use corelog::runtime::{self, CorePlan, clock, signal};

const CHILD: &str = "CORELOG_RUNTIME_TEST";

/// This program again, running only the test `name`, in the main thread.
fn child(name: &str, shell_setup: &str) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{shell_setup} exec \"$0\" \"$@\"")]).arg(program);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, name);
    command
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs `body` in a process of its own.
fn alone(name: &str, shell_setup: &str, body: impl FnOnce()) {
    if is_child() {
        return body();
    }
    let output = child(name, shell_setup).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

fn localhost() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn plan(cores: usize) -> CorePlan {
    let cpus = runtime::allowed_cpus();
    let cpus = (0..cores).map(|core| cpus[core % cpus.len()]).collect();
    CorePlan::new(cpus)
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time that all threads of this process have run so far.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    threads.map(cpu_time_of).sum()
}

/// Time that one thread has run so far; nothing if it has ended.
fn cpu_time_of(thread: impl AsRef<std::path::Path>) -> Duration {
    let Ok(stat) = std::fs::read_to_string(thread.as_ref().join("schedstat")) else { return Duration::ZERO };
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

/// One echo per connection: receives once, sends it back, ends.
fn serve_once(listener: &Rc<Listener>, accepted: &Rc<Cell<usize>>) {
    let (listener, accepted) = (Rc::clone(listener), Rc::clone(accepted));
    task::spawn(Queue::Network, "accept", OnPanic::StopProcess, async move {
        while let Ok(socket) = listener.accept().await {
            accepted.set(accepted.get() + 1);
            task::spawn(Queue::Network, "echo", OnPanic::EndTask, echo(socket));
        }
    });
}

async fn echo(socket: Socket) {
    let mut bytes = BytesMut::with_capacity(4096);
    while socket.receive(&mut bytes, usize::MAX).await.is_ok_and(|count| count > 0) {
        if socket.send(&mut Rope::from(bytes.split().freeze())).await.is_err() {
            return;
        }
        bytes.reserve(4096);
    }
}

/// Connections from a thread of their own, each used for one echo and closed.
fn visit(address: SocketAddr, count: usize) {
    for _ in 0..count {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
    }
}

#[test]
fn connections_leave_no_descriptor_and_no_memory_behind() {
    alone("connections_leave_no_descriptor_and_no_memory_behind", "", || {
        runtime::run_one(async {
            let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
            let accepted = Rc::new(Cell::new(0));
            serve_once(&listener, &accepted);
            let address = listener.local();
            let visits = async |count| {
                let ended = task::on_helper(move || {
                    visit(address, count);
                    Ok(())
                });
                ended.await.unwrap();
                task::all_ended("echo").await;
            };
            visits(500).await;
            let (files, memory) = (open_files(), resident_kib());
            visits(5000).await;
            assert_eq!(accepted.get(), 5500);
            assert!(open_files() <= files + 2, "{} descriptors, {files} before", open_files());
            // A leaked task of a connection is more than a KiB.
            assert!(resident_kib() < memory + 2500, "{} KiB, {memory} before", resident_kib());
            listener.close();
            task::all_ended("accept").await;
        });
    });
}

#[test]
fn tasks_told_to_stop_leave_nothing_behind() {
    alone("tasks_told_to_stop_leave_nothing_behind", "", || {
        runtime::run_one(async {
            let rounds = async |rounds| {
                for _ in 0..rounds {
                    let stop = StopFlag::new();
                    for _ in 0..1000 {
                        let stop = stop.clone();
                        task::spawn(Queue::Network, "waiter", OnPanic::StopProcess, async move {
                            let large = [1u8; 1500];
                            stop.raised().await;
                            std::hint::black_box(&large);
                        });
                    }
                    task::yield_now().await;
                    stop.raise();
                    task::all_ended("waiter").await;
                }
            };
            rounds(5).await;
            let before = resident_kib();
            rounds(30).await;
            // Cancelled instead of told, they would leave 45 MiB.
            assert!(resident_kib() < before + 4096, "{} KiB, {before} before", resident_kib());
        });
    });
}

#[test]
fn a_listener_waits_until_there_are_descriptors_again() {
    alone("a_listener_waits_until_there_are_descriptors_again", "ulimit -n 64;", || {
        runtime::run_one(async {
            let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
            // Both ends live in this process: the clients connect first, then whatever
            // descriptors are left are taken.
            let mut clients = Vec::new();
            for _ in 0..5 {
                clients.push(Socket::connect(listener.local()).await.unwrap());
            }
            let mut taken: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
            let accepted = Rc::new(Cell::new(0));
            serve_once(&listener, &accepted);
            clock::sleep(Duration::from_millis(250)).await;
            assert_eq!(accepted.get(), 0);
            taken.truncate(taken.len() - 2);
            while accepted.get() < 2 {
                clock::sleep(Duration::from_millis(10)).await;
            }
            clock::sleep(Duration::from_millis(250)).await;
            assert_eq!(accepted.get(), 2);
            drop(taken);
            for client in &clients {
                client.send(&mut Rope::from(bytes::Bytes::from_static(b"x"))).await.unwrap();
                let mut back = BytesMut::with_capacity(8);
                assert_eq!(client.receive(&mut back, usize::MAX).await.unwrap(), 1);
            }
            listener.close();
            drop(clients);
            task::all_ended("accept").await;
            task::all_ended("echo").await;
        });
    });
}

/// A line of the child's standard output that begins so.
fn wait_line(child: &mut BufReader<std::process::ChildStdout>, begins: &str) -> String {
    let mut line = String::new();
    while child.read_line(&mut line).unwrap() > 0 {
        if let Some(at) = line.find(begins) {
            return line[at..].trim().to_owned();
        }
        line.clear();
    }
    panic!("the child ended before it said '{begins}'");
}

fn send_signal(child: &Child, signal: &str) {
    // The shell's own `kill`: a program of that name need not be installed.
    let status = Command::new("sh").args(["-c", &format!("kill {signal} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

#[test]
fn termination_signals_reach_core_0_each_time() {
    const NAME: &str = "termination_signals_reach_core_0_each_time";
    if is_child() {
        runtime::run_cores(plan(2), |core| async move {
            if core == CoreIndex(0) {
                println!("ready");
                signal::terminated().await;
                println!("first");
                signal::terminated().await;
                runtime::request_stop();
            }
            runtime::stop_flag().raised().await;
            Ok::<(), String>(())
        })
        .unwrap();
        return;
    }
    // The test harness has threads of its own, started before `run_cores` blocks the
    // signals: for them they have to be blocked from the start.
    let setup = "exec env --block-signal=TERM --block-signal=INT \"$0\" \"$@\";";
    let mut child = child(NAME, setup).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    wait_line(&mut lines, "ready");
    send_signal(&child, "-TERM");
    wait_line(&mut lines, "first");
    send_signal(&child, "-INT");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_core_that_does_not_stop_after_a_failure_ends_with_the_process() {
    const NAME: &str = "a_core_that_does_not_stop_after_a_failure_ends_with_the_process";
    if is_child() {
        let plan = CorePlan { grace: Duration::from_millis(100), ..plan(2) };
        let _ = runtime::run_cores(plan, |core| async move {
            if core == CoreIndex(0) {
                task::spawn(Queue::Log, "pillar", OnPanic::StopProcess, async { panic!("fell") });
            }
            std::future::pending::<Result<(), String>>().await
        });
        return;
    }
    let output = child(NAME, "").output().unwrap();
    assert_eq!(output.status.code(), Some(70), "{output:?}");
}

#[test]
fn an_idle_core_costs_next_to_nothing() {
    alone("an_idle_core_costs_next_to_nothing", "", || {
        runtime::run_cores(plan(2), |core| async move {
            let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
            serve_once(&listener, &Rc::new(Cell::new(0)));
            let mut clients = Vec::new();
            for _ in 0..50 {
                clients.push(Socket::connect(listener.local()).await.unwrap());
            }
            clock::sleep(Duration::from_millis(500)).await;
            if core == CoreIndex(0) {
                // What else runs on this machine can only make it more: one good look of a few is enough.
                for look in 1.. {
                    let (begun, before) = (Instant::now(), cpu_time());
                    clock::sleep(Duration::from_secs(3)).await;
                    let share = (cpu_time() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
                    println!("{:.2} % of a CPU for two cores and 100 connections", share * 100.0);
                    if share < 0.01 {
                        break;
                    }
                    assert!(look < 10, "{:.2} % of a CPU", share * 100.0);
                }
                runtime::request_stop();
            }
            runtime::stop_flag().raised().await;
            listener.close();
            drop(clients);
            task::all_ended("accept").await;
            task::all_ended("echo").await;
            Ok::<(), String>(())
        })
        .unwrap();
    });
}

/// CPU time of two cores that talk for a while, to each other, to sockets, files and the
/// helper thread, and wait for timers in between.
fn time_of_talk(spin: Duration) -> Duration {
    let spent = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&spent);
    let talk = |core, sum: Arc<AtomicU64>| async move {
        let dir = tempfile::tempdir_in(".").unwrap();
        let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
        serve_once(&listener, &Rc::new(Cell::new(0)));
        let client = Socket::connect(listener.local()).await.unwrap();
        let file = Disk::direct().open(&dir.path().join("f"), Open::CREATE_NEW).await.unwrap();
        let mut back = BytesMut::with_capacity(1 << 10);
        for round in 0..50 {
            clock::sleep(Duration::from_millis(2)).await;
            client.send(&mut Rope::from(bytes::Bytes::from_static(b"x"))).await.unwrap();
            client.receive(&mut back, usize::MAX).await.unwrap();
            let mut buffer = Buffer::with_capacity(4096);
            buffer.push(&[round; 4096]);
            file.write_durable(Rc::new(buffer), 4096 * u64::from(round)).await.unwrap();
            assert_eq!(file.read(4096 * u64::from(round), 4096).await.unwrap().as_slice(), [round; 4096]);
            assert_eq!(task::on_helper(move || Ok(round)).await.unwrap(), round);
        }
        assert_eq!(back.len(), 50);
        if core == CoreIndex(0) {
            runtime::request_stop();
        }
        runtime::stop_flag().raised().await;
        file.close().await.unwrap();
        listener.close();
        drop(client);
        task::all_ended("accept").await;
        task::all_ended("echo").await;
        sum.fetch_add(cpu_time_of("/proc/thread-self").as_nanos() as u64, Ordering::Relaxed);
        Ok::<(), String>(())
    };
    runtime::run_cores(CorePlan { spin, ..plan(2) }, move |core| talk(core, Arc::clone(&sum))).unwrap();
    Duration::from_nanos(spent.load(Ordering::Relaxed))
}

#[test]
fn a_core_that_spins_hears_all_that_wakes_one_that_sleeps() {
    alone("a_core_that_spins_hears_all_that_wakes_one_that_sleeps", "", || {
        // Longer than anything here takes: it never sleeps.
        // Where others want the CPU too it gets little of it: one good look of a few is enough.
        for look in 1.. {
            let (sleeping, spinning) = (time_of_talk(Duration::ZERO), time_of_talk(Duration::from_secs(10)));
            println!("{spinning:?}, and {sleeping:?} with sleep");
            if spinning > sleeping * 3 / 2 {
                break;
            }
            assert!(look < 10, "it did not spin: {spinning:?}, and {sleeping:?} with sleep");
        }
        // So short that it falls asleep at any moment.
        for spin in [1, 5, 20, 50, 100, 200] {
            time_of_talk(Duration::from_micros(spin));
        }
    });
}

#[test]
fn a_timer_is_not_late_by_the_time_that_a_core_spins() {
    alone("a_timer_is_not_late_by_the_time_that_a_core_spins", "", || {
        let plan = CorePlan { spin: Duration::from_millis(300), ..plan(1) };
        runtime::run_cores(plan, |_| async move {
            // The machine can only make it later: one good look of a few is enough.
            for look in 1.. {
                let began = Instant::now();
                clock::sleep(Duration::from_millis(400)).await;
                if began.elapsed() < Duration::from_millis(600) {
                    break;
                }
                assert!(look < 10, "{:?}", began.elapsed());
            }
            runtime::request_stop();
            Ok::<(), String>(())
        })
        .unwrap();
    });
}

#[test]
fn busy_upkeep_does_not_hold_sockets_up() {
    runtime::run_one(async {
        let stop = StopFlag::new();
        let hog = stop.clone();
        task::spawn(Queue::Upkeep, "hog", OnPanic::StopProcess, async move {
            let mut sum = 0u64;
            while !hog.is_raised() {
                sum = (0..1000).fold(sum, |sum, number| std::hint::black_box(sum + number));
                task::yield_if_needed().await;
            }
        });
        let listener = Rc::new(Listener::bind(localhost(), false).unwrap());
        serve_once(&listener, &Rc::new(Cell::new(0)));
        let client = Socket::connect(listener.local()).await.unwrap();
        let before = cpu_time_of("/proc/thread-self");
        let mut back = BytesMut::with_capacity(1 << 10);
        for _ in 0..60 {
            client.send(&mut Rope::from(bytes::Bytes::from_static(b"x"))).await.unwrap();
            client.receive(&mut back, usize::MAX).await.unwrap();
        }
        // Slices of 100 ms would make it 6 s at least; ours make it some 60 ms. Of this thread's
        // own time, which the hog uses to the full: what else the machine does is not counted.
        let spent = cpu_time_of("/proc/thread-self") - before;
        assert!(spent < Duration::from_secs(2), "{spent:?}");
        stop.raise();
        listener.close();
        drop(client);
        for name in ["hog", "accept", "echo"] {
            task::all_ended(name).await;
        }
    });
}

#[test]
fn long_turns_of_one_queue_leave_the_other_its_share() {
    for (long, short) in [(Queue::Network, Queue::Log), (Queue::Log, Queue::Network)] {
        runtime::run_one(async move {
            let stop = StopFlag::new();
            let (hog, turns) = (stop.clone(), Rc::new(Cell::new(0)));
            let of_hog = Rc::clone(&turns);
            task::spawn(long, "hog", OnPanic::StopProcess, async move {
                while !hog.is_raised() {
                    // More than a slice, as the send of a large answer may take.
                    let began = Instant::now();
                    while began.elapsed() < Duration::from_micros(400) {}
                    of_hog.set(of_hog.get() + 1);
                    task::yield_now().await;
                }
            });
            let others = Rc::new(Cell::new(0));
            let of_other = Rc::clone(&others);
            task::spawn(short, "other", OnPanic::StopProcess, async move {
                while of_other.get() < 100 {
                    of_other.set(of_other.get() + 1);
                    task::yield_now().await;
                }
                stop.raise();
            });
            task::all_ended("other").await;
            task::all_ended("hog").await;
            assert!(turns.get() <= 210, "{} long turns for {} short ones", turns.get(), others.get());
        });
    }
}

#[test]
fn who_stands_back_lets_others_go_first_and_is_not_forgotten() {
    runtime::run_one(async {
        let stop = StopFlag::new();
        let (piece, pieces) = (stop.clone(), Rc::new(Cell::new(0)));
        let of_bulk = Rc::clone(&pieces);
        task::spawn(Queue::Network, "bulk", OnPanic::StopProcess, async move {
            while !piece.is_raised() {
                of_bulk.set(of_bulk.get() + 1);
                task::give_way(true).await;
            }
        });
        // Always ready: a turn of its own for each piece would make as many pieces.
        let (of_small, seen) = (Rc::clone(&pieces), Rc::new(Cell::new((0, 0))));
        let at_end = Rc::clone(&seen);
        task::spawn(Queue::Network, "small", OnPanic::StopProcess, async move {
            for _ in 0..2000 {
                task::yield_now().await;
            }
            let first = of_small.get();
            // Others are ready all the time, and still it gets on.
            while of_small.get() < first + 10 {
                task::yield_now().await;
            }
            at_end.set((first, of_small.get()));
        });
        task::all_ended("small").await;
        assert!(seen.get().0 < 1000, "{} pieces beside 2,000 turns of another task", seen.get().0);
        // With nobody else the core does not sleep over it.
        let before = pieces.get();
        while pieces.get() < before + 100 {
            clock::sleep(Duration::from_millis(1)).await;
        }
        stop.raise();
        task::all_ended("bulk").await;
    });
}

#[test]
fn cores_go_on_though_there_are_many_more_than_cpus() {
    // Threads that lose their CPU at any moment: a wake-up that is lost shows here, as a
    // test that takes a second for it, or for ever.
    let threads: Vec<_> = (0..12)
        .map(|_| {
            std::thread::spawn(|| {
                runtime::run_one(async {
                    for round in 0..150 {
                        assert_eq!(task::on_helper(move || Ok(round)).await.unwrap(), round);
                        task::spawn(Queue::Log, "step", OnPanic::StopProcess, task::yield_now());
                        task::all_ended("step").await;
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
