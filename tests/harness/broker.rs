//! The broker under test: started on free ports with a data directory of its own, judged by its answers, its log and
//! its end.

use super::program::{send_signal, tail};
use super::wait::{self, PATIENCE};
use super::wire;
use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

/// Which program the tests run against; see the environment in [`super`].
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    Corelog,
    ApacheKafka,
    Existing { host: String, port: u16 },
}

impl Kind {
    pub fn from_environment() -> Kind {
        if let Ok(address) = std::env::var("CORELOG_TEST_BOOTSTRAP") {
            let (host, port) = address.rsplit_once(':').expect("CORELOG_TEST_BOOTSTRAP is HOST:PORT");
            return Kind::Existing { host: host.to_string(), port: port.parse().expect("a port") };
        }
        match std::env::var("CORELOG_TEST_BROKER").as_deref() {
            Ok("kafka") => Kind::ApacheKafka,
            Ok(other) => panic!("CORELOG_TEST_BROKER={other}: only \"kafka\" is known"),
            Err(_) => Kind::Corelog,
        }
    }
}

/// How a broker is started.
#[derive(Clone)]
pub struct Options {
    /// Cores by their kernel numbers; two of the allowed ones by default.
    pub cores: Vec<usize>,
    /// `core` or `host`.
    pub advertise: &'static str,
    /// `--set NAME=VALUE`.
    pub settings: Vec<String>,
    /// See [`Options::journal`].
    pub journal_bytes: u32,
    /// The folder of the data directory, when it is not the test's own.
    pub data_in: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cores: allowed_cpus().into_iter().take(2).collect(),
            advertise: "core",
            // Kafka's default waits 3 s for more members before an empty group's first generation.
            settings: vec!["group.initial.rebalance.delay.ms=0".to_string()],
            journal_bytes: 4 << 20,
            data_in: None,
        }
    }
}

impl Options {
    pub fn set(mut self, setting: &str) -> Options {
        self.settings.push(setting.to_string());
        self
    }

    /// The size of a core's journal: small by default, so that dozens of brokers do not fill the drive with zeroes.
    pub fn journal(mut self, bytes: u32) -> Options {
        self.journal_bytes = bytes;
        self
    }
}

/// A broker. Stopped, and judged, when it is dropped.
pub struct Broker {
    pub kind: Kind,
    pub options: Options,
    host: String,
    port: u16,
    folder: tempfile::TempDir,
    process: Option<Child>,
    /// Parts of ERROR lines that the test provokes.
    expected_errors: Vec<String>,
}

impl Broker {
    pub fn start() -> Broker {
        Broker::with(Options::default())
    }

    pub fn with(options: Options) -> Broker {
        Broker::on_port(free_ports(options.cores.len()), options)
    }

    /// With `port` for its first core. (A broker that runs already has its own.)
    pub fn on_port(port: u16, options: Options) -> Broker {
        let kind = Kind::from_environment();
        let (host, port) = match &kind {
            Kind::Existing { host, port } => (host.clone(), *port),
            _ => ("127.0.0.1".to_string(), port),
        };
        let folder = super::folder();
        let mut broker = Broker { kind, options, host, port, folder, process: None, expected_errors: Vec::new() };
        broker.launch();
        broker
    }

    /// `HOST:PORT` of the first core.
    pub fn bootstrap(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The address as tutorials write it.
    pub fn localhost(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// All addresses that serve clients: one per core, as advertised.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let ports = match (&self.kind, self.options.advertise) {
            (Kind::Corelog, "core") => self.options.cores.len() as u16,
            _ => 1,
        };
        (self.port..self.port + ports).map(|port| SocketAddr::new(self.host.parse().unwrap(), port)).collect()
    }

    pub fn is_corelog(&self) -> bool {
        self.kind == Kind::Corelog
    }

    /// Whether this test may kill and restart it.
    pub fn is_ours(&self) -> bool {
        !matches!(self.kind, Kind::Existing { .. })
    }

