//! Listeners as Kafka writes them: `NAME://HOST:PORT` (`Endpoint`,
//! `SocketServerConfigs.listenerListToEndPoints`).

use std::collections::BTreeMap;
use std::fmt;

use super::option::{Kind, OptionValue, Reason, list_items};

/// What is spoken on a listener. TLS and SASL are not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    Plaintext,
}

/// An address to accept on, or to tell clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// In upper case, as Kafka normalises it.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Without brackets, also for IPv6. Empty: all addresses; never empty in an
    /// advertised listener after loading.
    pub host: String,
    /// Core 0's port. 0 takes any free port, which needs `advertise=host` or one core.
    pub port: u16,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "{}://[{}]:{}", self.name, self.host, self.port),
            false => write!(f, "{}://{}:{}", self.name, self.host, self.port),
        }
    }
}

impl OptionValue for Vec<Listener> {
    const KIND: Kind = Kind::List;

    fn read(text: &str) -> Result<Vec<Listener>, Reason> {
        let listeners = list_items(text).into_iter().map(read_one).collect::<Result<Vec<_>, _>>()?;
        if listeners.is_empty() {
            return Err("at least one NAME://HOST:PORT is expected".to_string());
        }
        Ok(listeners)
    }

    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
}

fn read_one(text: &str) -> Result<Listener, Reason> {
    let wrong = || format!("'{text}' is not of the form NAME://HOST:PORT");
    let (name, address) = text.split_once("://").ok_or_else(wrong)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(wrong());
    }
    let host = match host.strip_prefix('[') {
        Some(host) => host.strip_suffix(']').filter(|host| host.contains(':')).ok_or_else(wrong)?,
        None if host.contains([':', '/', ' ']) => return Err(wrong()),
        None => host,
    };
    let port = port.parse().map_err(|_| format!("the port in '{text}' is not a number from 0 to 65535"))?;
    let (name, host) = (name.to_ascii_uppercase(), host.to_string());
    Ok(Listener { name, protocol: SecurityProtocol::Plaintext, host, port })
}

/// Reads `listener.security.protocol.map`: the protocol's name for each listener name.
pub(super) fn read_protocol_map(text: &str) -> Result<BTreeMap<String, String>, Reason> {
    let mut map = BTreeMap::new();
    for item in list_items(text) {
        let (name, protocol) =
            item.split_once(':').ok_or_else(|| format!("'{item}' is not of the form NAME:PROTOCOL"))?;
        let (name, protocol) = (name.trim().to_ascii_uppercase(), protocol.trim().to_ascii_uppercase());
        if !["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].contains(&protocol.as_str()) {
            return Err(format!("{protocol} is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"));
        }
        if map.insert(name.clone(), protocol).is_some() {
            return Err(format!("listener {name} is there twice"));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_as_kafka_does() {
        let check = |text: &str, expected: &[(&str, &str, u16)]| {
            let got = <Vec<Listener>>::read(text).unwrap();
            let got: Vec<_> = got.iter().map(|l| (l.name.as_str(), l.host.as_str(), l.port)).collect();
            assert_eq!(got, expected, "{text}");
        };
        check("PLAINTEXT://:9092", &[("PLAINTEXT", "", 9092)]);
        check("plaintext://localhost:9092", &[("PLAINTEXT", "localhost", 9092)]);
        check("A://1.2.3.4:1, B_2://[::1]:0", &[("A", "1.2.3.4", 1), ("B_2", "::1", 0)]);
        for wrong in ["", "9092", "localhost:9092", "PLAINTEXT://:x", "PLAINTEXT://::1:9092", "PLAINTEXT://h:70000"] {
            assert!(<Vec<Listener>>::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shown_as_written() {
        for text in ["PLAINTEXT://:9092", "PLAINTEXT://[::1]:9092", "INTERNAL://kafka-1:19092"] {
            assert_eq!(<Vec<Listener>>::read(text).unwrap()[0].to_string(), text);
        }
    }

    #[test]
    fn protocol_maps() {
        let map = read_protocol_map("CONTROLLER:PLAINTEXT, plaintext:PLAINTEXT").unwrap();
        assert_eq!(map["CONTROLLER"], "PLAINTEXT");
        assert_eq!(map.len(), 2);
        for wrong in ["A", "A:FOO", "A:SSL,A:SSL"] {
            assert!(read_protocol_map(wrong).is_err(), "{wrong}");
        }
    }
}
