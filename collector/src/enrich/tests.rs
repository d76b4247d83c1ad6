//! From records to events, with a host that answers from tables.

use std::collections::HashMap;
use std::mem::offset_of;

use collector_common::header::cookie_of_ticks;
use collector_common::process::{EXEC_SCRIPT, Exec, Exit, Fork};
use collector_common::syscall::Window;
use collector_common::{ABI, Header, Kind, bytes_of};
use model::event::Body;
use proptest::prelude::*;

use super::runtime::ContainerInfo;
use super::surroundings::{Live, Noting, Recorded};
use super::*;
use crate::decode::decode;
use crate::record::{Info, Recorder};
use crate::replay::{Frame, Recording};

const INIT: u64 = cookie_of_ticks(1, 1);
const NGINX: u64 = cookie_of_ticks(100, 50);
const CHILD: u64 = cookie_of_ticks(200, 60);
const WEB: u64 = 70;
const ROOT: u64 = 1;

const NGINX_ID: ExeId = ExeId { ino: 11, dev: 1, generation: 3 };
const SH_ID: ExeId = ExeId { ino: 12, dev: 1, generation: 3 };

/// A host in tables; counts the questions.
#[derive(Clone, Debug, Default)]
struct Host {
    cgroups: HashMap<u64, &'static str>,
    systemd: HashMap<u32, &'static str>,
    processes: HashMap<u32, Exec>,
    exe_paths: HashMap<u32, &'static str>,
    containers: HashMap<String, ContainerInfo>,
    asked: usize,
}

impl Surroundings for Host {
    fn cgroup_path(&mut self, id: u64, _pid: u32) -> Option<String> {
        self.asked += 1;
        self.cgroups.get(&id).map(|path| (*path).to_owned())
    }
    fn systemd_cgroup(&mut self, pid: u32) -> Option<String> {
        self.asked += 1;
        self.systemd.get(&pid).map(|path| (*path).to_owned())
    }
    fn process(&mut self, pid: u32) -> Option<Exec> {
        self.asked += 1;
        self.processes.get(&pid).copied()
    }
    fn exe_path(&mut self, pid: u32) -> Option<String> {
        self.asked += 1;
        self.exe_paths.get(&pid).map(|path| (*path).to_owned())
    }
    fn container(&mut self, id: &str) -> Option<ContainerInfo> {
        self.asked += 1;
        self.containers.get(id).cloned()
    }
}

fn host() -> Host {
    Host { cgroups: HashMap::from([(WEB, "/system.slice/nginx.service"), (ROOT, "/")]), ..Host::default() }
}

fn header(kind: Kind, cookie: u64, boot_ns: u64) -> Header {
    let len = match kind {
        Kind::Fork => size_of::<Fork>(),
        Kind::Exec => size_of::<Exec>(),
        Kind::Exit => size_of::<Exit>(),
        Kind::Window => size_of::<Window>(),
        Kind::Flow => size_of::<flow::Flow>(),
        Kind::Deny => size_of::<deny::Deny>(),
        Kind::File => size_of::<file::File>(),
    };
    Header { kind: kind as u8, abi: ABI, len: len as u16, cookie, boot_ns, seq: 1, ..Header::default() }
}

fn exec(cookie: u64, parent: u64, boot_ns: u64, file: &str, argv: &[&str], exe: ExeId, cgroup: u64) -> Exec {
    let argv: String = argv.iter().map(|argument| format!("{argument}\0")).collect();
    let mut exec = Exec {
        header: header(Kind::Exec, cookie, boot_ns),
        parent,
        exe,
        cgroup,
        uid: 33,
        file_len: file.len() as u16,
        argv_len: argv.len() as u16,
        argv_full: argv.len() as u32,
        ..Exec::default()
    };
    exec.file[..file.len()].copy_from_slice(file.as_bytes());
    exec.argv[..argv.len()].copy_from_slice(argv.as_bytes());
    exec
}

fn nginx_before_the_agent() -> Record {
    let mut exec = exec(NGINX, INIT, 1_000, "/usr/sbin/nginx", &["nginx"], ExeId { generation: 0, ..NGINX_ID }, WEB);
    exec.bits |= EXEC_PRE_EXISTING;
    Record::Exec(Box::new(exec))
}

