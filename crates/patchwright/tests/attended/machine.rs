//! A virtual machine of a tenant at which people work, with an agent, from the lab's own hands.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bootstrap::{Purpose, Recipe, Release};
use lab::{
    Appliance, BaseImage, Door, Limits, Network, Power, Restart, Setting, Unobserved, WorkArea,
};
use scratch::Scratch;

use crate::archive;
use crate::cloud::Cloud;
use crate::support::{empty, run};
use crate::terminal::Terminal;

const UNIT: &str = include_str!("../../../../packaging/patchwright-agent.service");
const JOIN: &str = include_str!("../../src/drill/units/patchwright-join.service");
const DROP_IN: &str = include_str!("../../src/drill/units/drill.conf");

/// What the machine is called.
pub(crate) const NAME: &str = "web-1";

/// Who works at it.
pub(crate) const LOGIN: &str = "anna";
const PASSWORD: &str = "a password for sudo";

/// How the machine sees this one.
pub(crate) const GATEWAY: &str = "10.0.2.2";

/// What cron does each minute: counters are read beside the file's place, so that nobody sees half of it.
const CRON: &str = "* * * * * root /usr/sbin/iptables-save -c > /run/rules.v4 && \
                    cp /run/rules.v4 /etc/iptables/rules.v4\n";

/// Before the agent looks first.
const PREPARED: &str = "\
[Unit]
Description=Makes this a machine at which people work
Before=patchwright-join.service patchwright-agent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -e /opt/prepare.sh
StandardOutput=journal+console
StandardError=journal+console
";

/// One that runs.
pub(crate) struct Machine {
    appliance: Appliance,
    door: u16,
    key: PathBuf,
    /// Outlives the machine's own place in it.
    _area: WorkArea,
    /// Gone when all of that has ended.
    _place: Scratch,
}

impl Machine {
    /// Makes one whose agent joins a cloud.
    pub(crate) fn start(cloud: &Cloud) -> Self {
        let place = empty("attended");
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images");
        let recipe = Recipe { release: Release::Bookworm, purpose: Purpose::Attended };
        let image = bootstrap::make(recipe, &images, false).unwrap();
        let key = place.join("key");
        let mut make_key = Command::new("ssh-keygen");
        run(make_key.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        let seed = seed(&place, cloud, &key);
        let (area, _) = WorkArea::open(&place.join("machines")).unwrap();
        let door = free_port();
        let network = Network::Host { doors: vec![Door { here: door, there: 22 }] };
        let limits = Limits { processors: 1, memory_mib: 768, ..Limits::default() };
        let setting = Setting { network, restart: Restart::GoesOn, seed: Some(seed) };
        let image = BaseImage::open(&image).unwrap();
        let appliance = Appliance::start(&area, &image, &limits, setting, Arc::new(Unobserved));
        Self { appliance: appliance.unwrap(), door, key, _area: area, _place: place }
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        command.arg("-i").arg(&self.key).args(["-tt", "-p", &self.door.to_string()]);
        command.arg(format!("{LOGIN}@127.0.0.1"));
        command
    }

    /// A person logs in under their own name, and becomes root.
    pub(crate) fn at_work(&self) -> Terminal {
        let mut terminal = Terminal::open(self.ssh());
        terminal.become_root(LOGIN, PASSWORD);
        terminal
    }

    /// It must run; what its console printed last, where it does not.
    pub(crate) fn must_run(&mut self) {
        let power = self.appliance.power().clone();
        assert_eq!(power, Power::On, "{}", self.console());
    }

    /// The end of what its console printed.
    pub(crate) fn console(&self) -> String {
        let text = fs::read(self.appliance.serial_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// A disk with what makes the machine that one.
fn seed(place: &Path, cloud: &Cloud, key: &Path) -> PathBuf {
    let root = place.join("seed");
    let file = |path: &str, text: &str, mode: u32| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = fs::OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(mode).open(path);
        std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
    };
    let units = "etc/systemd/system";
    let unit = UNIT.replace("/usr/bin/patchwright-agent run", "/usr/bin/patchwright agent run");
    file(&format!("{units}/patchwright-agent.service"), &unit, 0o644);
    file(&format!("{units}/patchwright-agent.service.d/drill.conf"), DROP_IN, 0o644);
    let after = "[Unit]\nRequires=prepared.service\nAfter=prepared.service\n";
    file(&format!("{units}/patchwright-join.service.d/prepared.conf"), after, 0o644);
    file(&format!("{units}/patchwright-join.service"), JOIN, 0o644);
    file(&format!("{units}/prepared.service"), PREPARED, 0o644);
    let wants = root.join(units).join("multi-user.target.wants");
    fs::create_dir_all(&wants).unwrap();
    symlink("../patchwright-agent.service", wants.join("patchwright-agent.service")).unwrap();
    let agents = cloud.world.up.agents.replace("127.0.0.1", GATEWAY);
    let token = cloud.join_token();
    let environment =
        format!("CONTROL_PLANE={agents}\nHOST={NAME}\nPATCHWRIGHT_JOIN_TOKEN={token}\n");
    file("etc/patchwright/join.env", &environment, 0o600);
    let public = fs::read_to_string(key.with_extension("pub")).unwrap();
    file("opt/person.pub", &public, 0o600);
    file("opt/prepare.sh", &prepare(), 0o600);
    file("etc/cron.d/counters", CRON, 0o644);
    let source = "Types: deb\nURIs: file:/srv/archive\nSuites: ./\n\
                  Signed-By: /etc/apt/keyrings/demo.gpg\n";
    file("etc/apt/sources.list.d/debian.sources", source, 0o644);
    archive::make(&root);
    let program = root.join("usr/bin/patchwright");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    // Without what debuggers need: the machine reads it from a disk.
    let mut strip = Command::new("strip");
    run(strip.arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_patchwright")));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let disk = place.join("seed.img");
    bootstrap::seed(&root, &disk).unwrap();
    disk
}

/// Somebody who may use sudo, the package as it was, and files that will be altered.
fn prepare() -> String {
    format!(
        "useradd --create-home --shell /bin/bash --groups sudo {LOGIN}\n\
         echo '{LOGIN}:{PASSWORD}' | chpasswd\n\
         install -d -m 700 -o {LOGIN} -g {LOGIN} /home/{LOGIN}/.ssh\n\
         install -m 600 -o {LOGIN} -g {LOGIN} /opt/person.pub /home/{LOGIN}/.ssh/authorized_keys\n\
         apt-get -q update\n\
         DEBIAN_FRONTEND=noninteractive apt-get -q -y install {package}\n\
         echo '127.0.1.1 {NAME}' >> /etc/hosts\n\
         iptables -A INPUT -p tcp --dport 22 -j ACCEPT\n\
         mkdir -p /etc/iptables\n\
         iptables-save -c > /etc/iptables/rules.v4\n\
         echo welcome > /etc/motd\n",
        package = archive::PACKAGE
    )
}

/// A port of this host's loopback that nobody uses.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
