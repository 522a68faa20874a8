//! One core's world: the partitions it owns, its coordinators, its image of the
//! metadata, and the way to other cores.
//!
//! Relies on partitions, metadata and coordinators; knows no message of the Kafka
//! protocol and no socket. Everything here is single-threaded; what crosses cores is
//! [`messages::Message`], a closed enum.

pub mod brokers;
mod cleaner;
pub mod controller;
pub mod coordinators;
pub mod dirs;
mod failures;
pub mod fetch_sessions;
pub mod images;
mod journal;
pub mod messages;
pub mod mover;
pub mod partitions;
pub mod placement;
mod points;
mod producer_ids;
pub mod reads;
mod router;
mod rules;
pub mod start;
pub mod starts;
mod survey;
mod upkeep;

use std::cell::{OnceCell, RefCell, RefMut};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::budget::Budget;
use crate::base::{CoreIndex, DirIndex};
use crate::config::BrokerConfig;
use crate::log::Throttle;
use crate::metadata::image::PartitionState;
use crate::metadata::{Image, configs};
use crate::metrics::Requests;
use crate::runtime::clock;
use crate::runtime::disk::Disk;
use crate::runtime::task::StopFlag;

use brokers::Mapping;
use coordinators::Coordinators;
use dirs::Dirs;
use fetch_sessions::FetchSessions;
use images::Images;
use messages::ForwardedRequest;
use partitions::Partitions;
use placement::Placement;
use points::Points;
use producer_ids::ProducerIds;
use router::Router;
use starts::Starts;

/// Handles a whole request that another core sent here; set by the layer that knows
/// requests. `None`: the client's connection has to be closed.
pub type RequestHandler = Box<dyn Fn(Rc<Core>, ForwardedRequest) -> Pin<Box<dyn Future<Output = Option<Bytes>>>>>;

/// Who this process is, and where its data lies: found out before the cores start.
pub struct Identity {
    pub cluster_id: String,
    pub dirs: Dirs,
    /// How fast partitions go from one directory to another, of all cores.
    pub throttle: Arc<Throttle>,
}

/// One core's world.
pub struct Core {
    index: CoreIndex,
    placement: Placement,
    brokers: Mapping,
    /// The options that the process started with, and those in force.
    started_with: Arc<BrokerConfig>,
    config: RefCell<Rc<BrokerConfig>>,
    identity: Arc<Identity>,
    disk: Disk,
    image: RefCell<Rc<Image>>,
    images: Images,
    partitions: Partitions,
    points: Points,
    starts: Starts,
    cleaning: cleaner::Cleaning,
    moves: mover::Moves,
    coordinators: Coordinators,
    router: Router,
    /// Only on core 0.
    controller: OnceCell<Rc<controller::Controller>>,
    producer_ids: ProducerIds,
    fetch_sessions: RefCell<FetchSessions>,
    request_memory: Rc<Budget>,
    read_memory: Rc<Budget>,
    read_memory_of_tails: Rc<Budget>,
    reads_for_others: Rc<Budget>,
    handler: OnceCell<RequestHandler>,
    requests: Requests,
    stop: StopFlag,
}

impl Core {
    pub fn index(&self) -> CoreIndex {
        self.index
    }

    pub fn placement(&self) -> Placement {
        self.placement
    }

    /// How this node's cores are shown to clients.
    pub fn brokers(&self) -> Mapping {
        self.brokers
    }

    /// The options in force. Hold them as long as one decision takes: some can change.
    pub fn config(&self) -> Rc<BrokerConfig> {
        Rc::clone(&self.config.borrow())
    }

    /// Takes the options into force that the image has of all brokers and of this one.
    fn refresh_config(&self) {
        let (all, own) = configs::broker_options(&self.image(), self.started_with.node_id);
        let (config, warnings) = self.started_with.with_dynamic(&all, &own);
        if self.index == CoreIndex(0) {
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            self.identity.throttle.set(config.replica_alter_log_dirs_io_max_bytes_per_second as u64);
        }
        self.partitions.set_topic_defaults(config.topic_defaults());
        *self.config.borrow_mut() = Rc::new(config);
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The data directories.
    pub fn dirs(&self) -> &Dirs {
        &self.identity.dirs
    }

    /// Where this node's replica of a partition lies by the metadata; `None` when that is none of the directories.
    pub fn dir_of(&self, state: &PartitionState) -> Option<DirIndex> {
        self.dirs().by_id(state.directory_of(self.started_with.node_id)?)
    }

    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The metadata as this core knows it. Hold it as long as one decision takes.
    pub fn image(&self) -> Rc<Image> {
        Rc::clone(&self.image.borrow())
    }

    /// The partitions this core owns.
    pub fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    pub fn coordinators(&self) -> &Coordinators {
        &self.coordinators
    }

    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Incremental fetch sessions of the clients that are connected to this core.
    pub fn fetch_sessions(&self) -> RefMut<'_, FetchSessions> {
        self.fetch_sessions.borrow_mut()
    }

    /// Memory for frames of requests under way.
    pub fn request_memory(&self) -> &Rc<Budget> {
        &self.request_memory
    }

    /// Memory for what is read for fetches until it has been sent.
    pub fn read_memory(&self) -> &Rc<Budget> {
        &self.read_memory
    }

    /// Memory for what is sent from the tails of logs while there is none of [`Core::read_memory`]: who waits for
    /// the drive may have taken all of that.
    pub fn read_memory_of_tails(&self) -> &Rc<Budget> {
        &self.read_memory_of_tails
    }

    /// What this core remembers of the requests it has answered.
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Sets who handles requests that other cores send here.
    ///
    /// # Panics
    /// When it is set twice.
    pub fn on_request(&self, handler: RequestHandler) {
        assert!(self.handler.set(handler).is_ok(), "the request handler is set once");
    }

    /// Raised when the process stops.
    pub fn stop(&self) -> &StopFlag {
        &self.stop
    }

    /// Sleeps; true when the process stops, which ends the sleep early.
    pub async fn sleep_or_stop(&self, duration: Duration) -> bool {
        clock::timeout(duration, self.stop.raised()).await.is_some()
    }
}