fn fork(boot_ns: u64) -> Record {
    let header = header(Kind::Fork, NGINX, boot_ns);
    Record::Fork(Fork { header, child: CHILD, cgroup: WEB, exe: NGINX_ID, ..Fork::default() })
}

fn shell(boot_ns: u64) -> Record {
    Record::Exec(Box::new(exec(CHILD, NGINX, boot_ns, "/bin/sh", &["sh", "-c", "id"], SH_ID, WEB)))
}

fn window(cookie: u64, exe: ExeId, cgroup: u64, start: u64, written: u64) -> Record {
    let header = header(Kind::Window, cookie, written);
    let mut window = Window { header, exe, cgroup, start_boot_ns: start, why: 1, n: 2, ..Window::default() };
    window.trace[..3].copy_from_slice(&[1, 2, 3]);
    window.novel_trigrams[1] = 9;
    Record::Window(Box::new(window))
}

fn enricher() -> Enricher<Host> {
    Enricher::new(Clock::real(0, 1_000_000), host())
}

fn exec_body(event: &Event) -> &event::Exec {
    match &event.body {
        Body::Exec(exec) => exec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_exec_edge_leads_from_what_ran_before_to_what_runs_now() {
    let mut enricher = enricher();
    assert_eq!(enricher.enrich(&nginx_before_the_agent()), None);
    let born = enricher.enrich(&fork(2_000)).unwrap();
    assert_eq!((&*born.process.exe, born.process.pre_existing), ("/usr/sbin/nginx", true));
    let ran = enricher.enrich(&shell(3_000)).unwrap();
    assert_eq!(ran.at.unix_ns, 1_003_000);
    assert_eq!((&*exec_body(&ran).parent_exe, &*ran.process.exe), ("/usr/sbin/nginx", "/bin/sh"));
    assert_eq!(ran.process.ancestors, [NGINX, INIT]);
    assert_eq!((&*ran.process.workload, ran.process.pid), ("unit:nginx.service", 60));
    assert_eq!((&*ran.process.cmdline, ran.process.pre_existing), ("sh -c id", false));
    assert_eq!((ran.process.uid, ran.process.loginuid), (33, None));
    assert_eq!(enricher.counters().unattributed, 0);
}

#[test]
fn a_child_is_its_creator_until_it_execs() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    let event = enricher.enrich(&window(CHILD, NGINX_ID, WEB, 2_100, 2_200)).unwrap();
    assert_eq!((event.process.cookie, &*event.process.exe), (CHILD, "/usr/sbin/nginx"));
    assert_eq!(&*event.process.workload, "unit:nginx.service");
    let Body::Window(body) = &event.body else { panic!() };
    assert_eq!((&body.trace[..], &body.novel_trigrams[..]), (&[1, 2][..], &[9][..]));
}

#[test]
fn a_child_of_an_older_process_is_known_where_proc_and_kernel_disagree_about_the_device() {
    // Overlayfs: stat(2) gives the layer's device, and the kernel stamps children with what it was told from /proc.
    let told = ExeId { dev: 39, generation: 0, ..NGINX_ID };
    let mut enricher = enricher();
    let mut older = exec(NGINX, INIT, 1_000, "/usr/sbin/nginx", &["nginx"], told, WEB);
    older.bits |= EXEC_PRE_EXISTING;
    enricher.enrich(&Record::Exec(Box::new(older)));
    let header = header(Kind::Fork, NGINX, 2_000);
    enricher.enrich(&Record::Fork(Fork { header, child: CHILD, cgroup: WEB, exe: told, ..Fork::default() }));
    let before = enricher.enrich(&window(CHILD, NGINX_ID, WEB, 2_100, 2_200)).unwrap();
    assert_eq!(&*before.process.exe, "/usr/sbin/nginx");
    let started = enricher.enrich(&shell(2_300)).unwrap();
    assert_eq!(&*exec_body(&started).parent_exe, "/usr/sbin/nginx");
}

#[test]
fn a_window_that_comes_after_the_exec_belongs_to_the_old_program() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    enricher.enrich(&shell(3_000));
    let old = enricher.enrich(&window(CHILD, NGINX_ID, WEB, 2_100, 3_001)).unwrap();
    assert_eq!(&*old.process.exe, "/usr/sbin/nginx");
    let new = enricher.enrich(&window(CHILD, SH_ID, WEB, 3_002, 3_500)).unwrap();
    assert_eq!(&*new.process.exe, "/bin/sh");
}

