use collector::loader::*;
fn main() {
    let opts = KernelOptions { cgroup_mount: mount_of_cgroup2(), bulk_bytes: 1 << 20, ..Default::default() };
    let mut k = match Kernel::load(&opts) {
        Ok(k) => k,
        Err(e) => {
            println!("{e}");
            return;
        }
    };
    println!("{:?}", k.load_time());
    for a in k.attached() {
        println!("{} {:?} {}", a.row.program, a.row.hook, a.off.as_deref().unwrap_or("OK"));
    }
    let (mut ctrl, mut bulk) = k.take_rings().unwrap();
    std::process::Command::new("/bin/sh").arg("-c").arg("ls / >/dev/null; id").status().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut n = 0;
    while let Some(r) = ctrl.next() {
        let rec = collector::decode::decode(&r);
        if n < 12 {
            match rec {
                Ok(collector::decode::Record::Exec(e)) => println!(
                    "EXEC {} {} bits {:x} uid {} login {} exe {:?} old {:?} cg {} ns {} {} {} argv {:?} parent {:x}",
                    e.header.cookie & 0x3fffff,
                    String::from_utf8_lossy(&e.file[..e.file_len as usize]),
                    e.bits,
                    e.uid,
                    e.loginuid,
                    e.exe,
                    e.old_exe,
                    e.cgroup,
                    e.netns,
                    e.pidns,
                    e.mntns,
                    String::from_utf8_lossy(&e.argv[..e.argv_len as usize]),
                    e.parent
                ),
                o => println!("{:?}", o.map(|r| format!("{:?}", r).chars().take(260).collect::<String>())),
            }
        }
        n += 1;
    }
    let mut m = 0;
    let mut shown = 0;
    while let Some(r) = bulk.next() {
        if let Ok(collector::decode::Record::Window(w)) = collector::decode::decode(&r) {
            if w.why == 5 && shown < 3 {
                shown += 1;
                println!(
                    "WIN n {} why {} tid {} trace {:?}",
                    w.n,
                    w.why,
                    w.tid,
                    w.trace[..w.n as usize].iter().map(|t| t & 0x3ff).collect::<Vec<_>>()
                );
            }
        }
        m += 1;
    }
    println!("ctrl {n} bulk {m}");
    for (p, c, s) in k.stats().unwrap() {
        if s.seen > 0 {
            println!("{p:?} cpu{c} {s:?}");
        }
    }
}
