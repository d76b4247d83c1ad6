//! ADFA-LD: an archive of folders, one trace a file, numbers of i386 calls separated by blanks.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zip::ZipArchive;

use super::{DatasetError, Origin, Trace};

/// Longest trace in bytes.
const LONGEST: u64 = 16 << 20;

/// Loads every trace, in the order of their names.
///
/// # Errors
///
/// When the archive is missing or damaged, or a trace holds something else than numbers of calls.
pub fn load(path: &Path) -> Result<Vec<Trace>, DatasetError> {
    let file = File::open(path).map_err(|source| DatasetError::File { path: path.to_path_buf(), source })?;
    let wrong =
        |what: String| DatasetError::Format { path: path.to_path_buf(), wanted: "the archive of ADFA-LD", what };
    let mut archive = ZipArchive::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut names: Vec<String> = archive.file_names().map(str::to_owned).collect();
    names.sort();
    let mut traces = Vec::new();
    for name in names {
        let Some(origin) = origin_of(&name) else { continue };
        let mut text = String::new();
        let entry = archive.by_name(&name).map_err(|error| wrong(format!("{name}: {error}")))?;
        let got = entry.take(LONGEST + 1).read_to_string(&mut text);
        let got = got.map_err(|error| wrong(format!("{name}: {error}")))?;
        if got as u64 > LONGEST {
            return Err(wrong(format!("{name} is longer than {LONGEST} bytes")));
        }
        let calls = text
            .split_ascii_whitespace()
            .map(|call| call.parse().map_err(|_| wrong(format!("{name}: {call:?} is no number of a call"))));
        traces.push(Trace { origin, calls: calls.collect::<Result<_, _>>()? });
    }
    if traces.is_empty() {
        return Err(wrong("there is no trace in it".to_owned()));
    }
    Ok(traces)
}

fn origin_of(name: &str) -> Option<Origin> {
    let mut parts = name.strip_suffix(".txt")?.rsplit('/');
    let (_, folder) = (parts.next()?, parts.next()?);
    match folder {
        "Training_Data_Master" => Some(Origin::Training),
        "Validation_Data_Master" => Some(Origin::Validation),
        // `Hydra_SSH_9` is the ninth run of one attack.
        run if parts.next() == Some("Attack_Data_Master") => {
            Some(Origin::Attack(run.rsplit_once('_').map_or(run, |(attack, _)| attack).to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut archive = ZipWriter::new(file.reopen().unwrap());
        for (name, text) in files {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
        file
    }

    #[test]
    fn folders_are_labels() {
        let file = archive(&[
            ("ADFA-LD/Training_Data_Master/UTD-1.txt", "6 6 63 "),
            ("ADFA-LD/Validation_Data_Master/UVD-1.txt", "3\n4"),
            ("ADFA-LD/Attack_Data_Master/Hydra_SSH_2/UAD-1.txt", "5"),
            ("ADFA-LD/ADFA-LD+Syscall+List.txt", "#define"),
        ]);
        let traces = load(file.path()).unwrap();
        assert_eq!(traces.len(), 3);
        assert_eq!(traces[0], Trace { origin: Origin::Attack("Hydra_SSH".into()), calls: vec![5] });
        assert_eq!(traces[1].calls, [6, 6, 63]);
    }

    #[test]
    fn other_archives_are_refused() {
        let refused = |file: &tempfile::NamedTempFile| load(file.path()).unwrap_err().to_string();
        assert!(refused(&archive(&[("a/b.txt", "1")])).contains("there is no trace in it"));
        let bad = archive(&[("ADFA-LD/Training_Data_Master/UTD-1.txt", "6 x")]);
        assert!(refused(&bad).contains("\"x\" is no number of a call"));
        let cut = archive(&[("ADFA-LD/Training_Data_Master/UTD-1.txt", "6 6")]);
        let bytes = std::fs::read(cut.path()).unwrap();
        std::fs::write(cut.path(), &bytes[..bytes.len() - 9]).unwrap();
        assert!(refused(&cut).contains("is not the archive of ADFA-LD"));
    }
}
