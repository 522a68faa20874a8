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
pub mod fetch_sessions;
pub mod images;
mod journal;
pub mod messages;
pub mod partitions;
pub mod placement;
mod points;
mod producer_ids;
pub mod reads;
mod router;
mod rules;
pub mod start;
pub mod starts;
mod upkeep;

use std::cell::{OnceCell, RefCell, RefMut};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::base::budget::Budget;
use crate::base::{CoreIndex, Uuid};
use crate::config::BrokerConfig;
use crate::log::journal::Replay;
use crate::metadata::{Image, configs};
use crate::metrics::Requests;
use crate::partition::{RecoveryPoints, StartOffsets};
use crate::runtime::clock;
use crate::runtime::disk::Disk;
use crate::runtime::task::StopFlag;

use brokers::Mapping;
use coordinators::Coordinators;
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

/// Who this process is: read from `meta.properties` before the cores start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster_id: String,
    pub directory_id: Uuid,
    /// Where partitions live.
    pub data_dir: PathBuf,
    /// Whether the last stop was clean: no recovery scan is needed.
    pub clean: bool,
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
    /// What the journals of the process before hold.
    replay: Arc<Replay>,
    /// What the process before knew of recovery points.
    recovery_points: Arc<RecoveryPoints>,
    points: Points,
    /// What `log-start-offset-checkpoint` said at the start.
    start_offsets: Arc<StartOffsets>,
    starts: Starts,
    /// What the process before knew of compacted logs.
    cleaned_before: Arc<RecoveryPoints>,
    cleaning: cleaner::Cleaning,
    coordinators: Coordinators,
    router: Router,
    /// Only on core 0.
    controller: OnceCell<Rc<controller::Controller>>,
    producer_ids: ProducerIds,
    fetch_sessions: RefCell<FetchSessions>,
    request_memory: Rc<Budget>,
    read_memory: Rc<Budget>,
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
        }
        self.partitions.set_topic_defaults(config.topic_defaults());
        *self.config.borrow_mut() = Rc::new(config);
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn data_dir(&self) -> &Path {
        &self.identity.data_dir
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