#[test]
fn records_after_the_end_still_find_their_process() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    enricher.enrich(&shell(3_000));
    enricher.enrich(&Record::Exit(Exit { header: header(Kind::Exit, CHILD, 4_000), cgroup: WEB, ..Exit::default() }));
    let last = enricher.enrich(&window(CHILD, SH_ID, WEB, 3_100, 4_100)).unwrap();
    assert_eq!(&*last.process.exe, "/bin/sh");
    enricher.enrich(&window(NGINX, NGINX_ID, WEB, 70_000_000_000, 70_000_000_000));
    assert!(enricher.table().now(CHILD).is_none());
}

#[test]
fn a_known_cgroup_costs_no_question() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    let asked = enricher.surroundings_mut().asked;
    for at in 0..100 {
        enricher.enrich(&window(CHILD, NGINX_ID, WEB, 2_100 + at, 2_200 + at));
        enricher.enrich(&shell(3_000 + at));
    }
    assert_eq!(enricher.surroundings_mut().asked, asked);
}

#[test]
fn a_process_in_the_root_is_asked_for_its_place_in_systemds_hierarchy() {
    let mut enricher = enricher();
    enricher.surroundings_mut().systemd.insert(60, "/system.slice/redis.service");
    let moved = Record::Exec(Box::new(exec(CHILD, NGINX, 5, "/usr/bin/redis", &["redis"], SH_ID, ROOT)));
    assert_eq!(&*enricher.enrich(&moved).unwrap().process.workload, "unit:redis.service");
    enricher.surroundings_mut().systemd.insert(60, "/");
    assert_eq!(&*enricher.enrich(&moved).unwrap().process.workload, "host");
}

#[test]
fn a_process_that_is_moved_changes_its_workload_from_then_on() {
    let mut enricher = enricher();
    enricher.surroundings_mut().cgroups.insert(71, "/docker/x");
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    let moved = enricher.enrich(&window(CHILD, NGINX_ID, 71, 2_500, 2_600)).unwrap();
    assert_eq!((&*moved.process.workload, moved.process.cgroup), ("cgroup:/docker/x", 71));
    let earlier = enricher.enrich(&window(CHILD, NGINX_ID, WEB, 2_100, 2_700)).unwrap();
    assert_eq!(&*earlier.process.workload, "unit:nginx.service");
    let later = enricher.enrich(&window(CHILD, NGINX_ID, 71, 2_800, 2_900)).unwrap();
    assert_eq!(&*later.process.workload, "cgroup:/docker/x");
}

#[test]
fn what_was_missed_is_looked_up_once() {
    let mut enricher = enricher();
    let Record::Exec(nginx) = nginx_before_the_agent() else { panic!() };
    enricher.surroundings_mut().processes.insert(50, *nginx);
    let known = enricher.enrich(&window(NGINX, NGINX_ID, WEB, 2_000, 2_100)).unwrap();
    assert_eq!((&*known.process.exe, known.process.pre_existing), ("/usr/sbin/nginx", true));
    // The kernel's own id replaces the one from /proc, which lacks the generation.
    assert_eq!(enricher.exe_of(NGINX), Some(NGINX_ID));

    let asked = enricher.surroundings_mut().asked;
    for at in 0..10 {
        let gone = enricher.enrich(&window(CHILD, SH_ID, WEB, 2_000 + at, 2_100)).unwrap();
        assert_eq!((&*gone.process.exe, &*gone.process.workload), ("?", "unit:nginx.service"));
    }
    assert_eq!(enricher.surroundings_mut().asked, asked + 1);
    assert_eq!((enricher.counters().gone, enricher.counters().unattributed), (1, 10));
}

