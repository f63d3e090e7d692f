//! Servers under test: the binary that cargo built, on a free loopback port, with a temporary data folder.
//!
//! Out: a [`Server`] that is ready for queries. Invariant: no server outlives the test process: one's own is killed when
//! it goes out of scope; the shared one hangs on a pipe from this process. Deliberately absent: any SQL.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The longest that a server may take to become ready.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Runs a command until it ends or the pipe on standard input closes; then stops it, gently first, and removes its data.
const TIED_TO_STDIN: &str = r#"
data=$1; shift
exec 3<&0
"$@" </dev/null 3<&- & pid=$!
( while read -r line <&3; do :; done; kill -TERM $pid; sleep 5; kill -KILL $pid ) 2>/dev/null & watcher=$!
exec 3<&-
wait $pid; code=$?
kill $watcher 2>/dev/null
rm -rf "$data"
exit $code
"#;

/// The binary under test: `SQUILLA_BIN`, else the one that lies in the release folder beside this test binary.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SQUILLA_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("squilla");
    assert!(path.exists(), "{} is missing: run cargo build --release first", path.display());
    path
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A command of the binary with the environment that tests run in.
pub fn squilla(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env("SQUILLA_FIXTURES", repository().join("tests/fixtures")).env("TZ", "UTC");
    command
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where it listens: loopback, but for some workers.
    host: String,
    /// Port of the PostgreSQL protocol, or of a worker.
    pub port: u16,
    log: PathBuf,
    _data: Option<TempDir>,
}

impl Server {
    /// Starts a server of one's own with additional arguments.
    pub fn start(arguments: &[&str]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let port = free_port();
        let log = data.path().join("server.log");
        let child = serve(port, data.path(), arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Server::new(child, port, log, Some(data)).ready()
    }

    /// Starts a worker of one's own with additional arguments.
    pub fn worker(arguments: &[&str]) -> Server {
        Server::worker_behind("exec \"$@\"", "127.0.0.1", arguments)
    }

    /// Starts a worker behind a script of the shell, which is given its spill directory as $0 and its command as arguments,
    /// and becomes it.
    pub fn worker_behind(script: &str, host: &str, arguments: &[&str]) -> Server {
        let port = free_port();
        Server::worker_at(port, script, host, arguments)
    }

    /// The same on this port.
    pub fn worker_at(port: u16, script: &str, host: &str, arguments: &[&str]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let log = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        let inner = squilla(&["worker", "--listen", &format!("{host}:{port}"), "--spill-dir"]);
        let mut command = Command::new("/bin/sh");
        command.args(["-ec", script]).arg(data.path()).arg(inner.get_program()).args(inner.get_args()).arg(data.path()).args(arguments);
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Server { child, host: host.to_owned(), port, log, _data: Some(data) }.ready()
    }

    /// Starts a server of one's own on a data folder that the caller keeps.
    pub fn start_on(data: &Path, arguments: &[&str]) -> Server {
        let port = free_port();
        let log = data.join("server.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let child = serve(port, data, arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().unwrap();
        Server::new(child, port, log, None).ready()
    }

    /// The same behind another program, which is given the data folder and the command and becomes it.
    pub fn start_behind(program: &[&str], data: &Path, arguments: &[&str]) -> Server {
        let port = free_port();
        let log = data.with_extension("log");
        let inner = serve(port, data, arguments);
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).arg(data).arg(inner.get_program()).args(inner.get_args());
        for (key, value) in inner.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        Server::new(child, port, log, None).ready()
    }

    fn new(child: Child, port: u16, log: PathBuf, data: Option<TempDir>) -> Server {
        Server { child, host: "127.0.0.1".into(), port, log, _data: data }
    }

    /// `host:port`
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn ready(mut self) -> Server {
        let deadline = Instant::now() + START_TIME_MAX;
        while std::net::TcpStream::connect((self.host.as_str(), self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", self.log_text());
            assert!(Instant::now() < deadline, "the server is not ready after {START_TIME_MAX:?}:\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(50));
        }
        self
    }

    /// Connection string for a user of tests.
    pub fn config(&self) -> String {
        format!("host=127.0.0.1 port={} user=tester dbname=squilla", self.port)
    }

    /// What the server has logged.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().unwrap().success());
    }

    /// Waits for the process to end.
    pub fn wait(&mut self, at_most: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Resident memory of the process in bytes, now.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(port: u16, data: &Path, arguments: &[&str]) -> Command {
    let mut command = squilla(&["serve", "--listen", &format!("127.0.0.1:{port}"), "--data-dir"]);
    command.arg(data).args(arguments);
    if !arguments.contains(&"--http-listen") {
        command.args(["--http-listen", "off"]);
    }
    command
}

/// Connection string of the server that all tests share: started at the first call, or named by SQUILLA_TEST_SERVER.
pub fn shared() -> String {
    static SHARED: OnceLock<Server> = OnceLock::new();
    if let Some(external) = external() {
        return external;
    }
    SHARED.get_or_init(start_shared).config()
}

/// The server named by SQUILLA_TEST_SERVER.
pub fn external() -> Option<String> {
    std::env::var("SQUILLA_TEST_SERVER").ok().filter(|s| !s.is_empty())
}

/// `WORKERS=n` gives the shared server that many workers and makes it use them for all that can leave it.
fn start_shared() -> Server {
    let workers: usize = std::env::var("WORKERS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let data = tempfile::tempdir().unwrap().keep();
    let port = free_port();
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shared-server.log");
    let ports: Vec<u16> = (0..workers).map(|_| free_port()).collect();
    let list = ports.iter().map(|p| format!("127.0.0.1:{p}")).collect::<Vec<_>>().join(",");
    for port in &ports {
        let data = tempfile::tempdir().unwrap().keep();
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("shared-worker-{port}.log"));
        let mut inner = squilla(&["worker", "--listen", &format!("127.0.0.1:{port}"), "--spill-dir"]);
        inner.arg(&data);
        // Ends with this process: the pipe closes. The handle is not needed any more.
        std::mem::forget(tied(&inner, &data, &log));
    }
    let arguments: &[&str] = if workers > 0 { &["--workers", &list, "--set", "squilla.distributed=on"] } else { &[] };
    let child = tied(&serve(port, &data, arguments), &data, &log);
    let server = Server::new(child, port, log, None).ready();
    let deadline = Instant::now() + START_TIME_MAX;
    while ports.iter().any(|p| std::net::TcpStream::connect(("127.0.0.1", *p)).is_err()) {
        assert!(Instant::now() < deadline, "the workers are not ready after {START_TIME_MAX:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// Starts a command that ends when this process does, and removes its data then.
fn tied(inner: &Command, data: &Path, log: &Path) -> Child {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", TIED_TO_STDIN, "sh"]).arg(data).arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        command.env(key, value.unwrap_or_default());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(std::fs::File::create(log).unwrap()).spawn().unwrap();
    child.stdin.as_mut().unwrap().flush().unwrap();
    child
}
