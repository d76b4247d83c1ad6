//! `cargo xtask notebooks`: installs what the notebooks need, makes their data, runs them. Fails when one of them does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use clap::Args;

use crate::{must, run, told};

/// On which data.
#[derive(Args)]
pub struct Options {
    /// Journals with labels, HOST/cycle-NN.parquet and .toml; the recorded corpus without.
    #[arg(long, value_name = "DIR")]
    journals: Option<PathBuf>,
    /// Take verdicts.parquet and scorecard.json as they lie in target/notebooks.
    #[arg(long)]
    keep_data: bool,
}

impl Options {
    /// Over journals that lie beside their labels.
    pub fn of(journals: PathBuf) -> Self {
        Self { journals: Some(journals), keep_data: false }
    }
}

/// Runs one. Between here and its kernel are sockets in the file system: over TCP anybody on the machine could listen, and
/// the kernel warns of it.
const RUN: &str = "\
import sys, nbformat, nbclient
from traitlets.config import Config
book = nbformat.read(sys.argv[1], 4)
config = Config({'KernelManager': {'transport': 'ipc'}})
nbclient.NotebookClient(book, timeout=600, config=config).execute()
nbformat.write(book, sys.argv[2])
";

/// Why notebooks cannot run here.
pub fn missing() -> Option<String> {
    let has_venv = told(Command::new("python3").args(["-c", "import venv, ensurepip"])).is_some();
    (!has_venv).then(|| "there is no python3 with venv: `apt-get install python3-venv`".to_owned())
}

/// Runs every notebook.
///
/// # Errors
/// The environment cannot be made, or a notebook fails.
pub fn notebooks(root: &Path, options: &Options) -> anyhow::Result<()> {
    let target = run::target(root)?;
    let out = target.join("notebooks");
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let python = environment(root, &out)?;
    if !options.keep_data {
        data(root, &target, &out, options.journals.as_deref())?;
    }
    let folder = root.join("notebooks");
    let mut names: Vec<PathBuf> = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "ipynb"));
    names.sort();
    // The path of a socket must be short, and nothing of a run is to be left at home.
    let sockets = std::env::temp_dir().join(format!("stockade-notebooks-{}", std::process::id()));
    for path in names {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        has_no_outputs(&path)?;
        println!("notebook {name}");
        let mut command = Command::new(&python);
        command.current_dir(&folder).args(["-c", RUN]).arg(&path).arg(out.join(&name));
        command.env("STOCKADE_NOTEBOOK_DATA", &out).env("JUPYTER_RUNTIME_DIR", &sockets).env_remove("MPLBACKEND");
        must(&mut command).with_context(|| format!("{name} does not run"))?;
    }
    let _ = std::fs::remove_dir_all(&sockets);
    Ok(())
}

/// The interpreter of the pinned environment.
fn environment(root: &Path, out: &Path) -> anyhow::Result<PathBuf> {
    let wanted = root.join("notebooks/requirements.txt");
    let pinned = std::fs::read_to_string(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    let (venv, done) = (out.join("venv"), out.join("venv/installed.txt"));
    let python = venv.join("bin/python");
    if std::fs::read_to_string(&done).is_ok_and(|installed| installed == pinned) {
        return Ok(python);
    }
    if let Some(why) = missing() {
        bail!("{why}");
    }
    println!("install  {} into {}", wanted.display(), venv.display());
    must(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    must(Command::new(&python).args(["-m", "pip", "install", "--quiet", "-r"]).arg(&wanted))?;
    std::fs::write(&done, pinned)?;
    Ok(python)
}

fn data(root: &Path, target: &Path, out: &Path, journals: Option<&Path>) -> anyhow::Result<()> {
    let (journals, labels) = match journals {
        Some(own) => (own.to_path_buf(), own.to_path_buf()),
        None => (target.join("corpus"), root.join("datasets/corpus")),
    };
    if !journals.is_dir() {
        bail!("there are no journals at {}: `cargo xtask eval` makes them from the corpus", journals.display());
    }
    let trainer = crate::eval::programs(root)?.trainer;
    let mut export = Command::new(&trainer);
    export.current_dir(root).arg("export").arg(&journals).arg("--labels").arg(&labels);
    must(export.arg("--out").arg(out.join("verdicts.parquet")))?;
    let mut evaluate = Command::new(&trainer);
    evaluate.current_dir(root).arg("evaluate").arg(&journals).arg("--labels").arg(&labels).arg("--out").arg(out);
    must(evaluate.arg("--no-ablations").stdout(std::process::Stdio::null()))
}

fn has_no_outputs(path: &Path) -> anyhow::Result<()> {
    let book: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let with = |cell: &serde_json::Value| cell["outputs"].as_array().is_some_and(|outputs| !outputs.is_empty());
    if book["cells"].as_array().into_iter().flatten().any(with) {
        bail!("{} is committed with outputs: clear them", path.display());
    }
    Ok(())
}
