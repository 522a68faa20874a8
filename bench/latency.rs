//! Latencies as HDR histograms: nanoseconds inside, microseconds when printed,
//! and written to files that other tools read.

use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag};
use hdrhistogram::serialization::{Deserializer, V2DeflateSerializer};
use serde_json::{Value, json};

use crate::failure;
use crate::failure::{Doing, Outcome};

/// One distribution of latencies.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// The quantiles that every report shows, with their names in JSON.
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999)];

impl Latencies {
    pub fn new() -> Latencies {
        // Three digits from 1 ns to an hour; larger values are recorded as an hour.
        Latencies(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("the bounds are valid"))
    }

    /// Counts `count` requests (or records) that took `latency`.
    pub fn record(&mut self, latency: Duration, count: u64) {
        self.0.saturating_record_n(latency.as_nanos().min(u128::from(u64::MAX)) as u64, count);
    }

    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a fraction `quantile` did not exceed, in microseconds.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    pub fn max_us(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// `p50 124 p90 201 p99 2040 p99.9 5110 p99.99 8200 max 9012 µs`.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for (name, quantile) in QUANTILES {
            line += &format!("{} {} ", name.replace('_', "."), microseconds(self.quantile_us(quantile)));
        }
        format!("{line}max {} µs", microseconds(self.max_us()))
    }

    /// The same as JSON, in microseconds, with count and mean.
    pub fn json(&self) -> Value {
        let mut object =
            json!({ "count": self.count(), "mean_us": round(self.0.mean() / 1e3), "max_us": round(self.max_us()) });
        for (name, quantile) in QUANTILES {
            object[format!("{name}_us")] = json!(round(self.quantile_us(quantile)));
        }
        object
    }

    /// The whole curve in the text form that HdrHistogram's plotters read, in
    /// microseconds.
    pub fn percentile_file(&self) -> String {
        let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut seen = 0;
        for step in self.0.iter_quantiles(5) {
            seen += step.count_since_last_iteration();
            let fraction = step.quantile_iterated_to();
            let inverse = if fraction < 1.0 { format!("{:.2}", 1.0 / (1.0 - fraction)) } else { String::from("inf") };
            text +=
                &format!("{:12.3} {:.12} {:10} {}\n", step.value_iterated_to() as f64 / 1e3, fraction, seen, inverse);
        }
        text + &format!("#[Max = {:.3}, Total count = {}]\n", self.max_us(), self.count())
    }
}

impl Latencies {
    /// The curve: what fraction (0 to 1) was at most how many µs, `ticks` steps for each halving of the rest.
    pub fn steps(&self, ticks: u32) -> Vec<(f64, f64)> {
        let steps = self.0.iter_quantiles(ticks);
        steps.map(|step| (step.quantile_iterated_to(), step.value_iterated_to() as f64 / 1e3)).collect()
    }
}

/// Histograms of several runs as an HdrHistogram log of version 2: an interval for each run and curve, tagged with the
/// curve's name. Values are nanoseconds.
pub fn write_log(runs: &[Vec<(&str, &Latencies)>]) -> Outcome<Vec<u8>> {
    let what = || String::from("write a histogram log");
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("corelog-bench: one interval for each run and curve, in nanoseconds (maximum in ms)");
    builder.with_base_time(SystemTime::now()).with_max_value_divisor(1e6);
    let mut writer = builder.begin_log_with(&mut log, &mut serializer).doing(what)?;
    for (run, curves) in runs.iter().enumerate() {
        for (name, latencies) in curves {
            let tag = Tag::new(name).ok_or_else(|| failure!("'{name}' is no name for a curve"))?;
            // Intervals have to have a time; the run's number stands for it.
            let (start, duration) = (Duration::from_secs(run as u64), Duration::from_secs(1));
            writer
                .write_histogram(&latencies.0, start, duration, Some(tag))
                .map_err(|error| failure!("{}: {error:?}", what()))?;
        }
    }
    Ok(log)
}

