//! The default entry of a `grub.cfg`, read without GRUB.
//!
//! What `update-grub` writes is a script; the default entry in it is the first `menuentry`, or the
//! one that `set default="N"` numbers. Anything cleverer (a saved entry, a condition) is decided
//! at boot by a person or a file and falls back to the first here as it does there.

/// What an entry loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) linux: String,
    pub(super) initrd: String,
    pub(super) command_line: String,
}

/// `None` where there is no entry with a kernel and an initial RAM filesystem.
pub(super) fn default_entry(configuration: &str) -> Option<Entry> {
    let mut default = 0_usize;
    let mut entries: Vec<Entry> = Vec::new();
    let mut current: Option<(Option<String>, Option<String>, String)> = None;
    // Entries inside a submenu are not the top level's to number.
    let mut in_submenu = 0_usize;
    for line in configuration.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("set") => {
                let value = words.next().and_then(|word| word.strip_prefix("default="));
                default = value
                    .and_then(|value| value.trim_matches(['"', '\'']).parse().ok())
                    .unwrap_or(default);
            }
            Some("menuentry") if in_submenu == 0 => current = Some(Default::default()),
            Some("submenu" | "menuentry") => in_submenu += 1,
            Some("linux" | "linuxefi" | "linux16") => {
                if let Some((linux, _, command_line)) = &mut current {
                    *linux = words.next().map(str::to_owned);
                    let words: Vec<&str> = words.filter(|word| !word.starts_with('$')).collect();
                    *command_line = words.join(" ");
                }
            }
            Some("initrd" | "initrdefi" | "initrd16") => {
                if let Some((_, initrd, _)) = &mut current {
                    *initrd = words.next_back().map(str::to_owned);
                }
            }
            Some("}") => match current.take() {
                Some((Some(linux), Some(initrd), command_line)) => {
                    entries.push(Entry { linux, initrd, command_line });
                }
                Some(_) => {}
                None => in_submenu = in_submenu.saturating_sub(1),
            },
            _ => {}
        }
    }
    let chosen = if default < entries.len() { default } else { 0 };
    (!entries.is_empty()).then(|| entries.swap_remove(chosen))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = r#"
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="0"
fi
function load_video {
  insmod all_video
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-1' {
	load_video
	if [ "${grub_platform}" = xen ]; then insmod xzio; fi
	search --no-floppy --fs-uuid --set=root 1
	echo	'Loading Linux 6.1.0-32-amd64 ...'
	linux	/boot/vmlinuz-6.1.0-32-amd64 root=UUID=1 ro $vt_handoff quiet
	initrd	/boot/initrd.img-6.1.0-32-amd64
}
submenu 'Advanced options' {
	menuentry 'Debian GNU/Linux, with Linux 6.1.0-9' {
		linux	/boot/vmlinuz-6.1.0-9-amd64 root=UUID=1 ro single
		initrd	/boot/initrd.img-6.1.0-9-amd64
	}
}
"#;

    #[test]
    fn debians_default_is_the_first() {
        let entry = default_entry(DEBIAN).unwrap();

        assert_eq!(entry.linux, "/boot/vmlinuz-6.1.0-32-amd64");
        assert_eq!(entry.initrd, "/boot/initrd.img-6.1.0-32-amd64");
        assert_eq!(entry.command_line, "root=UUID=1 ro quiet");
    }

    #[test]
    fn a_number_chooses_among_the_top_entries() {
        let two = "set default=\"1\"\nmenuentry a {\nlinux /a x\ninitrd /ai\n}\nmenuentry b {\nlinux /b y\ninitrd /bi\n}";
        assert_eq!(default_entry(two).unwrap().linux, "/b");
    }

    proptest::proptest! {
        /// The configuration comes from an image.
        #[test]
        fn no_configuration_is_too_strange(
            lines in proptest::collection::vec("(set default=\\PC{0,4}|submenu x|menuentry x|linux /a \\PC{0,9}|initrd /b|[}])", 0..40)
        ) {
            if let Some(entry) = default_entry(&lines.join("\n")) {
                proptest::prop_assert_eq!(entry.linux, "/a");
            }
        }
    }

    #[test]
    fn an_empty_configuration_has_no_entry() {
        assert_eq!(default_entry(""), None);
        assert_eq!(default_entry("menuentry a {\nlinux /a\n}"), None);
    }
}
