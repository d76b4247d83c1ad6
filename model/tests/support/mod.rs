//! A small shop whose events are made up: a web server, its helper, its database, under a compressed clock.
#![allow(dead_code, reason = "each test uses its own part of it")]

use std::net::SocketAddr;
use std::sync::Arc;

use collector_common::flow::{Direction, Why};
use collector_common::syscall;
use collector_common::token::{self, Outcome};
use libm::exp2;
use model::event::{Exec, Flow, Process, Window};
use model::random::Random;
use model::{Body, Event, Model, Params, Standing, Time, Verdict};

pub const SHOP: &str = "unit:shop.service";
pub const HTTPD: &str = "/usr/bin/httpd";
pub const HELPER: &str = "/usr/bin/helper";
pub const DATABASE: &str = "10.0.0.5:5432";
const SECOND: u64 = 1_000_000_000;
/// Ninety seconds of the boot clock are a day.
const FACTOR: u64 = 960;

/// What the server's threads usually call, one request after another (x86-64): accept4, read, stat, openat, fstat,
/// sendfile, close, write, epoll_wait, and now and then a futex or a look at the clock.
const REQUEST: [u16; 9] = [288, 0, 4, 257, 5, 40, 3, 1, 232];

pub struct World {
    pub boot_ns: u64,
    unix_ns: u64,
    /// How much faster the unix clock runs.
    pub factor: u64,
    pub random: Random,
    next_cookie: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        // 2026-01-01, so that days and hours are ordinary numbers.
        let unix_ns = 1_767_225_600 * SECOND;
        Self { boot_ns: 100 * SECOND, unix_ns, factor: FACTOR, random: Random::new(seed), next_cookie: 1_000 }
    }

    pub fn now(&self) -> Time {
        Time { boot_ns: self.boot_ns, unix_ns: self.unix_ns }
    }

    pub fn pass(&mut self, seconds: f64) {
        let passed = (seconds * SECOND as f64) as u64;
        self.boot_ns += passed;
        self.unix_ns += passed * self.factor;
    }

    pub fn process(&mut self, exe: &str, ancestors: &[u64]) -> Arc<Process> {
        self.next_cookie += 1;
        process(self.next_cookie, exe, ancestors)
    }

    pub fn event(&self, process: &Arc<Process>, body: Body) -> Event {
        Event { at: self.now(), process: process.clone(), body }
    }

    /// A window of ordinary requests.
    pub fn ordinary(&mut self) -> Window {
        let mut trace = Vec::new();
        while trace.len() < syscall::WINDOW {
            for call in REQUEST {
                let detour = self.random.unit();
                if detour < 0.01 {
                    trace.push(202);
                } else if detour < 0.02 {
                    trace.push(228);
                }
                trace.push(call);
            }
        }
        trace.truncate(syscall::WINDOW);
        let bytes = (2_000.0 * exp2(3.0 * self.random.unit())) as u64;
        let errors = (3.0 * self.random.unit()) as u16;
        window(&trace, bytes, errors)
    }

    /// What the shop does in a second: a window or two of each worker, sometimes a helper, sometimes the database.
    pub fn second(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        for worker in [101, 102, 103] {
            let httpd = process(worker, HTTPD, &[100]);
            let window = self.ordinary();
            events.push(self.event(&httpd, Body::Window(window)));
            if self.random.unit() < 0.5 {
                let tx = (300.0 * exp2(2.0 * self.random.unit())) as u64;
                events.push(self.event(&httpd, Body::Flow(flow(Direction::Out, DATABASE, Why::Close, tx))));
                let tx = (5_000.0 * exp2(3.0 * self.random.unit())) as u64;
                events.push(self.event(&httpd, Body::Flow(flow(Direction::In, "192.0.2.9:40000", Why::Close, tx))));
            }
            if self.random.unit() < 0.3 {
                let helper = self.process(HELPER, &[worker, 100]);
                events.push(self.event(&helper, Body::Exec(exec(HTTPD, 0))));
                let calls = [12, 257, 5, 9, 3, 0, 1, 231];
                events.push(self.event(&helper, Body::Window(window_of(&calls, 200))));
            }
            self.pass(1.0 / 3.0);
        }
        events
    }
}

pub fn worker() -> Arc<Process> {
    process(101, HTTPD, &[100])
}

pub fn process(cookie: u64, exe: &str, ancestors: &[u64]) -> Arc<Process> {
    Arc::new(Process {
        cookie,
        pid: cookie as u32,
        workload: SHOP.into(),
        exe: exe.into(),
        script: None,
        cmdline: exe.into(),
        uid: 33,
        loginuid: None,
        cgroup: 7,
        ancestors: ancestors.to_vec(),
        pre_existing: false,
    })
}

pub fn exec(parent: &str, bits: u32) -> Exec {
    Exec {
        parent: 0,
        parent_exe: parent.into(),
        parent_script: None,
        argv: Vec::new(),
        argv_full: 0,
        bits,
        euid: 33,
        gid: 33,
        netns: 1,
    }
}

pub fn flow(direction: Direction, remote: &str, why: Why, tx_bytes: u64) -> Flow {
    let local: SocketAddr =
        if direction == Direction::In { "10.0.0.2:80" } else { "10.0.0.2:51000" }.parse().expect("a");
    Flow {
        socket: 1,
        opener: 0,
        why: why as u8,
        direction: direction as u8,
        protocol: 6,
        tcp_flags: 0,
        local,
        remote: remote.parse().expect("an address"),
        tx_bytes,
        rx_bytes: 500,
        tx_packets: 5,
        rx_packets: 5,
        first_ns: 0,
        last_ns: 0,
        gaps: Default::default(),
        sizes: Default::default(),
    }
}

pub fn window_of(numbers: &[u16], bytes: u64) -> Window {
    window(numbers, bytes, 0)
}

fn window(numbers: &[u16], bytes: u64, errors: u16) -> Window {
    Window {
        tid: 1,
        why: syscall::Why::Full as u8,
        missed: 0,
        start_boot_ns: 0,
        errors,
        permission_errors: 0,
        read_bytes: bytes / 2,
        write_bytes: bytes / 2,
        class: Default::default(),
        novel_trigrams: Vec::new(),
        trace: numbers.iter().map(|number| token::token(*number, Outcome::Ok, token::arg::PLAIN)).collect(),
    }
}

/// Code inside the server reads whatever it finds: calls that each exist elsewhere, in an order that the server never
/// makes, and no program, address or trigger call that is new.
pub fn in_process_attack(bytes: u64) -> Window {
    let calls = [217, 89, 262, 8, 17, 217, 8, 16, 72, 21, 79, 80, 217, 6, 8, 25, 11, 28, 17, 8];
    window_of(&calls, bytes)
}

pub fn model(params: Params) -> Model {
    Model::new(params).expect("good parameters")
}

/// Ninety seconds of learning, then frozen.
pub fn learnt(params: Params, world: &mut World) -> Model {
    let mut model = model(params);
    for _ in 0..90 {
        for event in world.second() {
            model.observe(&event, Standing::Learning);
        }
    }
    model.freeze(SHOP, world.now());
    world.factor = 1;
    model
}

pub fn judge(model: &mut Model, event: &Event) -> Verdict {
    model.observe(event, Standing::Ready).expect("evidence")
}
