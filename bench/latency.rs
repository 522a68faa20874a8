//! Latencies as HDR histograms: nanoseconds inside, microseconds when printed.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

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
