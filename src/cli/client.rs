//! What the client commands have in common: where the brokers are, how
//! librdkafka is set up and kept quiet, and what its errors mean to a reader.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Mutex;
use std::time::Duration;

use clap::{ArgAction, Args};
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::failure::Failure;
use super::{name_and_value, seconds};

/// How long a connection to one address of a bootstrap server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the brokers are.
#[derive(Args, Clone)]
pub struct Connection {
    /// Brokers to ask first: HOST:PORT, several with commas
    #[arg(short, long, value_name = "HOST:PORT", default_value = "localhost:9092")]
    pub bootstrap_server: String,
    /// A librdkafka client property, for example security.protocol=SASL_SSL; may be repeated
    #[arg(short = 'X', long = "client-property", value_name = "NAME=VALUE", value_parser = name_and_value)]
    properties: Vec<(String, String)>,
    /// Show librdkafka's log; twice: with requests and answers
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,
}

/// How long to wait.
#[derive(Args, Clone, Copy)]
pub struct Patience {
    /// Give up when the broker has not answered within this time
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub timeout: Duration,
}

/// A topic by position or, as Kafka's tools take it, by `--topic`.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub struct TopicName {
    /// Name of the topic
    #[arg(value_name = "TOPIC")]
    name: Option<String>,
    /// The same, as Kafka's tools take it
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

impl TopicName {
    pub fn get(&self) -> &str {
        self.name.as_deref().or(self.topic.as_deref()).expect("clap demands one")
    }
}

impl Connection {
    /// A librdkafka configuration for the brokers, once one of them is known to
    /// accept connections: librdkafka itself would try for ever in silence.
    pub fn config(&self) -> Result<ClientConfig, Failure> {
        self.check_reachable()?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap_server).set("client.id", "corelog");
        if self.verbose > 1 {
            config.set("debug", "broker,topic,msg,protocol,cgrp,consumer");
        }
        config.set_log_level(if self.verbose > 1 { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        Ok(config)
    }

    pub fn context(&self) -> Quiet {
        Quiet { verbose: self.verbose > 0, trouble: Mutex::new(None), delivered: Mutex::default() }
    }

    pub fn admin(&self) -> Result<AdminClient<Quiet>, Failure> {
        self.config()?.create_with_context(self.context()).map_err(|error| self.explain("set up the client", error))
    }

    /// A consumer that only looks: it commits nothing and creates nothing.
    pub fn observer(&self, group: Option<&str>) -> Result<BaseConsumer<Quiet>, Failure> {
        let mut config = self.config()?;
        config
            .set("group.id", group.unwrap_or("corelog-observer"))
            .set("enable.auto.commit", "false")
            .set("allow.auto.create.topics", "false");
        config.create_with_context(self.context()).map_err(|error| self.explain("set up the client", error))
    }

    /// All topics and brokers.
    pub fn metadata(&self, consumer: &BaseConsumer<Quiet>, timeout: Duration) -> Result<Metadata, Failure> {
        consumer.fetch_metadata(None, timeout).map_err(|error| {
            let trouble = consumer.context().trouble();
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::BrokerTransportFailure) => {
                    Failure::job(format!(
                        "{} accepts connections and does not answer as a Kafka broker{}. Is it a listener of another \
                         protocol? Then -X security.protocol=SSL or SASL_SSL may be needed",
                        self.bootstrap_server,
                        trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default()
                    ))
                }
                _ => self.explain("ask for metadata", error),
            }
        })
    }

    /// One sentence about an error of librdkafka, with what to do where that is known.
    pub fn explain(&self, job: &str, error: KafkaError) -> Failure {
        match &error {
            KafkaError::ClientConfig(_, reason, name, value) if !name.is_empty() => {
                Failure::wrong(format!("client property {name}={value}: {reason}"))
            }
            KafkaError::ClientConfig(_, reason, ..) => Failure::wrong(format!("client properties: {reason}")),
            _ => match error.rdkafka_error_code() {
                Some(code) => Failure::job(format!("{job}: {}", self.meaning(code))),
                None => Failure::job(format!("{job}: {error}")),
            },
        }
    }

    /// What an error code means to somebody who did not read the protocol.
    pub fn meaning(&self, code: RDKafkaErrorCode) -> String {
        match code {
            RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::MessageTimedOut => {
                format!("no answer from {} in time; --timeout sets how long to wait", self.bootstrap_server)
            }
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown => {
                format!("the connection to {} was lost", self.bootstrap_server)
            }
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition => {
                "there is no such topic or partition; `corelog topic list` shows what there is".to_string()
            }
            RDKafkaErrorCode::TopicAlreadyExists => "a topic of this name exists already".to_string(),
            RDKafkaErrorCode::InvalidReplicationFactor => {
                "the replication factor is larger than the number of hosts".to_string()
            }
            RDKafkaErrorCode::MessageSizeTooLarge => {
                "the record is larger than the topic allows (max.message.bytes)".to_string()
            }
            RDKafkaErrorCode::TopicDeletionDisabled => {
                "the broker does not delete topics (delete.topic.enable=false)".to_string()
            }
            RDKafkaErrorCode::InvalidTopic => {
                "a topic's name has 1 to 249 of the characters a-z A-Z 0-9 . _ - and is not . or ..; two names may \
                 not differ only by . and _"
                    .to_string()
            }
            code => code.to_string(),
        }
    }

    /// Tries the addresses one by one, until one accepts a connection.
    fn check_reachable(&self) -> Result<(), Failure> {
        let mut reasons = Vec::new();
        for server in self.bootstrap_server.split(',').map(str::trim).filter(|server| !server.is_empty()) {
            let address = match server.split_once("://") {
                Some((_, address)) => address,
                None => server,
            };
            let with_port = match address.rsplit_once(':') {
                Some((_, port)) if port.parse::<u16>().is_ok() => address.to_string(),
                _ => format!("{address}:9092"),
            };
            let addresses: Vec<SocketAddr> = match with_port.to_socket_addrs() {
                Ok(addresses) => addresses.collect(),
                Err(error) => {
                    reasons.push(format!("{server}: {}", resolution(&error)));
                    continue;
                }
            };
            let mut last = "it has no address".to_string();
            for address in addresses {
                match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = io_reason(&error),
                }
            }
            reasons.push(format!("{server}: {last}"));
        }
        if reasons.is_empty() {
            return Err(Failure::wrong("--bootstrap-server names no broker; HOST:PORT is expected"));
        }
        Err(Failure::job(format!(
            "cannot reach a broker ({}). Is it running? `corelog serve` starts one; --bootstrap-server names another \
             address",
            reasons.join("; ")
        )))
    }
}

