//! What a run says in the end: one line, JSON, files of its latency curves. Of
//! several runs: the median of each figure, with the smallest and the largest.

use std::io::Write;
use std::path::Path;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::cluster::Topic;
use crate::curve;
use crate::failure;
use crate::failure::{Doing, Failure, Outcome};
use crate::host;
use crate::latency::{self, Latencies};
use crate::options::Target;

/// Machine and drive that a result was got on, known before its run.
pub struct Surroundings {
    host: Value,
    drive: Value,
}

impl Surroundings {
    pub fn of(target: &Target) -> Outcome<Surroundings> {
        let found = || target.broker_pid.and_then(host::data_dir_of);
        let drive = match &target.data_dir {
            Some(folder) => host::probed_drive_facts(folder)?,
            None => found().and_then(|folder| host::drive_facts(&folder).ok()).unwrap_or_default(),
        };
        Ok(Surroundings { host: host::facts(), drive })
    }

    /// What every result begins with.
    pub fn header(&self, kind: &str, target: &Target, topic: &Topic) -> Value {
        json!({
            "kind": kind,
            "label": target.label,
            "version": env!("CARGO_PKG_VERSION"),
            "arguments": std::env::args().skip(1).collect::<Vec<_>>(),
            "bootstrap": target.bootstrap,
            "topic": topic.name,
            "partitions": topic.partitions(),
            "brokers": topic.leaders.len(),
            "connections": target.connections,
            "threads": target.threads(),
            "warm_up_seconds": target.warm_up,
            "host": self.host,
            "drive": self.drive,
        })
    }
}

