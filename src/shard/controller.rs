//! The controller's driver: one writer of the metadata log, on core 0.
//!
//! An intention (create a topic, hand out producer ids) becomes records; the records
//! become durable; every core takes them into its image and opens what it owns of
//! them; then the answer leaves. `metadata::Controller` decides, this only moves.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::messages::{self, Call, Committed};
use super::{Core, images, starts};
use crate::base::limits::FULL_RETRY;
use crate::base::wait::{self, Sender, Signal};
use crate::base::{CoreIndex, Offset, Uuid};
use crate::config::BrokerConfig;
use crate::metadata::controller::{Endpoint, Placed, Registration};
use crate::metadata::image::ResourceType;
use crate::metadata::records::BrokerRegistrationChangeRecord;
use crate::metadata::records::MetadataRecord;
use crate::metadata::{self, Image, Intention, Journal, JournalError, JournalOptions};
use crate::runtime::task::{self, OnPanic, Queue};
use crate::runtime::{self, clock};

/// An answer waits no longer than this for all cores to open what was created: the
/// change is durable, and clients of a slow core are told to retry.
const APPLY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A stop waits no longer than this to say so in the metadata log.
const STOPPED_WAIT_MAX: Duration = Duration::from_secs(2);

/// Metadata could not be changed, and was not: the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

impl Unavailable {
    fn stopping() -> Unavailable {
        Unavailable("the process is stopping".into())
    }
}

/// What the controller answers an intention.
pub type Outcome = Result<metadata::Answer, Unavailable>;

/// The controller's queue and what each core has applied. Only core 0 has one.
pub struct Controller {
    journal: Journal,
    queue: RefCell<VecDeque<(Intention, Sender<Outcome>)>>,
    work: Signal,
    applied: RefCell<Vec<Offset>>,
    waiting: RefCell<Vec<(Offset, Sender<()>)>>,
    /// Topics whose deletion some core has yet to make true, and where it ends in the log.
    ending: RefCell<BTreeMap<Rc<str>, Offset>>,
}