fn io_reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_string(),
        std::io::ErrorKind::TimedOut => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        _ => error.to_string(),
    }
}

fn resolution(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::InvalidInput => error.to_string(),
        _ => "the name cannot be resolved".to_string(),
    }
}

/// What librdkafka reports while it runs: kept instead of printed, unless asked for.
pub struct Quiet {
    verbose: bool,
    trouble: Mutex<Option<String>>,
    delivered: Mutex<Delivered>,
}

/// What has become of produced records.
#[derive(Clone, Default)]
pub struct Delivered {
    pub records: u64,
    pub bytes: u64,
    pub failed: u64,
    /// The first failure.
    pub failure: Option<RDKafkaErrorCode>,
}

impl Quiet {
    /// The last trouble with a connection.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no panic while it is held").clone()
    }

    pub fn delivered(&self) -> Delivered {
        self.delivered.lock().expect("no panic while it is held").clone()
    }
}

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        if self.verbose {
            eprintln!("{facility}: {message}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if self.verbose {
            eprintln!("{error}: {reason}");
        }
        if !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::PartitionEOF)) {
            *self.trouble.lock().expect("no panic while it is held") = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.delivered.lock().expect("no panic while it is held");
        match result {
            Ok(message) => {
                delivered.records += 1;
                delivered.bytes += (message.payload_len() + message.key_len()) as u64;
            }
            Err((error, _)) => {
                delivered.failed += 1;
                if delivered.failure.is_none() {
                    delivered.failure = error.rdkafka_error_code();
                }
            }
        }
    }
}
