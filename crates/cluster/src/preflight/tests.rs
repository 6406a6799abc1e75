use super::*;

fn good() -> Facts {
    Facts {
        is_root: true,
        modules: Some(vec!["overlay".into(), "veth".into(), "bridge".into()]),
        has_nftables: true,
        cgroups: Cgroups { controllers: vec!["cpu".into(), "memory".into(), "pids".into()] },
        free_bytes: Some(ROOM),
        ..Facts::default()
    }
}

fn wanted() -> Wanted {
    Wanted {
        data_dir: "/data".into(),
        agent: true,
        networks: vec![("10.42.0.0/16".into(), "--cluster-cidr"), ("10.43.0.0/16".into(), "--service-cidr")],
        own_links: vec!["navarch0".into()],
        ..Wanted::default()
    }
}

fn told(change: impl FnOnce(&mut Facts, &mut Wanted)) -> String {
    let (mut facts, mut wanted) = (good(), wanted());
    change(&mut facts, &mut wanted);
    let lines: Vec<String> = check(&facts, &wanted).iter().map(ToString::to_string).collect();
    assert!(lines.iter().all(|l| !l.contains('\n')), "{lines:?}");
    lines.join("\n")
}

fn route(network: &str, link: &str) -> Route {
    Route { network: Network::parse(network).unwrap(), link: link.into() }
}

