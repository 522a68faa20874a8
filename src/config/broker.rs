//! Loading: a file and the command line become the effective options of this
//! process, with what contradicts itself refused and what has no effect said.
//!
//! Precedence: command line, then file, then default. Where a name is given
//! twice in one of them, the last one counts, as in Java.

use std::path::Path;

use super::error::Place;
use super::kafka_names::KAFKA_ONLY;
use super::listener::{Listener, SecurityProtocol, read_protocol_map};
use super::option::{Effect, Kind, OptionSpec, OptionValue, Reason, Wrong, find};
use super::{ConfigError, TopicConfig, Warning, properties};
use crate::base::NodeId;
use crate::base::limits::LOG_DIRS_MAX;

use super::broker_options::BROKER_OPTIONS;
pub use super::broker_options::BrokerConfig;

/// Every broker option that corelog has.
pub fn broker_options() -> &'static [OptionSpec] {
    BROKER_OPTIONS
}

/// What clients are shown as a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// Each core, at a port of its own.
    Core,
    /// The process, at one port per listener.
    Host,
}

impl OptionValue for Advertise {
    const KIND: Kind = Kind::String;
    fn read(text: &str) -> Result<Advertise, Reason> {
        match text {
            "core" => Ok(Advertise::Core),
            "host" => Ok(Advertise::Host),
            _ => Err("String must be one of: core, host".to_string()),
        }
    }
}

/// A value that was given, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub(super) text: String,
    pub(super) place: Place,
}

