//! A volume in a real libvirt's pool, followed by the whole product from a command line. libvirt is nobody's: where root
//! runs the tests, `virsh` is run as nobody.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::configuration_is_kept::holds;
use crate::up::Up;

const PROVIDER: &str = "ten_00000000000000000000000000";

const SECRET: &str = "Tr0ub4dor-and-3";

const NOBODY: u32 = 65534;

/// How long something may take that has no reason to.
const PATIENCE: Duration = Duration::from_secs(120);

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A user's own libvirt with a pool of images, short enough for the names of sockets. It ends with this.
struct Rack(tempfile::TempDir);

impl Rack {
    fn new() -> Self {
        let home = tempfile::Builder::new().prefix("pw-").tempdir_in("/tmp").unwrap();
        let rack = Self(home);
        fs::create_dir(rack.images()).unwrap();
        // A pipe is reopened by whoever made it alone: virsh's is made by its own user.
        let script = format!(
            "#!/bin/bash\nif [ \"$(id -u)\" = 0 ]; then\n  exec setpriv --reuid={NOBODY} --regid={NOBODY} \
             --clear-groups -- \"$0\" \"$@\"\nfi\nexport HOME={0} XDG_RUNTIME_DIR={0} XDG_CONFIG_HOME={0} \
             XDG_CACHE_HOME={0}\ncd {0}\n/usr/bin/virsh \"$@\" | cat\nexit \"${{PIPESTATUS[0]}}\"\n",
            rack.0.path().display()
        );
        fs::write(rack.virsh(), script).unwrap();
        fs::set_permissions(rack.virsh(), fs::Permissions::from_mode(0o755)).unwrap();
        if fs::metadata(rack.0.path()).unwrap().uid() == 0 {
            for path in [rack.0.path(), &rack.images(), &rack.virsh()] {
                chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let target = rack.images().display().to_string();
        run(Command::new(rack.virsh())
            .args(["-q", "-c", "qemu:///session", "pool-create-as"])
            .args(["--name", "images", "--type", "dir", "--target", &target]));
        rack
    }

    fn images(&self) -> PathBuf {
        self.0.path().join("images")
    }

    fn virsh(&self) -> PathBuf {
        self.0.path().join("virsh")
    }

    /// Puts a system's disk there, in place of the one before.
    fn put(&self, name: &str, port: u16, more: Option<&str>) {
        let place = tempfile::tempdir().unwrap();
        let (root, file) = (place.path().join("root"), self.images().join(name));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
        let ini = format!("listen = {port}\npassword = {SECRET}\n");
        fs::write(root.join("etc/app.ini"), ini).unwrap();
        if let Some(more) = more {
            fs::write(root.join("etc").join(more), "b = 2\n").unwrap();
        }
        let made = place.path().join("disk");
        let owner = ["-q", "-E", "root_owner=0:0", "-d"];
        run(Command::new("mkfs.ext4").args(owner).arg(&root).arg(&made).arg("16M"));
        // Another file under the same name, as whoever publishes images does it.
        let beside = self.images().join(".new");
        fs::copy(&made, &beside).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
        fs::rename(&beside, &file).unwrap();
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        for daemon in ["libvirtd", "virtlogd"] {
            let note = self.0.path().join("libvirt").join(daemon).with_extension("pid");
            let id = fs::read_to_string(note).unwrap_or_default();
            if !id.trim().is_empty() {
                let _ = Command::new("kill").arg(id.trim()).status();
            }
        }
    }
}

struct Cloud {
    up: Up,
    token: String,
    directory: tempfile::TempDir,
}

impl Cloud {
    fn over(rack: &Rack) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let stores = directory.path().join("stores.toml");
        fs::write(&stores, "[rack-1]\nlibvirt = \"qemu:///session\"\npools = [\"images\"]\n")
            .unwrap();
        let path = format!("{}:{}", rack.0.path().display(), std::env::var("PATH").unwrap());
        let arguments = ["--image-stores", stores.to_str().unwrap()];
        let data = directory.path().join("data");
        let up = Up::start_with(&data, &arguments, &[("PATH", &path)]).unwrap();
        let token = up.sign_in();
        Self { up, token, directory }
    }

    fn client(&self, arguments: &[&str]) -> String {
        run(Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("PATCHWRIGHT_URL", &self.up.console)
            .env("PATCHWRIGHT_TOKEN", &self.token)
            .env("NO_COLOR", "1"))
    }

    fn item(&self, name: &str) {
        let body = json!({ "tenant": PROVIDER, "class": "image", "name": name });
        let (status, made) = self.up.ask(&self.token, "POST", "/cis", &body, name).unwrap();
        assert_eq!(status, 201, "{made}");
    }

    /// The source once it is so.
    fn once(&self, item: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let source = self.client(&["source", "show", item, "image", "-o", "json"]);
            let source: Value = serde_json::from_str(&source).unwrap();
            if is_so(&source) {
                return source;
            }
            assert!(begun.elapsed() < PATIENCE, "it is not {what}: {source}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Files of images that are being read.
fn lying(data: &Path) -> usize {
    fs::read_dir(data.join("lab/stores")).unwrap().count()
}

#[test]
fn a_volume_is_followed_and_a_hostile_one_harms_nothing() {
    let rack = Rack::new();
    rack.put("web.raw", 80, None);
    fs::write(rack.images().join("noise.raw"), vec![0x5a; 1 << 20]).unwrap();
    let cloud = Cloud::over(&rack);
    let data = cloud.directory.path().join("data");
    cloud.item("golden-web");
    cloud.item("noise");

    assert!(cloud.client(&["source", "stores"]).contains("rack-1"));
    let listed = cloud.client(&["source", "images", "rack-1"]);
    let line = listed.lines().find(|line| line.contains("images/web.raw")).expect(&listed);
    assert!(line.contains("raw") && line.contains("unknown"), "{listed}");

    let store = ["--store", "rack-1", "--image", "images/web.raw"];
    cloud.client(&[&["source", "set", "store", "golden-web", "image"], &store[..]].concat());
    let first = cloud.once("golden-web", "seen", |it| it["state"] == "seen");
    let shown = cloud.client(&["config", "show", "golden-web", "/etc/app.ini"]);
    assert!(shown.starts_with("listen = 80\npassword = <redacted:password:"), "{shown}");
    let listed = cloud.client(&["source", "images", "rack-1"]);
    let line = listed.lines().find(|line| line.contains("images/web.raw")).expect(&listed);
    assert!(line.contains("ci_"), "{listed}");

    rack.put("web.raw", 8080, Some("new.ini"));
    cloud.client(&["source", "look", "golden-web", "image"]);
    cloud.once("golden-web", "seen anew", |it| {
        it["state"] == "seen" && it["progress"] != first["progress"]
    });
    let altered = cloud.client(&["config", "show", "golden-web", "/etc/app.ini"]);
    assert_eq!(
        altered,
        shown.replace("listen = 80\n", "listen = 8080\n"),
        "the secret is the same"
    );
    let log = cloud.client(&["config", "log", "golden-web", "/etc/app.ini", "-o", "json"]);
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["items"].as_array().map(Vec::len), Some(2), "{log}");
    cloud.client(&["config", "show", "golden-web", "/etc/new.ini"]);

    let store = ["--store", "rack-1", "--image", "images/noise.raw"];
    cloud.client(&[&["source", "set", "store", "noise", "image"], &store[..]].concat());
    let source = cloud.once("noise", "told", |it| it["state"] == "unreachable");
    let reason = source["reason"].as_str().unwrap();
    assert!(reason.starts_with("the image cannot be read: "), "{reason}");
    let shown = cloud.client(&["source", "show", "noise", "image"]);
    assert!(shown.contains("the image cannot be read"), "{shown}");
    cloud.once("golden-web", "seen still", |it| it["state"] == "seen");

    assert_eq!(lying(&data), 0, "what was fetched is gone");
    assert_eq!(holds(&data, SECRET.as_bytes()), None, "nothing is kept with its secrets");
}
