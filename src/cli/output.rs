//! Results on standard output: text, and tables whose columns line up.

use std::io::{self, Write};

use super::failure::Failure;

/// Writes a text as it is.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes one line.
pub fn line(line: impl std::fmt::Display) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Rows under a head, each column as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(|cell| cell.to_string()).collect()] }
    }

    /// Adds a row; a cell without text is shown as a dash.
    pub fn row(&mut self, cells: Vec<String>) {
        let shown = cells.into_iter().map(|cell| if cell.is_empty() { "-".to_string() } else { cell });
        self.rows.push(shown.collect());
    }

    pub fn show(&self) -> Result<(), Failure> {
        text(&self.render())
    }

    fn render(&self) -> String {
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["TOPIC", "LAG"]);
        table.row(vec!["orders-änderungen".to_string(), "7".to_string()]);
        table.row(vec!["x".to_string(), String::new()]);
        assert_eq!(table.render(), "TOPIC              LAG\norders-änderungen  7\nx                  -\n");
    }
}
