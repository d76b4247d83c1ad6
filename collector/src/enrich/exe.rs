//! Names of executables and scripts: from what the kernel recorded at exec to the strings that facts are kept under.

use collector_common::process::{EXEC_MEMORY, EXEC_SCRIPT, Exec};

/// Longest command line that an event carries, in bytes.
const CMDLINE: usize = 256;

/// What a process runs, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Path of the executable, as it was asked for; never empty.
    pub exe: String,
    /// The script (or module, or jar) when the executable is an interpreter.
    pub script: Option<String>,
    /// Arguments separated by a space, at most 256 bytes.
    pub cmdline: String,
    /// Arguments, as far as they were recorded.
    pub argv: Vec<String>,
}

/// Reads an exec record. `resolve` answers with the path behind `/proc/PID/exe`; it is asked only where the recorded name
/// does not say which file it is (relative, by descriptor, with `..`).
pub fn image(exec: &Exec, resolve: impl FnOnce() -> Option<String>) -> Image {
    let argv = arguments(exec);
    let asked = normalised(&text(&exec.file, exec.file_len));
    let is_script = exec.bits & EXEC_SCRIPT != 0;
    // For a script the kernel itself puts the interpreter's path first into the argument vector.
    let named = match argv.first() {
        Some(interpreter) if is_script && !interpreter.is_empty() => normalised(interpreter),
        _ => asked.clone(),
    };
    let exe = match says_which_file(&named, exec.bits) {
        true => named,
        false => resolve().map_or_else(|| without_numbers(&named), |path| resolved(&path)),
    };
    let script = if is_script && !asked.is_empty() { Some(without_numbers(&asked)) } else { script(&exe, &argv) };
    Image { exe: if exe.is_empty() { "?".to_owned() } else { exe }, script, cmdline: cmdline(&argv), argv }
}

fn text(bytes: &[u8], len: u16) -> String {
    let stored = bytes.get(..usize::from(len)).unwrap_or(bytes);
    let end = stored.iter().position(|byte| *byte == 0).unwrap_or(stored.len());
    String::from_utf8_lossy(&stored[..end]).into_owned()
}

