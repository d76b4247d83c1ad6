//! One JSON object a line, to a file that rotates by size or to standard output.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Kind, Message, PerKind, Report, Sink, SinkError, ocsf};

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinesConfig {
    /// A file, or `-` for standard output.
    pub path: PathBuf,
    /// The file is renamed to `<path>.1` before it grows beyond this many bytes; 0 = never.
    #[serde(default = "default_max_bytes")]
    pub max_bytes: u64,
    /// Rotated files that are kept.
    #[serde(default = "default_keep")]
    pub keep: u32,
    /// Health reports too (only in the native encoding).
    #[serde(default)]
    pub health: bool,
}

fn default_max_bytes() -> u64 {
    64 << 20
}

fn default_keep() -> u32 {
    4
}

impl LinesConfig {
    /// For the status: the path, or `stdout`.
    pub fn target(&self) -> String {
        if self.to_stdout() { "stdout".to_owned() } else { self.path.display().to_string() }
    }

    fn to_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }
}

/// How a message becomes a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Stockade's own structs.
    #[default]
    Native,
    /// OCSF 1.8.0.
    Ocsf,
}

/// Stockade's own form of a message: `{"schema":"stockade.findings.v1","host":…,"change":…,"finding":…}`.
///
/// # Errors
/// It cannot be serialised.
pub fn native(host: &str, message: &Message) -> Result<Value, serde_json::Error> {
    Ok(match message {
        Message::Finding(change, finding) => {
            json!({"schema": "stockade.findings.v1", "host": host, "change": change, "finding": finding.as_ref()})
        }
        Message::Decision(change, decision) => {
            json!({"schema": "stockade.decisions.v1", "host": host, "change": change, "id": decision.short(), "decision": decision.as_ref()})
        }
        Message::Health(report) => json!({"schema": "stockade.health.v1", "host": host, "health": report.as_ref()}),
        Message::Event(event) => {
            let schema =
                message.kind().map_or("stockade.events.v1".to_owned(), |kind| format!("stockade.{}.v1", kind.name()));
            json!({"schema": schema, "host": host, "event": event.as_ref()})
        }
    })
}

/// JSON that is also safe to look at: characters that move a cursor, colour or reverse a terminal are written `\uXXXX`.
pub fn safe_text(value: &Value) -> String {
    let text = value.to_string();
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        // Outside strings JSON is ASCII without control characters, so an escape can only land inside a string.
        match character {
            '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}' => {
                safe.push_str(&format!("\\u{:04x}", character as u32));
            }
            other => safe.push(other),
        }
    }
    safe
}

/// The sink.
pub struct Lines {
    config: LinesConfig,
    encoding: Encoding,
    host: Arc<str>,
    out: Out,
    sent: PerKind,
}

enum Out {
    Stdout,
    File { file: File, length: u64 },
}

impl Lines {
    /// Opens the file for appending; its directory is made when missing.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(config: LinesConfig, encoding: Encoding, host: Arc<str>) -> Result<Self, SinkError> {
        let out = if config.to_stdout() { Out::Stdout } else { open(&config.path)? };
        Ok(Self { config, encoding, host, out, sent: PerKind::default() })
    }

    fn encode(&self, message: &Message) -> Result<Option<Value>, serde_json::Error> {
        match (self.encoding, message) {
            (Encoding::Native, _) => native(&self.host, message).map(Some),
            (Encoding::Ocsf, Message::Finding(change, finding)) => Ok(Some(ocsf::finding(*change, finding))),
            (Encoding::Ocsf, Message::Decision(change, decision)) => Ok(ocsf::decision(*change, decision, &self.host)),
            (Encoding::Ocsf, _) => Ok(None),
        }
    }

    fn write(&mut self, line: &[u8]) -> Result<(), SinkError> {
        let failed = |source| SinkError::Io { action: "append to", path: self.config.target(), source };
        match &mut self.out {
            Out::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line).and_then(|()| stdout.flush()).map_err(failed)
            }
            Out::File { file, length } => {
                if self.config.max_bytes > 0 && *length > 0 && *length + line.len() as u64 > self.config.max_bytes {
                    rotate(&self.config)?;
                    self.out = open(&self.config.path)?;
                    return self.write(line);
                }
                *length += line.len() as u64;
                file.write_all(line).map_err(failed)
            }
        }
    }
}

