//! Starting and stopping one core's world.
//!
//! Start: connect to the other cores → core 0 replays the metadata log and hands it to
//! all → open what this core owns (recovery, in parallel) → load coordinators. The
//! listeners open after that, in the layer that knows sockets. Stop is the reverse.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::brokers::Mapping;
use super::cleaner;
use super::controller;
use super::coordinators::Coordinators;
use super::fetch_sessions::FetchSessions;
use super::images::{self, Images};
use super::journal;
use super::messages::Message;
use super::mover;
use super::partitions::{self, Partitions};
use super::placement::Placement;
use super::points;
use super::producer_ids::ProducerIds;
use super::router::{self, Router};
use super::{Core, Identity, failures, starts, survey, upkeep};
use crate::base::CoreIndex;
use crate::base::budget::Budget;
use crate::base::limits::READS_FOR_OTHERS_BYTES_MAX;
use crate::config::BrokerConfig;
use crate::metadata::{Image, JournalError};
use crate::metrics::Requests;
use crate::runtime;
use crate::runtime::disk::Disk;
use crate::runtime::mesh::Ends;
use crate::runtime::task::{self, OnPanic, Queue};

/// What all cores of a process start from.
#[derive(Clone)]
pub struct Setup {
    pub config: Arc<BrokerConfig>,
    pub identity: Arc<Identity>,
    pub cores: u16,
}

/// Why a core did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the metadata log: {0}")]
    Journal(#[from] JournalError),
    #[error("{0}")]
    Directory(String),
    #[error("the process was told to stop while it started")]
    Stopped,
}

/// Builds a core's world and brings it to where it can serve.
pub async fn start(setup: Setup, index: CoreIndex, ends: Ends<Message>, disk: Disk) -> Result<Rc<Core>, StartError> {
    let Setup { config, identity, cores } = setup;
    let (outbox, inbox) = ends.connect();
    let random = runtime::random_bytes();
    let core = Rc::new(Core {
        index,
        placement: Placement::new(cores),
        brokers: Mapping::new(config.node_id, config.advertise, cores, config.advertised_cores_max as u16),
        image: RefCell::new(Rc::new(Image::default())),
        images: Images::default(),
        partitions: Partitions::new(&config, &identity.dirs),
        points: Default::default(),
        starts: Default::default(),
        cleaning: Default::default(),
        moves: Default::default(),
        coordinators: Coordinators::new(&config),
        router: Router::new(outbox),
        controller: OnceCell::new(),
        producer_ids: ProducerIds::default(),
        fetch_sessions: RefCell::new(FetchSessions::new(
            config.max_incremental_fetch_session_cache_slots as usize,
            u32::from_le_bytes([random[0], random[1], random[2], random[3]]),
        )),
        request_memory: Budget::new(config.request_memory_bytes_per_core as usize),
        read_memory: Budget::new(config.read_memory_bytes_per_core as usize),
        read_memory_of_tails: Budget::new(config.read_memory_bytes_per_core as usize / 4),
        reads_for_others: Budget::new(READS_FOR_OTHERS_BYTES_MAX),
        handler: OnceCell::new(),
        requests: Requests::default(),
        stop: runtime::stop_flag(),
        config: RefCell::new(Rc::new((*config).clone())),
        started_with: config,
        identity,
        disk,
    });
    {
        let core = Rc::clone(&core);
        inbox.serve(move |from, message| router::receive(&core, from, message));
    }
    if index == CoreIndex(0) {
        lead(&core).await?;
    }
    core.images.wait_until_caught_up(&core.stop).await;
    if core.stop.is_raised() {
        return Err(StartError::Stopped);
    }
    core.refresh_config();
    partitions::open_all(&core).await.map_err(StartError::Directory)?;
    journal::start(&core);
    points::start(&core);
    failures::start(&core);
    core.coordinators.load_all(&core).await;
    task::spawn(Queue::Log, "images", OnPanic::StopProcess, images::follow(Rc::clone(&core)));
    if index == CoreIndex(0) {
        task::spawn(Queue::Log, "controller", OnPanic::StopProcess, controller::run(Rc::clone(&core)));
    }
    cleaner::start(&core);
    mover::resume(&core);
    task::spawn(Queue::Upkeep, "upkeep", OnPanic::StopProcess, upkeep::run(Rc::clone(&core)));
    task::spawn(Queue::Upkeep, "retention", OnPanic::StopProcess, upkeep::retain(Rc::clone(&core)));
    Ok(core)
}

/// On core 0: reads the metadata log, hands it to every core, and clears away what it
/// does not know.
async fn lead(core: &Rc<Core>) -> Result<(), StartError> {
    controller::open(core).await?;
    let placed = survey::run(core).await.map_err(StartError::Directory)?;
    controller::register(core, placed).await?;
    starts::begin(core).await.map_err(StartError::Directory)?;
    for other in core.placement.all().filter(|c| *c != core.index) {
        core.router.send(other, Message::CaughtUp).await.map_err(|_| StartError::Stopped)?;
    }
    core.images.caught_up();
    Ok(())
}

/// Closes everything of a core, so that the next start needs no recovery; the directories know in which of them that
/// did not succeed. The connections are gone by now.
pub async fn stop(core: &Rc<Core>) {
    core.images.wake();
    controller::wake(core);
    task::all_ended("images").await;
    task::all_ended("controller").await;
    task::all_ended("upkeep").await;
    task::all_ended("retention").await;
    core.coordinators.stop().await;
    let clean = partitions::close_all(core).await;
    mover::stop().await;
    points::stop(core).await;
    starts::stop(core).await;
    cleaner::stop(core).await;
    journal::stop(core, &clean).await;
    let Some(controller) = core.controller.get() else { return };
    if clean.iter().all(|clean| *clean) {
        controller::say_stopped(core).await;
    }
    if let Err(error) = controller.journal().close().await {
        tracing::error!(%error, "close the metadata log");
        core.dirs().metadata_not_clean();
    }
}
