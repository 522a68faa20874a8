//! `corelog serve`: checks the host, opens the data directories, runs the cores.
//!
//! Start order: host checks → directories are found ([`super::directories`]) → ports → what the process before left in
//! them is read → the socket for questions → cores (metadata, logs, listeners). Stop order is the reverse; a
//! clean stop leaves `.kafka_cleanshutdown`, and the next start needs no recovery.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::directories;
use super::journals;
use crate::admin::{self, Inquiry};
use crate::api;
use crate::base::CoreIndex;
use crate::base::limits::PORT_RELEASE_MS_MAX;
use crate::config::{Advertise, BrokerConfig, ConfigError, Listener};
use crate::connection::{self, Connections};
use crate::inspect::takeover::{self, TakeOverError};
use crate::metadata::properties::PropertiesError;
use crate::runtime::disk::Disk;
use crate::runtime::mailbox;
use crate::runtime::task::{self, OnPanic, Queue};
use crate::runtime::{self, CorePlan, DirLockError, HostError, HostNeeds, RuntimeError, mesh, net, signal};
use crate::shard::start::{self, Setup, StartError};
use crate::shard::{Core, Identity};

/// Open files that a start needs at least; partitions and clients come on top.
const FILES_MIN: u64 = 1024;

/// Why the broker does not run. Each message is one clear line.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Lock(#[from] DirLockError),
    #[error(transparent)]
    Properties(#[from] PropertiesError),
    #[error("listener {listener}: '{host}' is no address of this machine: {reason}")]
    Address { listener: String, host: String, reason: String },
    /// The runtime's sentence names the address.
    #[error("{0}")]
    Port(std::io::Error),
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    #[error(transparent)]
    Journals(#[from] journals::JournalsError),
    #[error("data directories {} and {} are the same", dir.display(), other.display())]
    SameDir { dir: PathBuf, other: PathBuf },
    #[error("data directory {dir}: {reason}")]
    DataDir { dir: PathBuf, reason: String },
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Waits for a port that is taken, for a moment only. 1. A broker is killed. 2. The kernel lets its parent know,
/// takes its rings apart in the background, and with them the accepts that hold the listening socket. 3. A supervisor
/// that restarts the broker at once would meet its own port.
fn wait_for_port(address: SocketAddr) -> Result<(), ServeError> {
    let deadline = Instant::now() + Duration::from_millis(PORT_RELEASE_MS_MAX);
    loop {
        match net::check_port_free(address) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(ServeError::Port(error)),
        }
    }
}

/// Runs the broker until it is told to stop.
///
/// # Errors
/// It does not start, or has to end.
pub fn run(config: BrokerConfig) -> Result<(), ServeError> {
    run_while(config, true)
}

/// Does what a start does with the data, and what a clean stop does. Nobody is served.
///
/// # Errors
/// As of [`run`].
pub fn open_and_close(config: BrokerConfig) -> Result<(), ServeError> {
    run_while(config, false)
}

fn run_while(config: BrokerConfig, serves: bool) -> Result<(), ServeError> {
    let began = Instant::now();
    let cpus = config.choose_cpus(&runtime::allowed_cpus())?;
    runtime::check_host(&HostNeeds { cores: cpus.len(), files: FILES_MIN })?;
    let found = directories::find(&config)?;
    let addresses = addresses(&config, cpus.len())?;
    for address in addresses.iter().flatten() {
        wait_for_port(*address)?;
    }
    let directories::Opened { cluster_id, dirs, _locks } = found.read(cpus.len() as u16)?;
    let socket_dir = config.log_dirs[0].clone();
    let warmed_up = dirs.online().map(|(_, dir)| dir.path().to_owned()).collect();
    let identity = Identity { cluster_id, dirs, throttle: Arc::default() };
    let (askers, inquiries): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mailbox::mailbox()).unzip();
    let process = Arc::new(Process {
        setup: Setup { config: Arc::new(config), identity: Arc::new(identity), cores: cpus.len() as u16 },
        addresses,
        ends: mesh::build(cpus.len()).into_iter().map(|e| Mutex::new(Some(e))).collect(),
        inquiries: inquiries.into_iter().map(|i| Mutex::new(Some(i))).collect(),
        not_listening: AtomicUsize::new(cpus.len()),
        unclean: AtomicBool::new(false),
        serves,
        broker_epoch: AtomicI64::new(-1),
        began,
    });
    let mut plan = CorePlan::new(cpus);
    plan.data_dirs = warmed_up;
    // -1, "none", becomes `None`.
    plan.stall = u64::try_from(process.setup.config.core_stall_threshold_ms).ok().map(Duration::from_millis);
    plan.spin = Duration::from_micros(u64::try_from(process.setup.config.core_spin_us).unwrap_or(0));
    // Before any thread is there on which a signal could end the process. It waits until the cores run.
    signal::block().map_err(|error| RuntimeError::Process(error.to_string()))?;
    // Without it everything but `corelog debug` works: some file systems have no sockets.
    let admin = admin::Server::start(&socket_dir, askers)
        .inspect_err(|error| {
            tracing::warn!(
                "{} in the data directory: {error}; corelog debug will not find this broker",
                admin::SOCKET_NAME
            )
        })
        .ok();
    let here = Arc::clone(&process);
    runtime::run_cores(plan, move |index| core_main(Arc::clone(&here), index))?;
    drop(admin);
    if !process.unclean.load(Ordering::Relaxed) {
        let dirs = &process.setup.identity.dirs;
        directories::leave_clean_markers(dirs, process.broker_epoch.load(Ordering::Relaxed))?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// What the cores of this process share while they start.
struct Process {
    setup: Setup,
    /// By core, then by listener.
    addresses: Vec<Vec<SocketAddr>>,
    ends: Vec<Mutex<Option<mesh::Ends<crate::shard::messages::Message>>>>,
    /// What is asked of each core from outside.
    inquiries: Vec<Mutex<Option<mailbox::Receiver<Inquiry>>>>,
    /// Cores that do not accept connections yet.
    not_listening: AtomicUsize,
    /// Set when no directory may be marked as cleanly closed.
    unclean: AtomicBool,
    /// Connections are accepted, until a signal comes.
    serves: bool,
    /// The epoch of this process's registration in the metadata.
    broker_epoch: AtomicI64,
    began: Instant,
}

async fn core_main(process: Arc<Process>, index: CoreIndex) -> Result<(), String> {
    let at = usize::from(index.0);
    let ends = process.ends[at].lock().expect("taken once, by this core").take().expect("taken once, by this core");
    // Bound first: clients that come early wait in the backlog instead of being refused.
    let config = &process.setup.config;
    let options = net::ListenOptions {
        reuse_port: config.advertise == Advertise::Host,
        backlog: config.socket_listen_backlog_size,
        // -1, Kafka's "leave it to the system", becomes `None`.
        send_buffer_bytes: usize::try_from(config.socket_send_buffer_bytes).ok(),
        receive_buffer_bytes: usize::try_from(config.socket_receive_buffer_bytes).ok(),
    };
    let listeners = process.addresses[at]
        .iter()
        .map(|address| net::Listener::bind_with(*address, &options).map(Rc::new).map_err(|error| error.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let core = match start::start(process.setup.clone(), index, ends, Disk::direct()).await {
        Ok(core) => core,
        // Nobody has done anything wrong; what was not opened is looked at by the next start.
        Err(StartError::Stopped) => {
            tracing::info!("stopping while it starts");
            process.unclean.store(true, Ordering::Relaxed);
            runtime::request_stop();
            return Ok(());
        }
        Err(error) => return Err(error.to_string()),
    };
    core.on_request(Box::new(|core, request| Box::pin(async move { api::handle_forwarded(&core, request).await })));
    if let Some(inquiries) = process.inquiries[at].lock().expect("taken once, by this core").take() {
        let answering = admin::answer_inquiries(Rc::clone(&core), inquiries);
        task::spawn(Queue::Upkeep, "inquiries", OnPanic::EndTask, answering);
    }
    let connections = Connections::new();
    task::spawn(
        Queue::Upkeep,
        "idle connections",
        OnPanic::StopProcess,
        Rc::clone(&connections).sweep(Rc::clone(&core)),
    );
    for (i, listener) in listeners.iter().enumerate().filter(|_| process.serves) {
        let accepting = connection::listen(Rc::clone(&core), Rc::clone(&connections), Rc::clone(listener), i);
        task::spawn(Queue::Network, "accept", OnPanic::StopProcess, accepting);
    }
    let all_are_open = process.not_listening.fetch_sub(1, Ordering::AcqRel) == 1;
    if all_are_open && process.serves {
        say_ready(&process, &core);
    } else if all_are_open {
        runtime::request_stop();
    }
    if index == CoreIndex(0) {
        let registered = core.image().broker(config.node_id).map_or(-1, |broker| broker.broker_epoch);
        process.broker_epoch.store(registered, Ordering::Relaxed);
        task::spawn(Queue::Upkeep, "claim", OnPanic::EndTask, claim(Rc::clone(&core)));
        let stopped = core.stop().clone();
        futures_lite::future::or(signal::terminated(), stopped.raised()).await;
        tracing::info!("stopping");
        runtime::request_stop();
    }
    core.stop().raised().await;
    for listener in &listeners {
        listener.close();
    }
    // Who waits in a rebalance would wait for minutes: told to look for another coordinator.
    core.coordinators().stop().await;
    connections.stop().await;
    start::stop(&core).await;
    if runtime::failed() {
        process.unclean.store(true, Ordering::Relaxed);
    }
    Ok(())
}

/// Notes who uses the directory. Without it the next start looks whether it could take the directory over.
async fn claim(core: Rc<Core>) {
    let (path, bytes) = takeover::claim(&core.dirs().metadata().path, core.image().epoch());
    if let Err(error) = core.disk().write_file(&path, bytes).await {
        tracing::warn!("write {}: {error}", path.display());
    }
}

fn say_ready(process: &Process, core: &Core) {
    let config = core.config();
    let shown: Vec<String> = config.advertised_listeners.iter().map(Listener::to_string).collect();
    let flush = match config.topic_defaults().flushes_each_append() {
        true => "acks=all means written and flushed to the drive, acks=1 written to the drive",
        false => "acks=all and acks=1 mean written to the drive, not flushed",
    };
    tracing::info!(
        cluster = %process.setup.identity.cluster_id,
        node = config.node_id.0,
        cores = process.setup.cores,
        advertise = ?config.advertise,
        "ready after {} ms at {}; {flush}",
        process.began.elapsed().as_millis(),
        shown.join(","),
    );
}

/// The address of each listener on each core.
fn addresses(config: &BrokerConfig, cores: usize) -> Result<Vec<Vec<SocketAddr>>, ServeError> {
    (0..cores)
        .map(|core| {
            config
                .listeners
                .iter()
                .map(|listener| {
                    let shift = if config.advertise == Advertise::Core { core as u16 } else { 0 };
                    resolve(listener, listener.port + shift)
                })
                .collect()
        })
        .collect()
}

fn resolve(listener: &Listener, port: u16) -> Result<SocketAddr, ServeError> {
    let refused =
        |reason: String| ServeError::Address { listener: listener.name.clone(), host: listener.host.clone(), reason };
    if listener.host.is_empty() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    (listener.host.as_str(), port)
        .to_socket_addrs()
        .map_err(|e| refused(e.to_string()))?
        // A name such as localhost often has both: IPv4 is what clients try in practice.
        .min_by_key(|a| !a.is_ipv4())
        .ok_or_else(|| refused("it has no address".into()))
}
