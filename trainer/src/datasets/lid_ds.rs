//! LID-DS: recordings of scenarios as lines of Sysdig.
//!
//! 2019: `runs.csv` names the recordings, `NAME.txt` holds `number time cpu uid process thread direction call arguments`.
//! 2021: `NAME.zip` holds `NAME.sc` with `time uid pid process thread call direction arguments` and `NAME.json`, in the
//! folders `training`, `validation`, `test/normal` and `test/normal_and_attack`. Only entries of calls (`>`) are taken.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zip::ZipArchive;

use super::{DatasetError, Lines};

/// Edition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Year {
    /// 2019.
    Y2019,
    /// 2021.
    Y2021,
}

/// A call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// Seconds: since 1970 in 2021, of the day in 2019.
    pub at: f64,
    /// Process.
    pub process: String,
    /// Thread.
    pub thread: u64,
    /// Name.
    pub name: String,
}

/// A recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Name.
    pub name: String,
    /// Folder below the scenario (2021), empty in 2019.
    pub part: String,
    /// Seconds after its beginning (2019) or since 1970 (2021) at which the exploit runs; `None` when none does.
    pub exploit: Option<f64>,
    file: PathBuf,
    year: Year,
}

/// The recordings of a scenario, by name.
///
/// # Errors
///
/// When the scenario's index is missing or damaged.
pub fn recordings(scenario: &Path, year: Year) -> Result<Vec<Recording>, DatasetError> {
    match year {
        Year::Y2019 => of_2019(scenario),
        Year::Y2021 => of_2021(scenario),
    }
}