#[test]
fn another_process_with_the_same_pid_is_not_taken_for_it() {
    let mut enricher = enricher();
    let other = exec(cookie_of_ticks(999, 60), 0, 5, "/bin/other", &["other"], SH_ID, WEB);
    enricher.surroundings_mut().processes.insert(60, other);
    let event = enricher.enrich(&window(CHILD, SH_ID, WEB, 2_000, 2_100)).unwrap();
    assert_eq!(&*event.process.exe, "?");
}

#[test]
fn a_lost_exec_record_does_not_lend_the_old_name_to_the_new_program() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    let event = enricher.enrich(&window(CHILD, SH_ID, WEB, 3_000, 3_100)).unwrap();
    assert_eq!((&*event.process.exe, event.process.ancestors.len()), ("?", 2));
    assert_eq!(enricher.counters().missed_execs, 1);
    let again = enricher.enrich(&window(CHILD, SH_ID, WEB, 3_200, 3_300)).unwrap();
    assert_eq!(&*again.process.exe, "?");
    assert_eq!(enricher.counters().missed_execs, 1);
}

/// The rings are read one after the other, so a window may come before the exec record that explains it.
#[test]
fn the_edge_is_right_when_the_window_overtakes_the_exec_record() {
    let Record::Exec(mut in_proc) = shell(0) else { panic!() };
    in_proc.bits |= EXEC_PRE_EXISTING;
    in_proc.header.boot_ns = 2_000;
    for processes in [HashMap::from([(60, *in_proc)]), HashMap::new()] {
        for birth_is_late in [false, true] {
            let mut enricher = enricher();
            enricher.surroundings_mut().processes = processes.clone();
            enricher.enrich(&nginx_before_the_agent());
            if !birth_is_late {
                enricher.enrich(&fork(2_000));
            }
            enricher.enrich(&window(CHILD, SH_ID, WEB, 3_100, 3_200));
            if birth_is_late {
                enricher.enrich(&fork(2_000));
            }
            let ran = enricher.enrich(&shell(3_000)).unwrap();
            assert_eq!((&*exec_body(&ran).parent_exe, &*ran.process.exe), ("/usr/sbin/nginx", "/bin/sh"));
            assert_eq!((&ran.process.ancestors[..], ran.process.pre_existing), (&[NGINX, INIT][..], false));
            let later = enricher.enrich(&window(CHILD, SH_ID, WEB, 3_300, 3_400)).unwrap();
            assert_eq!((&*later.process.exe, later.process.pre_existing), ("/bin/sh", false));
        }
    }
}

#[test]
fn a_lost_birth_still_gives_the_edge_from_the_creator() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    let ran = enricher.enrich(&shell(3_000)).unwrap();
    assert_eq!(&*exec_body(&ran).parent_exe, "/usr/sbin/nginx");
    assert_eq!(ran.process.ancestors, [NGINX, INIT]);
}

#[test]
fn scripts_stand_beside_their_interpreter() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    enricher.enrich(&fork(2_000));
    let mut helper = exec(CHILD, NGINX, 3_000, "/srv//helper.sh", &["/bin/sh", "/srv//helper.sh"], SH_ID, WEB);
    helper.bits |= EXEC_SCRIPT;
    let ran = enricher.enrich(&Record::Exec(Box::new(helper))).unwrap();
    assert_eq!((&*ran.process.exe, ran.process.script.as_deref()), ("/bin/sh", Some("/srv/helper.sh")));
    let id = enricher
        .enrich(&Record::Exec(Box::new(exec(CHILD, NGINX, 4_000, "/usr/bin/id", &["id"], NGINX_ID, WEB))))
        .unwrap();
    assert_eq!(exec_body(&id).parent_script.as_deref(), Some("/srv/helper.sh"));
}

