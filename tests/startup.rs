//! Starts that must fail, each with one clear line and a non-zero exit; and what an idle broker costs.

mod harness;

use harness::broker::{Broker, Kind, Options, free_ports, serve_command};
use harness::program::{Ended, Program};
use harness::refusal::refuse_call;
use harness::wait::{self, PATIENCE, seconds};
use harness::wire;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// These are about corelog's own words.
fn is_corelog() -> bool {
    Kind::from_environment() == Kind::Corelog
}

fn serve(data_dir: &Path, port: u16, more: &[&str]) -> Command {
    let mut command = serve_command(&Kind::Corelog, data_dir, &format!("PLAINTEXT://127.0.0.1:{port}"));
    if !more.contains(&"--cores") {
        command.args(["--cores", &two_cores()]);
    }
    command.args(more);
    command
}

/// The cores of a [`Broker`], as the option wants them: as many as the ports that are asked for.
fn two_cores() -> String {
    // Each as a range: a bare number would be a count.
    let cores: Vec<String> = Options::default().cores.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
    cores.join(",")
}

/// Exit codes, as `corelog --help` lists them.
const FAILED: i32 = 1;
const WRONG: i32 = 2;
const HOST: i32 = 3;

/// The start fails with `code` and one line, which says all `words`. What was reported before, warnings at most, is not
/// counted.
#[track_caller]
fn check_fails(command: &mut Command, code: i32, words: &[&str]) -> Ended {
    let ended = Program::start(command).end(PATIENCE);
    let text = format!("{}\n{}", ended.output, ended.errors);
    assert_eq!(ended.status.code(), Some(code), "{text}");
    assert_eq!(ended.output, "", "what is wrong goes to standard error");
    let lines: Vec<&str> =
        ended.errors.lines().filter(|line| !line.contains(" WARN ") && !line.contains(" INFO ")).collect();
    let [line] = lines[..] else { panic!("not one line, but:\n{text}") };
    assert!(line.starts_with("corelog: "), "{line}");
    for word in words {
        assert!(line.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not in: {line}");
    }
    println!("{line}");
    ended
}

#[test]
fn a_data_directory_in_use() {
    if !is_corelog() {
        return;
    }
    let broker = Broker::start();
    let data_dir = broker.data_dir();
    check_fails(&mut serve(&data_dir, free_ports(2), &[]), HOST, &[data_dir.to_str().unwrap(), "in use"]);
    // The first is not disturbed.
    wire::api_versions(broker.addresses()[0]).unwrap();
}

#[test]
fn a_port_that_is_taken() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    // The first core's, and the second's.
    for taken in 0..Options::default().cores.len() as u16 {
        let port = free_ports(2);
        let _holder = TcpListener::bind(("127.0.0.1", port + taken)).unwrap();
        check_fails(&mut serve(&folder.path().join("data"), port, &[]), HOST, &[&(port + taken).to_string(), "taken"]);
    }
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    check_fails(&mut serve(&file, free_ports(2), &[]), HOST, &[file.to_str().unwrap()]);
    check_fails(&mut serve(&file.join("below"), free_ports(2), &[]), HOST, &[file.to_str().unwrap()]);
    // Nobody, not even root, makes a directory there.
    let closed = Path::new("/proc/corelog-data");
    check_fails(&mut serve(closed, free_ports(2), &[]), HOST, &[closed.to_str().unwrap()]);
}

#[test]
fn wrong_values() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let data_dir = folder.path().join("data");
    let check = |more: &[&str], words: &[&str]| check_fails(&mut serve(&data_dir, free_ports(2), more), WRONG, words);
    check(&["--set", "num.partitions=many"], &["num.partitions", "many"]);
    check(&["--set", "num.partitions=0"], &["num.partitions", "0"]);
    check(&["--set", "log.segment.bytes=-5"], &["log.segment.bytes", "-5"]);
    check(&["--set", "socket.request.max.bytes=99999999999"], &["socket.request.max.bytes", "99999999999"]);
    check(&["--set", "auto.create.topics.enable=perhaps"], &["auto.create.topics.enable", "perhaps"]);
    check(&["--set", "listeners=PLAINTEXT://127.0.0.1:70000"], &["listeners", "70000"]);
    check(&["--cores", "4096"], &["4096"]);
    assert!(!data_dir.join("meta.properties").exists(), "a refused start leaves nothing behind");
    // What is wrong with the command line itself, clap says with its own layout.
    for more in [&["--set", "num.partitions"][..], &["--advertise", "everything"], &["--no-such-flag"]] {
        let ended = Program::start(&mut serve(&data_dir, free_ports(2), more)).end(PATIENCE);
        assert!(ended.status.code() == Some(2) && ended.errors.contains("rror:"), "{more:?}: {}", ended.errors);
    }
}

