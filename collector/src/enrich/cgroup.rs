//! cgroup v2 ids and paths. The id of a cgroup is the inode number of its directory.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Ids that are remembered, with and without a path.
const CACHE: usize = 16_384;
/// Directories that one walk visits at most.
const WALK: usize = 65_536;
/// The least time between two walks, so that a storm of short-lived cgroups does not keep the agent walking.
const WALK_EVERY: Duration = Duration::from_millis(200);

/// Where `/proc/PID/cgroup` says that a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Path in the v2 hierarchy (`0::`).
    pub unified: Option<String>,
    /// Path in systemd's own v1 hierarchy (`name=systemd`).
    pub systemd: Option<String>,
}

impl Membership {
    /// Reads the text of `/proc/PID/cgroup`; lines of other hierarchies and damaged lines are passed over.
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            if !path.starts_with('/') {
                continue;
            }
            if hierarchy == "0" && controllers.is_empty() {
                found.unified = Some(path.to_owned());
            } else if controllers.split(',').any(|controller| controller == "name=systemd") {
                found.systemd = Some(path.to_owned());
            }
        }
        found
    }

    /// The path that tells most about the process: v2, unless it is the root there while systemd placed it elsewhere
    /// (a v1 or hybrid host).
    pub fn telling(&self) -> Option<&str> {
        match (self.unified.as_deref(), self.systemd.as_deref()) {
            (None | Some("/"), Some(systemd)) => Some(systemd),
            (unified, _) => unified,
        }
    }
}

/// The mount point of the v2 hierarchy in the text of `/proc/self/mountinfo`.
pub fn unified_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_v2 = filesystem.split(' ').next() == Some("cgroup2");
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // A bind mount of a part of the hierarchy would give paths that are not the kernel's.
        (is_v2 && root == "/").then(|| PathBuf::from(point.replace("\\040", " ")))
    })
}

/// The v2 hierarchy on disk, with a bounded memory of what was found.
#[derive(Debug)]
pub struct CgroupTree {
    mount: PathBuf,
    known: HashMap<u64, Option<String>>,
    walked: Option<Instant>,
}

impl CgroupTree {
    /// The hierarchy mounted at `mount`.
    pub fn new(mount: impl Into<PathBuf>) -> Self {
        Self { mount: mount.into(), known: HashMap::new(), walked: None }
    }

    /// The path of the cgroup `id` below the mount, `/` for the root. `hint` is where a process of it is believed to be.
    pub fn path(&mut self, id: u64, hint: Option<&str>) -> Option<String> {
        if let Some(Some(known)) = self.known.get(&id) {
            return Some(known.clone());
        }
        let hinted = hint.filter(|path| self.id(path) == Some(id)).map(str::to_owned);
        if hinted.is_some() {
            self.remember(id, hinted.clone());
            return hinted;
        }
        if self.known.contains_key(&id) || self.walked.is_some_and(|last| last.elapsed() < WALK_EVERY) {
            return None;
        }
        self.walk();
        if !self.known.contains_key(&id) {
            self.remember(id, None);
        }
        self.known.get(&id).cloned().flatten()
    }

    /// The id of the cgroup at `path`; `None` when there is none.
    pub fn id(&self, path: &str) -> Option<u64> {
        let below = path.trim_start_matches('/');
        // A path with `..` comes from another cgroup namespace and means nothing here.
        if below.split('/').any(|part| part == "..") {
            return None;
        }
        inode(&self.mount.join(below))
    }

    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        let mut open = vec![self.mount.clone()];
        let mut visited = 0;
        while let Some(directory) = open.pop() {
            visited += 1;
            if visited > WALK {
                return;
            }
            if let (Some(id), Some(path)) = (inode(&directory), self.below_mount(&directory)) {
                self.remember(id, Some(path));
            }
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
            open.extend(entries.flatten().filter(is_directory).map(|entry| entry.path()));
        }
    }

    fn below_mount(&self, directory: &Path) -> Option<String> {
        Some(format!("/{}", directory.strip_prefix(&self.mount).ok()?.to_str()?))
    }

    fn remember(&mut self, id: u64, path: Option<String>) {
        if self.known.len() >= CACHE && !self.known.contains_key(&id) {
            // What is gone goes first; if everything lives, starting anew costs one walk.
            self.known.retain(|_, path| path.is_some());
            if self.known.len() >= CACHE {
                self.known.clear();
            }
        }
        self.known.insert(id, path);
    }
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|about| about.ino())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn systemd_decides_where_v2_is_silent() {
        let hybrid = "9:name=systemd:/system.slice/nginx.service\n4:memory:/x\n0::/\n";
        assert_eq!(Membership::parse(hybrid).telling(), Some("/system.slice/nginx.service"));
        let v1 = "3:cpu,cpuacct:/y\n1:name=systemd:/docker/ab\n";
        assert_eq!(Membership::parse(v1).telling(), Some("/docker/ab"));
        let v2 = "0::/user.slice/user-0.slice/session-1.scope\n";
        assert_eq!(Membership::parse(v2).telling(), Some("/user.slice/user-0.slice/session-1.scope"));
        let both = "1:name=systemd:/old\n0::/new:with:colons\n";
        assert_eq!(Membership::parse(both).telling(), Some("/new:with:colons"));
        assert_eq!(Membership::parse("0::/\n").telling(), Some("/"));
        assert_eq!(Membership::parse("nonsense\n0:\n").telling(), None);
    }

    #[test]
    fn the_mount_is_found_on_v2_and_hybrid_hosts() {
        let hybrid = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(unified_mount(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        let part = "41 31 0:38 /docker/ab /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(unified_mount(part), None);
        assert_eq!(unified_mount(""), None);
    }

    #[test]
    fn ids_become_paths_by_hint_or_by_walking() {
        let root = tempfile::tempdir().unwrap();
        let service = root.path().join("system.slice/nginx.service");
        fs::create_dir_all(&service).unwrap();
        let id = inode(&service).unwrap();
        let path = "/system.slice/nginx.service";
        assert_eq!(CgroupTree::new(root.path()).path(id, Some(path)).as_deref(), Some(path));
        assert_eq!(CgroupTree::new(root.path()).path(id, Some("/elsewhere")).as_deref(), Some(path));
        assert_eq!(CgroupTree::new(root.path()).path(id, None).as_deref(), Some(path));
        assert_eq!(CgroupTree::new(root.path()).path(inode(root.path()).unwrap(), None).as_deref(), Some("/"));
        assert_eq!(CgroupTree::new(root.path()).id("/../.."), None);
    }

    #[test]
    fn a_removed_cgroup_keeps_its_path_and_an_unknown_one_stays_unknown() {
        let root = tempfile::tempdir().unwrap();
        let job = root.path().join("job");
        fs::create_dir(&job).unwrap();
        let id = inode(&job).unwrap();
        let mut tree = CgroupTree::new(root.path());
        assert_eq!(tree.path(id, None).as_deref(), Some("/job"));
        fs::remove_dir(&job).unwrap();
        assert_eq!(tree.path(id, None).as_deref(), Some("/job"));
        assert_eq!(tree.path(u64::MAX, None), None);
    }

    #[test]
    fn memory_is_bounded() {
        let mut tree = CgroupTree::new("/nowhere");
        for id in 0..3 * CACHE as u64 {
            tree.remember(id, (id % 2 == 0).then(|| format!("/{id}")));
        }
        assert!(tree.known.len() <= CACHE);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in ".{0,200}") {
            let _ = Membership::parse(&text);
            let _ = unified_mount(&text);
        }
    }
}