    pub fn data_dir(&self) -> PathBuf {
        self.options.data_in.as_deref().unwrap_or(self.folder.path()).join("data")
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// ERROR lines that contain `part` are what the test wants to see.
    pub fn expect_error(&mut self, part: &str) {
        self.expected_errors.push(part.to_string());
    }

    /// Starts the broker on its data and waits until every core answers.
    pub fn launch(&mut self) {
        self.spawn();
        for address in self.addresses() {
            wait::until(&format!("an answer from {address}"), PATIENCE, || {
                if let Some(status) = self.process.as_mut().and_then(|child| child.try_wait().unwrap()) {
                    self.process = None;
                    panic!("the broker ended with {status} at its start:\n{}", tail(&self.log()));
                }
                wire::api_versions(address).ok()
            });
        }
    }

    /// Starts the broker on its data, and does not wait for it.
    pub fn spawn(&mut self) {
        if self.is_ours() {
            assert!(self.process.is_none(), "it runs already");
            let mut command =
                serve_command(&self.kind, &self.data_dir(), &format!("PLAINTEXT://{}:{}", self.host, self.port));
            // Each as a range: a bare number would be a count.
            let cores: Vec<String> = self.options.cores.iter().map(|cpu| format!("{cpu}-{cpu}")).collect();
            command.args(["--cores", &cores.join(","), "--advertise", self.options.advertise]);
            for setting in &self.options.settings {
                command.args(["--set", setting]);
            }
            if self.is_corelog() {
                command.arg("--set").arg(format!("journal.bytes.per.core={}", self.options.journal_bytes));
            }
            let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            self.process = Some(command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}")));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let mut child = self.process.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, a clean end, and a log without errors.
    #[track_caller]
    pub fn stop(&mut self) {
        let Some(child) = self.process.as_ref() else { return };
        send_signal(child.id(), "TERM");
        let status = self.ended(PATIENCE);
        let clean = match self.kind {
            Kind::Corelog => status.code() == Some(0),
            // What a JVM gives after SIGTERM.
            _ => status.code() == Some(143),
        };
        assert!(clean, "after SIGTERM the broker ended with {status}; its log:\n{}", tail(&self.log()));
        self.judge_log();
    }

    /// Waits for the broker's own end.
    #[track_caller]
    pub fn ended(&mut self, limit: std::time::Duration) -> ExitStatus {
        let child = self.process.as_mut().expect("it runs");
        let status = wait::until("the end of the broker", limit, || child.try_wait().unwrap());
        self.process = None;
        status
    }

    /// No panic and no ERROR line but the expected ones. Apache Kafka is not judged.
    #[track_caller]
    pub fn judge_log(&self) {
        if !self.is_corelog() {
            return;
        }
        let log = self.log();
        let bad: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("ERROR") || line.contains("panicked at"))
            .filter(|line| !self.expected_errors.iter().any(|part| line.contains(part.as_str())))
            .collect();
        assert!(bad.is_empty(), "the broker's log has errors:\n{}", bad.join("\n"));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
            return;
        }
        if let Some(mut child) = self.process.take() {
            // Both fail when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
        eprintln!("the broker's log ends with:\n{}", tail(&self.log()));
    }
}

/// The broker's program with its data directory and listener.
pub fn serve_command(kind: &Kind, data_dir: &Path, listeners: &str) -> Command {
    let mut command = match kind {
        Kind::ApacheKafka => Command::new(super::source().join("scripts/kafka")),
        _ => Command::new(env!("CARGO_BIN_EXE_corelog")),
    };
    command.arg("serve").arg("--data-dir").arg(data_dir).args(["--listeners", listeners]);
    command
}

/// The first of `count` consecutive ports that nobody uses now. Below the range from which the kernel takes ports for
/// outgoing connections.
pub fn free_ports(count: usize) -> u16 {
    const FIRST: u16 = 20000;
    const SPAN: u16 = 9000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run at once begin in different places.
    let here = std::process::id().wrapping_mul(7919) as u16;
    for _ in 0..1000 {
        let port = FIRST + here.wrapping_add(NEXT.fetch_add(count as u16, Ordering::Relaxed)) % SPAN;
        let bound: Result<Vec<TcpListener>, _> =
            (port..port + count as u16).map(|port| TcpListener::bind(("127.0.0.1", port))).collect();
        if bound.is_ok() {
            return port;
        }
    }
    panic!("no {count} consecutive free ports");
}

/// The CPUs that this process may run on.
pub fn allowed_cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim()
        .split(',')
        .flat_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<usize>().unwrap()..=last.parse::<usize>().unwrap()
        })
        .collect()
}

/// A connection that gives up instead of hanging a test.
pub fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