#[test]
fn a_configuration_file() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let file = folder.path().join("server.properties");
    let port = free_ports(2);
    let data_dir = folder.path().join("data");
    let good = format!(
        "# As in Kafka\nnode.id=3\nlisteners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\nnum.partitions = 4\n",
        data_dir.display()
    );
    let start = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelog"));
        command.arg("serve").arg("--config").arg(&file).args(["--cores", &two_cores()]);
        command
    };
    // A wrong value is an error with its line; a file that is not there, one with its path.
    check_fails(
        &mut start(&format!("{good}num.io.threads=8\nlog.retention.hours=soon\n")),
        WRONG,
        &["log.retention.hours", "soon", "7"],
    );
    std::fs::remove_file(&file).unwrap();
    let mut missing = Command::new(env!("CARGO_BIN_EXE_corelog"));
    check_fails(missing.arg("serve").arg("--config").arg(&file), WRONG, &[file.to_str().unwrap()]);
    // Names that are unknown are warned about, each, and the broker runs.
    let mut broker = Program::start(&mut start(&format!("{good}no.such.option=1\nlog.retention.bites=5\n")));
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    wait::until("an answer of the configured broker", PATIENCE, || {
        assert!(broker.is_running(), "it has ended");
        wire::api_versions(address).ok()
    });
    broker.signal("TERM");
    let ended = broker.end(PATIENCE);
    let text = format!("{}{}", ended.output, ended.errors);
    assert_eq!(ended.status.code(), Some(0), "{text}");
    for name in ["no.such.option", "log.retention.bites"] {
        assert!(
            text.lines().any(|line| line.contains("WARN") && line.contains(name)),
            "no warning about {name}: {text}"
        );
    }
    let identity = std::fs::read_to_string(data_dir.join("meta.properties")).unwrap();
    assert!(identity.lines().any(|line| line == "node.id=3"), "{identity}");
    // Another node id than the directory's.
    check_fails(&mut start(&good.replace("node.id=3", "node.id=4")), HOST, &["node.id", "3", "4"]);
}

#[test]
fn too_few_file_descriptors() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let inner = serve(&folder.path().join("data"), free_ports(2), &[]);
    let words = ["open files are limited to 40", "needed", "ulimit -n", "LimitNOFILE", "nofile="];
    check_fails(&mut after("ulimit -n 40", &inner), HOST, &words);
}

/// As Docker's and containerd's default profiles do it, or a kernel without io_uring. A profile that permits the setup
/// and not the rest is no better.
#[test]
fn io_uring_refused() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let data_dir = folder.path().join("data");
    for (call, number) in [
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_register", libc::SYS_io_uring_register),
        ("io_uring_enter", libc::SYS_io_uring_enter),
    ] {
        for errno in [libc::EPERM, libc::ENOSYS] {
            let mut command = serve(&data_dir, free_ports(2), &[]);
            refuse_call(&mut command, number, errno);
            let reason = format!("{call}: {}", std::io::Error::from_raw_os_error(errno));
            check_fails(&mut command, HOST, &["io_uring is refused", &reason, "kernel.io_uring_disabled", "seccomp"]);
        }
    }
}

/// The same program, started by a shell that has done `first`.
fn after(first: &str, inner: &Command) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{first} && exec \"$0\" \"$@\"")]).arg(inner.get_program()).args(inner.get_args());
    command
}

