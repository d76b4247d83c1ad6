//! `cargo xtask kafka up | down | status | libs`: a real broker for development and tests.
//!
//! The jars come from Maven Central into the user's cache, once. What runs is written to a state file beside them, so that
//! `down` ends the process that `up` started and no other.

pub mod broker;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

pub use broker::Broker;

/// The Kafka release that is fetched.
pub const VERSION: &str = "4.4.0";

/// What can be done with the broker.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum KafkaCommand {
    /// Start a broker on loopback and print its address
    Up,
    /// Stop the broker that `up` started and delete its data
    Down,
    /// Say whether it runs and where
    Status,
    /// Fetch the jars and print their directory (STOCKADE_KAFKA_LIBS for the tests)
    Libs,
}

/// A broker that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Its process.
    pub pid: u32,
    /// Start of the process in clock ticks since boot: with the pid it is unique.
    pub started: u64,
    /// `host:port` for clients.
    pub address: String,
    /// Its configuration, log and data.
    pub directory: PathBuf,
}

/// Runs a command.
///
/// # Errors
/// As the function of the command.
pub fn run(command: KafkaCommand) -> Result<()> {
    match command {
        KafkaCommand::Up => {
            let state = up()?;
            println!("{} pid {}; stop it with: cargo xtask kafka down", state.address, state.pid);
        }
        KafkaCommand::Down => match down()? {
            Some(state) => println!("stopped the broker {} pid {}", state.address, state.pid),
            None => println!("no broker is running"),
        },
        KafkaCommand::Status => match status()? {
            Some(state) => println!("{} pid {} in {}", state.address, state.pid, state.directory.display()),
            None => println!("no broker is running"),
        },
        KafkaCommand::Libs => println!("{}", libs()?.display()),
    }
    Ok(())
}

/// Starts a broker, or finds the one that runs.
///
/// # Errors
/// The jars cannot be fetched or the broker does not start.
pub fn up() -> Result<State> {
    if let Some(state) = status()? {
        return Ok(state);
    }
    let libs = libs()?;
    let directory = cache()?.join("broker");
    remove(&directory)?;
    let broker = Broker::prepare(&libs, &directory)?;
    let child = broker.start()?;
    let started = start_of(child.id()).context("the broker ended as soon as it had started; see its broker.log")?;
    let state = State { pid: child.id(), started, address: broker.address(), directory };
    fs::write(state_file()?, serde_json::to_vec_pretty(&state)?).context("write the state of the broker")?;
    Ok(state)
}

/// Ends the broker that [`up`] started and deletes its data; none when there is none.
///
/// # Errors
/// It cannot be ended.
pub fn down() -> Result<Option<State>> {
    let Some(state) = status()? else { return Ok(None) };
    signal(&state, "-TERM")?;
    let deadline = Instant::now() + Duration::from_secs(15);
    while is_running(&state) {
        if Instant::now() > deadline {
            signal(&state, "-KILL")?;
        }
        sleep(Duration::from_millis(100));
    }
    fs::remove_file(state_file()?).context("delete the state of the broker")?;
    remove(&state.directory)?;
    Ok(Some(state))
}

/// The broker that runs, if one does.
///
/// # Errors
/// The state file cannot be read.
pub fn status() -> Result<Option<State>> {
    let path = state_file()?;
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let state: State =
        serde_json::from_slice(&text).with_context(|| format!("{} is damaged: delete it", path.display()))?;
    Ok(is_running(&state).then_some(state))
}

/// The directory of the jars, fetched when they are not there.
///
/// # Errors
/// Java 17 or Maven is missing, or Maven fails.
pub fn libs() -> Result<PathBuf> {
    let cache = cache()?;
    let (libs, done) = (cache.join("libs"), cache.join("libs.complete"));
    require_java()?;
    if done.exists() {
        return Ok(libs);
    }
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let pom = cache.join("pom.xml");
    fs::write(&pom, POM.replace("VERSION", VERSION)).with_context(|| format!("write {}", pom.display()))?;
    eprintln!("fetching Apache Kafka {VERSION} (44 MB) into {}", libs.display());
    let status = Command::new("mvn")
        .args(["-B", "-q", "-Dstyle.color=never", "dependency:copy-dependencies", "-DincludeScope=runtime", "-f"])
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", libs.display()))
        // `kafka libs` prints the directory and nothing else.
        .stdout(std::io::stderr())
        .status()
        .context("run mvn to fetch the broker's jars (Debian: apt-get install maven default-jre-headless)")?;
    if !status.success() {
        bail!("mvn could not fetch Apache Kafka {VERSION}: {status}; is Maven Central or a mirror within reach?");
    }
    fs::write(&done, VERSION).with_context(|| format!("write {}", done.display()))?;
    Ok(libs)
}

const POM: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>stockade</groupId>
  <artifactId>broker</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>VERSION</version>
    </dependency>
    <!-- The console consumer; without the exclusion it brings Connect and Jetty. -->
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka-tools</artifactId>
      <version>VERSION</version>
      <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions>
    </dependency>
  </dependencies>
</project>
"#;

fn require_java() -> Result<()> {
    let output = Command::new("java")
        .arg("-version")
        .output()
        .context("run java: the broker needs Java 17 or newer (Debian: apt-get install default-jre-headless)")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    match java_major(&text) {
        Some(major) if major >= 17 => Ok(()),
        _ => {
            bail!("the broker needs Java 17 or newer; java -version says: {}", text.lines().next().unwrap_or("nothing"))
        }
    }
}

/// `openjdk version "17.0.15" 2025-04-15` → 17.
fn java_major(text: &str) -> Option<u32> {
    text.split('"').nth(1)?.split(['.', '-', '+']).next()?.parse().ok()
}

fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => {
            PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache")
        }
    };
    Ok(base.join("stockade").join(format!("kafka-{VERSION}")))
}

fn state_file() -> Result<PathBuf> {
    Ok(cache()?.join("broker.json"))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn signal(state: &State, signal: &str) -> Result<()> {
    if is_running(state) {
        Command::new("kill").args([signal, &state.pid.to_string()]).status().context("run kill")?;
    }
    Ok(())
}

/// The pid may belong to somebody else by now: the start time tells.
fn is_running(state: &State) -> bool {
    start_of(state.pid) == Some(state.started)
}

fn start_of(pid: u32) -> Option<u64> {
    parse_start(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Field 22 of `/proc/pid/stat`; none for a zombie. The name in field 2 may hold spaces and brackets.
fn parse_start(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if *fields.first()? == "Z" { None } else { fields.get(19)?.parse().ok() }
}

/// Whether the jars are there.
pub fn are_there() -> bool {
    cache().is_ok_and(|cache| cache.join("libs.complete").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987 0 0";
        assert_eq!(parse_start(stat), Some(987));
        assert_eq!(parse_start(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_start("garbage"), None);
        assert!(start_of(std::process::id()).is_some());
    }

    #[test]
    fn java_says_its_version_in_several_ways() {
        assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15"), Some(17));
        assert_eq!(java_major("openjdk version \"21-ea\" 2023"), Some(21));
        assert_eq!(java_major("java version \"1.8.0_301\""), Some(1));
        assert_eq!(java_major(""), None);
    }
}