/// The curves of a log, by name, intervals of one name added up. Those without a name are called by none.
pub fn read_log(log: &[u8]) -> Outcome<Vec<(String, Latencies)>> {
    let mut curves: Vec<(String, Latencies)> = Vec::new();
    for entry in IntervalLogIterator::new(log) {
        let entry = entry.map_err(|error| failure!("this is no histogram log: {error:?}"))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let bytes = base64_bytes(interval.encoded_histogram())?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| failure!("a histogram cannot be read: {error:?}"))?;
        let mut latencies = Latencies::new();
        latencies.0.add(&histogram).map_err(|error| failure!("a histogram has other bounds: {error:?}"))?;
        let name = interval.tag().map_or("", |tag| tag.as_str());
        match curves.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => sum.add(&latencies),
            None => curves.push((name.to_owned(), latencies)),
        }
    }
    Ok(curves)
}

/// The bytes of base 64 (RFC 4648) with padding.
fn base64_bytes(text: &str) -> Outcome<Vec<u8>> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Ok(c - b'A'),
        b'a'..=b'z' => Ok(c - b'a' + 26),
        b'0'..=b'9' => Ok(c - b'0' + 52),
        b'+' => Ok(62),
        b'/' => Ok(63),
        _ => Err(failure!("a histogram is not written in base 64")),
    };
    let digits = text.trim_end_matches('=').bytes().map(digit).collect::<Outcome<Vec<u8>>>()?;
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let word = group.iter().enumerate().fold(0u32, |word, (at, digit)| word | u32::from(*digit) << (18 - 6 * at));
        bytes.extend_from_slice(&word.to_be_bytes()[1..group.len()]);
    }
    Ok(bytes)
}

/// Microseconds with as many digits as they deserve.
fn microseconds(value: f64) -> String {
    if value < 100.0 { format!("{value:.1}") } else { format!("{value:.0}") }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut latencies = Latencies::new();
        for us in 1..=1000u64 {
            latencies.record(Duration::from_micros(us), 1);
        }
        for (quantile, us) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.999, 999.0)] {
            let got = latencies.quantile_us(quantile);
            assert!((got - us).abs() <= us / 1000.0 + 0.001, "{quantile}: {got} for {us}");
        }
        assert!((latencies.max_us() - 1000.0).abs() < 1.0);
        assert_eq!(latencies.count(), 1000);
    }

    #[test]
    fn logs_are_read_as_they_were_written() {
        let latencies = |from: u64| {
            let mut latencies = Latencies::new();
            (from..from + 1000).for_each(|us| latencies.record(Duration::from_micros(us), us % 3));
            latencies
        };
        let (a, b, c) = (latencies(1), latencies(5000), latencies(1));
        let log = write_log(&[vec![("ack", &a), ("actual", &c)], vec![("ack", &b)]]).unwrap();
        assert!(std::str::from_utf8(&log).unwrap().contains("Tag=ack,"));
        let read = read_log(&log).unwrap();
        let names: Vec<&str> = read.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["ack", "actual"]);
        let mut both = a.clone();
        both.add(&b);
        assert_eq!((read[0].1.line(), read[0].1.count()), (both.line(), both.count()));
        assert_eq!(read[1].1.json(), c.json());
        for wrong in [&b"Tag=x,0.0,1.0,2.0,!!!!\n"[..], b"Tag=x,0.0,1.0,2.0,AAAA\n", b"nonsense,"] {
            assert!(read_log(wrong).is_err());
        }
        assert!(write_log(&[vec![("no, name", &a)]]).is_err());
    }

    #[test]
    fn base_64_is_read() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("+/8=", &[0xfb, 0xff])]
        {
            assert_eq!(base64_bytes(text).unwrap(), bytes);
        }
        assert!(base64_bytes("Z g=").is_err());
    }

    #[test]
    fn counts_weigh_and_outliers_are_kept() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_micros(10), 999);
        let mut others = Latencies::new();
        others.record(Duration::from_secs(7200), 1);
        latencies.add(&others);
        assert_eq!(latencies.count(), 1000);
        assert!((latencies.quantile_us(0.99) - 10.0).abs() < 0.1);
        assert!(latencies.max_us() >= 3.6e9, "longer than the histogram's end counts as its end");
        assert!(latencies.line().contains("p99.9 10.0"), "{}", latencies.line());
        assert!(latencies.percentile_file().ends_with("Total count = 1000]\n"));
    }
}
