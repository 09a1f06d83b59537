//! lab
mod accelerator;
mod boot;
mod image;
mod limits;
mod machine;
mod observer;
mod vm;
mod work;
pub use accelerator::Accelerator;
pub use boot::BootError;
pub use image::{BaseImage, Format, ImageError};
pub use limits::Limits;
pub use machine::{MachineError, Serial};
pub use observer::{Observer, Stage, Unobserved};
pub use vm::{Booted, Misstep, Vm, VmError};
pub use work::{JobDirectory, Leftovers, WorkArea, WorkError};