impl Sink for Lines {
    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Decision | Kind::Finding => true,
            Kind::Health => self.config.health && self.encoding == Encoding::Native,
            Kind::Flow | Kind::Window => false,
        }
    }

    fn deliver(&mut self, kind: Kind, message: &Message) -> Result<(), SinkError> {
        let Some(value) = self.encode(message)? else { return Ok(()) };
        let mut line = safe_text(&value);
        line.push('\n');
        // One write a line: a reader never sees half of one, and a killed agent leaves whole lines.
        self.write(line.as_bytes())?;
        self.sent.add(kind, 1);
        Ok(())
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn close(&mut self, _patience: Duration) -> Result<(), SinkError> {
        match &self.out {
            Out::Stdout => Ok(()),
            Out::File { file, .. } => {
                file.sync_data().map_err(|source| SinkError::Io { action: "sync", path: self.config.target(), source })
            }
        }
    }

    fn report(&self) -> Report {
        Report { sent: self.sent, ..Report::default() }
    }
}

fn open(path: &Path) -> Result<Out, SinkError> {
    let failed = |source| SinkError::Io { action: "open", path: path.display().to_string(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    Ok(Out::File { file, length })
}

/// `path.3` goes, `path.2` becomes `path.3`, …, `path` becomes `path.1`.
fn rotate(config: &LinesConfig) -> Result<(), SinkError> {
    let numbered = |number: u32| {
        let mut name = config.path.clone().into_os_string();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let failed = |source| SinkError::Io { action: "rotate", path: config.target(), source };
    if config.keep == 0 {
        return fs::remove_file(&config.path).map_err(failed);
    }
    for number in (1..config.keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    fs::rename(&config.path, numbered(1)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::Change;
    use crate::sinks::tests_support::{decision, finding};

    fn config(text: &str) -> Result<LinesConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_file_rotates_before_it_is_too_long_and_keeps_so_many() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sub/findings.json");
        let config = LinesConfig { path: path.clone(), max_bytes: 3000, keep: 2, health: false };
        let mut lines = Lines::open(config, Encoding::Native, "h".into()).unwrap();
        for _ in 0..20 {
            lines.deliver(Kind::Finding, &Message::Finding(Change::Created, finding())).unwrap();
        }
        lines.close(Duration::ZERO).unwrap();
        assert_eq!(lines.report().sent.get(Kind::Finding), 20);
        let mut names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["findings.json", "findings.json.1", "findings.json.2"]);
        for name in names {
            let text = fs::read_to_string(path.with_file_name(name)).unwrap();
            assert!(text.len() <= 3000 && text.ends_with('\n'));
            for line in text.lines() {
                let value: Value = serde_json::from_str(line).unwrap();
                assert_eq!((&value["schema"], &value["change"]), (&json!("stockade.findings.v1"), &json!("created")));
            }
        }
    }

    #[test]
    fn an_open_file_is_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let config = LinesConfig { path: directory.path().join("f"), max_bytes: 0, keep: 0, health: false };
        for _ in 0..2 {
            let mut lines = Lines::open(config.clone(), Encoding::Ocsf, "h".into()).unwrap();
            lines.deliver(Kind::Decision, &Message::Decision(Change::Created, decision())).unwrap();
        }
        assert_eq!(fs::read_to_string(&config.path).unwrap().lines().count(), 2);
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(config("path = \"-\"").is_ok_and(|config| config.target() == "stdout"));
        assert!(config("path = \"-\"\nkep = 3").unwrap_err().to_string().contains("kep"));
    }
}
