//! The metadata log as Apache Kafka sees it: its own tool reads it, and its own broker starts from it.

mod harness;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use corelog::base::{NodeId, Offset, UnixMs, Uuid};
use corelog::log::TailMemory;
use corelog::metadata::controller::{Answer, Endpoint, NewTopic, Registration};
use corelog::metadata::journal::DIRECTORY;
use corelog::metadata::properties::{self, DirSet, Format};
use corelog::metadata::{Controller, Intention, Journal, JournalOptions, Replay};
use corelog::runtime::disk::Disk;
use corelog::{config::BrokerConfig, runtime};
use harness::broker::{Kind, free_ports, serve_command};
use harness::program::{Program, run};
use harness::{wait, wire};

const NODE: NodeId = NodeId(1);
const NOW: UnixMs = UnixMs(1_700_000_000_000);
const TOOL: Duration = wait::seconds(90);

/// What the controller's driver does, in one place: plan, append, apply.
struct Cluster {
    controller: Controller,
    journal: Journal,
    replay: Replay,
}

impl Cluster {
    async fn open(dir: &Path, clean: bool) -> Cluster {
        let options = JournalOptions {
            node: NODE,
            directory: Uuid([5; 16]),
            clean,
            segment_bytes: 8 << 20,
            snapshot_bytes: 1 << 20,
            snapshot_interval: Duration::from_secs(3600),
            memory: TailMemory::new(1 << 20),
        };
        let (journal, replay) = Journal::open(&Disk::direct(), dir, &options, NOW).await.unwrap();
        let broker = BrokerConfig::defaults();
        let controller =
            Controller::new(broker, || Uuid::from_random(runtime::random_bytes()).unwrap_or(Uuid([0x11; 16])));
        Cluster { controller, journal, replay }
    }

    async fn want(&mut self, intention: Intention) -> Answer {
        let plan = self.controller.plan(self.replay.image(), self.journal.end(), &intention);
        let end = self.journal.append(&plan.records, NOW).await.unwrap();
        self.replay.apply(&plan.records, end, self.journal.epoch()).unwrap();
        plan.answer
    }
}

/// A data directory that was formatted and started twice, with topics and a snapshot.
fn prepare(dir: &Path) -> Vec<String> {
    let how = Format { node_id: NODE, cluster_id: None, ignore_formatted: false };
    let dirs = [dir.to_owned()];
    let formatted = properties::format_all(DirSet { dirs: &dirs, metadata: dir }, &how).unwrap();
    let directory_id = formatted[0].1.properties.directory_id;
    let mut topics = Vec::new();
    for start in 0..2 {
        runtime::run_one(async {
            let mut cluster = Cluster::open(dir, start > 0).await;
            let endpoint =
                Endpoint { name: "PLAINTEXT".into(), host: "127.0.0.1".into(), port: 9092, security_protocol: 0 };
            let registration = Registration {
                node: NODE,
                incarnation: Uuid([start + 1; 16]),
                endpoints: vec![endpoint],
                rack: None,
                log_dirs: vec![directory_id],
                placed: vec![],
            };
            assert!(matches!(
                cluster.want(Intention::RegisterBroker(registration)).await,
                Answer::RegisterBroker(Ok(_))
            ));
            cluster.want(Intention::AllocateProducerIds { node: NODE }).await;
            let configs = vec![("retention.ms".to_string(), Some("3600000".to_string()))];
            let name = format!("orders-of-{start}");
            let topic =
                NewTopic { name: name.clone(), partitions: 2, replication_factor: 1, configs, ..NewTopic::default() };
            let answer = cluster.want(Intention::CreateTopics { topics: vec![topic], validate_only: false }).await;
            assert!(matches!(&answer, Answer::CreateTopics(topics) if topics[0].1.is_ok()), "{answer:?}");
            topics.push(name);
            if start == 1 {
                cluster.journal.snapshot(cluster.replay.image(), NOW).await.unwrap();
            }
            cluster.journal.close().await.unwrap();
            assert!(cluster.journal.end() > Offset::ZERO);
        });
    }
    topics
}

#[test]
fn kafkas_tool_reads_log_and_snapshot() {
    let dir = harness::folder();
    prepare(dir.path());
    let dump = |path: &Path| {
        let mut tool = Command::new(harness::source().join("scripts/kafka"));
        tool.args(["dump-log", "--cluster-metadata-decoder", "--files"]).arg(path);
        let text = run(&mut tool, TOOL);
        // A segment that was begun behind a snapshot and not written to has no batch.
        let is_empty = std::fs::metadata(path).unwrap().len() == 0;
        assert!((is_empty || text.contains("isvalid: true")) && !text.contains("isvalid: false"), "{text}");
        text
    };
    let has = |text: &str, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "'{part}' is missing in\n{text}");
        }
    };
    let mut names: Vec<_> = std::fs::read_dir(dir.path().join(DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".log"))
        .collect();
    names.sort();
    let log: String = names.iter().map(|name| dump(&dir.path().join(DIRECTORY).join(name))).collect();
    has(
        &log,
        &[
            r#"LeaderChange: {"version":0,"leaderId":1,"voters":[{"voterId":1}],"grantingVoters":[{"voterId":1}]}"#,
            r#""type":"FEATURE_LEVEL_RECORD","version":0,"data":{"name":"metadata.version","featureLevel":30}"#,
            r#""type":"REGISTER_BROKER_RECORD","version":4"#,
            r#""type":"PRODUCER_IDS_RECORD","version":0,"data":{"brokerId":1,"brokerEpoch":2,"nextProducerId":1000}"#,
            r#""type":"TOPIC_RECORD","version":0,"data":{"name":"orders-of-0""#,
            r#""name":"retention.ms","value":"3600000""#,
            r#""type":"PARTITION_RECORD","version":2"#,
            // The second start leads again what the first made.
            r#""type":"PARTITION_CHANGE_RECORD","version":2"#,
            "partitionLeaderEpoch: 2",
        ],
    );
    let checkpoint = std::fs::read_dir(dir.path().join(DIRECTORY))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "checkpoint"))
        .expect("a snapshot was made");
    let snapshot = dump(&checkpoint);
    has(&snapshot, &["SnapshotHeader", "SnapshotFooter", "orders-of-0", "orders-of-1", r#""nextProducerId":2000"#]);
    has(&dump(&dir.path().join("bootstrap.checkpoint")), &["KRaft bootstrap snapshot", r#""featureLevel":30"#]);
}

#[test]
fn kafkas_broker_starts_from_it() {
    let dir = harness::folder();
    let topics = prepare(&dir.path().join("data"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_ports(1)));
    let data = dir.path().join("data");
    let mut kafka = Program::start(&mut serve_command(&Kind::ApacheKafka, &data, &format!("PLAINTEXT://{address}")));
    wait::until("Kafka listens", TOOL, || {
        assert!(kafka.is_running(), "{}", kafka.lines().join("\n"));
        wire::api_versions(address).ok()
    });
    let mut tool = Command::new(harness::source().join("scripts/kafka"));
    tool.args(["topics", "--bootstrap-server", &address.to_string(), "--describe"]);
    let described = run(&mut tool, TOOL);
    for topic in topics {
        assert!(described.contains(&format!("Topic: {topic}\t")), "{described}");
        assert!(
            described.contains("PartitionCount: 2\tReplicationFactor: 1\tConfigs: retention.ms=3600000"),
            "{described}"
        );
    }
    assert_eq!(described.matches("Leader: 1\t").count(), 4, "{described}");
    kafka.signal("TERM");
    kafka.end(TOOL);
}