/// What one run gave.
pub struct Taken {
    pub line: String,
    pub json: Value,
    /// Latency curves by name; the first is the one that matters most.
    pub curves: Vec<(&'static str, Latencies)>,
    /// Shown with the result, then the program fails.
    pub fault: Option<Failure>,
}

/// Takes so many runs as the options say, and reports them.
pub fn report_runs(target: &Target, mut take: impl FnMut(&Surroundings) -> Outcome<Taken>) -> Outcome<()> {
    let surroundings = Surroundings::of(target)?;
    let mut runs = Vec::new();
    for number in 1..=target.runs {
        let taken = take(&surroundings)?;
        if target.runs > 1 {
            eprintln!("run {number} of {}: {}", target.runs, taken.line);
        }
        runs.push(taken);
    }
    write_curves(target, &runs)?;
    let (line, json) = if runs.len() == 1 {
        (runs[0].line.clone(), runs[0].json.clone())
    } else {
        let each: Vec<Value> = runs.iter().map(|run| run.json.clone()).collect();
        (spread_line(&each), combined(&each))
    };
    let line = format!("{line}\non {}", host::line(&surroundings.host, &surroundings.drive));
    print(target.json.as_deref(), &line, &json)?;
    runs.into_iter().find_map(|run| run.fault).map_or(Ok(()), Err)
}

/// Curves of all runs together, by name, in the order of the first run.
fn merged(runs: &[Taken]) -> Vec<(&'static str, Latencies)> {
    let mut merged: Vec<(&'static str, Latencies)> = Vec::new();
    for (name, latencies) in runs.iter().flat_map(|run| &run.curves).filter(|(_, latencies)| latencies.count() > 0) {
        match merged.iter_mut().find(|(other, _)| other == name) {
            Some((_, sum)) => sum.add(latencies),
            None => merged.push((name, latencies.clone())),
        }
    }
    merged
}

fn write_curves(target: &Target, runs: &[Taken]) -> Outcome<()> {
    let merged = merged(runs);
    let write = |file: &Path, bytes: &[u8]| std::fs::write(file, bytes).doing(|| format!("write {}", file.display()));
    if let Some(file) = &target.histogram {
        let first = runs.first().and_then(|run| run.curves.first()).map(|(name, _)| *name);
        let main = merged.iter().find(|(name, _)| Some(*name) == first).map(|(_, latencies)| latencies);
        write(file, main.unwrap_or(&Latencies::new()).percentile_file().as_bytes())?;
    }
    if let Some(file) = &target.hdr {
        let curves: Vec<Vec<(&str, &Latencies)>> =
            runs.iter().map(|run| run.curves.iter().map(|(name, latencies)| (*name, latencies)).collect()).collect();
        write(file, &latency::write_log(&curves)?)?;
    }
    if let Some(file) = &target.svg {
        let title = if target.label.is_empty() { &target.topic } else { &target.label };
        let named: Vec<(String, &Latencies)> =
            merged.iter().map(|(name, latencies)| (String::from(*name), latencies)).collect();
        write(file, curve::svg(title, &named).as_bytes())?;
    }
    Ok(())
}

/// The result of several runs: of every figure the median, in the places of a single run's; `spread` has the smallest and
/// the largest of those that differ, by path; `runs` has all of them.
pub fn combined(runs: &[Value]) -> Value {
    let mut combined = median_of(runs);
    let mut spread = Map::new();
    collect_spread(runs, "", &mut spread);
    combined["spread"] = Value::Object(spread);
    combined["runs"] = json!(runs);
    combined
}

fn numbers(values: &[Value]) -> Option<Vec<f64>> {
    let numbers: Option<Vec<f64>> = values.iter().map(Value::as_f64).collect();
    let mut numbers = numbers.filter(|numbers| !numbers.is_empty())?;
    numbers.sort_unstable_by(f64::total_cmp);
    Some(numbers)
}

/// The one in the middle, or halfway between the two; of numbers in order.
fn median(sorted: &[f64]) -> f64 {
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    low + (high - low) / 2.0
}

/// The same field of each run's object.
fn field(runs: &[Value], name: &str) -> Vec<Value> {
    runs.iter().map(|run| run[name].clone()).collect()
}

fn median_of(runs: &[Value]) -> Value {
    let Some(first) = runs.first() else { return Value::Null };
    if runs.iter().all(|run| run == first) {
        return first.clone();
    }
    if let Value::Object(object) = first {
        return object.keys().map(|name| (name.clone(), median_of(&field(runs, name)))).collect::<Map<_, _>>().into();
    }
    // What only some runs have (as a percentile of nothing) has no median.
    numbers(runs).map_or(Value::Null, |sorted| json!(median(&sorted)))
}

fn collect_spread(runs: &[Value], path: &str, spread: &mut Map<String, Value>) {
    if let Some(Value::Object(object)) = runs.first() {
        for name in object.keys() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect_spread(&field(runs, name), &path, spread);
        }
    } else if let Some(sorted) = numbers(runs)
        && sorted[0] < sorted[sorted.len() - 1]
    {
        spread.insert(path.to_owned(), json!([sorted[0], sorted[sorted.len() - 1]]));
    }
}

/// Figures that the line of several runs shows: path, unit.
const SHOWN: [(&str, &str); 11] = [
    ("records_per_second", "records/s"),
    ("mb_per_second", "MB/s"),
    ("end_to_end_from_intended.p50_us", "µs end to end p50"),
    ("end_to_end_from_intended.p99_us", "µs end to end p99"),
    ("ack_from_intended.p50_us", "µs ack p50"),
    ("ack_from_intended.p99_us", "µs ack p99"),
    ("ack_from_intended.p99_9_us", "µs ack p99.9"),
    ("ack_from_actual.p99_us", "µs ack from actual send p99"),
    ("drain_seconds", "s until caught up"),
    ("broker_cpu_s_per_million_records", "s broker CPU per million records"),
    ("broker_cpu_us_per_request", "µs broker CPU per request"),
];

/// `produce, 3 runs, median (smallest to largest): 1200 (1100 to 1300) records/s; ...`.
fn spread_line(runs: &[Value]) -> String {
    let kind = runs.first().and_then(|run| run["kind"].as_str()).unwrap_or_default();
    let digits = |value: f64| if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") };
    let figures = SHOWN.iter().filter_map(|(path, unit)| {
        let at = |run: &Value| path.split('.').fold(run.clone(), |value, name| value[name].clone());
        let sorted = numbers(&runs.iter().map(at).collect::<Vec<_>>())?;
        let (least, most) = (sorted[0], sorted[sorted.len() - 1]);
        (most > 0.0).then(|| format!("{} ({} to {}) {unit}", digits(median(&sorted)), digits(least), digits(most)))
    });
    let figures: Vec<String> = figures.collect();
    format!("{kind}, {} runs, median (smallest to largest): {}", runs.len(), figures.join("; "))
}

/// Adds the fields of one object to another.
pub fn add(result: &mut Value, more: Value) {
    if let (Value::Object(result), Value::Object(more)) = (result, more) {
        result.extend(more);
    }
}

/// An option's value as it is typed.
pub fn name(value: impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Prints the line, or the JSON in its place; writes the JSON to its file.
pub fn print(json: Option<&Path>, line: &str, result: &Value) -> Outcome<()> {
    let whole = format!("{result:#}");
    let shown = match json {
        Some(file) if file == Path::new("-") => &whole,
        Some(file) => {
            std::fs::write(file, format!("{whole}\n")).doing(|| format!("write {}", file.display()))?;
            line
        }
        None => line,
    };
    match writeln!(std::io::stdout(), "{shown}") {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.doing(|| String::from("print the result")),
    }
}

/// A fault of the result itself: figures that must be equal and are not.
pub fn fault(text: &str) -> Failure {
    failure!("{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn several_runs_are_their_median_and_their_spread() {
        let run = |rate: f64, p99: Value| {
            json!({ "kind": "produce", "records_per_second": rate, "ack_from_intended": { "p99_us": p99, "count": 5 },
                    "arguments": ["a"], "records": rate as u64 })
        };
        let runs = [run(300.0, json!(9.0)), run(100.0, json!(7.5)), run(200.0, json!(8.0))];
        let all = combined(&runs);
        assert_eq!(all["records_per_second"], json!(200.0));
        assert_eq!(all["ack_from_intended"], json!({ "p99_us": 8.0, "count": 5 }));
        assert_eq!((&all["kind"], &all["arguments"]), (&json!("produce"), &json!(["a"])));
        let expected = json!({ "records_per_second": [100.0, 300.0], "ack_from_intended.p99_us": [7.5, 9.0], "records": [100.0, 300.0] });
        assert_eq!(all["spread"], expected);
        assert_eq!(all["runs"].as_array().unwrap().len(), 3);
        let line = spread_line(&runs);
        assert!(
            line.contains("3 runs")
                && line.contains("200 (100 to 300) records/s")
                && line.contains("8.000 (7.500 to 9.000) µs ack p99"),
            "{line}"
        );
        // Of two runs: halfway.
        assert_eq!(combined(&runs[..2])["records_per_second"], json!(200.0));
        // What one run lacks has no median and no spread.
        let all = combined(&[run(1.0, Value::Null), run(1.0, json!(3.0))]);
        assert_eq!((&all["ack_from_intended"]["p99_us"], &all["spread"]), (&Value::Null, &json!({})));
    }

    #[test]
    fn curves_of_several_runs_are_added() {
        let taken = |ms| {
            let mut latencies = Latencies::new();
            latencies.record(Duration::from_millis(ms), 3);
            Taken {
                line: String::new(),
                json: Value::Null,
                curves: vec![("ack", latencies), ("none", Latencies::new())],
                fault: None,
            }
        };
        let merged = merged(&[taken(1), taken(5)]);
        assert_eq!(merged.len(), 1, "an empty curve is none");
        assert_eq!((merged[0].0, merged[0].1.count()), ("ack", 6));
        assert!(merged[0].1.max_us() > 4900.0);
    }
}
