//! The fuzz targets without a fuzzer: each gets good inputs and ten thousand seeded mutations of them. `cargo xtask fuzz` goes
//! on from there.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::io::Read;

use collector::replay::{Frame, Recording};

/// Mutations of each input of each target.
const MUTATIONS: u64 = 10_000;

/// Xorshift (Marsaglia 2003): the same inputs on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

fn recorded() -> Vec<u8> {
    let mut bytes = Vec::new();
    let packed = include_bytes!("../data/demo.stk.gz");
    flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).expect("the recorded demo");
    bytes
}

/// An event as the history writes it.
fn event() -> Vec<u8> {
    let process = model::Process {
        cookie: 9,
        pid: 9,
        workload: "unit:web.service".into(),
        exe: "/bin/sh".into(),
        script: Some("/srv/run".into()),
        cmdline: "sh /srv/run".into(),
        uid: 33,
        loginuid: None,
        cgroup: 7,
        ancestors: vec![4, 1],
        pre_existing: false,
    };
    let body = model::Body::Exit(model::event::Exit { code: 0 });
    let event = model::Event { at: model::Time::default(), process: std::sync::Arc::new(process), body };
    model::purge::Said::event_to_bytes(&event, model::Standing::Ready).expect("bytes")
}

/// Good inputs of a target, small enough to be mutated often.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let start = || recorded()[..20_000].to_vec();
    match name {
        "records" => {
            let bytes = recorded();
            let frames = Recording::open(&bytes[..]).expect("a recording").filter_map(Result::ok);
            let records = frames.filter_map(|frame| if let Frame::Record(bytes) = frame { Some(bytes) } else { None });
            let mut by_kind = std::collections::BTreeMap::new();
            records.take(5_000).for_each(|bytes| {
                by_kind.entry(bytes[0]).or_insert(bytes);
            });
            by_kind.into_values().collect()
        }
        "recording" => vec![start()],
        "kernel_types" => {
            let types = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
            vec![types[..types.len().min(4_096)].to_vec()]
        }
        "snapshot" => {
            let model = model::Model::new(model::Params::default()).expect("defaults");
            vec![model.snapshot().expect("a snapshot")]
        }
        "told" => {
            use model::purge::Said;
            let at = model::Time { unix_ns: 1 << 60, boot_ns: 77 };
            let said = [Said::Time(at), Said::Freeze("unit:web.service".into(), at), Said::Thaw("unit:a".into())];
            said.iter().map(|said| said.to_bytes().expect("bytes")).chain([event()]).collect()
        }
        "configuration" => vec![toml::to_string(&collector::config::Config::default()).expect("a text").into_bytes()],
        "request" => vec![
            br#"{"status":null}"#.to_vec(),
            br#"{"decisions":{"all":true}}"#.to_vec(),
            br#"{"release":{"name":"D-K2K1D","reason":"x"}}"#.to_vec(),
        ],
        _ => vec![
            b"0::/system.slice/nginx.service\n".to_vec(),
            b"1:name=systemd:/kubepods/burstable/pod1/cri-containerd-2.scope\n0::/\n".to_vec(),
        ],
    }
}

fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..1 + random.below(6) {
        match random.below(4) {
            0 if !bytes.is_empty() => {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            1 => bytes.truncate(random.below(bytes.len() + 1)),
            2 if !bytes.is_empty() => {
                // A whole number somewhere: lengths and offsets are what parsers trust too much.
                let at = random.below(bytes.len());
                let number = [0, 1, u32::MAX, u32::MAX - 1, random.next() as u32][random.below(5)].to_le_bytes();
                let end = (at + 4).min(bytes.len());
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => {
                let at = random.below(bytes.len() + 1);
                bytes.insert(at, random.next() as u8);
            }
        }
    }
    bytes
}

#[test]
fn no_target_falls_over_mutated_inputs() {
    for (name, target) in targets::TARGETS {
        let seeds = seeds(name);
        assert!(!seeds.is_empty(), "{name} has an input");
        let mut random = Random(0x5eed_0000_0000_0001);
        // A recording or snapshot takes a thousand times as long as a record.
        let times = if seeds[0].len() > 4_096 { MUTATIONS / 20 } else { MUTATIONS };
        for seed in &seeds {
            target(seed);
            (0..times).for_each(|_| target(&mutated(seed, &mut random)));
        }
    }
}