fn of_2019(scenario: &Path) -> Result<Vec<Recording>, DatasetError> {
    let path = scenario.join("runs.csv");
    let mut columns: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for line in Lines::open(&path)? {
        let (line, text) = line?;
        let fields: Vec<&str> = text.split(',').map(str::trim).collect();
        if columns.is_empty() {
            columns = fields.into_iter().map(str::to_owned).collect();
            continue;
        }
        if text.trim().is_empty() {
            continue;
        }
        let row: BTreeMap<&str, &str> = columns.iter().map(String::as_str).zip(fields).collect();
        let wrong = |what: &str| DatasetError::Line { path: path.clone(), line, what: what.to_owned() };
        let name = row.get("scenario_name").ok_or_else(|| wrong("it has no scenario_name"))?;
        let attacked = row.get("is_executing_exploit").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let start = row.get("exploit_start_time").and_then(|value| value.parse().ok());
        if attacked && start.is_none() {
            return Err(wrong("the exploit has no exploit_start_time"));
        }
        found.push(Recording {
            name: (*name).to_owned(),
            part: String::new(),
            exploit: start.filter(|_| attacked),
            file: scenario.join(format!("{name}.txt")),
            year: Year::Y2019,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn of_2021(scenario: &Path) -> Result<Vec<Recording>, DatasetError> {
    let mut found = Vec::new();
    for part in ["training", "validation", "test/normal", "test/normal_and_attack"] {
        let folder = scenario.join(part);
        let failed = |source| DatasetError::File { path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_none_or(|extension| extension != "zip") {
                continue;
            }
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let exploit = exploit_of(&file, &name)?;
            found.push(Recording { name, part: part.to_owned(), exploit, file, year: Year::Y2021 });
        }
    }
    found.sort_by(|a, b| (&a.part, &a.name).cmp(&(&b.part, &b.name)));
    Ok(found)
}

fn entry(file: &Path, name: &str) -> Result<Box<dyn Read>, DatasetError> {
    let wrong =
        |what: String| DatasetError::Format { path: file.to_path_buf(), wanted: "a recording of LID-DS 2021", what };
    let opened = File::open(file).map_err(|source| DatasetError::File { path: file.to_path_buf(), source })?;
    let mut archive = ZipArchive::new(opened).map_err(|error| wrong(error.to_string()))?;
    let mut bytes = Vec::new();
    let mut entry = archive.by_name(name).map_err(|error| wrong(format!("{name}: {error}")))?;
    entry.read_to_end(&mut bytes).map_err(|error| wrong(format!("{name}: {error}")))?;
    Ok(Box::new(std::io::Cursor::new(bytes)))
}

/// Python wrote some of these with single quotes.
fn exploit_of(file: &Path, name: &str) -> Result<Option<f64>, DatasetError> {
    let wrong =
        |what: String| DatasetError::Format { path: file.to_path_buf(), wanted: "a recording of LID-DS 2021", what };
    let mut text = String::new();
    entry(file, &format!("{name}.json"))?.read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let said: Value = serde_json::from_str(&text)
        .or_else(|_| serde_json::from_str(&text.replace('\'', "\"")))
        .map_err(|error| wrong(format!("{name}.json: {error}")))?;
    if said["exploit"] != Value::Bool(true) {
        return Ok(None);
    }
    let at = said["time"]["exploit"][0]["absolute"].as_f64();
    at.map(Some).ok_or_else(|| wrong(format!("{name}.json says exploit, but not when")))
}

impl Recording {
    /// Its calls, in order.
    ///
    /// # Errors
    ///
    /// Names the line that is no call.
    pub fn calls(&self) -> Result<Vec<Call>, DatasetError> {
        let input: Box<dyn Read> = match self.year {
            Year::Y2019 => {
                let failed = |source| DatasetError::File { path: self.file.clone(), source };
                Box::new(File::open(&self.file).map_err(failed)?)
            }
            Year::Y2021 => entry(&self.file, &format!("{}.sc", self.name))?,
        };
        let mut calls = Vec::new();
        for line in Lines::new(&self.file, input) {
            let (line, text) = line?;
            if text.trim().is_empty() {
                continue;
            }
            let wrong = || DatasetError::Line { path: self.file.clone(), line, what: format!("{text:?} is no call") };
            if let Some(call) = parsed(self.year, &text).ok_or_else(wrong)? {
                calls.push(call);
            }
        }
        Ok(calls)
    }
}

/// `None` for what is no line of that edition, `Some(None)` for the end of a call.
fn parsed(year: Year, line: &str) -> Option<Option<Call>> {
    let fields: Vec<&str> = line.split(' ').collect();
    let (at, process, thread, direction, name) = match year {
        Year::Y2019 => (clock(fields.get(1)?)?, fields.get(4)?, fields.get(5)?, fields.get(6)?, fields.get(7)?),
        Year::Y2021 => {
            let at = fields.first()?.parse::<u64>().ok()? as f64 / 1e9;
            (at, fields.get(3)?, fields.get(4)?, fields.get(6)?, fields.get(5)?)
        }
    };
    let thread = thread.parse().ok()?;
    match *direction {
        ">" => Some(Some(Call { at, process: (*process).to_owned(), thread, name: (*name).to_owned() })),
        "<" => Some(None),
        _ => None,
    }
}

/// `13:14:15.123456789` in seconds of the day.
fn clock(text: &str) -> Option<f64> {
    let mut parts = text.split(':');
    let (hours, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    Some(hours.parse::<f64>().ok()? * 3600.0 + minutes.parse::<f64>().ok()? * 60.0 + seconds.parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn recordings_of_2019_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let runs = "image_name, scenario_name, is_executing_exploit, warmup_time, recording_time, exploit_start_time\n\
                    mysql, calm_one, False, 10, 30, -1\nmysql, loud_two, True, 10, 30, 12\n";
        std::fs::write(folder.path().join("runs.csv"), runs).unwrap();
        let lines = "1 00:01:02.500000000 3 999 mysqld 77 > open flags=1\n2 00:01:02.6 3 999 mysqld 77 < open fd=3\n";
        std::fs::write(folder.path().join("loud_two.txt"), lines).unwrap();
        let found = recordings(folder.path(), Year::Y2019).unwrap();
        assert_eq!(found.iter().map(|recording| recording.exploit).collect::<Vec<_>>(), [None, Some(12.0)]);
        let calls = found[1].calls().unwrap();
        assert_eq!(calls, [Call { at: 62.5, process: "mysqld".into(), thread: 77, name: "open".into() }]);
        std::fs::write(folder.path().join("loud_two.txt"), "nonsense\n").unwrap();
        assert!(found[1].calls().unwrap_err().to_string().contains("line 1: \"nonsense\" is no call"));
    }

    #[test]
    fn recordings_of_2021_are_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("test/normal_and_attack")).unwrap();
        let path = folder.path().join("test/normal_and_attack/grim_fox.zip");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        archive.start_file("grim_fox.sc", options).unwrap();
        archive
            .write_all(
                b"1631209047761929000 0 5 apache2 6 close > fd=3\n1631209047761929001 0 5 apache2 6 close < res=0\n",
            )
            .unwrap();
        archive.start_file("grim_fox.json", options).unwrap();
        archive.write_all(b"{'exploit': true, 'time': {'exploit': [{'absolute': 1631209050.5}]}}").unwrap();
        archive.finish().unwrap();
        let found = recordings(folder.path(), Year::Y2021).unwrap();
        assert_eq!(
            (found.len(), found[0].exploit, found[0].part.as_str()),
            (1, Some(1_631_209_050.5), "test/normal_and_attack")
        );
        let calls = found[0].calls().unwrap();
        assert_eq!((calls.len(), calls[0].thread, calls[0].name.as_str()), (1, 6, "close"));
    }
}
