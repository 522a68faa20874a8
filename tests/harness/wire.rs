//! Kafka frames over a bare socket, written out by hand: what the tests need in order to be impolite.

use super::broker::connect;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

pub const API_VERSIONS: i16 = 18;

/// A request of `api_key` with the header that its version wants: `flexible` adds the empty tagged fields.
pub fn request(api_key: i16, version: i16, correlation: i32, flexible: bool, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend(4i16.to_be_bytes());
    frame.extend(b"test");
    if flexible {
        frame.push(0);
    }
    frame.extend(body);
    let size = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
    frame
}

/// A Produce (version 7) of the same batch to each of some partitions.
pub fn produce(correlation: i32, topic: &str, partitions: &[i32], acks: i16, batch: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i16).to_be_bytes()); // transactional id
    body.extend(acks.to_be_bytes());
    body.extend(60_000i32.to_be_bytes()); // timeout
    body.extend(1i32.to_be_bytes());
    body.extend((topic.len() as i16).to_be_bytes());
    body.extend(topic.as_bytes());
    body.extend((partitions.len() as i32).to_be_bytes());
    for partition in partitions {
        body.extend(partition.to_be_bytes());
        body.extend((batch.len() as i32).to_be_bytes());
        body.extend(batch);
    }
    request(0, 7, correlation, false, &body)
}

/// Reads one answer, without its size.
pub fn read_answer(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size) as usize;
    assert!(size < 64 << 20, "an answer of {size} bytes");
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// One API as the broker offers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offered {
    pub api_key: i16,
    pub min: i16,
    pub max: i16,
}

/// Asks for the APIs with version 0, which every broker answers.
pub fn api_versions(address: SocketAddr) -> io::Result<Vec<Offered>> {
    let mut stream = connect(address)?;
    stream.write_all(&request(API_VERSIONS, 0, 7, false, &[]))?;
    let answer = read_answer(&mut stream)?;
    assert_eq!(answer[..4], 7i32.to_be_bytes(), "the correlation id of {answer:?}");
    Ok(parse_api_versions(&answer[4..]).1)
}

/// The error code and the APIs of an ApiVersions answer of version 0.
pub fn parse_api_versions(body: &[u8]) -> (i16, Vec<Offered>) {
    let number = |at: usize| i16::from_be_bytes(body[at..at + 2].try_into().unwrap());
    let count = i32::from_be_bytes(body[2..6].try_into().unwrap()) as usize;
    let offered = (0..count).map(|i| 6 + i * 6);
    (number(0), offered.map(|at| Offered { api_key: number(at), min: number(at + 2), max: number(at + 4) }).collect())
}