#[test]
fn a_container_without_state_is_asked_about_again_at_the_next_exec() {
    let id = "4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0";
    let mut enricher = enricher();
    enricher
        .surroundings_mut()
        .cgroups
        .insert(72, "/docker/4f5e6d7c8b9a0f1e2d3c4b5a69788796a5b4c3d2e1f0a9b8c7d6e5f4a3b2c1d0");
    let run = |at| Record::Exec(Box::new(exec(CHILD, NGINX, at, "/init", &["init"], SH_ID, 72)));
    assert_eq!(&*enricher.enrich(&run(1)).unwrap().process.workload, "container:docker/unidentified");
    let info = ContainerInfo { name: Some("web".into()), image: Some("nginx".into()), ..ContainerInfo::default() };
    enricher.surroundings_mut().containers.insert(id.into(), info);
    assert_eq!(&*enricher.enrich(&run(2)).unwrap().process.workload, "container:nginx/web");
}

#[test]
fn addresses_lose_their_mapping() {
    let mut enricher = enricher();
    enricher.enrich(&nginx_before_the_agent());
    let mut remote = [0; 16];
    remote[10..].copy_from_slice(&[0xff, 0xff, 203, 0, 113, 7]);
    let header = Header { kind: Kind::Flow as u8, cookie: NGINX, boot_ns: 2_000, ..Header::default() };
    let flow = flow::Flow { header, remote, remote_port: 4444, cgroup: WEB, ..flow::Flow::default() };
    let event = enricher.enrich(&Record::Flow(flow)).unwrap();
    let Body::Flow(body) = &event.body else { panic!() };
    assert_eq!((body.remote.to_string(), body.local.to_string()), ("203.0.113.7:4444".into(), "[::]:0".into()));
    let unowned = flow::Flow { header: Header { cookie: 0, ..header }, ..flow };
    let event = enricher.enrich(&Record::Flow(unowned)).unwrap();
    assert_eq!((&*event.process.exe, &*event.process.workload), ("?", "unit:nginx.service"));
    assert_eq!(enricher.counters().unattributed, 1);
}

#[test]
fn kernel_threads_are_one_workload() {
    let mut enricher = enricher();
    let mut thread = exec(cookie_of_ticks(0, 2), 0, 0, "[kthreadd]", &[], ExeId::default(), ROOT);
    thread.bits |= EXEC_PRE_EXISTING;
    enricher.enrich(&Record::Exec(Box::new(thread)));
    assert_eq!(&*enricher.table().by_pid(2).unwrap().workload, "kernel");
}

#[test]
fn a_recording_gives_the_events_of_the_host_it_was_made_on() {
    let mut processes = host();
    processes.systemd.insert(60, "/system.slice/redis.service");
    let Record::Exec(nginx) = nginx_before_the_agent() else { panic!() };
    processes.processes.insert(50, *nginx);
    processes.exe_paths.insert(60, "/srv/run");
    let records = [
        fork(2_000),
        window(CHILD, NGINX_ID, WEB, 2_100, 2_200),
        Record::Exec(Box::new(exec(CHILD, NGINX, 3_000, "./run", &["run"], SH_ID, ROOT))),
        window(CHILD, SH_ID, ROOT, 3_100, 3_200),
        window(999, SH_ID, 1234, 3_100, 3_200),
        shell(5_000),
    ];
    let clock = Clock::real(0, 7);
    let info = Info { clock, hostname: "web-1".into(), kernel: "6.12".into(), agent: "0.1.0".into() };
    let mut recorder = Recorder::new(Vec::new(), &info).unwrap();
    let mut live = Enricher::new(clock, Noting::new(processes));
    let mut seen = Vec::new();
    for (at, record) in records.iter().enumerate() {
        if at == 3 {
            let faster = clock.with_factor(3_050, 60.0);
            live.set_clock(faster);
            recorder.note(&Note::Clock(faster)).unwrap();
        }
        seen.extend(live.enrich(record));
        for note in live.drain_notes() {
            recorder.note(&note).unwrap();
        }
        recorder.record(record.bytes()).unwrap();
    }
    let file = recorder.finish().unwrap();

    let recording = Recording::open(&file[..]).unwrap();
    let mut replayed = Enricher::new(recording.info().clock, Recorded::default());
    let mut again = Vec::new();
    for frame in recording {
        match frame.unwrap() {
            Frame::Note(note) => replayed.take_note(&note),
            Frame::Record(bytes) => again.extend(replayed.enrich(&decode(&bytes).unwrap())),
        }
    }
    assert_eq!(again, seen);
    assert_eq!(replayed.counters(), live.counters());
    assert_eq!(&*live.table().by_pid(60).unwrap().exe, "/bin/sh");
}

