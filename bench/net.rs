//! What TCP over loopback can do here, measured without a broker: bytes a second
//! one way, and the time of a request and its answer. A broker on this machine
//! can do no better.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::PATIENCE;
use crate::failure;
use crate::failure::{Doing, Outcome};
use crate::latency::Latencies;
use crate::pace::{Schedule, sharpen_timer, wait_until};

/// What is asked of the network.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub duration: Duration,
    /// Bytes of each write of the bulk measurement.
    pub write_bytes: usize,
    /// Bytes of each request; the answer is as long.
    pub request_bytes: usize,
    /// Requests per second of the open loop.
    pub rate: f64,
    /// The CPUs that the two ends are bound to; `None`: where the kernel puts them.
    pub server_cpu: Option<usize>,
    pub client_cpu: Option<usize>,
}

/// Measures all of it; returns lines to read and the JSON.
pub fn measure(probe: Probe) -> Outcome<(Vec<String>, Value)> {
    if probe.write_bytes == 0 || probe.request_bytes == 0 {
        return Err(failure!("writes and requests must have at least one byte"));
    }
    let bulk = bulk(probe)?;
    let back_to_back = exchanges(probe, None)?;
    let at_rate = exchanges(probe, Some(probe.rate))?;
    let lines = vec![
        format!("one way, writes of {} bytes: {:.0} MB/s", probe.write_bytes, bulk),
        format!("{} bytes and back, one after the other: {}", probe.request_bytes, back_to_back.line()),
        format!(
            "{} bytes and back at {} per second, from the intended send: {}",
            probe.request_bytes,
            probe.rate,
            at_rate.line()
        ),
    ];
    let result = json!({
        "write_bytes": probe.write_bytes,
        "request_bytes": probe.request_bytes,
        "server_cpu": probe.server_cpu,
        "client_cpu": probe.client_cpu,
        "mb_per_second": bulk,
        "round_trip": back_to_back.json(),
        "rate": probe.rate,
        "round_trip_at_rate_from_intended": at_rate.json(),
    });
    Ok((lines, result))
}

/// Binds this thread to a CPU.
pub fn bind_to(cpu: Option<usize>) -> Outcome<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    if cpu >= rustix::thread::CpuSet::MAX_CPU {
        return Err(failure!("there is no CPU {cpu}"));
    }
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).doing(|| format!("bind a thread to CPU {cpu}"))
}

fn connected() -> Outcome<(TcpStream, TcpStream)> {
    let what = || String::from("connect over loopback");
    let listener = TcpListener::bind("127.0.0.1:0").doing(what)?;
    let client = TcpStream::connect(listener.local_addr().doing(what)?).doing(what)?;
    let (server, _) = listener.accept().doing(what)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true).doing(what)?;
        stream.set_read_timeout(Some(PATIENCE)).doing(what)?;
    }
    Ok((client, server))
}

/// Runs `serve` and `ask` at the two ends, each in a thread on its CPU.
fn between<T: Send>(
    probe: Probe,
    serve: impl FnOnce(TcpStream) -> Outcome<()> + Send,
    ask: impl FnOnce(TcpStream) -> Outcome<T> + Send,
) -> Outcome<T> {
    let (client, server) = connected()?;
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            bind_to(probe.server_cpu)?;
            serve(server)
        });
        let client = scope.spawn(move || {
            bind_to(probe.client_cpu)?;
            sharpen_timer();
            ask(client)
        });
        let asked = client.join().map_err(|_| failure!("the client's thread panicked"))?;
        let served = server.join().map_err(|_| failure!("the server's thread panicked"))?;
        // The side that failed first says why; the other one saw the end of the connection.
        asked.and_then(|asked| served.map(|()| asked))
    })
}

/// MB/s that arrive.
fn bulk(probe: Probe) -> Outcome<f64> {
    let over = AtomicBool::new(false);
    let serve = |mut stream: TcpStream| {
        let bytes = vec![7; probe.write_bytes];
        while !over.load(Ordering::Relaxed) {
            stream.write_all(&bytes).doing(|| String::from("send"))?;
        }
        Ok(())
    };
    let ask = |mut stream: TcpStream| {
        let mut buffer = vec![0; 256 << 10];
        let (begun, mut received) = (Instant::now(), 0u64);
        // Whatever happens here, the other end must see that it is over.
        let outcome = (|| {
            while received == 0 || begun.elapsed() < probe.duration {
                match stream.read(&mut buffer).doing(|| String::from("receive"))? {
                    0 => return Err(failure!("the connection ended early")),
                    count => received += count as u64,
                }
            }
            Ok(received as f64 / 1e6 / begun.elapsed().as_secs_f64())
        })();
        over.store(true, Ordering::Relaxed);
        // What is still under way is read, so that the sender comes out of its last write.
        while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
        outcome
    };
    between(probe, serve, ask)
}

/// Requests and answers, one at a time, back to back or in an open loop.
fn exchanges(probe: Probe, rate: Option<f64>) -> Outcome<Latencies> {
    let serve = |mut stream: TcpStream| {
        let mut bytes = vec![0; probe.request_bytes];
        // The end of the connection ends it.
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).doing(|| String::from("answer"))?;
        }
        Ok(())
    };
    let ask = |mut stream: TcpStream| {
        let mut bytes = vec![0; probe.request_bytes];
        let mut times = Latencies::new();
        let begun = Instant::now();
        let schedule = rate.map(|rate| Schedule::new(begun, rate, 0.0));
        for index in 0u64.. {
            let intended = schedule.map_or_else(Instant::now, |schedule| schedule.due(index));
            if index > 0 && intended >= begun + probe.duration {
                break;
            }
            wait_until(intended);
            stream.write_all(&bytes).doing(|| String::from("ask"))?;
            stream.read_exact(&mut bytes).doing(|| String::from("receive"))?;
            times.record(intended.elapsed(), 1);
        }
        Ok(times)
    };
    between(probe, serve, ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_gives_figures() {
        let probe = Probe {
            duration: Duration::from_millis(50),
            write_bytes: 100_000,
            request_bytes: 100,
            rate: 1000.0,
            server_cpu: None,
            client_cpu: None,
        };
        let (lines, result) = measure(probe).unwrap();
        assert_eq!(lines.len(), 3);
        assert!(result["mb_per_second"].as_f64().unwrap() > 0.0, "{result:#}");
        // In the open loop all that were due are counted, however late they were.
        assert_eq!(result["round_trip_at_rate_from_intended"]["count"], 50);
        assert!(result["round_trip"]["p50_us"].as_f64().unwrap() > 0.0);
        assert!(measure(Probe { request_bytes: 0, ..probe }).is_err());
        assert!(measure(Probe { client_cpu: Some(100_000), ..probe }).is_err());
    }
}
