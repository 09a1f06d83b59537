//! The machine that libvirt is told to be: the lab's, in libvirt's words (formatdomain).

use std::fmt::Write as _;
use std::path::Path;

use lab::{Accelerator, BaseImage, Firmware};

use super::LibvirtError;
use super::xml::escaped;
use crate::limits::Limits;

/// Everything about a domain.
#[derive(Debug)]
pub(super) struct Domain<'a> {
    pub(super) name: &'a str,
    pub(super) accelerator: Accelerator,
    pub(super) firmware: &'a Firmware,
    pub(super) limits: &'a Limits,
    pub(super) overlay: &'a Path,
    pub(super) base: &'a BaseImage,
    pub(super) console: &'a Path,
}

impl Domain<'_> {
    /// No network, no display, no USB; a restart ends it; the image below the overlay is named
    /// here, so that no header decides which file QEMU opens.
    pub(super) fn xml(&self) -> Result<String, LibvirtError> {
        let (kind, processor) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "<cpu mode='host-passthrough'/>".to_owned()),
            Accelerator::Tcg => {
                let model = self.accelerator.processor();
                let exact = format!("<model fallback='forbid'>{model}</model>");
                ("qemu", format!("<cpu mode='custom' match='exact' check='none'>{exact}</cpu>"))
            }
        };
        let mut flash = String::new();
        if let Firmware::Uefi { code, variables } = self.firmware {
            let (code, variables) = (path(code)?, path(variables)?);
            let _ = write!(
                flash,
                "<loader readonly='yes' type='pflash'>{code}</loader><nvram>{variables}</nvram>"
            );
        }
        let (overlay, base) = (path(self.overlay)?, path(self.base.path())?);
        let console = path(self.console)?;
        Ok(format!(
            "<domain type='{kind}'>\n\
             <name>{name}</name>\n\
             <memory unit='MiB'>{memory}</memory>\n\
             <vcpu>{processors}</vcpu>\n\
             <os><type arch='x86_64' machine='q35'>hvm</type>{flash}<boot dev='hd'/></os>\n\
             <features><acpi/><apic/></features>\n\
             {processor}\n\
             <clock offset='utc'/>\n\
             <on_poweroff>destroy</on_poweroff>\n\
             <on_reboot>destroy</on_reboot>\n\
             <on_crash>destroy</on_crash>\n\
             <devices>\n\
             <disk type='file' device='disk'>\n\
             <driver name='qemu' type='qcow2' discard='unmap' error_policy='stop'/>\n\
             <source file='{overlay}'/>\n\
             <backingStore type='file'><format type='{format}'/><source file='{base}'/>\
             <backingStore/></backingStore>\n\
             <target dev='vda' bus='virtio'/>\n\
             <serial>root</serial>\n\
             </disk>\n\
             <serial type='file'><source path='{console}'/><target port='0'/></serial>\n\
             <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\n\
             <controller type='usb' model='none'/>\n\
             <video><model type='none'/></video>\n\
             <memballoon model='none'/>\n\
             </devices>\n\
             </domain>\n",
            name = escaped(self.name),
            memory = self.limits.memory_mib,
            processors = self.limits.processors,
            format = self.base.format().name(),
        ))
    }
}

fn path(path: &Path) -> Result<String, LibvirtError> {
    super::virsh::argument(path).map(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_file_closes_no_tag_and_there_is_no_network() {
        let place = tempfile::tempdir().unwrap();
        let image = place.path().join("a' & <b>.raw");
        std::fs::write(&image, [0; 512]).unwrap();
        let base = BaseImage::open(&image).unwrap();
        let domain = Domain {
            name: "patchwright-trial-1",
            accelerator: Accelerator::Tcg,
            firmware: &Firmware::Bios,
            limits: &Limits::default(),
            overlay: Path::new("/x/'/><interface type='user'/>"),
            base: &base,
            console: Path::new("/x/console.log"),
        };

        let xml = domain.xml().unwrap();

        assert!(xml.contains("a&apos; &amp; &lt;b&gt;.raw"), "{xml}");
        assert!(!xml.contains("<interface"), "{xml}");
        assert!(xml.contains("<on_reboot>destroy</on_reboot>"));
    }
}
