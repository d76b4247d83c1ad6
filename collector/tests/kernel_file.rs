//! The file family on the running kernel: directories used for the first time, by the opened file; many files at once.
//!
//! The binary is its own child: `--child ACTION PATH`.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use collector::decode::{Record, directory};
use collector::loader::{Hook, identify};
use collector_common::file::{File, Mode, Sensitive, Why};
use support::{Watch, run};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().map(String::as_str) == Some("--child") {
        act(&args[1], Path::new(&args[2]));
        return ExitCode::SUCCESS;
    }
    let on = support::kernel_tests_are_on();
    let hidden = on && !shows_deleted_files();
    let tests: [support::Case; 6] = [
        ("a_directory_is_told_once_a_mode_whatever_path_was_asked_for", false, a_directory_is_told_once_a_mode),
        ("a_known_use_is_told_again_after_a_while", false, a_known_use_is_told_again_after_a_while),
        ("sensitive_names_are_told_at_once_in_any_directory", false, sensitive_names_are_told_at_once),
        ("many_written_files_are_a_rate", false, many_written_files_are_a_rate),
        ("a_program_is_the_same_file_to_the_kernel_and_to_a_denial", false, a_program_is_the_same_file),
        ("deleted_and_renamed_files_count_where_the_kernel_shows_them", hidden, deleted_files_count),
    ];
    support::run_one_by_one(on, tests)
}

fn shows_deleted_files() -> bool {
    let watch = Watch::new("probe");
    let is_on = |done: &collector::loader::Attached| {
        matches!(done.row.hook, Hook::Function("security_inode_unlink")) && done.off.is_none()
    };
    let shows = watch.kernel.attached().iter().any(is_on);
    if !shows {
        support::skipped("rates of deleted files: this kernel lets no program attach to functions");
    }
    shows
}

fn act(action: &str, place: &Path) {
    match action {
        "read" => drop(fs::File::open(place.join("a"))),
        // By a relative path, through a link and with dots: the same directory.
        "roundabout" => {
            std::env::set_current_dir(place).expect("there");
            drop(fs::File::open("a"));
            drop(fs::File::open("link/../a"));
            drop(fs::File::open("link/b"));
            fs::write("./c", "x").expect("written");
        }
        "missing" => drop(fs::File::open(place.join("nothing"))),
        "shadow" => drop(fs::File::open(place.join("shadow"))),
        "many" => (0..100).for_each(|n| fs::write(place.join(format!("f{n}")), "x").expect("written")),
        "same" => (0..100).for_each(|_| fs::write(place.join("one"), "x").expect("written")),
        "delete" => (0..100).for_each(|n| fs::remove_file(place.join(format!("f{n}"))).expect("removed")),
        other => panic!("no child action {other}"),
    }
}

