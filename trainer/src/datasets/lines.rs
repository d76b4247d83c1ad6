//! Lines of a text file, none of them longer than memory allows.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::DatasetError;

/// Longest line in bytes.
pub const LONGEST: u64 = 1 << 20;

/// An iterator over lines with their numbers, from 1 on. After an error it ends.
pub struct Lines<R> {
    path: PathBuf,
    input: BufReader<R>,
    line: u64,
    ended: bool,
}

impl Lines<File> {
    /// Of a file.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn open(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|source| DatasetError::File { path: path.to_path_buf(), source })?;
        Ok(Self::new(path, file))
    }
}

impl<R: Read> Lines<R> {
    /// Of whatever can be read; `path` is for messages.
    pub fn new(path: &Path, input: R) -> Self {
        Self { path: path.to_path_buf(), input: BufReader::new(input), line: 0, ended: false }
    }

    fn read(&mut self) -> Result<Option<String>, DatasetError> {
        let mut bytes = Vec::new();
        let failed = |source| DatasetError::File { path: self.path.clone(), source };
        let got = (&mut self.input).take(LONGEST + 1).read_until(b'\n', &mut bytes).map_err(failed)?;
        if got == 0 {
            return Ok(None);
        }
        self.line += 1;
        let wrong = |what| DatasetError::Line { path: self.path.clone(), line: self.line, what };
        if got as u64 > LONGEST {
            return Err(wrong(format!("it is longer than {LONGEST} bytes: this is no text with one record a line")));
        }
        let text = String::from_utf8(bytes).map_err(|error| wrong(format!("it is not UTF-8: {error}")))?;
        Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = Result<(u64, String), DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let line = self.read().transpose();
        self.ended = !matches!(line, Some(Ok(_)));
        line.map(|line| line.map(|text| (self.line, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_refused_by_its_number() {
        let endless = "good\n".bytes().chain(std::iter::repeat_n(b'x', LONGEST as usize + 10)).collect::<Vec<_>>();
        let mut lines = Lines::new(Path::new("f"), &endless[..]);
        assert_eq!(lines.next().unwrap().unwrap(), (1, "good".to_owned()));
        assert!(lines.next().unwrap().unwrap_err().to_string().contains("f, line 2: it is longer"));
        assert!(lines.next().is_none());
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let mut lines = Lines::new(Path::new("f"), &b"a\r\n\xff\n"[..]);
        assert_eq!(lines.next().unwrap().unwrap(), (1, "a".to_owned()));
        assert!(lines.next().unwrap().is_err());
    }
}
