//! The initramfs: busybox, the test binaries and `stockade`, the libraries that they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::arch::Arch;
use super::kernel::{Kernel, MODULES};
use crate::{bpf, cargo, must, told};

/// Test targets of the collector that run on a kernel.
const PREFIX: &str = "kernel";

/// What was built for guests, by name.
pub struct Binaries {
    arch: Arch,
    paths: BTreeMap<String, PathBuf>,
}

impl Binaries {
    /// Builds the kernel object, the tests and `stockade`.
    pub fn build(root: &Path, arch: Arch) -> anyhow::Result<Self> {
        bpf::build_for(root, arch.name())?;
        arch.add_target()?;
        let output = compiler(root, arch)
            .args(["--message-format=json-render-diagnostics", "-q"])
            .stderr(Stdio::inherit())
            .output()?;
        if !output.status.success() {
            bail!("cargo test --no-run failed");
        }
        let mut found = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (Some(name), Some(path)) = (message["target"]["name"].as_str(), message["executable"].as_str()) else {
                continue;
            };
            let is_test = message["target"]["kind"][0] == "test" && name.starts_with(PREFIX);
            let is_agent = name == "stockade" && message["profile"]["test"] == false;
            if is_test || is_agent {
                found.insert(name.to_owned(), PathBuf::from(path));
            }
        }
        if !found.contains_key("stockade") {
            bail!("cargo built no stockade");
        }
        Ok(Self { arch, paths: found })
    }

    /// Names of the tests.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.paths.keys().map(String::as_str).filter(|name| name.starts_with(PREFIX))
    }

    /// Where one of them is.
    pub fn path(&self, name: &str) -> anyhow::Result<&Path> {
        self.paths.get(name).map(PathBuf::as_path).with_context(|| format!("{name} was not built; see --list"))
    }

    /// The agent.
    pub fn agent(&self) -> anyhow::Result<&Path> {
        self.path("stockade")
    }

    /// Packs an initramfs with these binaries that runs `init`.
    pub fn pack(&self, kernel: &Kernel, names: &[&str], init: &str, directory: &Path) -> anyhow::Result<PathBuf> {
        let root = directory.join("root");
        for part in ["bin", "dev", "etc", "lib64", "m", "proc", "run", "sys", "t", "tmp", "usr/bin"] {
            fs::create_dir_all(root.join(part))?;
        }
        fs::copy(self.arch.busybox()?, root.join("bin/busybox")).context("busybox-static is not installed")?;
        let applets = told(Command::new("/bin/busybox").arg("--list")).context("busybox lists no applets")?;
        for applet in applets.lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet))?;
        }
        for name in names.iter().chain(&["stockade"]) {
            let from = self.path(name)?;
            let to = root.join("t").join(name);
            // Debug information would be most of the image.
            must(Command::new(self.arch.tool("strip")).arg("-g").arg("-o").arg(&to).arg(from))?;
            // Those of another architecture are static.
            for library in if self.arch.is_native() { libraries(from)? } else { BTreeSet::new() } {
                let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
                fs::create_dir_all(inside.parent().unwrap_or(&root))?;
                if !inside.exists() {
                    fs::copy(&library, &inside)?;
                }
            }
        }
        for module in MODULES {
            kernel.unpack_module(module, &root.join("m").join(format!("{module}.ko")))?;
        }
        fs::write(root.join("init"), init)?;
        fs::set_permissions(root.join("init"), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let packed = directory.join("initramfs");
        let line = format!("find . | cpio -o -H newc --quiet | gzip -1 > {}", packed.display());
        must(Command::new("sh").args(["-c", &line]).current_dir(&root))?;
        fs::remove_dir_all(&root)?;
        Ok(packed)
    }
}

/// `cargo test` for an architecture; it builds the agent beside its tests. Built by itself the agent would have other features,
/// and everything would be built twice. Another architecture than this machine's is built without the C library of Kafka, and
/// static: it needs a compiler, but no libraries beside it.
fn compiler(root: &Path, arch: Arch) -> Command {
    let mut command = cargo(root);
    command.args(["test", "--no-run"]);
    if arch.is_native() {
        command.arg("--workspace");
    } else {
        let target = arch.target();
        let variable = target.replace('-', "_").to_uppercase();
        command
            .args(["-p", "collector", "--no-default-features", "--target", &target])
            .env(format!("CARGO_TARGET_{variable}_LINKER"), arch.tool("gcc"))
            .env(format!("CARGO_TARGET_{variable}_RUSTFLAGS"), "-Ctarget-feature=+crt-static");
    }
    command
}

/// The shared libraries of a binary, its loader included.
fn libraries(binary: &Path) -> anyhow::Result<BTreeSet<PathBuf>> {
    let text = told(Command::new("ldd").arg(binary)).with_context(|| format!("ldd {}", binary.display()))?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}