/// A folder with two files and a link to a folder beside it.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("stockade-file-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("inner")).expect("a folder");
        for file in ["a", "inner/b", "shadow"] {
            fs::write(path.join(file), "x").expect("a file");
        }
        std::os::unix::fs::symlink("inner", path.join("link")).expect("a link");
        Self(path.canonicalize().expect("its path"))
    }

    fn text(&self) -> String {
        self.0.to_string_lossy().into_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn child(watch: &Watch, action: &str, place: &Place) -> Command {
    let mut command = watch.cgroup.command(std::env::current_exe().expect("own path"));
    command.args(["--child", action]).arg(&place.0).stdin(Stdio::null());
    command
}

/// File records about a place, in order.
fn files(watch: &Watch, place: &Place) -> Vec<File> {
    std::thread::sleep(Duration::from_millis(100));
    let all = watch
        .records()
        .into_iter()
        .filter_map(|record| if let Record::File(file) = record { Some(*file) } else { None });
    all.filter(|file| directory(file).starts_with(&place.text())).collect()
}

fn uses(files: &[File]) -> Vec<(String, u8, String)> {
    let name = |file: &File| String::from_utf8_lossy(&file.name[..usize::from(file.name_len)]).into_owned();
    let mut uses: Vec<_> = files
        .iter()
        .filter(|file| file.why == Why::First as u8)
        .map(|file| (directory(file), file.mode, name(file)))
        .collect();
    uses.sort();
    uses
}

fn a_directory_is_told_once_a_mode() {
    let (watch, place) = (Watch::new("first"), Place::new("first"));
    run(&mut child(&watch, "roundabout", &place));
    run(&mut child(&watch, "roundabout", &place));
    run(&mut child(&watch, "missing", &place));
    let told = files(&watch, &place);
    let (read, write) = (Mode::Read as u8, Mode::Write as u8);
    let (outer, inner) = (place.text(), format!("{}/inner", place.text()));
    let wanted = [(outer.clone(), read, "a".into()), (outer, write, "c".into()), (inner, read, "b".into())];
    assert_eq!(
        uses(&told),
        wanted,
        "once a directory and mode, by the opened file; a file that is not there is no use"
    );
    let about = fs::metadata(&place.0).expect("the folder");
    let first = told.iter().find(|file| file.mode == write).expect("the write");
    assert_eq!(first.directory.ino, about.ino(), "the directory is the one that stat knows");
    let exe = fs::metadata("/proc/self/exe").expect("this program");
    assert_eq!(first.exe.ino, exe.ino(), "and the executable is this one");
}

fn a_known_use_is_told_again_after_a_while() {
    let pause = Duration::from_millis(300 * support::slowness());
    let watch = Watch::with("again", |options| options.file_again = pause);
    let place = Place::new("again");
    run(&mut child(&watch, "read", &place));
    run(&mut child(&watch, "read", &place));
    assert_eq!(files(&watch, &place).len(), 1, "not told twice at once");
    std::thread::sleep(pause + Duration::from_millis(50));
    run(&mut child(&watch, "read", &place));
    assert_eq!(files(&watch, &place).len(), 2, "but again later, so that a baseline learns how regular it is");
}

fn sensitive_names_are_told_at_once() {
    let (watch, place) = (Watch::new("shadow"), Place::new("shadow"));
    run(&mut child(&watch, "read", &place));
    run(&mut child(&watch, "shadow", &place));
    let told = files(&watch, &place);
    assert_eq!(told.len(), 2, "the directory was known already, the name was not");
    assert_eq!((told[0].sensitive, told[1].sensitive), (Sensitive::No as u8, Sensitive::Credentials as u8));
}

fn many_written_files_are_a_rate() {
    let (watch, place) = (Watch::new("many"), Place::new("many"));
    run(&mut child(&watch, "same", &place));
    let rates = |watch: &Watch| -> Vec<u32> {
        let told = files(watch, &place).into_iter().filter(|file| file.why == Why::Rate as u8);
        told.map(|file| file.touched[0]).collect()
    };
    assert_eq!(rates(&watch), [0u32; 0], "one file written a hundred times is one file");
    run(&mut child(&watch, "many", &place));
    assert_eq!(rates(&watch), [16, 64], "told at sixteen and at every fourfold");
}

fn deleted_files_count() {
    let (watch, place) = (Watch::new("delete"), Place::new("delete"));
    run(&mut child(&watch, "many", &place));
    run(&mut child(&watch, "delete", &place));
    std::thread::sleep(Duration::from_millis(100));
    let rates: Vec<[u32; 3]> = watch
        .records()
        .into_iter()
        .filter_map(|record| match record {
            Record::File(file) if file.why == Why::Rate as u8 && file.touched[2] > 0 => Some(file.touched),
            _ => None,
        })
        .collect();
    assert_eq!(rates, [[0, 0, 16], [0, 0, 64]]);
}

/// A file system of the test's own.
struct Mounted(PathBuf);

impl Mounted {
    fn new(source: &str, kind: &str, data: &str, at: PathBuf) -> Result<Self, rustix::io::Errno> {
        fs::create_dir_all(&at).expect("a folder");
        let data = std::ffi::CString::new(data).expect("no zeroes");
        rustix::mount::mount(source, &at, kind, rustix::mount::MountFlags::empty(), data.as_c_str())?;
        Ok(Self(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A btrfs in a file, with a subvolume: `stat` gives it a device of its own that no superblock has.
fn btrfs(place: &Place) -> Option<Mounted> {
    let (image, at) = (place.0.join("btrfs.img"), place.0.join("btrfs"));
    fs::File::create(&image).and_then(|file| file.set_len(128 << 20)).expect("an image");
    let done = |program: &str, args: &[&std::ffi::OsStr]| {
        let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    fs::create_dir_all(&at).expect("a folder");
    let mounted = done("mkfs.btrfs", &["-q".as_ref(), image.as_ref()])
        && done("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), at.as_ref()]);
    let mounted = mounted.then(|| Mounted(at.clone()))?;
    done("btrfs", &["subvolume".as_ref(), "create".as_ref(), at.join("sub").as_ref()]).then_some(mounted)
}

fn a_program_is_the_same_file() {
    let place = Place::new("identity");
    let _tmpfs = Mounted::new("none", "tmpfs", "", place.0.join("tmpfs")).expect("tmpfs");
    let below = |name: &str| {
        let path = place.0.join("tmpfs").join(name);
        fs::create_dir_all(&path).expect("a folder");
        path
    };
    let (lower, upper, work) = (below("lower"), below("upper"), below("work"));
    fs::copy("/bin/true", lower.join("true")).expect("a program");
    let layers = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let overlay = Mounted::new("none", "overlay", &layers, place.0.join("overlay"));
    let btrfs = btrfs(&place);

    let mut programs = vec![place.0.join("true"), lower.join("true")];
    match &overlay {
        Ok(mounted) => {
            // Where /bin/true is busybox, it is so by its name.
            let above = mounted.0.join("above");
            fs::create_dir(&above).expect("a folder");
            programs.extend([mounted.0.join("true"), above.join("true")]);
        }
        Err(errno) => support::skipped(&format!("programs on overlayfs: it cannot be mounted: {errno}")),
    }
    match &btrfs {
        Some(mounted) => programs.push(mounted.0.join("sub/true")),
        None => support::skipped("programs on btrfs: it cannot be made here (mkfs.btrfs, a loop device)"),
    }

    let watch = Watch::new("identity");
    for program in &programs {
        if !program.exists() {
            fs::copy("/bin/true", program).expect("a program");
        }
        run(&mut watch.cgroup.command(program));
        let name = program.as_os_str().as_encoded_bytes();
        let is_it = |record: &Record| matches!(record, Record::Exec(exec) if exec.file.starts_with(name));
        let Record::Exec(exec) = watch.wait_for("the exec", is_it) else { unreachable!() };
        let told = identify(program).expect("identified");
        let generation = [0, exec.exe.generation].contains(&told.generation);
        assert_eq!((told.ino, told.dev), (exec.exe.ino, exec.exe.dev), "{}", program.display());
        assert!(generation, "{}: generation {} and {}", program.display(), told.generation, exec.exe.generation);
    }
}