#[test]
fn this_process_is_found_on_this_host() {
    let mut live = Live::new();
    let pid = std::process::id();
    let me = live.take_in().into_iter().find(|exec| tgid_of(exec.header.cookie) == pid).unwrap();
    let mut enricher = Enricher::new(Clock::real(0, 0), live);
    let event = enricher.enrich(&window(me.header.cookie, me.exe, me.cgroup, u64::MAX, u64::MAX)).unwrap();
    assert_eq!(event.process.pid, pid);
    assert!(event.process.exe.ends_with(std::env::current_exe().unwrap().file_name().unwrap().to_str().unwrap()));
    assert_ne!(&*event.process.workload, identity::UNKNOWN);
    assert_eq!(enricher.counters().taken_in, 1);
}

proptest! {
    /// Whatever a record says, enrichment answers: the kernel's text and numbers are untrusted.
    #[test]
    fn any_records_give_events_within_bounds(
        records in proptest::collection::vec((1u8..=7, any::<u64>(), proptest::collection::vec(any::<u8>(), 640)), 1..60),
    ) {
        let mut enricher = enricher();
        for (kind, seed, mut bytes) in records {
            let kinds = [Kind::Fork, Kind::Exec, Kind::Exit, Kind::Window, Kind::Flow, Kind::Deny, Kind::File];
            let kind = kinds[usize::from(kind) - 1];
            // Few cookies, so that records meet; the times and everything else are arbitrary.
            let header = Header { cookie: seed % 5, boot_ns: seed.rotate_left(7), ..header(kind, 0, 0) };
            bytes[..32].copy_from_slice(bytes_of(&header));
            bytes.truncate(usize::from(header.len));
            let mut within = |at: usize, least: u8, most: u8| bytes[at] = least + bytes[at] % (most - least + 1);
            match kind {
                Kind::Fork => within(offset_of!(Fork, child), 0, 4),
                Kind::Exec => {
                    within(offset_of!(Exec, file_len) + 1, 0, 0);
                    within(offset_of!(Exec, argv_len) + 1, 0, 0);
                }
                Kind::Window => {
                    within(offset_of!(Window, why), 1, 5);
                    within(offset_of!(Window, arch), 0, 1);
                    within(offset_of!(Window, n), 1, 128);
                    within(offset_of!(Window, n) + 1, 0, 0);
                }
                Kind::Flow => {
                    within(offset_of!(flow::Flow, direction), 0, 2);
                    within(offset_of!(flow::Flow, why), 1, 3);
                }
                Kind::Deny => {
                    within(offset_of!(deny::Deny, hook), 1, 16);
                    within(offset_of!(deny::Deny, action), 0, 5);
                    within(offset_of!(deny::Deny, matched), 1, 5);
                }
                Kind::File => {
                    within(offset_of!(file::File, why), 1, 2);
                    within(offset_of!(file::File, mode), 0, 3);
                    within(offset_of!(file::File, sensitive), 0, 6);
                    within(offset_of!(file::File, path_len), 0, 232);
                    within(offset_of!(file::File, path_len) + 1, 0, 0);
                    within(offset_of!(file::File, name_len), 0, 32);
                    within(offset_of!(file::File, name_len) + 1, 0, 0);
                }
                Kind::Exit => (),
            }
            let record = decode(&bytes).map_err(|reject| TestCaseError::fail(reject.to_string()))?;
            if let Some(event) = enricher.enrich(&record) {
                prop_assert!(event.process.ancestors.len() <= 16);
                prop_assert!(event.process.cmdline.len() <= 256);
                prop_assert!(!event.process.exe.is_empty() && !event.process.workload.is_empty());
            }
        }
    }
}
