//! One Apache Kafka broker (KRaft, a single node) on loopback, as a child or as a process of its own.
//!
//! Also included by the collector's Kafka test, so it needs nothing but `std` and `anyhow`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Longest wait for the client port; it takes 2–4 s where the machine is idle.
const START: Duration = Duration::from_secs(60);

/// Where a broker lives: its jars, its directory and its two ports.
#[derive(Clone, Debug)]
pub struct Broker {
    libs: PathBuf,
    directory: PathBuf,
    port: u16,
    controller: u16,
}

impl Broker {
    /// Chooses free ports, writes the configuration and formats the storage below `directory`.
    ///
    /// # Errors
    /// No Java, no free port, or the storage cannot be formatted.
    pub fn prepare(libs: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let directory = directory.canonicalize().with_context(|| format!("find {}", directory.display()))?;
        let (first, second) = (free_port()?, free_port()?);
        let (port, controller) = (first.local_addr()?.port(), second.local_addr()?.port());
        drop((first, second));
        let broker = Self { libs: libs.to_owned(), directory, port, controller };
        fs::write(broker.properties(), broker.configuration()).context("write the broker's configuration")?;
        let output = broker
            .java(&["-Xmx128m"])
            .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(broker.properties())
            .output()
            .context("run java (Debian: apt-get install default-jre-headless)")?;
        if !output.status.success() {
            let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            bail!("the storage of the broker could not be formatted: {out}{error}");
        }
        Ok(broker)
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it and waits until clients can connect.
    ///
    /// # Errors
    /// It ends early or its port stays closed; its log is named.
    pub fn start(&self) -> Result<Child> {
        let log = self.directory.join("broker.log");
        let output =
            File::options().append(true).create(true).open(&log).with_context(|| format!("open {}", log.display()))?;
        let mut child = self
            .java(&["-Xms256m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("kafka.Kafka")
            .arg(self.properties())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("run java (Debian: apt-get install default-jre-headless)")?;
        let deadline = Instant::now() + START;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the broker ended with {status}; see {}", log.display());
            }
            if Instant::now() > deadline {
                child.kill().and_then(|()| child.wait())?;
                bail!("the broker's port {} stayed closed for {START:?}; see {}", self.port, log.display());
            }
            sleep(Duration::from_millis(100));
        }
        Ok(child)
    }

    /// A Java command with the jars on its class path; add the class and its arguments.
    pub fn java(&self, options: &[&str]) -> Command {
        let mut command = Command::new("java");
        command.args(options).arg("-cp").arg(self.libs.join("*")).current_dir(&self.directory);
        command
    }

    fn properties(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    fn configuration(&self) -> String {
        let Self { port, controller, directory, .. } = self;
        let data = directory.join("data").display().to_string();
        format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\n\
             log.dirs={data}\n\
             auto.create.topics.enable=false\n\
             offsets.topic.num.partitions=4\n\
             offsets.topic.replication.factor=1\n\
             transaction.state.log.num.partitions=4\n\
             transaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\n\
             share.coordinator.state.topic.num.partitions=1\n\
             group.initial.rebalance.delay.ms=0\n\
             group.min.session.timeout.ms=1000\n\
             # A broker that was killed may register again after two seconds, not nine.\n\
             broker.session.timeout.ms=2000\n\
             broker.heartbeat.interval.ms=500\n\
             log.cleaner.dedupe.buffer.size=16777216\n\
             log.cleaner.threads=1\n"
        )
    }
}

fn free_port() -> Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port on loopback")
}
