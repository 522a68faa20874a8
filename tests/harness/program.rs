//! Another program: started with its output captured, spoken to in lines, ended by a deadline at the latest.

use super::wait;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A running program. It is killed when this is dropped.
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Arc<Output>,
    errors: Arc<Output>,
    /// Lines of output that [`Program::expect`] has passed.
    seen: usize,
}

/// Lines as they come.
#[derive(Default)]
struct Output {
    state: Mutex<(Vec<String>, bool)>,
    came: Condvar,
}

impl Output {
    fn collect(from: impl Read + Send + 'static) -> Arc<Output> {
        let output = Arc::new(Output::default());
        let into = output.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
                into.state.lock().unwrap().0.push(String::from_utf8_lossy(&line).trim_end().to_string());
                into.came.notify_all();
                line.clear();
            }
            into.state.lock().unwrap().1 = true;
            into.came.notify_all();
        });
        output
    }

    fn text(&self) -> String {
        self.state.lock().unwrap().0.join("\n")
    }
}

/// What a program left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub errors: String,
}

impl Program {
    pub fn start(command: &mut Command) -> Program {
        let name = format!("{command:?}").chars().take(300).collect();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Program {
            name,
            input: child.stdin.take(),
            output: Output::collect(child.stdout.take().unwrap()),
            errors: Output::collect(child.stderr.take().unwrap()),
            child,
            seen: 0,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Writes a line to the program's standard input.
    pub fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("standard input is still open");
        writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .unwrap_or_else(|e| panic!("say {line:?} to {self}: {e}"));
    }

    /// Closes the program's standard input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// The next line of output that begins with `start`, without it; lines before it are passed over.
    #[track_caller]
    pub fn expect(&mut self, start: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let output = self.output.clone();
        let mut state = output.state.lock().unwrap();
        loop {
            while let Some(line) = state.0.get(self.seen) {
                self.seen += 1;
                if let Some(rest) = line.strip_prefix(start) {
                    return rest.trim().to_string();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.1 || left.is_zero() {
                let lines = state.0.join("\n");
                drop(state);
                let why = if left.is_zero() { format!("not within {limit:?}") } else { "its output ended".to_string() };
                panic!("{self}\nwas to print {start:?}: {why}; it printed:\n{lines}\n{}", self.errors.text());
            }
            state = output.came.wait_timeout(state, left).unwrap().0;
        }
    }

    /// All lines so far, without waiting.
    pub fn lines(&self) -> Vec<String> {
        self.output.state.lock().unwrap().0.clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the program.
    #[track_caller]
    pub fn end(mut self, limit: Duration) -> Ended {
        self.input = None;
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                panic!("{self}\ndid not end within {limit:?}; it printed:\n{}\n{}", self.tail(), self.errors.text());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for output in [&self.output, &self.errors] {
            wait::until("the end of the program's output", wait::PATIENCE, || {
                output.state.lock().unwrap().1.then_some(())
            });
        }
        Ended { status, output: self.output.text(), errors: self.errors.text() }
    }

    /// Waits for the end of the program, which must be a success.
    #[track_caller]
    pub fn succeed(self, limit: Duration) -> Ended {
        let name = self.name.clone();
        let ended = self.end(limit);
        assert!(
            ended.status.success(),
            "{name}\nended with {}; it printed:\n{}\n{}",
            ended.status,
            tail(&ended.output),
            tail(&ended.errors)
        );
        ended
    }

    /// Asks the program to end (`TERM`, `INT`, ...).
    pub fn signal(&self, signal: &str) {
        send_signal(self.id(), signal);
    }

    fn tail(&self) -> String {
        tail(&self.output.text())
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its successful end and gives its standard output.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> String {
    Program::start(command).succeed(limit).output
}

/// Sends a signal to a process that a test has started.
pub fn send_signal(process: u32, signal: &str) {
    // The shell's own `kill`: a program of that name need not be installed.
    let status = Command::new("sh").args(["-c", &format!("kill -{signal} {process}")]).status().unwrap();
    assert!(status.success(), "kill -{signal} {process}");
}

/// The last lines of a long text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The CPU time that a process has used so far, as the kernel counts it: in hundredths of a second.
pub fn cpu_time(process: u32) -> std::time::Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything: state is the first, utime and stime the 12th and 13th.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    std::time::Duration::from_millis(ticks * 10)
}
