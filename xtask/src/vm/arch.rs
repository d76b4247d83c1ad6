//! What differs between guests of one architecture and of another: packages, machine, ports, compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use clap::ValueEnum;

use super::kernel::{cache, unpack};
use crate::{must, told};

/// Architecture of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// As Rust and `uname -m` call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As Debian calls it.
    pub fn debian(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    /// Whether programs of this machine run in the guest.
    pub fn is_native(self) -> bool {
        self.name() == std::env::consts::ARCH
    }

    /// What it is compiled for when it is not this machine.
    pub fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.name())
    }

    /// The C compiler, or another tool of its set.
    pub fn tool(self, tool: &str) -> String {
        if self.is_native() { tool.to_owned() } else { format!("{}-linux-gnu-{tool}", self.name()) }
    }

    /// The emulator.
    pub fn emulator(self) -> String {
        format!("qemu-system-{}", self.name())
    }

    /// The emulated machine and the port of its kernel's console.
    pub fn machine(self) -> (&'static [&'static str], &'static str) {
        match self {
            Self::X86_64 => (&["-cpu", "max"], "ttyS0"),
            // Pointer authentication as the architecture defines it costs an emulator half its time.
            Self::Aarch64 => (&["-M", "virt", "-cpu", "max,pauth-impdef=on"], "ttyAMA0"),
        }
    }

    /// The second serial port: how QEMU is told of it, given where its bytes go, and its name in the guest.
    pub fn second_port(self, backend: &str) -> (Vec<String>, &'static str) {
        let chardev = ["-chardev".to_owned(), format!("{backend},id=said")];
        let device = match self {
            Self::X86_64 => ["-serial", "chardev:said"],
            Self::Aarch64 => ["-device", "pci-serial,chardev=said"],
        };
        let port = match self {
            Self::X86_64 => "ttyS1",
            Self::Aarch64 => "ttyS0",
        };
        (chardev.into_iter().chain(device.map(str::to_owned)).collect(), port)
    }

    /// An apt program that sees the packages of this architecture; another one's lists are kept in the cache, so that
    /// nothing of this machine's changes.
    pub fn apt(self, program: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(program);
        if !self.is_native() {
            let own = cache()?.join(format!("apt-{}", self.debian()));
            for part in ["lists/partial", "archives/partial"] {
                fs::create_dir_all(own.join(part)).with_context(|| format!("cannot make {}", own.display()))?;
            }
            for option in [
                format!("APT::Architecture={}", self.debian()),
                format!("APT::Architectures={}", self.debian()),
                format!("Dir::State::Lists={}", own.join("lists").display()),
                format!("Dir::Cache={}", own.display()),
            ] {
                command.args(["-o", &option]);
            }
        }
        Ok(command)
    }

    /// A static busybox.
    pub fn busybox(self) -> anyhow::Result<PathBuf> {
        if self.is_native() {
            return Ok("/bin/busybox".into());
        }
        let root = cache()?.join(format!("busybox-{}", self.debian()));
        if !root.join("bin/busybox").exists() {
            unpack(self, "busybox-static", &root)?;
        }
        Ok(root.join("bin/busybox"))
    }

    /// What is lacking on this machine for such guests.
    pub fn missing(self) -> Option<String> {
        let lacks = |program: &str| told(Command::new(program).arg("--version")).is_none();
        let mut programs = vec![self.emulator(), self.tool("strip")];
        programs.extend(["cpio", "apt-get", "xz"].map(str::to_owned));
        if !self.is_native() {
            programs.push(self.tool("gcc"));
        }
        let program = programs.into_iter().find(|program| lacks(program));
        program.or_else(|| (!Path::new("/bin/busybox").exists()).then(|| "/bin/busybox".to_owned()))
    }

    /// Makes the compiler able to build for it.
    pub fn add_target(self) -> anyhow::Result<()> {
        if self.is_native() {
            return Ok(());
        }
        must(Command::new("rustup").args(["-q", "target", "add", &self.target()]))
            .with_context(|| format!("the Rust library for {} is not here", self.target()))
    }
}
