//! The applications: how each is started, loaded and asked for a number, higher being better.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// An application under load.
#[derive(Clone, Copy, Debug)]
pub enum App {
    Redis,
    Nginx,
    Postgres,
    Build,
}

impl App {
    pub const ALL: [Self; 4] = [Self::Redis, Self::Nginx, Self::Postgres, Self::Build];

    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis-benchmark SET+GET",
            Self::Nginx => "nginx under wrk",
            Self::Postgres => "pgbench",
            Self::Build => "C build",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Redis | Self::Nginx => "requests/s",
            Self::Postgres => "transactions/s",
            Self::Build => "builds/s",
        }
    }

    /// Programs that it takes, and the package of each.
    pub fn needs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Redis => &[("redis-server", "redis-server"), ("redis-benchmark", "redis-tools")],
            Self::Nginx => &[("nginx", "nginx-light"), ("wrk", "wrk")],
            Self::Postgres => &[("pgbench", "postgresql"), ("setpriv", "util-linux")],
            Self::Build => &[("gcc", "gcc"), ("make", "make")],
        }
    }

    /// Files that it needs before the first round.
    pub fn prepare(self, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Redis => {}
            Self::Nginx => {
                fs::write(folder.join("index.html"), "<h1>nginx</h1>\n".repeat(40))?;
                fs::write(folder.join("nginx.conf"), nginx_conf(folder))?;
            }
            Self::Postgres => make_database(folder)?,
            Self::Build => {
                for number in 0..12 {
                    fs::write(folder.join(format!("part{number}.c")), c_source(number))?;
                }
                let rule = "objects := $(patsubst %.c,%.o,$(wildcard part*.c))\nall: $(objects)\n\tgcc -o all $(objects) -shared\n\
                            %.o: %.c\n\tgcc -O1 -fPIC -c -o $@ $<\n";
                fs::write(folder.join("Makefile"), rule)?;
            }
        }
        Ok(())
    }

    /// The command that is watched: a server, or the build itself.
    pub fn command(self, folder: &Path) -> Vec<String> {
        let words = |line: String| line.split(' ').map(str::to_owned).collect();
        let folder = folder.display();
        match self {
            // The empty word after --save: nothing is written to disk.
            Self::Redis => words(format!("redis-server --port {REDIS} --save  --appendonly no --dir {folder}")),
            Self::Nginx => words(format!("nginx -p {folder} -c {folder}/nginx.conf")),
            Self::Postgres => {
                let server = postgres_bin("postgres").display().to_string();
                words(format!(
                    "setpriv --reuid postgres --regid postgres --clear-groups {server} -D {folder}/data -p {POSTGRES} -k {folder}"
                ))
            }
            Self::Build => words(format!("make -s -B -j2 -C {folder}")),
        }
    }

    /// Removes what a killed one leaves behind. Its locks name a process that is dead, but may still wait for its parent.
    pub fn forget(self, folder: &Path) {
        if matches!(self, Self::Postgres) {
            for lock in ["data/postmaster.pid".to_owned(), format!(".s.PGSQL.{POSTGRES}.lock")] {
                let _ = fs::remove_file(folder.join(lock));
            }
        }
    }

    fn port(self) -> Option<u16> {
        match self {
            Self::Redis => Some(REDIS),
            Self::Nginx => Some(NGINX),
            Self::Postgres => Some(POSTGRES),
            Self::Build => None,
        }
    }

    /// Waits until it serves, loads it, and gives the number. A build is waited for.
    pub fn measure(self, watched: &mut Child, folder: &Path) -> anyhow::Result<f64> {
        let began = Instant::now();
        let Some(port) = self.port() else {
            let status = watched.wait()?;
            return if status.success() { Ok(1.0 / began.elapsed().as_secs_f64()) } else { bail!("the build failed") };
        };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if let Some(status) = watched.try_wait()? {
                bail!("{} ended: {status}", self.name());
            }
            if began.elapsed() > Duration::from_secs(20) {
                bail!("{} does not listen on {port}", self.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(300));
        if matches!(self, Self::Postgres) {
            wait_for_postgres(folder)?;
        }
        match self {
            Self::Redis => {
                let text = said(&[
                    "redis-benchmark",
                    "-p",
                    &port.to_string(),
                    "-t",
                    "set,get",
                    "-n",
                    "60000",
                    "-c",
                    "20",
                    "--csv",
                ])?;
                let rates: Vec<f64> =
                    text.lines().filter_map(|line| line.split(',').nth(1)?.trim_matches('"').parse().ok()).collect();
                if rates.is_empty() {
                    bail!("redis-benchmark said {text}")
                } else {
                    Ok(rates.iter().sum::<f64>() / rates.len() as f64)
                }
            }
            Self::Nginx => {
                let text = said(&["wrk", "-t", "1", "-c", "16", "-d", "4s", &format!("http://127.0.0.1:{port}/")])?;
                let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
                rate.and_then(|rate| rate.trim().parse().ok()).with_context(|| format!("wrk said {text}"))
            }
            _ => {
                let (port, folder) = (port.to_string(), folder.display().to_string());
                let bench = postgres_bin("pgbench").display().to_string();
                let text = said(&[
                    &bench, "-h", &folder, "-p", &port, "-U", "postgres", "-T", "4", "-c", "4", "-n", "postgres",
                ])?;
                let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
                rate.and_then(|rate| rate.split(' ').next()?.parse().ok())
                    .with_context(|| format!("pgbench said {text}"))
            }
        }
    }
}

