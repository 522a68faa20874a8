//! What long work shows on standard error while it goes on: records, bytes and
//! their rate, when a terminal is there to see it.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that is shorter than this shows nothing.
const SHOWN_AFTER: Duration = Duration::from_secs(1);
const SHOWN_EVERY: Duration = Duration::from_millis(500);

/// A line on the terminal that is written over as the numbers grow.
pub struct Progress {
    verb: &'static str,
    began: Instant,
    shown: Instant,
    is_on: bool,
    has_line: bool,
    records: u64,
    bytes: u64,
}

impl Progress {
    /// `verb`: what has been done to the records, in the past tense. `is_wanted`
    /// is false where the line would get between lines of output on the same
    /// terminal.
    pub fn new(verb: &'static str, is_wanted: bool) -> Progress {
        let now = Instant::now();
        let is_on = is_wanted && io::stderr().is_terminal();
        Progress { verb, began: now, shown: now, is_on, has_line: false, records: 0, bytes: 0 }
    }

    /// Says how far the work has come in all.
    pub fn at(&mut self, records: u64, bytes: u64) {
        (self.records, self.bytes) = (records, bytes);
        let now = Instant::now();
        if self.is_on && now - self.began >= SHOWN_AFTER && now - self.shown >= SHOWN_EVERY {
            self.shown = now;
            self.has_line = true;
            // Carriage return, text, clear to the end of the line.
            let _ = write!(io::stderr(), "\r{}\x1b[K", self.summary(now - self.began));
        }
    }

    /// Ends the line. Says nothing when there was none.
    pub fn finish(&mut self) {
        if self.has_line {
            let _ = writeln!(io::stderr(), "\r{}\x1b[K", self.summary(self.began.elapsed()));
            self.has_line = false;
        }
    }

    fn summary(&self, elapsed: Duration) -> String {
        let seconds = elapsed.as_secs_f64().max(0.001);
        format!(
            "{} {} in {seconds:.1} s, {} records/s, {:.1} MB/s",
            grouped(self.records),
            self.verb,
            grouped((self.records as f64 / seconds) as u64),
            self.bytes as f64 / seconds / 1e6
        )
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A number with commas between its thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(super::grouped(number), text);
        }
    }
}