#[test]
fn each_problem_is_one_line_that_says_what_to_do() {
    let check = |found: String, wanted: expect_test::Expect| wanted.assert_eq(&found);
    assert_eq!(told(|_, _| {}), "");
    check(
        told(|f, _| f.is_root = false),
        expect_test::expect![[
            r#"a node needs root: it makes namespaces, mounts and cgroups: run it as root (sudo), or only the control plane with --disable-agent [HOST-NOT-ROOT]"#
        ]],
    );
    check(
        told(|f, _| {
            f.modules = Some(vec!["veth".into()]);
            f.has_nftables = false;
            f.missing_namespaces = vec!["net", "pid"];
        }),
        expect_test::expect![[r#"
            this kernel has no overlay, which is needed for root file systems of containers: load it (modprobe overlay), or use a kernel that has it [HOST-KERNEL]
            this kernel has no bridge, which is needed for the pod network: load it (modprobe bridge), or use a kernel that has it [HOST-KERNEL]
            this kernel has no nf_tables, which is needed for services: load it (modprobe nf_tables), or use a kernel that has it [HOST-KERNEL]
            this kernel has no namespaces of kind net, pid: use a kernel that is built with them [HOST-KERNEL]"#]],
    );
    check(
        told(|f, _| f.cgroups.controllers.clear()),
        expect_test::expect![[
            r#"there are no control groups at /sys/fs/cgroup: mount them (mount -t cgroup2 none /sys/fs/cgroup), or start on a machine that has them [HOST-CGROUPS]"#
        ]],
    );
    check(
        told(|f, _| f.cgroups.controllers.retain(|c| c != "memory")),
        expect_test::expect![[
            r#"the control groups have no memory controller: turn it on at boot (cgroup_enable=memory), or start on a machine that has it [HOST-CGROUPS]"#
        ]],
    );
    check(
        told(|f, _| f.holder = Some("17".into())),
        expect_test::expect![[
            r#"/data is in use by another navarch (pid 17): stop that one, or give this one another --data-dir [DATA-IN-USE]"#
        ]],
    );
    check(
        told(|f, _| f.is_local = true),
        expect_test::expect![[
            r#"/data holds a cluster of `navarch up`: give another --data-dir, or remove that one (navarch down --purge) [DATA-FOREIGN]"#
        ]],
    );
    check(
        told(|f, _| f.free_bytes = Some(3 << 20)),
        expect_test::expect![[
            r#"only 3 MiB are free for /data: make room (64 MiB at least), or use another --data-dir [DATA-DISK-FULL]"#
        ]],
    );
    check(
        told(|f, _| {
            let address = "0.0.0.0:6443".parse().unwrap();
            f.taken = vec![Taken { address, flag: "--https-listen-port", by: "nginx (pid 3) has that port".into() }];
        }),
        expect_test::expect![[
            r#"cannot listen on 0.0.0.0:6443: nginx (pid 3) has that port: stop that program, or choose another place with --https-listen-port [NET-PORT-BUSY]"#
        ]],
    );
    check(
        told(|f, _| {
            f.routes = vec![route("0.0.0.0/0", "eth0"), route("10.0.0.0/8", "wg0"), route("10.42.0.0/24", "navarch0")]
        }),
        expect_test::expect![[r#"
            --cluster-cidr 10.42.0.0/16 overlaps 10.0.0.0/8, which this machine reaches over wg0: choose another network with --cluster-cidr [NET-CIDR-OVERLAP]
            --service-cidr 10.43.0.0/16 overlaps 10.0.0.0/8, which this machine reaches over wg0: choose another network with --service-cidr [NET-CIDR-OVERLAP]"#]],
    );
    check(
        told(|_, w| w.networks[1].0 = "10.42.7.0/24".into()),
        expect_test::expect![[
            r#"--service-cidr 10.42.7.0/24 and --cluster-cidr 10.42.0.0/16 overlap: give them separate networks [NET-CIDR-OVERLAP]"#
        ]],
    );
    check(
        told(|_, w| w.networks[0].0 = "10.42.0.0".into()),
        expect_test::expect![[
            r#"--cluster-cidr "10.42.0.0" is no IPv4 network: write it as address/length, like 10.42.0.0/16 [NET-CIDR]"#
        ]],
    );
}

#[test]
fn the_control_plane_alone_needs_no_node() {
    let (mut facts, mut wanted) = (Facts { free_bytes: Some(ROOM), ..Facts::default() }, wanted());
    wanted.agent = false;
    assert_eq!(check(&facts, &wanted), []);
    facts.holder = Some("1".into());
    assert_eq!(check(&facts, &wanted)[0].id, "DATA-IN-USE");
}

/// A machine made of files: what is read where.
#[test]
fn facts_are_read_from_the_machine() {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    put("proc/sys/kernel/osrelease", "6.1\n");
    put("lib/modules/6.1/modules.builtin", "kernel/fs/overlayfs/overlay.ko\n");
    put("lib/modules/6.1/modules.dep", "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz\n");
    put("proc/modules", "nf_tables 1 2 - Live 0x0\n");
    put("proc/filesystems", "nodev\tproc\n\text4\n");
    put("proc/self/ns/net", "");
    put("sys/fs/cgroup/cpu,cpuacct/tasks", "");
    put("sys/fs/cgroup/memory/tasks", "");
    put(
        "proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\neth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\nwg0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
    );
    let listen =
        format!("sl local rem st\n 0: 0100007F:{:04X} 00000000:0000 0A 0:0 0:0 0 0 0 4711 1\n", address.port());
    put("proc/net/tcp", &listen);
    put("proc/12/comm", "nginx\n");
    std::fs::create_dir_all(dir.path().join("proc/12/fd")).unwrap();
    std::os::unix::fs::symlink("socket:[4711]", dir.path().join("proc/12/fd/3")).unwrap();
    put("data/server/db/lock", "99");
    let held = std::fs::File::open(dir.path().join("data/server/db/lock")).unwrap();
    held.lock().unwrap();

    let wanted = Wanted { data_dir: dir.path().join("data"), listen: vec![(address, "--x")], ..Wanted::default() };
    let facts = Facts::gather(dir.path(), &wanted);
    assert!(!facts.lacks("overlay") && !facts.lacks("bridge") && facts.lacks("veth"));
    assert_eq!(facts.missing_namespaces, ["mnt", "pid", "uts", "ipc"]);
    let mut controllers = facts.cgroups.controllers.clone();
    controllers.sort();
    assert_eq!(controllers, ["cpu", "cpuacct", "memory"]);
    assert_eq!(facts.routes, [route("0.0.0.0/0", "eth0"), route("192.168.0.0/24", "wg0")]);
    assert_eq!(facts.taken[0].by, "nginx (pid 12) has that port");
    assert_eq!(facts.holder.as_deref(), Some("99"));
    assert!(facts.free_bytes.is_some_and(|free| free > 0));
}