const REDIS: u16 = 36_379;
const NGINX: u16 = 38_080;
const POSTGRES: u16 = 35_432;

fn said(words: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(words[0]).args(&words[1..]).stderr(Stdio::piped()).output()?;
    if !output.status.success() {
        bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn nginx_conf(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "daemon off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n\
         http {{ access_log {folder}/access.log; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
         server {{ listen 127.0.0.1:{NGINX}; root {folder}; }} }}\n"
    )
}

/// Debian keeps PostgreSQL's programs out of the path.
fn postgres_bin(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|entry| entry.path().join("bin").join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| program.into())
}

fn make_database(folder: &Path) -> anyhow::Result<()> {
    let data = folder.join("data");
    fs::create_dir_all(&data)?;
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder, everybody)?;
    let data = data.display().to_string();
    said(&["chown", "-R", "postgres", &data])?;
    let as_postgres = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"];
    let init = postgres_bin("initdb").display().to_string();
    said(&[&as_postgres[..], &[&init, "-D", &data, "-A", "trust", "-N"]].concat())?;
    let mut server = Command::new("setpriv")
        .args(&as_postgres[1..])
        .arg(postgres_bin("postgres"))
        .args(["-D", &data, "-p", &POSTGRES.to_string(), "-k"])
        .arg(folder)
        .stderr(Stdio::null())
        .spawn()?;
    let bench = postgres_bin("pgbench").display().to_string();
    let (port, socket) = (POSTGRES.to_string(), folder.display().to_string());
    let fill = [bench.as_str(), "-h", &socket, "-p", &port, "-U", "postgres", "-i", "-q", "postgres"];
    let mut filled = said(&fill);
    for _ in 0..40 {
        if filled.is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(250));
        filled = said(&fill);
    }
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    server.wait()?;
    filled.map(drop)
}

/// It listens before it answers.
fn wait_for_postgres(folder: &Path) -> anyhow::Result<()> {
    let ready = postgres_bin("pg_isready").display().to_string();
    let (folder, port) = (folder.display().to_string(), POSTGRES.to_string());
    for _ in 0..200 {
        if said(&[&ready, "-q", "-h", &folder, "-p", &port]).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("PostgreSQL was not ready within 10 s")
}

fn c_source(number: usize) -> String {
    let functions = (0..40).map(|function| {
        format!(
            "double f{number}_{function}(double x) {{ for (int i = 0; i < 100; i++) x += sin(x) * i / {}.0; return x; }}\n",
            function + 1
        )
    });
    format!("#include <math.h>\n#include <stdio.h>\n#include <stdlib.h>\n{}", functions.collect::<String>())
}
