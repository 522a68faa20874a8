//! DescribeLogDirs over a socket, in every version that is served.
//!
//! With `CORELOG_TEST_BROKER=kafka` the same conversation runs against Apache Kafka.

mod harness;

use corelog::record::Codec;
use harness::broker::{Broker, Options};
use harness::client::{Client, batch, name, now_ms};
use harness::{unique, wait};
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::*;

const NONE: i16 = 0;
const NOT_LEADER: i16 = 6;

#[test]
fn sizes_and_space_are_shown() {
    for advertise in ["host", "core"] {
        let broker = Broker::with(Options { advertise, ..Options::default() });
        let addresses = broker.addresses();
        let (topic, empty) = (unique("sized"), unique("empty"));
        let mut client = Client::to(addresses[0]);
        client.create_with(&topic, 4, &[]);
        client.create_with(&empty, 1, &[]);
        let one = batch(Codec::None, now_ms(), &[&[b'x'; 1000]]);
        let brokers = client.ask(12, &MetadataRequest::default().with_topics(Some(vec![]))).brokers;
        for partition in client.metadata(12, &topic).partitions {
            let port = brokers.iter().find(|broker| broker.node_id == partition.leader_id).unwrap().port;
            let at = addresses.iter().find(|address| i32::from(address.port()) == port).unwrap();
            // 1, 2, 3 and 4 batches.
            for _ in 0..=partition.partition_index {
                let code = wait::until("a leader", wait::seconds(30), || {
                    let code = Client::to(*at).produce(&topic, partition.partition_index, one.clone()).0;
                    Some(code).filter(|code| *code != NOT_LEADER)
                });
                assert_eq!(code, NONE);
            }
        }
        for version in 1..=4 {
            // Every broker shows its own: together all of them.
            let mut all = Vec::new();
            for address in &addresses {
                let answer = Client::to(*address).ask(version, &DescribeLogDirsRequest::default().with_topics(None));
                assert_eq!((answer.error_code, answer.results.len()), (NONE, 1));
                let dir = &answer.results[0];
                assert!(dir.error_code == NONE && dir.log_dir.starts_with('/'), "{dir:?}");
                if broker.is_ours() {
                    assert_eq!(&*dir.log_dir, broker.data_dir().to_str().unwrap());
                }
                match version {
                    4 => assert!(0 < dir.usable_bytes && dir.usable_bytes <= dir.total_bytes, "{dir:?}"),
                    _ => assert_eq!((dir.total_bytes, dir.usable_bytes), (-1, -1)),
                }
                for shown in &dir.topics {
                    assert!(shown.partitions.iter().all(|p| p.offset_lag == 0 && !p.is_future_key), "{shown:?}");
                    let sizes = shown.partitions.iter().map(|p| (p.partition_index, p.partition_size));
                    all.extend(sizes.map(|(index, size)| (shown.name.to_string(), index, size)));
                }
            }
            all.retain(|(shown, ..)| *shown == topic || *shown == empty);
            all.sort();
            let size = one.len() as i64;
            let mut expected: Vec<_> =
                (0..4).map(|index| (topic.clone(), index, size * i64::from(index + 1))).collect();
            expected.push((empty.clone(), 0, 0));
            expected.sort();
            assert_eq!(all, expected, "version {version}, advertise={advertise}");

            // Only those that are named, and are here.
            let some = DescribableLogDirTopic::default().with_topic(name(&topic)).with_partitions(vec![3, 1, 9]);
            let other = DescribableLogDirTopic::default().with_topic(name("not-there")).with_partitions(vec![0]);
            let request = DescribeLogDirsRequest::default().with_topics(Some(vec![some, other]));
            let mut found = Vec::new();
            for address in &addresses {
                let dir = Client::to(*address).ask(version, &request).results.remove(0);
                for shown in &dir.topics {
                    assert_eq!(&**shown.name, topic);
                    found.extend(shown.partitions.iter().map(|p| p.partition_index));
                }
            }
            found.sort_unstable();
            assert_eq!(found, [1, 3]);
        }
    }
}