/// What is said to be needed is enough, and where more is taken by others, that is said as well.
#[test]
fn too_little_locked_memory() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let words = ["locked memory", "are needed", "ulimit -l", "LimitMEMLOCK", "memlock="];
    let (first, second) = (free_ports(2), free_ports(2));
    let first_broker = serve(&folder.path().join("first"), first, &[]);
    let second_broker = serve(&folder.path().join("second"), second, &[]);
    check_fails(&mut after("ulimit -l 511", &first_broker), HOST, &words);

    // The kernel counts for all processes of a user, but nothing for root, unless it gives that up. Other users' brokers
    // may run beside this test.
    let given_up = Command::new("setpriv").args(["--bounding-set", "-ipc_lock", "true"]).output();
    if !given_up.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: what is counted, for it takes root to give CAP_IPC_LOCK up");
        return;
    }
    let limited = |bytes: u64, inner: &Command| {
        let inner = after(&format!("ulimit -l {}", bytes / 1024), inner);
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-ipc_lock", "--"]).arg(inner.get_program()).args(inner.get_args());
        command
    };
    let mut needed = 512 << 10;
    let mut broker = Program::start(&mut limited(needed, &first_broker));
    if !answers(&mut broker, first) {
        let ended = broker.end(PATIENCE);
        assert_eq!(ended.status.code(), Some(HOST), "{}", ended.errors);
        let said = ended.errors.split(" are needed").next().and_then(|text| text.rsplit(' ').next());
        needed = said.unwrap().parse().unwrap_or_else(|_| panic!("no number: {}", ended.errors));
        assert!(needed > 512 << 10, "{}", ended.errors);
        broker = Program::start(&mut limited(needed, &first_broker));
        runs(&mut broker, first);
        // A second one beside it: each for itself would have enough.
        // That may pass, so it is worth another start, unlike what the host's limits are.
        let words = ["did not start", "locked memory", "ulimit -l", "LimitMEMLOCK", "memlock="];
        check_fails(&mut limited(needed, &second_broker), FAILED, &words);
    } else {
        println!("SKIPPED: a second broker of the same user, for this kernel does not count so little");
    }
    println!("{needed} bytes are enough");
    broker.signal("TERM");
    assert_eq!(broker.end(PATIENCE).status.code(), Some(0));
}

/// Whether a broker that is starting comes to answer; false: it has ended.
#[track_caller]
fn answers(broker: &mut Program, port: u16) -> bool {
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    wait::until("an answer, or an end", PATIENCE, || {
        if !broker.is_running() {
            return Some(false);
        }
        wire::api_versions(address).ok().map(|_| true)
    })
}

/// It answers, and keeps a record.
#[track_caller]
fn runs(broker: &mut Program, port: u16) {
    assert!(answers(broker, port), "it has ended");
    harness::records::create_topic(&format!("127.0.0.1:{port}"), "kept", 1);
}

/// The same program, started where `mount` (words of mount(8)) has put something over `dir`: in a mount namespace of
/// its own, that ends with it. None where this user may not do that.
fn with_mounted(mount: &str, dir: &Path, inner: &Command) -> Option<Command> {
    std::fs::create_dir_all(dir).unwrap();
    let first = format!("mount {mount} corelog-test '{}'", dir.display());
    // Root needs no user namespace, and in a container cannot have one; others need it.
    let unshare = ["-m", "-rm"].into_iter().find(|flags| {
        let mut trial = Command::new("unshare");
        let outcome = trial.args([flags, "sh", "-c", &first]).output();
        outcome.is_ok_and(|output| output.status.success())
    })?;
    let inner = after(&first, inner);
    let mut command = Command::new("unshare");
    command.arg(unshare).arg(inner.get_program()).args(inner.get_args());
    Some(command)
}

#[test]
fn a_file_system_that_will_not_do() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let dir = folder.path().join("mounted");
    let shown = dir.to_str().unwrap();
    for (mount, dir, words) in [
        // Its files live in the page cache alone and cannot be read around it.
        ("-t ramfs", dir.clone(), &[shown, "without direct I/O", "ext4 or XFS"][..]),
        ("-t tmpfs -o ro", dir.clone(), &[shown, "not writable", "read-only"]),
        ("-t tmpfs -o ro", dir.join("below"), &["cannot create", shown, "read-only"]),
        // A full one that was used before would do; here there is nothing yet.
        ("-t tmpfs -o nr_inodes=1", dir.clone(), &[shown, "cannot lock", "no space left"]),
    ] {
        let inner = serve(&dir, free_ports(2), &[]);
        let Some(mut command) = with_mounted(mount, Path::new(shown), &inner) else {
            println!("SKIPPED: this user may not mount (neither as root nor in a user namespace)");
            return;
        };
        check_fails(&mut command, HOST, words);
    }
}

