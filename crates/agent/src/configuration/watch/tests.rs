use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

fn host() -> TempDir {
    let root = TempDir::new().unwrap();
    fs::create_dir_all(root.path().join("etc/app")).unwrap();
    fs::write(root.path().join("etc/motd"), "a\n").unwrap();
    root
}

fn told(touched: &[Touched]) -> Vec<(&str, Touch)> {
    let mut told: Vec<_> = touched.iter().map(|it| (it.path.as_str(), it.touch)).collect();
    told.sort_unstable();
    told.dedup();
    told
}

/// A watch without the means that needs root.
fn without_fanotify(root: &Path) -> Watch {
    let rules = ConfigurationRules::default();
    let mut watch = Watch::begin(root, &rules);
    if watch.fanotify.take().is_some() {
        // What was marked for both asks inotify for less.
        (watch.directories, watch.marked) = (BTreeMap::new(), 0);
        watch.inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        watch.mark("/etc");
    }
    watch
}

#[test]
fn the_kernel_names_who_writes() {
    let root = host();
    let mut watch = Watch::begin(root.path(), &ConfigurationRules::default());
    if watch.means() != Means::Fanotify {
        eprintln!("skipped: {:?}", watch.wants());
        return;
    }
    assert!(watch.wants().is_empty(), "{:?}", watch.wants());

    fs::write(root.path().join("etc/motd"), "b\n").unwrap();
    let touched = watch.take();

    let written = touched.iter().find(|it| it.touch == Touch::Written).unwrap();
    assert_eq!(written.path, "/etc/motd");
    let by = written.by.as_ref().unwrap();
    assert!(by.is_own());
    let own = std::env::current_exe().unwrap();
    assert_eq!(by.executable.as_deref(), own.to_str());
    assert_eq!(by.user, Some(rustix::process::geteuid().as_raw()));
    assert!(watch.take().is_empty(), "each is told once");
}

#[test]
fn a_file_that_takes_anothers_place_has_its_name_and_actor() {
    let root = host();
    let mut watch = Watch::begin(root.path(), &ConfigurationRules::default());
    if watch.means() != Means::Fanotify {
        eprintln!("skipped: {:?}", watch.wants());
        return;
    }

    fs::write(root.path().join("etc/.motd.new"), "b\n").unwrap();
    fs::rename(root.path().join("etc/.motd.new"), root.path().join("etc/motd")).unwrap();
    let touched = watch.take();

    let is_it =
        |it: &&Touched| it.path == "/etc/motd" && it.by.as_ref().is_some_and(Toucher::is_own);
    assert!(touched.iter().any(|it| is_it(&it)), "{touched:?}");
}

#[test]
fn without_root_names_and_writes_are_told_and_nobody() {
    let root = host();
    let mut watch = without_fanotify(root.path());
    if watch.means() != Means::Inotify {
        eprintln!("skipped: {:?}", watch.wants());
        return;
    }

    fs::write(root.path().join("etc/motd"), "b\n").unwrap();
    fs::write(root.path().join("etc/app/new"), "c\n").unwrap();
    fs::set_permissions(root.path().join("etc/motd"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(root.path().join("etc/app/new"), root.path().join("etc/app/old")).unwrap();
    let touched = watch.take();

    assert!(touched.iter().all(|it| it.by.is_none()));
    assert_eq!(
        told(&touched),
        [
            ("/etc/app/new", Touch::Written),
            ("/etc/app/new", Touch::Named),
            ("/etc/app/old", Touch::Named),
            ("/etc/motd", Touch::Written),
            ("/etc/motd", Touch::Access),
        ]
    );
}

#[test]
fn directories_that_come_later_are_watched_too() {
    let root = host();
    let mut watch = without_fanotify(root.path());
    if watch.means() == Means::Looks {
        eprintln!("skipped: {:?}", watch.wants());
        return;
    }

    fs::create_dir_all(root.path().join("etc/late/deep")).unwrap();
    assert_eq!(told(&watch.take())[0], ("/etc/late", Touch::Named));
    fs::write(root.path().join("etc/late/deep/a"), "x").unwrap();

    let touched = watch.take();
    assert!(told(&touched).contains(&("/etc/late/deep/a", Touch::Written)), "{touched:?}");
}

#[test]
fn what_nobody_watches_is_not_told() {
    let root = host();
    let policy = "[configuration]\nignore = [\"/etc/app/**\"]";
    let rules = domain::order::Policy::parse(policy).unwrap().configuration;
    let mut watch = Watch::begin(root.path(), &rules);

    fs::write(root.path().join("etc/app/a"), "x").unwrap();

    assert!(watch.take().iter().all(|it| !it.path.starts_with("/etc/app/")));
}

#[test]
fn an_actor_is_a_package_manager_a_person_or_a_program() {
    let toucher = |executable: &str, login| Toucher {
        pid: 1,
        executable: Some(executable.to_owned()),
        login,
        user: Some(0),
        installs: false,
    };
    let name = |id| (id == 1000).then(|| "alice".to_owned());
    let person = |login: &str| Actor::Person { login: login.to_owned() };

    assert_eq!(toucher("/usr/bin/dpkg", Some(1000)).actor(name), Actor::PackageManager);
    assert_eq!(toucher("/usr/bin/vim.basic", Some(1000)).actor(name), person("alice"));
    assert_eq!(toucher("/usr/bin/vim.basic", Some(1001)).actor(name), person("1001"));
    let program = Actor::Program { executable: "/usr/sbin/cupsd".to_owned() };
    assert_eq!(toucher("/usr/sbin/cupsd", None).actor(name), program);
    assert_eq!(
        toucher("/srv/dpkg", None).actor(name),
        Actor::Program { executable: "/srv/dpkg".to_owned() }
    );
    let script = Toucher { installs: true, ..toucher("/usr/bin/dash", Some(1000)) };
    assert_eq!(script.actor(name), Actor::PackageManager);
    let gone = Toucher { pid: 1, executable: None, login: None, user: None, installs: false };
    assert_eq!(gone.actor(name), Actor::Unknown);
}
