//! Embeds the kernel object that `cargo xtask bpf` built. Without one the agent still builds, replays and serves its
//! command line; `stockade doctor` then says that it was built without kernel programs.
use std::path::PathBuf;
use std::{env, fs};

fn main() {
    // Read when it runs, not when it was compiled: two checkouts may share a target directory.
    let crate_root = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let default = crate_root.join(format!("../collector-ebpf/target/stockade.{arch}.bpf.o"));
    let object = env::var_os("STOCKADE_BPF_OBJECT").map_or(default, PathBuf::from);
    println!("cargo:rerun-if-env-changed=STOCKADE_BPF_OBJECT");
    println!("cargo:rerun-if-changed={}", object.display());
    let Some(out) = env::var_os("OUT_DIR") else { return };
    let bytes = fs::read(&object).unwrap_or_default();
    if let Err(error) = fs::write(PathBuf::from(out).join("stockade.bpf.o"), bytes) {
        println!("cargo:error=cannot write the embedded kernel object: {error}");
    }
}