impl Controller {
    pub fn new(journal: Journal, cores: u16) -> Controller {
        Controller {
            journal,
            queue: RefCell::default(),
            work: Signal::new(),
            applied: RefCell::new(vec![Offset::ZERO; usize::from(cores)]),
            waiting: RefCell::default(),
            ending: RefCell::default(),
        }
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// A core has made true what the metadata says up to `end`.
    pub fn applied(&self, core: CoreIndex, end: Offset) {
        self.applied.borrow_mut()[usize::from(core.0)] = end;
        let reached = self.applied_everywhere();
        self.waiting.borrow_mut().retain_mut(|(wanted, _)| *wanted > reached);
        self.ending.borrow_mut().retain(|_, end| *end > reached);
    }

    fn applied_everywhere(&self) -> Offset {
        self.applied.borrow().iter().copied().min().unwrap_or(Offset::ZERO)
    }

    /// Whether all have, in the time that an answer may wait.
    async fn wait_applied(&self, end: Offset) -> bool {
        if self.applied_everywhere() >= end {
            return true;
        }
        let (sender, receiver) = wait::once();
        self.waiting.borrow_mut().push((end, sender));
        // Dropped by `applied` when it is reached.
        clock::timeout(APPLY_WAIT_MAX, receiver).await.is_some()
    }

    /// Topics end by these records, which are in the log up to `end`; `image` has them still.
    fn note_deletions(&self, image: &Image, records: &[MetadataRecord], end: Offset) {
        let name = |record: &MetadataRecord| match record {
            MetadataRecord::RemoveTopic(record) => Some(Rc::clone(&image.topic_by_id(record.topic_id)?.name)),
            _ => None,
        };
        self.ending.borrow_mut().extend(records.iter().filter_map(name).map(|name| (name, end)));
    }

    /// Topics are made by these records whose names others still have on some core: where in the log those end. Opened
    /// before that, a partition would find the directory of its name taken, or lose its own to the deletion.
    fn ends_before(&self, records: &[MetadataRecord]) -> Option<Offset> {
        let ending = self.ending.borrow();
        let made = |record: &MetadataRecord| match record {
            MetadataRecord::Topic(record) => ending.get(record.name.as_str()).copied(),
            _ => None,
        };
        records.iter().filter_map(made).max()
    }

    /// Has the intention wait until every core has applied what is in the log up to `end`.
    fn put_off(self: &Rc<Self>, intention: Intention, sender: Sender<Outcome>, end: Offset) {
        let controller = Rc::clone(self);
        task::spawn(Queue::Log, "creation behind a deletion", OnPanic::StopProcess, async move {
            if controller.wait_applied(end).await {
                controller.queue.borrow_mut().push_back((intention, sender));
                controller.work.raise();
            } else {
                sender.send(Err(Unavailable("a topic of that name is still being deleted".into())));
            }
        });
    }
}

impl Core {
    /// Changes metadata: here on core 0, otherwise by a call to it. The answer comes
    /// when the change is durable and every core has opened what it owns of it.
    pub async fn control(&self, intention: Intention) -> Outcome {
        match self.controller.get() {
            Some(controller) => {
                let (sender, receiver) = wait::once();
                controller.queue.borrow_mut().push_back((intention, sender));
                controller.work.raise();
                // Nobody works off the queue of a process that stops.
                let stopped = async {
                    self.stop.raised().await;
                    Err(Unavailable::stopping())
                };
                let answered = async { receiver.await.unwrap_or_else(|_| Err(Unavailable::stopping())) };
                futures_lite::future::or(answered, stopped).await
            }
            None => match self.router.ask(CoreIndex(0), Call::Control(intention)).await {
                Ok(messages::Answer::Control(outcome)) => outcome,
                Ok(_) => unreachable!("a call is answered in kind"),
                Err(_) => Err(Unavailable::stopping()),
            },
        }
    }
}

/// What decides; see [`metadata::Controller`].
pub fn planner(config: &BrokerConfig) -> metadata::Controller {
    metadata::Controller::new(config.clone(), draw_id)
}

/// A random id that Kafka does not reserve.
pub fn draw_id() -> Uuid {
    loop {
        if let Some(id) = Uuid::from_random(runtime::random_bytes()) {
            return id;
        }
    }
}

/// How this process registers as a broker of its own metadata.
pub fn registration(core: &Core, placed: Vec<Placed>) -> Registration {
    let config = core.config();
    let endpoints = config.advertised_listeners.iter().map(|listener| Endpoint {
        name: listener.name.clone(),
        host: listener.host.clone(),
        port: listener.port,
        security_protocol: 0,
    });
    Registration {
        node: config.node_id,
        incarnation: draw_id(),
        endpoints: endpoints.collect(),
        rack: config.broker_rack.clone(),
        log_dirs: core.dirs().online().map(|(_, dir)| dir.id()).collect(),
        placed,
    }
}

/// On core 0, at start: opens the metadata log, and gives what it holds to every core.
pub async fn open(core: &Rc<Core>) -> Result<(), JournalError> {
    let config = core.config();
    let options = JournalOptions {
        node: config.node_id,
        directory: core.dirs().metadata().id,
        clean: core.dirs().metadata().clean,
        segment_bytes: config.metadata_log_segment_bytes,
        snapshot_bytes: config.metadata_log_max_record_bytes_between_snapshots.max(1) as u64,
        snapshot_interval: match config.metadata_log_max_snapshot_interval_ms {
            0 => Duration::MAX,
            ms => Duration::from_millis(ms as u64),
        },
        memory: Rc::clone(core.partitions().metadata_memory()),
    };
    let dir = &core.dirs().metadata().path;
    let mut told = false;
    let (journal, replay) = loop {
        match Journal::open(core.disk(), dir, &options, clock::unix_ms()).await {
            Err(error) if error.is_full() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!("the metadata log cannot be opened: {error}; the start goes on when there is space");
                }
                if core.sleep_or_stop(FULL_RETRY).await {
                    return Err(error);
                }
            }
            opened => break opened?,
        }
    };
    images::begin(core, replay).await;
    let controller = Rc::new(Controller::new(journal, core.placement().cores()));
    assert!(core.controller.set(controller).is_ok(), "core 0 opens the metadata log once");
    Ok(())
}

/// On core 0, at start: registers this process, with what was found in its directories.
pub async fn register(core: &Core, placed: Vec<Placed>) -> Result<(), JournalError> {
    let controller = core.controller.get().expect("core 0 has opened the metadata log");
    if !placed.is_empty() {
        tracing::info!("{} partitions lie in other directories than the metadata says: it is put right", placed.len());
    }
    let image = core.image();
    let intention = Intention::RegisterBroker(registration(core, placed));
    let plan = planner(&core.started_with).plan(&image, image.end(), &intention);
    drop(image);
    if let metadata::Answer::RegisterBroker(Err(refusal)) = plan.answer {
        return Err(JournalError::Foreign(refusal.message.unwrap_or_else(|| format!("{:?}", refusal.reason))));
    }
    let journal = controller.journal();
    let epoch = journal.epoch();
    let end = journal.append(&plan.records, clock::unix_ms()).await?;
    images::publish(core, Committed { records: Arc::new(plan.records), end, epoch }).await;
    Ok(())
}