impl BrokerConfig {
    /// Reads the file, if there is one, and puts `overrides` (Kafka's names and
    /// texts, from the command line) above it.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn load(
        file: Option<&Path>,
        overrides: &[(String, String)],
    ) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        let (text, name) = match file {
            None => (String::new(), String::new()),
            Some(path) => {
                let name = path.display().to_string();
                let unreadable =
                    |error: std::io::Error| ConfigError::Unreadable { file: name.clone(), reason: error.to_string() };
                (decode(std::fs::read(path).map_err(unreadable)?), name)
            }
        };
        BrokerConfig::from_text(&text, &name, overrides, &host_name)
    }

    /// The defaults, resolved: for tests, and for tools that need no file.
    pub fn defaults() -> BrokerConfig {
        let host = || Some("localhost".to_string());
        BrokerConfig::from_text("", "", &[], &host).expect("the defaults are in order").0
    }

    /// [`load`](Self::load) with the file's text and the host's name given.
    fn from_text(
        text: &str,
        file: &str,
        overrides: &[(String, String)],
        host_name: &dyn Fn() -> Option<String>,
    ) -> Result<(BrokerConfig, Vec<Warning>), ConfigError> {
        let from_file = properties::parse(text, file)?.into_iter().map(|property| {
            let place = Place::Line { file: file.to_string(), line: property.line };
            (property.name, Said { text: property.value, place })
        });
        let from_flags = overrides.iter().map(|(name, text)| {
            let said = Said { text: text.clone(), place: Place::CommandLine };
            (name.clone(), said)
        });
        let mut config = BrokerConfig::from_table();
        let mut warnings = Vec::new();
        for (name, said) in from_file.chain(from_flags) {
            config.say(&name, said, &mut warnings)?;
        }
        config.resolve(host_name, &mut warnings)?;
        Ok((config, warnings))
    }

    fn say(&mut self, name: &str, said: Said, warnings: &mut Vec<Warning>) -> Result<(), ConfigError> {
        let place = &said.place;
        let Some(spec) = find(BROKER_OPTIONS, name) else {
            warnings.push(Warning(match () {
                () if KAFKA_ONLY.binary_search(&name).is_ok() => {
                    format!("{place}{name} is known to Kafka and has no effect in corelog yet")
                }
                () if name.starts_with("listener.name.") => {
                    format!("{place}{name}: options of a single listener have no effect in corelog yet")
                }
                () => match nearest(name) {
                    Some(near) => format!("{place}{name} is no known option; {near} is"),
                    None => format!("{place}{name} is no known option"),
                },
            }));
            return Ok(());
        };
        let outcome = self.set(name, &said.text).expect("it is in the table");
        outcome.map_err(|wrong| ConfigError::Given { place: place.to_string(), words: wrong.words(name) })?;
        if let Effect::None(reason) = spec.effect {
            // Naming Kafka's own default, or ours, changes nothing that a reader could miss.
            let text = spec.canonical(&said.text);
            let is_default = match spec.kafka_default {
                super::KafkaDefault::Text(kafkas) => text == kafkas,
                _ => false,
            };
            if !is_default && Some(text.as_str()) != spec.default {
                warnings.push(Warning(format!("{place}{name} has no effect: {reason}")));
            }
        }
        self.said.insert(spec.name, said);
        Ok(())
    }

    /// Whether the option was given, by file or command line.
    pub fn is_set(&self, name: &str) -> bool {
        self.said.contains_key(name)
    }

    /// What holds together: fields that others stand in for get their values,
    /// and contradictions are found.
    fn resolve(
        &mut self,
        host_name: &dyn Fn() -> Option<String>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), ConfigError> {
        self.resolve_identity()?;
        if !self.is_set("log.dirs") {
            self.log_dirs = self.log_dir.iter().map(Into::into).collect();
        }
        self.check_dirs()?;
        self.resolve_listeners(host_name, warnings)?;
        self.check_budgets()?;
        self.check_together()?;
        let (min, max) = (self.group_min_session_timeout_ms, self.group_max_session_timeout_ms);
        if min > max {
            return Err(self.wrong(
                "group.min.session.timeout.ms",
                &format!("it lies above group.max.session.timeout.ms ({max}), so no group could be joined"),
            ));
        }
        Ok(())
    }

    fn check_dirs(&self) -> Result<(), ConfigError> {
        if self.log_dirs.is_empty() || self.log_dirs.iter().any(|dir| dir.as_os_str().is_empty()) {
            return Err(self.wrong("log.dirs", "a directory is expected"));
        }
        if self.metadata_log_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
            return Err(self.wrong("metadata.log.dir", "a directory is expected"));
        }
        for (at, dir) in self.log_dirs.iter().enumerate() {
            if self.log_dirs[..at].contains(dir) {
                return Err(self.wrong("log.dirs", &format!("{} is there twice", dir.display())));
            }
        }
        match self.log_dirs.len() {
            ..=LOG_DIRS_MAX => Ok(()),
            count => Err(self.wrong("log.dirs", &format!("{count} directories; at most {LOG_DIRS_MAX} can be used"))),
        }
    }

    /// Where the metadata log lies.
    pub fn metadata_dir(&self) -> &Path {
        self.metadata_log_dir.as_deref().unwrap_or(&self.log_dirs[0])
    }

    fn resolve_identity(&mut self) -> Result<(), ConfigError> {
        let older = NodeId(self.broker_id);
        match (self.is_set("node.id"), self.is_set("broker.id") && self.broker_id >= 0) {
            (true, true) if older != self.node_id => {
                let reason = format!("node.id is {}; both name this node", self.node_id.0);
                return Err(self.wrong("broker.id", &reason));
            }
            (false, true) => self.node_id = older,
            _ => self.broker_id = self.node_id.0,
        }
        let roles = &self.process_roles;
        if !roles.iter().any(|role| role == "broker") {
            return Err(self.wrong("process.roles", "corelog is a broker with its controller inside; leave it out"));
        }
        let elsewhere = "corelog cannot join controllers of another process; its own runs inside. Leave it out, \
                         or, for a node of its own, name only this node";
        if !roles.iter().any(|role| role == "controller") {
            return Err(self.wrong("process.roles", elsewhere));
        }
        let own = format!("{}@", self.node_id.0);
        if self.controller_quorum_voters.iter().any(|voter| !voter.starts_with(&own)) {
            return Err(self.wrong("controller.quorum.voters", elsewhere));
        }
        if self.controller_quorum_bootstrap_servers.len() > 1 {
            return Err(self.wrong("controller.quorum.bootstrap.servers", elsewhere));
        }
        Ok(())
    }

    fn resolve_listeners(
        &mut self,
        host_name: &dyn Fn() -> Option<String>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), ConfigError> {
        let protocols = read_protocol_map(&self.listener_security_protocol_map)
            .map_err(|reason| self.wrong("listener.security.protocol.map", &reason))?;
        let controllers: Vec<String> =
            self.controller_listener_names.iter().map(|name| name.to_ascii_uppercase()).collect();
        for option in ["listeners", "advertised.listeners"] {
            let said = if option == "listeners" { &self.listeners } else { &self.advertised_listeners };
            let mut kept: Vec<Listener> = Vec::new();
            for listener in said.iter().filter(|listener| !controllers.contains(&listener.name)) {
                let protocol = match protocols.get(&listener.name).map(String::as_str) {
                    Some("PLAINTEXT") => SecurityProtocol::Plaintext,
                    Some(other) => {
                        let reason = format!(
                            "listener {} speaks {other}, which corelog does not yet; only PLAINTEXT can be used",
                            listener.name
                        );
                        return Err(self.wrong(option, &reason));
                    }
                    None => {
                        let reason = format!(
                            "listener {} has no protocol; give it one in listener.security.protocol.map",
                            listener.name
                        );
                        return Err(self.wrong(option, &reason));
                    }
                };
                if kept.iter().any(|other| other.name == listener.name) {
                    return Err(self.wrong(option, &format!("listener {} is there twice", listener.name)));
                }
                kept.push(Listener { protocol, ..listener.clone() });
            }
            if option == "listeners" {
                self.listeners = kept;
            } else {
                self.advertised_listeners = kept;
            }
        }
        if self.listeners.is_empty() {
            return Err(self.wrong("listeners", "none is left for clients without the controller's"));
        }
        self.complete_advertised(host_name, warnings)
    }

    /// Gives each listener exactly one advertised address, in the same order.
    fn complete_advertised(
        &mut self,
        host_name: &dyn Fn() -> Option<String>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), ConfigError> {
        let strange = |a: &&Listener| !self.listeners.iter().any(|l| l.name == a.name);
        if let Some(stranger) = self.advertised_listeners.iter().find(strange) {
            let reason = format!("there is no listener {} in listeners", stranger.name);
            return Err(self.wrong("advertised.listeners", &reason));
        }
        let mut advertised = Vec::new();
        for listener in &self.listeners {
            let said = self.advertised_listeners.iter().find(|a| a.name == listener.name);
            let mut shown = said.unwrap_or(listener).clone();
            if said.is_some() && is_any_address(&shown.host) && !shown.host.is_empty() {
                let reason = format!("{} means all addresses; clients need one they can reach", shown.host);
                return Err(self.wrong("advertised.listeners", &reason));
            }
            if is_any_address(&shown.host) {
                shown.host = host_name().unwrap_or_else(|| {
                    warnings.push(Warning(format!(
                        "the name of this machine cannot be resolved, so clients of listener {} are told localhost; \
                         set advertised.listeners for clients on other machines",
                        listener.name
                    )));
                    "localhost".to_string()
                });
            }
            advertised.push(shown);
        }
        self.advertised_listeners = advertised;
        Ok(())
    }

    fn check_budgets(&mut self) -> Result<(), ConfigError> {
        // A budget nobody set follows the option that demands more of it.
        let request = i64::from(self.socket_request_max_bytes);
        if self.request_memory_bytes_per_core < request {
            if self.is_set("request.memory.bytes.per.core") {
                let reason = format!("it must be at least socket.request.max.bytes ({request})");
                return Err(self.wrong("request.memory.bytes.per.core", &reason));
            }
            self.request_memory_bytes_per_core = request;
        }
        let fetch = i64::from(self.fetch_max_bytes);
        if self.read_memory_bytes_per_core < fetch {
            if self.is_set("read.memory.bytes.per.core") {
                let reason = format!("it must be at least fetch.max.bytes ({fetch})");
                return Err(self.wrong("read.memory.bytes.per.core", &reason));
            }
            self.read_memory_bytes_per_core = fetch;
        }
        Ok(())
    }

    /// An error about an option whose own text is well-formed, at its place.
    fn wrong(&self, name: &str, reason: &str) -> ConfigError {
        let said = self.said.get(name);
        let shown = said.map(|said| said.text.trim().to_string()).unwrap_or_default();
        ConfigError::Given {
            place: said.map(|said| said.place.to_string()).unwrap_or_default(),
            words: Wrong::Value { shown, reason: reason.to_string() }.words(name),
        }
    }

    /// Checks what depends on how many cores there are: in `advertise=core` mode
    /// each core has a port of its own, counted from the listener's.
    ///
    /// # Errors
    /// When ports run out, two listeners meet, or there are more cores than may
    /// be advertised.
    pub fn check_cores(&self, cores: usize) -> Result<(), ConfigError> {
        if self.advertise == Advertise::Host || cores <= 1 {
            return Ok(());
        }
        if cores > self.advertised_cores_max as usize {
            return Err(ConfigError::Conflict(format!(
                "{cores} cores are more than advertised.cores.max ({}): raise it, use fewer cores, or set advertise=host",
                self.advertised_cores_max
            )));
        }
        for listeners in [&self.listeners, &self.advertised_listeners] {
            for listener in listeners {
                let last = usize::from(listener.port) + cores - 1;
                if listener.port == 0 {
                    return Err(ConfigError::Conflict(format!(
                        "listener {listener}: port 0 gives one port, and {cores} cores need {cores} in a row; \
                         name a port, or set advertise=host"
                    )));
                }
                if last > usize::from(u16::MAX) {
                    return Err(ConfigError::Conflict(format!(
                        "listener {listener}: {cores} cores need the ports {} to {last}, and 65535 is the last",
                        listener.port
                    )));
                }
            }
        }
        for (i, a) in self.listeners.iter().enumerate() {
            for b in &self.listeners[i + 1..] {
                let same_host = is_any_address(&a.host) || is_any_address(&b.host) || a.host == b.host;
                if same_host && usize::from(a.port.abs_diff(b.port)) < cores {
                    return Err(ConfigError::Conflict(format!(
                        "listeners {a} and {b} lie too close: each needs {cores} ports in a row, one per core; \
                         move one, or set advertise=host"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The CPUs to run on, out of those that the process may use (ascending).
    ///
    /// # Errors
    /// When the option `cores` asks for others, or [`check_cores`](Self::check_cores) refuses.
    pub fn choose_cpus(&self, allowed: &[usize]) -> Result<Vec<usize>, ConfigError> {
        let cpus = match &self.cores {
            Some(list) => list.choose(allowed).map_err(ConfigError::Conflict)?,
            None => {
                let most = match self.advertise {
                    Advertise::Core => self.advertised_cores_max as usize,
                    Advertise::Host => allowed.len(),
                };
                allowed[..allowed.len().min(most)].to_vec()
            }
        };
        self.check_cores(cpus.len())?;
        Ok(cpus)
    }

    /// What topics start from (`KafkaConfig.extractLogConfigMap`).
    pub fn topic_defaults(&self) -> TopicConfig {
        const MINUTE: i64 = 60_000;
        const HOUR: i64 = 60 * MINUTE;
        let retention = self
            .log_retention_ms
            .or(self.log_retention_minutes.map(|minutes| i64::from(minutes) * MINUTE))
            .unwrap_or(i64::from(self.log_retention_hours) * HOUR);
        TopicConfig {
            cleanup_policy: self.log_cleanup_policy,
            compression_gzip_level: self.compression_gzip_level,
            compression_lz4_level: self.compression_lz4_level,
            compression_type: self.compression_type,
            compression_zstd_level: self.compression_zstd_level,
            delete_retention_ms: self.log_cleaner_delete_retention_ms,
            file_delete_delay_ms: self.log_segment_delete_delay_ms,
            flush_messages: self.log_flush_interval_messages,
            flush_ms: self.log_flush_interval_ms.unwrap_or(self.log_flush_scheduler_interval_ms),
            index_interval_bytes: self.log_index_interval_bytes,
            local_retention_bytes: self.log_local_retention_bytes,
            local_retention_ms: self.log_local_retention_ms,
            max_compaction_lag_ms: self.log_cleaner_max_compaction_lag_ms,
            max_message_bytes: self.message_max_bytes,
            message_timestamp_after_max_ms: self.log_message_timestamp_after_max_ms,
            message_timestamp_before_max_ms: self.log_message_timestamp_before_max_ms,
            message_timestamp_type: self.log_message_timestamp_type,
            min_cleanable_dirty_ratio: self.log_cleaner_min_cleanable_ratio,
            min_compaction_lag_ms: self.log_cleaner_min_compaction_lag_ms,
            min_insync_replicas: self.min_insync_replicas,
            preallocate: self.log_preallocate,
            retention_bytes: self.log_retention_bytes,
            // Kafka takes every negative time for "no limit".
            retention_ms: retention.max(-1),
            segment_bytes: self.log_segment_bytes,
            segment_index_bytes: self.log_index_size_max_bytes,
            segment_jitter_ms: self.log_roll_jitter_ms.unwrap_or(i64::from(self.log_roll_jitter_hours) * HOUR),
            segment_ms: self.log_roll_ms.unwrap_or(i64::from(self.log_roll_hours) * HOUR),
            unclean_leader_election_enable: self.unclean_leader_election_enable,
            ..TopicConfig::default()
        }
    }
}

fn is_any_address(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

/// UTF-8, or what Java takes every properties file for.
fn decode(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect())
}

/// The machine's name, if it can be resolved from here.
fn host_name() -> Option<String> {
    use std::net::ToSocketAddrs;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_string();
    (name.as_str(), 0).to_socket_addrs().ok()?.next()?;
    Some(name)
}

/// The option that a misspelt name most likely means.
fn nearest(name: &str) -> Option<&'static str> {
    let names = BROKER_OPTIONS.iter().map(|spec| spec.name);
    let (distance, near) = names.map(|known| (edits(name, known), known)).min()?;
    (distance <= 2.max(name.len() / 6)).then_some(near)
}

/// Characters to insert, delete or replace to get from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, overrides: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<String>), String> {
        let overrides: Vec<_> = overrides.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let host = || Some("here".to_string());
        BrokerConfig::from_text(text, "server.properties", &overrides, &host)
            .map(|(config, warnings)| (config, warnings.into_iter().map(|w| w.0).collect()))
            .map_err(|error| error.to_string())
    }

    fn refused(text: &str, expected: &str) {
        let got = load(text, &[]).map(|_| ());
        assert!(got.as_ref().is_err_and(|error| error.starts_with(expected)), "{text:?}: {got:?}");
    }

    fn warned(text: &str, expected: &[&str]) {
        assert_eq!(load(text, &[]).unwrap().1, expected, "{text:?}");
    }

    #[test]
    fn the_defaults_are_in_order() {
        let (config, warnings) = load("", &[]).unwrap();
        assert_eq!(warnings, [""; 0]);
        assert_eq!(config.topic_defaults(), TopicConfig::default());
        assert_eq!(config.log_dirs, [Path::new("corelog-data")]);
        assert_eq!(config.listeners[0].to_string(), "PLAINTEXT://:9092");
        assert_eq!(config.advertised_listeners[0].to_string(), "PLAINTEXT://here:9092");
        assert_eq!((config.node_id, config.advertise), (NodeId(0), Advertise::Core));
        assert!(config.topic_defaults().flushes_each_append());
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_last_line_over_the_first() {
        let (config, _) = load("num.partitions=2\nnum.partitions=3\nnode.id=5", &[("node.id", "6")]).unwrap();
        assert_eq!((config.num_partitions, config.node_id), (3, NodeId(6)));
        assert_eq!(config.broker_id, 6);
    }

    #[test]
    fn the_file_that_kafka_ships_starts() {
        // The options of config/server.properties in Kafka's download.
        let text = "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=localhost:9093\n\
            listeners=PLAINTEXT://:9092,CONTROLLER://:9093\ninter.broker.listener.name=PLAINTEXT\n\
            advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
            controller.listener.names=CONTROLLER\n\
            listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
            num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
            socket.receive.buffer.bytes=102400\nsocket.request.max.bytes=104857600\nlog.dirs=/data/kafka\n\
            num.partitions=1\nnum.recovery.threads.per.data.dir=1\noffsets.topic.replication.factor=1\n\
            share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
            transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\nlog.retention.hours=168\n\
            log.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n";
        let (config, warnings) = load(text, &[]).unwrap();
        assert_eq!(config.listeners.len(), 1);
        assert_eq!(config.advertised_listeners[0].to_string(), "PLAINTEXT://localhost:9092");
        assert!(config.check_cores(16).is_ok());
        let about: Vec<_> = warnings.iter().map(|w| w.split(' ').nth(3).unwrap()).collect();
        let expected = [
            "controller.quorum.bootstrap.servers",
            "inter.broker.listener.name",
            "controller.listener.names",
            "num.recovery.threads.per.data.dir",
            "share.coordinator.state.topic.replication.factor",
            "share.coordinator.state.topic.min.isr",
        ];
        assert_eq!(about, expected);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line() {
        refused(
            "\nnum.partitions=many",
            "server.properties, line 2: Invalid value many for configuration num.partitions: Not a number of type INT",
        );
        refused(
            "num.partitions=0",
            "server.properties, line 1: Invalid value 0 for configuration num.partitions: Value",
        );
        refused(
            "advertise=all",
            "server.properties, line 1: Invalid value all for configuration advertise: String must",
        );
        refused(
            "log.dirs=/a,/b,/a",
            "server.properties, line 1: Invalid value /a,/b,/a for configuration log.dirs: /a is",
        );
        refused("log.dirs=/a,,/b", "server.properties, line 1: Invalid value /a,,/b for configuration log.dirs: a dir");
        refused("metadata.log.dir=", "server.properties, line 1: Invalid value  for configuration metadata.log.dir");
        refused("log.dirs=", "server.properties, line 1: Invalid value  for configuration log.dirs");
        refused("cores=9-1", "server.properties, line 1: Invalid value 9-1 for configuration cores: the range 9-1");
        refused("a=\\u1", "server.properties, line 1: ");
        refused("node.id=1\nbroker.id=2", "server.properties, line 2: Invalid value 2 for configuration broker.id");
        refused("process.roles=controller", "server.properties, line 1: Invalid value controller for");
        refused("process.roles=broker", "server.properties, line 1: Invalid value broker for");
        refused("node.id=1\ncontroller.quorum.voters=1@a:1,2@b:1", "server.properties, line 2: ");
        refused("group.min.session.timeout.ms=2000000", "server.properties, line 1: ");
        refused("request.memory.bytes.per.core=1048576", "server.properties, line 1: ");
        refused("log.cleaner.min.compaction.lag.ms=5\nlog.cleaner.max.compaction.lag.ms=4", "conflict topic config");
        for none in ["log.retention.ms=0", "log.retention.minutes=0", "log.retention.hours=0"] {
            refused(none, "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1");
        }
        assert_eq!(
            load("", &[("num.partitions", "x")]).unwrap_err(),
            "command line: Invalid value x for configuration num.partitions: Not a number of type INT"
        );
    }

    #[test]
    fn wrong_listeners_are_refused_with_what_to_do() {
        refused(
            "listeners=SSL://:9093",
            "server.properties, line 1: Invalid value SSL://:9093 for configuration listeners: listener SSL speaks SSL",
        );
        refused(
            "listeners=FOO://:9093",
            "server.properties, line 1: Invalid value FOO://:9093 for configuration listeners: listener FOO has no protocol",
        );
        refused("listeners=PLAINTEXT://:1,PLAINTEXT://:2", "server.properties, line 1: ");
        refused("listeners=CONTROLLER://:1\ncontroller.listener.names=CONTROLLER", "server.properties, line 1: ");
        refused("advertised.listeners=PLAINTEXT://0.0.0.0:9092", "server.properties, line 1: ");
        refused("advertised.listeners=SSL://h:9092", "server.properties, line 1: ");
        let (config, _) = load(
            "listeners=A://:9092,B://10.0.0.1:9192\nlistener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\n\
             advertised.listeners=A://public:19092",
            &[],
        )
        .unwrap();
        let shown: Vec<_> = config.advertised_listeners.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["A://public:19092", "B://10.0.0.1:9192"]);
        assert!(config.check_cores(16).is_ok());
    }

    #[test]
    fn an_unresolvable_host_is_shown_as_localhost_with_a_warning() {
        let (config, warnings) = BrokerConfig::from_text("", "", &[], &|| None).unwrap();
        assert_eq!(config.advertised_listeners[0].host, "localhost");
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn the_metadata_log_lies_in_the_first_directory_unless_said_otherwise() {
        let dirs = |text: &str| {
            let config = load(text, &[]).unwrap().0;
            (config.log_dirs.clone(), config.metadata_dir().to_owned())
        };
        let paths = |names: &[&str]| names.iter().map(Into::into).collect::<Vec<std::path::PathBuf>>();
        assert_eq!(dirs("log.dirs=/a, /b"), (paths(&["/a", "/b"]), "/a".into()));
        assert_eq!(dirs("log.dirs=/a,/b\nmetadata.log.dir=/b"), (paths(&["/a", "/b"]), "/b".into()));
        assert_eq!(dirs("log.dir=/c\nmetadata.log.dir=/m"), (paths(&["/c"]), "/m".into()));
    }

    #[test]
    fn what_has_no_effect_is_said_and_unknown_names_get_their_neighbour() {
        warned(
            "num.io.threads=16",
            &[
                "server.properties, line 1: num.io.threads has no effect: one thread per core does everything; see `cores`",
            ],
        );
        warned("num.io.threads=8", &[]);
        warned(
            "sasl.enabled.mechanisms=PLAIN",
            &["server.properties, line 1: sasl.enabled.mechanisms is known to Kafka and has no effect in corelog yet"],
        );
        warned("num.partition=8", &["server.properties, line 1: num.partition is no known option; num.partitions is"]);
        warned("wholly.unknown.words=8", &["server.properties, line 1: wholly.unknown.words is no known option"]);
    }

    #[test]
    fn times_in_other_units_become_the_topics_milliseconds() {
        let topic = |text: &str| load(text, &[]).unwrap().0.topic_defaults();
        assert_eq!(topic("log.retention.hours=1").retention_ms, 3_600_000);
        assert_eq!(topic("log.retention.hours=1\nlog.retention.minutes=2").retention_ms, 120_000);
        assert_eq!(topic("log.retention.minutes=2\nlog.retention.ms=3").retention_ms, 3);
        assert_eq!(topic("log.retention.hours=-1").retention_ms, -1);
        assert_eq!(topic("log.retention.ms=-5").retention_ms, -1);
        assert_eq!(topic("log.roll.hours=2").segment_ms, 7_200_000);
        assert_eq!(topic("log.roll.ms=9\nlog.roll.jitter.ms=4").segment_jitter_ms, 4);
        assert_eq!(topic("log.flush.scheduler.interval.ms=8").flush_ms, 8);
        assert_eq!(topic("log.flush.interval.ms=9\nlog.flush.scheduler.interval.ms=8").flush_ms, 9);
    }

    #[test]
    fn cores_need_ports_of_their_own() {
        let config = |text: &str| load(text, &[]).unwrap().0;
        let two = "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT\nlisteners=A://:9092,B://:9094";
        assert!(config(two).check_cores(2).is_ok());
        assert!(config(two).check_cores(3).is_err());
        assert!(config(&format!("{two}\nadvertise=host")).check_cores(3).is_ok());
        assert!(config("listeners=PLAINTEXT://:65530").check_cores(6).is_ok());
        assert!(config("listeners=PLAINTEXT://:65530").check_cores(7).is_err());
        assert!(config("listeners=PLAINTEXT://:0").check_cores(2).is_err());
        assert!(config("").check_cores(17).is_err());
        let allowed: Vec<usize> = (0..20).collect();
        assert_eq!(config("").choose_cpus(&allowed).unwrap().len(), 16);
        assert_eq!(config("advertise=host").choose_cpus(&allowed).unwrap().len(), 20);
        assert_eq!(config("cores=2-3").choose_cpus(&allowed).unwrap(), [2, 3]);
        assert!(config("cores=17").choose_cpus(&allowed).is_err());
    }

    #[test]
    fn budgets_follow_the_largest_request() {
        let (config, _) = load("socket.request.max.bytes=300000000\nfetch.max.bytes=200000000", &[]).unwrap();
        assert_eq!(config.request_memory_bytes_per_core, 300_000_000);
        assert_eq!(config.read_memory_bytes_per_core, 200_000_000);
    }

    #[test]
    fn names_that_only_kafka_has_are_sorted_and_not_ours() {
        assert!(KAFKA_ONLY.is_sorted());
        assert!(KAFKA_ONLY.iter().all(|name| find(BROKER_OPTIONS, name).is_none()));
    }
}