/// The argument vector of an exec record; bytes that are not UTF-8 become U+FFFD.
pub fn arguments(exec: &Exec) -> Vec<String> {
    let stored = exec.argv.get(..usize::from(exec.argv_len)).unwrap_or(&exec.argv);
    let stored = stored.strip_suffix(&[0]).unwrap_or(stored);
    if stored.is_empty() {
        return Vec::new();
    }
    stored.split(|byte| *byte == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

fn cmdline(argv: &[String]) -> String {
    let mut line = argv.join(" ");
    line.truncate(line.floor_char_boundary(CMDLINE));
    line
}

/// Collapses `//` and `/./` and drops a leading `./`. `..` stays: behind a symbolic link it does not undo what stands
/// before it, so collapsing it would let an attacker borrow the name of another file.
pub fn normalised(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let joined = parts.join("/");
    if path.starts_with('/') { format!("/{joined}") } else { joined }
}

fn says_which_file(path: &str, bits: u32) -> bool {
    let by_descriptor = path.starts_with("/proc/") || path.starts_with("/dev/fd/");
    path.starts_with('/') && !by_descriptor && bits & EXEC_MEMORY == 0 && !path.split('/').any(|part| part == "..")
}

/// `/memfd:name (deleted)` and the like, as `/proc/PID/exe` shows them, to a stable name.
fn resolved(path: &str) -> String {
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    match path.strip_prefix("/memfd:") {
        Some(name) => format!("memfd:{name}"),
        None => normalised(path),
    }
}

/// Numbers between slashes (pids and descriptors) become `*`.
fn without_numbers(path: &str) -> String {
    if !(path.starts_with("/proc/") || path.starts_with("/dev/fd/")) {
        return path.to_owned();
    }
    let fold = |part: &str| if super::unit::is_number(part) { "*".to_owned() } else { part.to_owned() };
    path.split('/').map(fold).collect::<Vec<String>>().join("/")
}

/// What an interpreter runs: the first argument that is neither an option nor an option's value.
pub fn script(exe: &str, argv: &[String]) -> Option<String> {
    let language = Language::of(exe)?;
    let mut arguments = argv.iter().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            return arguments.next().map(|script| normalised(script));
        }
        if !language.is_option(argument) {
            // A lone dash is the standard input.
            return (argument != "-" && !argument.is_empty()).then(|| language.named(argument));
        }
        if language.is_inline(argument) {
            return None;
        }
        if let Some(named) = language.program_after(argument) {
            return arguments.next().map(|program| named(program));
        }
        if language.takes_value(argument) {
            arguments.next();
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Shell,
    Python,
    Perl,
    Ruby,
    Node,
    Php,
    Java,
    Lua,
    /// One file that is many commands: the first argument is the command.
    MultiCall,
}

impl Language {
    fn of(exe: &str) -> Option<Self> {
        let name = exe.rsplit('/').next().unwrap_or(exe);
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.' || letter == '-');
        match stem {
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "rbash" => Some(Self::Shell),
            "python" | "pypy" => Some(Self::Python),
            "perl" => Some(Self::Perl),
            "ruby" => Some(Self::Ruby),
            "node" | "nodejs" => Some(Self::Node),
            "php" | "php-cgi" => Some(Self::Php),
            "java" => Some(Self::Java),
            "lua" | "luajit" => Some(Self::Lua),
            "busybox" | "toybox" => Some(Self::MultiCall),
            _ => None,
        }
    }

    fn is_option(self, argument: &str) -> bool {
        let dash = argument.len() > 1 && argument.starts_with('-');
        dash || (self == Self::Shell && argument.starts_with('+'))
    }

    /// The program stands in the command line itself, so there is no script.
    fn is_inline(self, option: &str) -> bool {
        let letters = option.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or("");
        // Options of one letter may be bundled: `-lc`, `-ne`. Those that take a word hold any letter.
        let bundled = |wanted: &[char], words: &[char]| letters.contains(wanted) && !letters.starts_with(words);
        match self {
            Self::Shell => bundled(&['c', 's'], &['o', 'O']),
            Self::Python => bundled(&['c'], &['m', 'W', 'X']),
            Self::Perl => bundled(&['e', 'E'], &['I', 'M', 'm']),
            Self::Ruby | Self::Lua => letters.starts_with('e'),
            Self::Node => matches!(option, "-e" | "--eval" | "-p" | "--print" | "-pe"),
            Self::Php => letters.starts_with('r'),
            Self::Java | Self::MultiCall => false,
        }
    }

    /// How the next argument names the program, if this option says that it does.
    fn program_after(self, option: &str) -> Option<fn(&str) -> String> {
        match (self, option) {
            (Self::Python, "-m") | (Self::Java, "-m" | "--module") => Some(|module| format!("-m {module}")),
            (Self::Java, "-jar") | (Self::Php, "-f") => Some(normalised),
            _ => None,
        }
    }

    /// The next argument belongs to this option.
    fn takes_value(self, option: &str) -> bool {
        let options: &[&str] = match self {
            Self::Shell => &["-o", "+o", "-O", "--rcfile", "--init-file"],
            Self::Python => &["-W", "-X", "--check-hash-based-pycs"],
            Self::Perl => &["-I"],
            Self::Ruby => &["-I", "-r", "-C"],
            Self::Node => &["-r", "--require", "--import", "--loader", "--conditions", "-C"],
            Self::Php => &["-c", "-d", "-t", "-S", "-z"],
            Self::Java => &["-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules", "--add-opens"],
            Self::Lua => &["-l"],
            Self::MultiCall => &[],
        };
        options.contains(&option)
    }

    fn named(self, argument: &str) -> String {
        match self {
            // A class or an applet is a name, not a path.
            Self::Java | Self::MultiCall => argument.to_owned(),
            _ => normalised(argument),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exec(file: &str, argv: &[&str], bits: u32) -> Exec {
        let mut exec = Exec { bits, file_len: file.len() as u16, ..Exec::default() };
        exec.file[..file.len()].copy_from_slice(file.as_bytes());
        let argv = argv.iter().map(|argument| format!("{argument}\0")).collect::<String>();
        exec.argv_len = argv.len() as u16;
        exec.argv_full = argv.len() as u32;
        exec.argv[..argv.len()].copy_from_slice(argv.as_bytes());
        exec
    }

    fn script_of(line: &str) -> Option<String> {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        script(&argv[0], &argv)
    }

    #[test]
    fn interpreters_name_their_script() {
        let cases = [
            ("/usr/bin/python3.11 -u -W ignore ./app//main.py --port 80", Some("app/main.py")),
            ("python3 -m http.server 80", Some("-m http.server")),
            ("python3 -c import\u{a0}os", None),
            ("/bin/sh -c id", None),
            ("/bin/bash -lc id", None),
            ("/bin/bash -o pipefail -e /opt/run.sh x", Some("/opt/run.sh")),
            ("/bin/bash", None),
            ("/bin/sh +e -x /srv/job.sh", Some("/srv/job.sh")),
            ("python3 -Wonce -uc pass", None),
            ("/bin/sh -", None),
            ("/bin/sh -- /x.sh", Some("/x.sh")),
            ("/usr/bin/perl -w /usr/bin/ack x", Some("/usr/bin/ack")),
            ("/usr/bin/perl -ne print", None),
            ("/usr/bin/node --require ts-node server.js", Some("server.js")),
            ("/usr/bin/ruby -I lib bin/app.rb", Some("bin/app.rb")),
            ("/usr/bin/php8.2 -d memory_limit=1G /srv/cron.php", Some("/srv/cron.php")),
            ("/usr/bin/php -f /srv/x.php", Some("/srv/x.php")),
            ("/usr/bin/java -Xmx1g -cp a.jar:b.jar -Dx=y org.example.Main arg", Some("org.example.Main")),
            ("/usr/bin/java -Xmx1g -jar /opt/app.jar", Some("/opt/app.jar")),
            ("/bin/busybox wget http://x", Some("wget")),
            ("/usr/sbin/nginx -g daemon", None),
        ];
        for (line, expected) in cases {
            assert_eq!(script_of(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn a_script_by_its_first_line_runs_in_its_interpreter() {
        let exec = exec("/srv/cgi/helper.sh", &["/bin/sh", "/srv/cgi/helper.sh", "x"], EXEC_SCRIPT);
        let image = image(&exec, || panic!("an absolute name needs no look-up"));
        assert_eq!((image.exe.as_str(), image.script.as_deref()), ("/bin/sh", Some("/srv/cgi/helper.sh")));
        assert_eq!(image.cmdline, "/bin/sh /srv/cgi/helper.sh x");
    }

    #[test]
    fn names_are_normalised_but_links_are_not_followed() {
        assert_eq!(normalised("//usr/./bin///sh"), "/usr/bin/sh");
        assert_eq!(normalised("./run"), "run");
        assert_eq!(normalised("/tmp/l/../../usr/sbin/nginx"), "/tmp/l/../../usr/sbin/nginx");
        let asked = exec("/bin/sh", &["sh"], 0);
        assert_eq!(image(&asked, || Some("/usr/bin/dash".into())).exe, "/bin/sh");
    }

    #[test]
    fn what_the_name_does_not_say_is_looked_up() {
        let dotted = exec("/tmp/l/../../usr/sbin/nginx", &["nginx"], 0);
        assert_eq!(image(&dotted, || Some("/tmp/evil/usr/sbin/nginx".into())).exe, "/tmp/evil/usr/sbin/nginx");
        let relative = exec("./run", &["run"], 0);
        assert_eq!(image(&relative, || Some("/srv/run".into())).exe, "/srv/run");
        assert_eq!(image(&relative, || None).exe, "run");
        let memory = exec("/proc/self/fd/7", &["x"], EXEC_MEMORY);
        assert_eq!(image(&memory, || Some("/memfd:stage2 (deleted)".into())).exe, "memfd:stage2");
        assert_eq!(image(&memory, || None).exe, "/proc/self/fd/*");
    }

    proptest! {
        #[test]
        fn any_record_gives_an_image(
            file in proptest::collection::vec(any::<u8>(), 256),
            argv in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'-'), any::<u8>()], 256),
            lens in (any::<u16>(), any::<u16>()),
            bits in any::<u32>(),
        ) {
            let mut exec = Exec { bits, file_len: lens.0, argv_len: lens.1, ..Exec::default() };
            exec.file.copy_from_slice(&file);
            exec.argv.copy_from_slice(&argv);
            let image = image(&exec, || None);
            prop_assert!(!image.exe.is_empty());
            prop_assert!(image.cmdline.len() <= CMDLINE);
        }
    }
}