/// Works off intentions one by one until the process stops. Runs on core 0 only.
pub async fn run(core: Rc<Core>) {
    let controller = Rc::clone(core.controller.get().expect("core 0 has a controller"));
    let planner = planner(&core.started_with);
    loop {
        let next = controller.queue.borrow_mut().pop_front();
        let Some((intention, sender)) = next else {
            if core.stop.is_raised() {
                return;
            }
            controller.work.wait().await;
            continue;
        };
        let image = core.image();
        let plan = planner.plan(&image, image.end(), &intention);
        drop(image);
        if plan.records.is_empty() {
            sender.send(Ok(plan.answer));
            continue;
        }
        if let Some(end) = controller.ends_before(&plan.records) {
            controller.put_off(intention, sender, end);
            continue;
        }
        match controller.journal.append(&plan.records, clock::unix_ms()).await {
            Ok(end) => {
                controller.note_deletions(&core.image(), &plan.records, end);
                tell_of_options(&intention, &plan.records);
                let epoch = controller.journal.epoch();
                let records = Arc::new(plan.records);
                images::publish(&core, Committed { records: Arc::clone(&records), end, epoch }).await;
                if matches!(intention, Intention::CreateTopics { .. } | Intention::CreatePartitions { .. }) {
                    planner.forget_fulfilled(&core.image());
                }
                // Before the next intention, which may create the same names.
                starts::forget(&core, &records).await;
                let controller = Rc::clone(&controller);
                task::spawn(Queue::Log, "metadata answer", OnPanic::StopProcess, async move {
                    controller.wait_applied(end).await;
                    sender.send(Ok(plan.answer));
                });
            }
            Err(error) => {
                tracing::error!(%error, "append to the metadata log");
                sender.send(Err(Unavailable(error.to_string())));
            }
        }
    }
}

/// Says in the log which options were changed: who looks for the cause of something wants to know.
fn tell_of_options(intention: &Intention, records: &[MetadataRecord]) {
    if !matches!(intention, Intention::AlterConfigs { .. }) {
        return;
    }
    for record in records {
        let MetadataRecord::Config(record) = record else { continue };
        let of = match (ResourceType(record.resource_type), record.resource_name.as_str()) {
            (ResourceType::TOPIC, name) => format!("topic {name}"),
            (_, "") => "all brokers".to_string(),
            (_, node) => format!("node {node}"),
        };
        match &record.value {
            Some(value) => tracing::info!("{of}: {} is {value} now", record.name),
            None => tracing::info!("{of}: {} has its default again", record.name),
        }
    }
}

/// Regular care of the metadata log; writes a snapshot when one is due. Core 0 only.
pub async fn upkeep(core: &Core) {
    let Some(controller) = core.controller.get() else { return };
    let now = clock::unix_ms();
    controller.journal.upkeep(now);
    if controller.journal.snapshot_due(now)
        && let Err(error) = controller.journal.snapshot(&core.image(), now).await
    {
        tracing::warn!(%error, "write a snapshot of the metadata");
    }
}

/// At a clean stop, on core 0: notes that this process does not serve any more. A Kafka that gets the directory would
/// otherwise wait until the session of a broker that it believes alive has ended, before it registers itself.
pub async fn say_stopped(core: &Core) {
    let Some(controller) = core.controller.get() else { return };
    let node = core.config().node_id;
    let Some(broker_epoch) = core.image().broker(node).map(|broker| broker.broker_epoch) else { return };
    let stopped = BrokerRegistrationChangeRecord {
        broker_id: node.0,
        broker_epoch,
        in_controlled_shutdown: 1,
        ..Default::default()
    };
    let records = [stopped.into()];
    let append = controller.journal.append(&records, clock::unix_ms());
    // On a full drive an append may wait for ever; the stop goes on without it.
    match clock::timeout(STOPPED_WAIT_MAX, append).await {
        Some(Ok(_)) => {}
        Some(Err(error)) => tracing::warn!(%error, "note the stop in the metadata log"),
        None => tracing::warn!("note the stop in the metadata log: the drive does not answer"),
    }
}

/// Lets [`run`] look at the stop flag.
pub fn wake(core: &Core) {
    if let Some(controller) = core.controller.get() {
        controller.work.raise();
    }
}