/// On tmpfs, whose direct I/O is none, it runs, and says so.
#[test]
fn a_file_system_without_direct_io_is_warned_about() {
    let shm = Path::new("/dev/shm");
    if !is_corelog() || !shm.is_dir() {
        return;
    }
    let folder = tempfile::tempdir_in(shm).unwrap();
    let port = free_ports(2);
    let mut broker = Program::start(&mut serve(&folder.path().join("data"), port, &[]));
    runs(&mut broker, port);
    broker.signal("TERM");
    let ended = broker.end(PATIENCE);
    let text = format!("{}{}", ended.output, ended.errors);
    assert_eq!(ended.status.code(), Some(0), "{text}");
    assert!(text.lines().any(|line| line.contains("WARN") && line.contains("tmpfs")), "{text}");
}

/// Time on a CPU of all threads of a process, in nanoseconds.
fn cpu_time_ns(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let times = tasks.flatten().map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0)
    });
    times.sum()
}

#[test]
fn an_idle_broker_costs_less_than_a_hundredth_of_a_core() {
    let broker = Broker::start();
    let Some(process) = broker.process() else { return };
    if !is_corelog() {
        return;
    }
    let addresses = broker.addresses();
    let open: Vec<_> =
        (0..100).map(|number| harness::broker::connect(addresses[number % addresses.len()]).unwrap()).collect();
    // What else runs on this machine can only make it more: one good look of a few is enough.
    let span = seconds(3);
    let looks = (0..10).map(|_| {
        let (begun, before) = (Instant::now(), cpu_time_ns(process));
        wait::throughout(span, || {});
        let share = (cpu_time_ns(process) - before) as f64 / begun.elapsed().as_nanos() as f64;
        println!("{:.2} % of a core with {} open connections", share * 100.0, open.len());
        share
    });
    assert!(looks.into_iter().any(|share| share < 0.01), "never less");
}

/// As when the drive that takes its log is full.
#[test]
fn a_broker_whose_log_cannot_be_written_goes_on() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let port = free_ports(2);
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = serve(&folder.path().join("data"), port, &[]);
    let mut broker = command.stdout(full()).stderr(full()).spawn().unwrap();
    let answer = wait::until("an answer", PATIENCE, || {
        assert_eq!(broker.try_wait().unwrap(), None, "ended");
        wire::api_versions(([127, 0, 0, 1], port).into()).ok()
    });
    assert!(!answer.is_empty());
    harness::program::send_signal(broker.id(), "TERM");
    assert_eq!(broker.wait().unwrap().code(), Some(0));
}

/// A stop during the start is a stop like any other, wherever it hits.
#[test]
fn ends_on_a_signal_while_it_starts() {
    if !is_corelog() {
        return;
    }
    let folder = harness::folder();
    let begun = Instant::now();
    let data_dir = folder.path().join("data");
    for round in 0..20u32 {
        let port = free_ports(2);
        let mut broker = Program::start(&mut serve(&data_dir, port, &[]));
        // From the moment at which a signal is no longer the system's own affair, a little later each time.
        wait::until("the handler of SIGTERM", PATIENCE, || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
                u64::from_str_radix(line.trim(), 16).unwrap_or(0)
            };
            let terminate = 1 << 14;
            ((field("SigCgt:") | field("SigBlk:")) & terminate != 0 || !broker.is_running()).then_some(())
        });
        wait::throughout(std::time::Duration::from_millis(u64::from(round) * 10), || {});
        broker.signal("TERM");
        let ended = broker.end(PATIENCE);
        assert_eq!(ended.status.code(), Some(0), "round {round}: {}", ended.errors);
        assert!(!ended.errors.contains("ERROR"), "round {round}: {}", ended.errors);
    }
    println!("20 starts in {:?}", begun.elapsed());
}

/// SIGINT, as from a terminal, is as good as SIGTERM; and both are obeyed with connections open.
#[test]
fn ends_on_signals_with_open_connections() {
    if !is_corelog() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let mut broker = Broker::start();
        let open: Vec<_> =
            broker.addresses().into_iter().map(|address| harness::broker::connect(address).unwrap()).collect();
        harness::program::send_signal(broker.process().unwrap(), signal);
        let status = broker.ended(PATIENCE);
        assert_eq!(status.code(), Some(0), "after SIG{signal}");
        drop(open);
    }
}
