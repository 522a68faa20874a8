"""The brokers that are compared: how they are started, asked and stopped."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]

# Kafka's own defaults for a broker (bin/kafka-run-class.sh), with a larger heap.
KAFKA_JVM = (
    "-Xms2g -Xmx2g -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 "
    "-XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true"
)


class Peer:
    """A broker: how it is started, and the one that runs."""

    def __init__(self, name, command, port, options):
        self.name, self.command, self.port, self.options = name, command, port, options
        self.data = options.out / f"data-{name}"
        self.process = None
        self.cpus = [options.broker_cpu]
        self.settings = []  # NAME=VALUE, of brokers that are started from now on

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port}"

    def start(self):
        """Starts it and returns corelog-bench's timing of the start."""
        cpus = ",".join(map(str, self.cpus))
        command = ["taskset", "-c", cpus, *self.command, "--data-dir", str(self.data)]
        command += ["--listeners", f"PLAINTEXT://{self.bootstrap}", "--cores", f"{self.cpus[0]}-{self.cpus[-1]}"]
        for setting in self.settings:
            command += ["--set", setting]
        environment = dict(os.environ)
        environment.setdefault("KAFKA_JVM", KAFKA_JVM)
        log = self.options.out / f"{self.name}.log"
        full = [str(self.options.bench), "start", "--bootstrap", self.bootstrap, "--json", "-", "--log", str(log), "--patience", "600", "--"]
        done = subprocess.run(full + command, stdout=subprocess.PIPE, env=environment, cwd=SOURCE)
        if done.returncode != 0:
            sys.exit(f"{self.name} did not start; see {log}")
        started = json.loads(done.stdout)
        # The command may be a script that has the broker as its child.
        self.process = listening_process(self.port) or started["pid"]
        started["resident_mb"] = self.resident_mb()
        return started

    def empty(self):
        """Takes its data away; it does not run."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True)

    def stop(self):
        if self.process is None:
            return 0.0
        begun = time.monotonic()
        os.kill(self.process, signal.SIGTERM)
        self.wait_for_end(60)
        return time.monotonic() - begun

    def kill(self):
        """As a power cut would have it, but for the drive."""
        os.kill(self.process, signal.SIGKILL)
        self.wait_for_end(60)

    def wait_for_end(self, patience):
        """Until the process has ended and its port is free: the threads of one that is killed may outlive the first."""
        begun = time.monotonic()
        while running(self.process) or listening_inodes(self.port):
            if time.monotonic() - begun > patience and running(self.process):
                os.kill(self.process, signal.SIGKILL)
            if time.monotonic() - begun > 2 * patience:
                sys.exit(f"{self.name} has ended, but something listens at {self.bootstrap}")
            time.sleep(0.01)
        self.process = None

    def restart_on(self, cpu, cores):
        self.stop()
        first = min(cpu, os.cpu_count() - cores)
        self.cpus = list(range(first, first + cores))
        self.start()

    def command_of(self, command, topic, arguments):
        full = ["taskset", "-c", str(self.options.client_cpu), str(self.options.bench), command]
        full += ["--bootstrap", self.bootstrap, "--broker-pid", str(self.process), "--topic", topic, "--json", "-"]
        return full + [str(argument) for argument in arguments]

    def bench(self, command, topic, arguments):
        """Runs corelog-bench on the client's CPU and returns its JSON."""
        done = subprocess.run(self.command_of(command, topic, arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {command} {topic}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def timed(self, command, row, arguments, part=""):
        """A measurement of latencies: keeps their curve, and has the drive's flushes timed just before."""
        return self.bench(command, row, [*arguments, "--hdr", self.options.curve(row, self, part), "--data-dir", self.options.out])

    def bench_beside(self, command, topic, arguments):
        """Starts corelog-bench and lets it run."""
        command = self.command_of(command, topic, arguments)
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def topic(self, name, *arguments):
        """corelog-bench topic: creates, changes or deletes it. Milliseconds."""
        full = [str(self.options.bench), "topic", "--bootstrap", self.bootstrap, "--topic", name, "--json", "-", *map(str, arguments)]
        done = subprocess.run(full, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: topic {name}: {done.stderr.strip()}")
        return json.loads(done.stdout)["ms"]

    def set(self, name, value):
        """Gives an option of the broker another value while it runs."""
        full = [str(self.options.bench), "set", "--bootstrap", self.bootstrap, "--json", "-", f"{name}={value}"]
        subprocess.run(full, stdout=subprocess.PIPE, check=True)

    def delete(self, *topics):
        """Those that are there."""
        for topic in topics:
            self.topic(topic, "--delete")

    def cpu_seconds(self):
        """Of all its threads, in user and kernel space, since its start."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bytes_read(self):
        """From drives, by all its threads, since its start."""
        facts = dict(line.split(": ") for line in Path(f"/proc/{self.process}/io").read_text().splitlines())
        return int(facts["read_bytes"])

    def settle(self, patience=60):
        """Waits until it has nothing to do: a second in which it used less than a twentieth of a CPU."""
        begun = time.monotonic()
        while time.monotonic() - begun < patience:
            used = self.cpu_seconds()
            time.sleep(1)
            if self.cpu_seconds() - used < 0.05:
                return

    def resident_mb(self):
        status = Path(f"/proc/{self.process}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024 / 1e6


def running(process):
    try:
        # A child that has ended stays as a zombie until it is waited for; here init does that.
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listening_inodes(port):
    """The sockets that listen at a port."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    return inodes


def listening_process(port):
    """Which process listens at a port, by the sockets in /proc."""
    inodes = listening_inodes(port)
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            for descriptor in os.scandir(f"/proc/{process}/fd"):
                if os.readlink(descriptor.path) in inodes:
                    return int(process)
        except OSError:
            continue
    return None


def drop_cache():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def may_drop_cache():
    return os.access("/proc/sys/vm/drop_caches", os.W_OK)


def add_broker_options(parser, out):
    """What every comparison has to be told."""
    parser.add_argument("--peers", default="corelog,kafka")
    parser.add_argument("--broker-cpu", type=int, help="default: the one that the drive of DIR interrupts, if it is one")
    parser.add_argument("--client-cpu", type=int, help="default: the last of the others")
    parser.add_argument("--port", type=int, default=19092, help="of the first broker; others follow 100 apart")
    parser.add_argument("--bench", type=Path, default=SOURCE / "target/release/corelog-bench")
    parser.add_argument("--out", type=Path, default=SOURCE / out, metavar="DIR")
    parser.add_argument("--write-doc", action="store_true", help="put the tables into docs/performance.md")


def interrupted_cpu(path):
    """The CPU that takes all interrupts of the drive under `path`; None when there are several, or none can be told.

    A flush is complete when a thread of the kernel on that CPU has run. Where a client keeps it busy, each flush waits for
    the client: for milliseconds, and on a machine of two CPUs at every write.
    """
    device = os.stat(path).st_dev
    drive = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    drive = drive if (drive / "device").exists() else drive.parent
    name = (drive / "device").resolve().name
    lines = [line.split() for line in Path("/proc/interrupts").read_text().splitlines()[1:]]
    queues = [line for line in lines if re.match(re.escape(name) + r"(-req|q[1-9])", line[-1])]
    if len(queues) != 1:
        return None
    counts = [int(count) for count in queues[0][1:] if count.isdigit()][: os.cpu_count()]
    return counts.index(max(counts))


def choose_cpus(options):
    """One for the broker, another for the client, where nothing was said."""
    cpus = sorted(os.sched_getaffinity(0))
    if options.broker_cpu is None:
        interrupted = interrupted_cpu(options.out)
        options.broker_cpu = interrupted if interrupted in cpus and interrupted != options.client_cpu else cpus[0]
    if options.client_cpu is None:
        options.client_cpu = [cpu for cpu in cpus if cpu != options.broker_cpu or len(cpus) == 1][-1]


def peers_of(options):
    """The brokers that were asked for."""
    choose_cpus(options)
    commands = {
        "corelog": shlex.split(os.environ.get("COMPARE_CORELOG", str(SOURCE / "target/release/corelog") + " serve")),
        "kafka": shlex.split(os.environ.get("COMPARE_KAFKA", str(SOURCE / "scripts/kafka") + " serve")),
    }
    names = options.peers.split(",")
    for needed in [options.bench] + ([Path(commands["corelog"][0])] if "corelog" in names else []):
        if not needed.exists():
            sys.exit(f"{needed} is missing: cargo build --release")
    return [Peer(name, commands[name], options.port + 100 * index, options) for index, name in enumerate(names)]


def say(text):
    print(text, file=sys.stderr, flush=True)


def write_document(by, text):
    """Puts the tables of the script `by` between its markers in docs/performance.md."""
    path = SOURCE / "docs/performance.md"
    begin, end = f"<!-- written by {by} -->", "<!-- end -->"
    before, rest = path.read_text().split(begin, 1)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{rest.split(end, 1)[1]}")
