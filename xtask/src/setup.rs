//! Finds or installs what a purpose needs, and no more.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use anyhow::bail;
use clap::{Args, ValueEnum};

use crate::{bpf, kafka, must, notebooks, told, vm};

/// What to set up.
#[derive(Args, Clone, Copy)]
pub struct Options {
    /// For what.
    #[arg(long = "for", value_enum, default_value_t = Purpose::Run)]
    pub purpose: Purpose,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
}

/// For what.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Purpose {
    /// Build and run: the BPF toolchain.
    Run,
    /// The tests: also a real broker, and guests.
    Test,
    /// Guests with other kernels.
    Vm,
    /// Guests of another architecture.
    Arch,
}

/// Something that may be missing.
struct Need {
    what: &'static str,
    packages: &'static [&'static str],
    megabytes: u32,
    seconds: u32,
    purpose: Purpose,
    present: fn() -> bool,
}

fn runs(program: &str, arg: &str) -> bool {
    told(Command::new(program).arg(arg)).is_some()
}

impl Purpose {
    /// Whether something that is needed for `of` is needed for this.
    fn includes(self, of: Self) -> bool {
        let also = match self {
            Self::Run | Self::Vm => false,
            Self::Test => of != Self::Arch,
            Self::Arch => of == Self::Vm,
        };
        self == of || of == Self::Run || also
    }
}

const NEEDS: &[Need] = &[
    Need {
        what: "C and C++ compiler, make, OpenSSL and zlib headers (for librdkafka)",
        packages: &["gcc", "g++", "make", "pkg-config", "libssl-dev", "zlib1g-dev"],
        megabytes: 120,
        seconds: 30,
        purpose: Purpose::Run,
        present: || {
            runs("g++", "--version")
                && runs("make", "--version")
                && runs("pkg-config", "--version")
                && Path::new("/usr/include/openssl/ssl.h").exists()
                && Path::new("/usr/include/zlib.h").exists()
        },
    },
    Need {
        what: "Rust compiler with library sources (for the kernel programs)",
        packages: &["rustc-web", "cargo-web", "rust-web-src"],
        megabytes: 180,
        seconds: 40,
        purpose: Purpose::Run,
        present: || bpf::toolchain().is_some(),
    },
    Need {
        what: "LLVM 22 (bpf-linker is built on it)",
        packages: &["llvm-22-dev"],
        megabytes: 110,
        seconds: 30,
        purpose: Purpose::Run,
        present: || bpf::linker().is_some() || Path::new("/usr/lib/llvm-22/include").exists(),
    },
    Need {
        what: "iproute2 and curl (for the demo's network namespace and requests)",
        packages: &["iproute2", "curl"],
        megabytes: 5,
        seconds: 5,
        purpose: Purpose::Run,
        present: || runs("ip", "-V") && runs("curl", "--version"),
    },
    Need {
        what: "Java 17 and Maven (for the broker)",
        packages: &["default-jre-headless", "maven"],
        megabytes: 260,
        seconds: 40,
        purpose: Purpose::Test,
        present: || runs("java", "-version") && runs("mvn", "--version"),
    },
    Need {
        what: "Python 3 with venv (for the notebooks; 150 MB of packages come from PyPI)",
        packages: &["python3", "python3-venv"],
        megabytes: 40,
        seconds: 20,
        purpose: Purpose::Test,
        present: || notebooks::missing().is_none(),
    },
    Need {
        what: "QEMU, busybox, cpio, debootstrap (for guests with other kernels)",
        packages: &["qemu-system-x86", "busybox-static", "cpio", "debootstrap", "e2fsprogs", "binutils", "xz-utils"],
        megabytes: 300,
        seconds: 40,
        purpose: Purpose::Vm,
        present: || vm::missing().is_none() && runs("debootstrap", "--version") && runs("strip", "--version"),
    },
    Need {
        what: "a C compiler for aarch64 and its emulator (for guests of that architecture)",
        packages: &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-system-arm"],
        megabytes: 350,
        seconds: 40,
        purpose: Purpose::Arch,
        present: vm::foreign_is_ready,
    },
];

/// Sets up.
pub fn setup(options: &Options) -> anyhow::Result<()> {
    let wanted = |need: &&Need| options.purpose.includes(need.purpose);
    let missing: Vec<&Need> = NEEDS.iter().filter(wanted).filter(|need| !(need.present)()).collect();
    let linker = bpf::linker().is_none();
    let jars = options.purpose == Purpose::Test && !kafka::are_there();
    if missing.is_empty() && !linker && !jars {
        println!("setup    everything is there");
        return Ok(());
    }
    for need in &missing {
        println!(
            "setup    needs {}: {} ({} MB, about {} s)",
            need.what,
            need.packages.join(" "),
            need.megabytes,
            need.seconds
        );
    }
    if linker {
        println!("setup    needs bpf-linker 0.13.0, built from source (15 MB, about 60 s)");
    }
    if jars {
        println!("setup    needs Apache Kafka 4.4.0 from Maven Central (44 MB, about 10 s)");
    }
    if !options.yes && std::io::stdin().is_terminal() && !confirmed()? {
        bail!("nothing was installed");
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    if !packages.is_empty() {
        install(&packages)?;
    }
    if linker {
        install_linker()?;
    }
    if jars {
        kafka::libs()?;
    }
    println!("setup    done");
    Ok(())
}

fn confirmed() -> anyhow::Result<bool> {
    print!("setup    Nothing else. Continue? [Y/n] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(!answer.trim().eq_ignore_ascii_case("n"))
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if told(Command::new("sh").args(["-c", "command -v apt-get"])).is_none() {
        bail!(
            "this system has no apt-get: install what is named above with its own tools (a rustup nightly with rust-src does for the compiler), then run this again"
        );
    }
    let root = told(Command::new("id").arg("-u")).as_deref() == Some("0");
    let prefix = if root { "" } else { "sudo " };
    if !root && told(Command::new("sh").args(["-c", "command -v sudo"])).is_none() {
        bail!("this needs root and there is no sudo: run `{line}` as root, then this again");
    }
    println!("setup    {prefix}{line}");
    let run = |line: &str| {
        let line = format!("{prefix}env DEBIAN_FRONTEND=noninteractive {line}");
        must(Command::new("sh").args(["-c", &line]))
    };
    if run(&line).is_err() {
        run("apt-get update")?;
        run(&line)?;
    }
    Ok(())
}

fn install_linker() -> anyhow::Result<()> {
    println!("setup    cargo install bpf-linker 0.13.0");
    let mut command = Command::new("cargo");
    command.args(["install", "bpf-linker", "--version", "0.13.0", "--locked"]);
    if Path::new("/usr/lib/llvm-22").exists() {
        command.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", "/usr/lib/llvm-22");
    }
    command.env_remove("CARGO_TARGET_DIR");
    must(&mut command)
}
