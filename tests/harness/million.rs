//! One scenario for every client library: an idempotent producer sends a million records in five waves, a group
//! reads them, and with most waves somebody joins or leaves.
//!
//! | wave | meanwhile | members then |
//! |---|---|---|
//! | 1 | B joins | A B |
//! | 2 | C joins | A B C |
//! | 3 | A leaves | B C |
//! | 4 | B leaves, D joins | C D |
//! | 5 | | C D |
//!
//! What must hold at the end:
//! 1. The log has every sequence number once, ascending within each partition (one idempotent producer).
//! 2. The members have processed every record. Each commits what it processed before it gives a partition up and
//!    before it leaves, so each record was processed once; had a commit failed, the records after the last
//!    successful one would have come twice, and the member would have said so.
//! 3. The committed offset of every partition is its end.

use super::broker::Broker;
use super::program::Program;
use super::{records, unique, wait};
use rdkafka::Message;
use std::path::{Path, PathBuf};
use std::process::Command;

const PARTITIONS: usize = 6;
const WAVES: u32 = 5;

/// How many records a client is tested with. `CORELOG_TEST_RECORDS` sets it, for quick tries of the tests themselves.
pub fn count() -> u32 {
    std::env::var("CORELOG_TEST_RECORDS").map_or(1_000_000, |text| text.parse().expect("CORELOG_TEST_RECORDS"))
}

/// The two programs of one client library (tests/clients/README.md), without their arguments.
pub struct Client {
    pub name: &'static str,
    pub producer: Box<dyn Fn() -> Command>,
    pub member: Box<dyn Fn() -> Command>,
}

struct Member {
    name: char,
    program: Program,
    file: PathBuf,
    lines_read: usize,
    processed: u64,
}

impl Member {
    fn start(name: char, client: &Client, bootstrap: &str, topic: &str, group: &str, folder: &Path) -> Member {
        let file = folder.join(format!("{name}"));
        let program = Program::start((client.member)().args([bootstrap, topic, group]).arg(&file));
        Member { name, program, file, lines_read: 0, processed: 0 }
    }

    /// Takes in what the member has printed; a failed commit fails the test.
    fn look(&mut self) -> u64 {
        for line in &self.program.lines()[self.lines_read..] {
            self.lines_read += 1;
            assert!(!line.starts_with("commit failed"), "member {}: {line}", self.name);
            if let Some(count) = line.strip_prefix("processed ") {
                self.processed = count.parse().unwrap();
            }
        }
        if !self.program.is_running() {
            panic!("member {} has ended; it printed:\n{}", self.name, self.program.lines().join("\n"));
        }
        self.processed
    }

    /// Waits for the first non-empty assignment.
    fn assigned(&mut self) {
        while self.program.expect("assigned", wait::seconds(60)).is_empty() {}
    }
}

pub fn run(client: &Client) {
    let broker = Broker::start();
    let bootstrap = broker.bootstrap();
    let (topic, group) = (unique("million"), unique("million-group"));
    let folder = super::folder();
    records::create_topic(&bootstrap, &topic, PARTITIONS as i32);

    let count = count();
    let wave_end = |wave: u32| (u64::from(count) * u64::from(wave) / u64::from(WAVES)) as u32;
    let mut producer = Program::start((client.producer)().args([&bootstrap, &topic]));
    let join = |name| Member::start(name, client, &bootstrap, &topic, &group, folder.path());
    let mut members = vec![join('A')];
    members[0].assigned();
    let mut left: Vec<Member> = Vec::new();
    for wave in 1..=WAVES {
        producer.say(&format!("produce {} {}", wave_end(wave - 1), wave_end(wave)));
        if wave == 3 || wave == 4 {
            let mut leaving = members.remove(0);
            leaving.program.say("leave");
            left.push(leaving);
        }
        if let Some(name) = [Some('B'), Some('C'), None, Some('D'), None][wave as usize - 1] {
            members.push(join(name));
            members.last_mut().unwrap().assigned();
        }
        producer.expect(&format!("acknowledged {}", wave_end(wave)), wait::seconds(120));
        // Who left may have processed more than it last said; its file tells at the end.
        for member in &mut left {
            wait::until("the end of a member that leaves", wait::seconds(60), || {
                (!member.program.is_running()).then_some(())
            });
            member.processed = std::fs::read_to_string(&member.file).unwrap().lines().count() as u64;
        }
        let gone: u64 = left.iter().map(|member| member.processed).sum();
        wait::until(&format!("{} records processed (wave {wave})", wave_end(wave)), wait::seconds(120), || {
            let processed = gone + members.iter_mut().map(Member::look).sum::<u64>();
            (processed >= u64::from(wave_end(wave))).then_some(())
        });
    }
    producer.succeed(wait::PATIENCE);
    for mut member in members {
        member.program.say("leave");
        left.push(member);
    }
    let mut processed = vec![0u8; count as usize];
    let mut offsets: Vec<Vec<(i64, char)>> = vec![Vec::new(); PARTITIONS];
    for Member { name, program, file, .. } in left {
        let printed = program.succeed(wait::seconds(60)).output;
        assert!(!printed.contains("commit failed"), "member {name}: {printed}");
        assert!(printed.contains("processed"), "member {name} had nothing to do: {printed}");
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let numbers: Vec<i64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
            offsets[numbers[0] as usize].push((numbers[1], name));
            processed[numbers[2] as usize] += 1;
        }
    }

    let mut next = [0u32; PARTITIONS];
    let mut in_log = vec![0u8; count as usize];
    let ends = records::read_topic(&bootstrap, &topic, |message| {
        let value = message.payload().unwrap();
        let sequence: u32 = std::str::from_utf8(&value[..10]).unwrap().parse().unwrap();
        let next = &mut next[message.partition() as usize];
        assert!(sequence >= *next, "partition {}: {sequence} comes after {next}", message.partition());
        *next = sequence + 1;
        in_log[sequence as usize] += 1;
    });
    let not_once = |counts: &[u8]| counts.iter().enumerate().find(|(_, count)| **count != 1).map(|(at, n)| (at, *n));
    assert_eq!(not_once(&in_log), None, "(sequence, times in the log)");
    for (partition, offsets) in offsets.iter_mut().enumerate() {
        offsets.sort();
        for (expected, (offset, member)) in offsets.iter().enumerate() {
            assert_eq!(*offset, expected as i64, "partition {partition}: lost or doubled near member {member}");
        }
    }
    assert_eq!(not_once(&processed), None, "(sequence, times processed)");
    let committed: Vec<i64> =
        records::committed(&bootstrap, &group, &topic, PARTITIONS).into_iter().map(|offset| offset.unwrap()).collect();
    assert_eq!(committed, ends, "committed offsets and ends");
}
